"""Clients for the tests of the door."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from email.message import Message

from tests.door import Door

HTML = {"Accept": "text/html"}


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> object:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(
    door: Door, host: str, path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    """Send one request. host: the host name without `.localhost`. headers: header fields, with _ in place of -."""
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields.setdefault("Host", f"{host}.localhost:{door.port}" if host else f"localhost:{door.port}")
    connection.request(method, path.replace(" ", "%20"), body, fields)
    found = connection.getresponse()
    answer = Answer(found.status, found.headers, found.read())
    connection.close()
    return answer


def fields(answer: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in json.loads(answer.body)}
