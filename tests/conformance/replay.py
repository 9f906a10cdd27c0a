"""Send a recorded request byte for byte, and compare the response with the recorded one (README.md)."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
Recording = dict[str, Any]

# Not compared: fields of the HTTP implementation, or of the recorded server.
_IGNORED_HEADERS = frozenset(
    (
        "date", "audit-id", "server", "content-length", "connection", "transfer-encoding",
        "x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid", "sec-websocket-accept", "keep-alive",
    )
)  # fmt: skip
WEBSOCKET_KEY = base64.b64encode(bytes(range(16))).decode()


def load(name: str) -> list[Recording]:
    """Return the recordings of `proxy.jsonl` or `api.jsonl`."""
    return [json.loads(line) for line in (HERE / name).read_text().splitlines()]


@dataclass(slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    ws_echo: str | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


async def send(
    recording: Recording,
    port: int,
    tls: ssl.SSLContext | None,
    *,
    real: Mapping[str, str],
    tokens: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
) -> Answer:
    """Send a recorded request on a new connection. real: mask -> its real value. tokens: user -> bearer token."""
    given = {key: _unmask(value, real) for key, value in (recording.get("headers") or {}).items() if value is not None}
    headers = {"Host": "127.0.0.1:6443", "User-Agent": "record/1", "Accept": "*/*"}
    headers["Connection"] = "Upgrade" if recording.get("ws") else "close"
    if recording.get("ws"):
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": WEBSOCKET_KEY}
    if recording["user"] is not None and tokens is not None:
        headers["Authorization"] = f"Bearer {tokens.get(recording['user'], recording['user'])}"
    body = (recording.get("body") or "").encode()
    if recording.get("body") is not None:
        headers["Content-Length"] = str(len(body))
    headers |= given
    head = f"{recording['method']} {recording['path']} HTTP/1.1\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in headers.items()) + "\r\n"
    reader, writer = await asyncio.open_connection(address, port, ssl=tls, limit=2**22)
    try:
        writer.write(head.encode("latin-1") + body)
        return await asyncio.wait_for(_read(recording, reader, writer), 20)
    finally:
        writer.close()


async def _read(recording: Recording, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    while True:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer = Answer(int(lines[0].split()[1]))
        if answer.status != 100:
            break
    for line in filter(None, lines[1:]):
        name, _, value = line.partition(":")
        answer.headers.append((name, value.strip()))
    if answer.status == 101:
        accept = hashlib.sha1((WEBSOCKET_KEY + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert answer.header("sec-websocket-accept") == base64.b64encode(accept).decode()
        mask = os.urandom(4)
        writer.write(b"\x81\x84" + mask + bytes(a ^ b for a, b in zip(b"ping", mask, strict=True)))
        opcode, length = await reader.readexactly(2)
        assert opcode == 0x81
        answer.ws_echo = (await reader.readexactly(length)).decode()
        return answer
    length = answer.header("content-length")
    if recording["method"] == "HEAD" or answer.status in (204, 304):
        body = b""
    elif answer.header("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    else:
        body = await (reader.read() if length is None else reader.readexactly(int(length)))
    answer.body = body.decode("utf-8", "surrogateescape")
    return answer


def expected(recording: Recording, changes: Mapping[str, Any], real: Mapping[str, str]) -> Recording:
    """Return the expected response: the recorded one with the deliberate changes.

    changes: `status`, `body`; `Status` for fields of a Status body (None removes one); `headers` for headers by name
    (None removes, a list repeats); `echo` for fields of the backend's JSON, `echo_headers` for the headers in it.
    """
    response = copy.deepcopy(recording["response"])
    response["body"] = _unmask(response.get("body") or "", real)
    response["headers"] = [(key, _unmask(value, real)) for key, value in response["headers"]]
    changed = {key.lower() for key in changes.get("headers", {})}
    response["headers"] = [pair for pair in response["headers"] if pair[0].lower() not in changed]
    for key, value in changes.get("headers", {}).items():
        if value is not None:
            response["headers"] += [(key, one) for one in (value if isinstance(value, list) else [value])]
    if "Status" in changes:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        if response["body"].startswith("{"):
            status |= json.loads(response["body"])
        status |= changes["Status"]
        response["body"] = json.dumps({key: value for key, value in status.items() if value is not None})
        response["status"] = status["code"]
    if "echo" in changes or "echo_headers" in changes:
        echo = json.loads(response["body"]) | changes.get("echo", {})
        headers = dict(echo["headers"]) | changes.get("echo_headers", {})
        echo["headers"] = [[key, value] for key, value in headers.items() if value is not None]
        response["body"] = json.dumps(echo)
    response["status"] = changes.get("status", response["status"])
    response["body"] = changes.get("body", response["body"])
    return response


def differences(wanted: Recording, answer: Answer) -> list[str]:
    """Return the differences, one line each; empty if the answer agrees with the recording."""
    found = []
    if answer.status != wanted["status"]:
        found.append(f"status {answer.status}, not {wanted['status']}")
    for key, other in _differing(_headers(wanted["headers"]), _headers(answer.headers)):
        found.append(f"header {key}, not {other}")
    if wanted.get("ws_echo") != answer.ws_echo:
        found.append(f"WebSocket echo {answer.ws_echo!r}, not {wanted.get('ws_echo')!r}")
    one, other = _body(wanted["body"]), _body(answer.body)
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if not _meets(one.get(key), other.get(key)):
                found.append(f"body {key}: {other.get(key)!r}, not {one.get(key)!r}")
    elif one != other:
        found.append(f"body {other!r}, not {one!r}")
    return found


def _meets(wanted: Any, got: Any) -> bool:
    """Return True if a text is the expected one; "..." at the end of the expected text matches any end."""
    if isinstance(wanted, str) and wanted.endswith("...") and isinstance(got, str):
        return got.startswith(wanted[:-3])
    return bool(wanted == got)


def _differing(wanted: list[str], got: list[str]) -> list[tuple[str, str]]:
    missing = [line for line in wanted if line not in got]
    more = [line for line in got if line not in wanted]
    width = max(len(missing), len(more))
    return list(
        zip(more + ["nothing"] * (width - len(more)), missing + ["nothing"] * (width - len(missing)), strict=True)
    )


def _headers(headers: list[tuple[str, str]]) -> list[str]:
    return sorted(f"{key.lower()}: {value}" for key, value in headers if key.lower() not in _IGNORED_HEADERS)


def _body(text: str) -> Any:
    try:
        body = json.loads(text)
    except ValueError:
        return text
    if isinstance(body, dict) and "backend" in body:
        # kube-apiserver adds Accept-Encoding; the client's address depends on the dialer.
        body.pop("client", None)
        pairs = [(key, value) for key, value in body["headers"] if key.lower() not in ("accept-encoding", "connection")]
        body["headers"] = sorted(f"{key.lower()}: {value}" for key, value in pairs)
    return body


def _unmask(text: str, real: Mapping[str, str]) -> str:
    for mask, value in real.items():
        text = text.replace(mask, value)
    return text
