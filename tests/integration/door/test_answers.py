"""Broken responses get the page for a broken response; only an unreachable API server counts as unreachable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hatchway.door.door import Door
from hatchway.door.dooroptions import DoorOptions
from hatchway.kube.connection import Connection
from tests.conformance.cluster import endpoint
from tests.integration.door.kubernetes import CONFIG, Answer, Front, front

PATH = "/api/v1/namespaces/shop/services/app/proxy/"
ROUTES = {"name": ("app.shop.svc.", "/"), "prefix": ("prefix.", PATH), "api": ("", PATH)}
NAVIGATION = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nSec-Fetch-Dest: document\r\nAccept: text/html\r\n"
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"
)
HEAD = b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\n"


class ApiServer:
    """Answers requests to the API; for the proxy verb, it sends `says` and closes the connection.

    resets: whether to close it by a TCP reset. gone: whether to close each connection without an answer, as a load
    balancer without an API server does.
    """

    def __init__(self) -> None:
        self.says = b""
        self.resets = False
        self.gone = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if self.gone:
                    break
                if b"/proxy" in head.partition(b"\r\n")[0]:
                    writer.write(self.says)
                    await writer.drain()
                    if self.resets:
                        writer.transport.abort()
                    break
                body = (
                    b'{"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound",'
                    b' "message": "x not found"}'
                )
                if b" /version " in head:
                    body = b'{"gitVersion": "v1.36.2"}'
                status = b"200 OK" if b" /version " in head else b"404 Not Found"
                lines = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                writer.write(lines % (status, len(body)) + body)
        writer.close()


class Made:
    """A door in front of the API server."""

    def __init__(self, server: ApiServer, connection: Connection, port: int) -> None:
        self.server = server
        self.connection = connection
        self.port = port

    async def ask(self, route: str, what: str) -> Answer:
        """Send a request. route: a key of ROUTES. what: POST, WebSocket, or GET (a navigation, except to the API)."""
        host, path = ROUTES[route]
        method = "POST" if what == "POST" else "GET"
        fields = UPGRADE if what == "WebSocket" else "Content-Length: 2\r\n" if what == "POST" else ""
        if what == "GET" and route != "api":
            fields += NAVIGATION
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}localhost:{self.port}\r\n{fields}"
        head += "" if what == "WebSocket" else "Connection: close\r\n"
        writer.write(head.encode() + b"\r\n" + (b"hi" if what == "POST" else b""))
        async with asyncio.timeout(20):
            data = await reader.read()
        writer.close()
        return Answer(data)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Made]:
    api = ApiServer()
    async with await asyncio.start_server(api.serve, "127.0.0.1", 0, limit=1 << 21) as server:
        config = tmp_path / "config"
        config.write_text(CONFIG.format(port=server.sockets[0].getsockname()[1]))
        connection = Connection.load(str(config))
        async with Door(connection, DoorOptions(port=0)).running() as listening:
            yield Made(api, connection, int(listening.addresses[0].rpartition(":")[2]))


EVERY = [(route, what) for route in ROUTES for what in ("GET", "POST", "WebSocket")]


@pytest.mark.parametrize(("route", "what"), EVERY)
@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (b"", "broke-off"),
        (b"HTTP/1.1 200 OK\r\nContent-Ty", "broke-off"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
        (HEAD % b"200 OK" + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "malformed"),
    ],
)
async def test_a_missing_or_invalid_answer_does_not_mean_that_the_cluster_is_away(
    made: Made, route: str, what: str, says: bytes, problem: str
) -> None:
    for made.server.resets in (False, True):
        made.server.says = says
        answer = await made.ask(route, what)
        assert answer.status == 502
        # The client may get a reset before it has read the data that was sent first.
        expected = {problem, "broke-off"} if made.server.resets else {problem}
        assert answer.problem in ({"broke-off"} if route == "api" else expected)
        assert made.connection.trouble is None
        assert ("VPN" not in answer.text and "app" in answer.text) or route == "api"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("says", "problem"),
    [
        (HEAD % b"200 OK" + b"Content-Length: 2\r\n\r\nok", "not-upgraded"),
        (HEAD % b"302 Found" + b"Location: /x\r\nContent-Length: 0\r\n\r\n", "not-upgraded"),
        (HEAD % b"204 No Content" + b"\r\n", "not-upgraded"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "malformed"),
    ],
)
async def test_an_unusual_answer_to_an_upgrade_gets_its_own_page(
    made: Made, route: str, says: bytes, problem: str
) -> None:
    made.server.says = says
    answer = await made.ask(route, "WebSocket")
    assert answer.status == 502
    assert answer.problem == ("broke-off" if route == "api" and problem == "malformed" else problem)
    if problem == "not-upgraded":
        assert f"invalid upgrade response: status code {says[9:12].decode()}" in answer.text
    assert made.connection.trouble is None


@pytest.mark.parametrize("route", ["name", "prefix"])
@pytest.mark.parametrize("what", ["GET", "WebSocket"])
async def test_a_status_about_an_upgrade_or_a_head_is_named(made: Made, route: str, what: str) -> None:
    message = "invalid upgrade response: status code 200"
    if what == "GET":
        message = "error trying to reach service: net/http: server response headers exceeded 10485760 bytes; aborted"
    body = f'{{"kind":"Status","apiVersion":"v1","status":"Failure","code":500,"message":"{message}"}}'.encode()
    lines = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    made.server.says = lines % len(body) + body
    answer = await made.ask(route, what)
    assert message.removeprefix("error trying to reach service: ") in answer.text
    if what == "GET":
        assert (answer.status, answer.problem) == (502, "large-head")
    assert made.connection.trouble is None


async def test_a_head_that_is_too_large_is_named(made: Made) -> None:
    made.server.says = HEAD % b"200 OK" + (b"X-Large: " + b"x" * 990_000 + b"\r\n") * 11
    for route, what in (("name", "GET"), ("name", "WebSocket"), ("prefix", "POST")):
        answer = await made.ask(route, what)
        assert (answer.status, answer.problem) == (502, "large-head")
        assert "server response headers exceeded 10485760 bytes" in answer.text
        assert made.connection.trouble is None


@pytest.mark.parametrize(("route", "what"), EVERY)
async def test_the_received_part_of_a_broken_off_answer_is_passed_on(made: Made, route: str, what: str) -> None:
    status = 404 if what == "WebSocket" else 200
    made.server.says = HEAD % (b"%d It" % status) + b"Content-Length: 100\r\n\r\nhalf of"
    answer = await made.ask(route, what)
    assert (answer.status, answer.body, answer.problem) == (status, b"half of", "")
    made.server.says = HEAD % b"500 It" + b"Content-Length: 100\r\n\r\nhalf of"
    answer = await made.ask(route, what)
    assert (answer.status, answer.body, answer.problem) == (500, b"half of", "")
    assert made.connection.trouble is None


@pytest.mark.parametrize(("route", "what"), EVERY)
async def test_an_api_server_that_answers_nothing_is_away(made: Made, route: str, what: str) -> None:
    made.server.says = HEAD % b"200 OK" + b"Content-Length: 2\r\n\r\nok"
    if what != "WebSocket":
        assert (await made.ask(route, what)).body == b"ok"
    made.server.gone = True
    answer = await made.ask(route, what)
    assert (answer.status, answer.problem) == (503, "cluster-away")
    assert made.connection.trouble is not None


@pytest.mark.parametrize("value", ["a b", "x\r\nX-Injected: y", "name:99999", "n\u00e4me", "x" * 1000])
async def test_an_invalid_annotation_is_named(tmp_path: Path, value: str) -> None:
    async with front(tmp_path) as found:
        cluster = found.kubernetes.cluster
        cluster.add_service("shop", "app", {"name": "http", "port": 80, "protocol": "TCP"})
        annotations = cluster.objects["services", "shop", "app"]["metadata"].setdefault("annotations", {})
        annotations["hatchway.dev/host-header"] = value
        for page in (True, False, True):
            answer = await found.ask("app.shop.svc", page=page)
            assert (answer.status, answer.problem) == (503, "bad-annotation")
            assert "hatchway.dev/host-header of service" in answer.text and "cannot be a Host" in answer.text
            assert "x-injected" not in answer.headers and len(answer.body) < 40_000
        # A correction of the annotation has an effect at once.
        annotations["hatchway.dev/host-header"] = "name:8080"
        assert (await found.ask("app.shop.svc")).problem == "no-endpoints"


LARGE = "x" * 1_000_000


@pytest.mark.parametrize(("host", "path"), [("app.shop.svc", "/"), ("prefix", PATH.replace("app", "app:http"))])
async def test_large_heads_pass_the_door_and_the_proxy_verb(tmp_path: Path, host: str, path: str) -> None:
    """The request passes the door and the embedded API server's proxy engine."""
    field = b"X-Large: " + b"y" * 950_000 + b"\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.count(b"x"))
        if b"websocket" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")
            writer.write(field * 9 + b"\r\n")
        else:
            writer.write(HEAD % b"200 OK" + field * 9 + b"Content-Length: 2\r\n\r\nok")
        writer.close()

    seen: list[int] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22) as server, front(tmp_path) as found:
        _service(found, server.sockets[0].getsockname()[1])
        upgrade = {"Upgrade": "websocket", "Sec_WebSocket_Key": "MTIzNDU2Nzg5MDEyMzQ1Ng=="}
        for fields, status in (({}, 200), (upgrade | {"Connection": "upgrade"}, 101)):
            answer = await found.ask(host, path, page=not fields, X_Sent=LARGE, **fields)
            assert answer.status == status, answer.text
            assert answer.headers["x-large"] == "y" * 950_000
        assert len(seen) == 2 and min(seen) >= 1_000_000


def _service(found: Front, port: int) -> None:
    declared = {"name": "http", "port": 80, "targetPort": port, "protocol": "TCP"}
    cluster = found.kubernetes.cluster
    cluster.add_service("shop", "app", declared, selector={"app": "app"})
    cluster.add_pod("shop", "app-1", "127.0.0.1", {"name": "http", "containerPort": port})
    cluster.add_slice("shop", "app", [declared | {"port": port}], [endpoint("127.0.0.1", "app-1", "shop")])


async def test_more_cookies_than_any_browser_sends_are_refused(tmp_path: Path) -> None:
    async with front(tmp_path) as found:
        page = await found.ask("app.shop.svc", Cookie="a=b; " * 5000)
        assert (page.status, page.problem) == (431, "request") and "too many cookies" in page.text.lower()
        tool = await found.ask("app.shop.svc", page=False, Accept_Encoding="x," * 400_000)
        assert tool.status == 404
