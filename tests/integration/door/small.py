"""A small application for the door's tests, behind a service of a simulated cluster: one function answers requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.cluster import endpoint
from tests.integration.door.kubernetes import Front, front

# A response: status, header fields, body.
Reply = tuple[int, dict[str, str], str | bytes]


@dataclass
class Asked:
    """A request that arrived; names of header fields in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def upgrade(self) -> bool:
        return "upgrade" in self.headers

    @property
    def browser_address(self) -> str:
        """Return host and port of Origin, or of Referer if there is no Origin; "" if there is neither."""
        value = self.headers.get("origin") or self.headers.get("referer") or ""
        return value.partition("://")[2].partition("/")[0]


class Small:
    """The application behind a door, as the service `app` in the namespace `shop`, port 80."""

    def __init__(self, made: Front, port: int) -> None:
        self.made = made
        self.port = port
        self.seen: list[Asked] = []
        self.served: set[asyncio.Task[None]] = set()
        self.reply: Callable[[Asked], Reply] = lambda asked: (200, {"Content-Type": "text/html"}, "<p>page")

    @property
    def outer(self) -> str:
        return f"app.shop.svc.localhost:{self.made.port}"

    @property
    def prefix(self) -> str:
        return "/api/v1/namespaces/shop/services/app:http/proxy"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.served.add(task)
        task.add_done_callback(self.served.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                begin = await reader.readexactly(1)
                if begin == b"\x16":
                    break  # A TLS handshake: a server of plain HTTP closes the connection at once.
                head = begin + await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(method, path, headers, body)
                self.seen.append(asked)
                status, fields, text = self.reply(asked)
                data = text.encode() if isinstance(text, str) else text
                if status == 101:
                    fields = {"Connection": "Upgrade", "Upgrade": "websocket"}
                else:
                    fields = {**fields, "Content-Length": str(len(data))}
                answer = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {status} x\r\n{answer}\r\n".encode() + (b"" if method == "HEAD" else data))
                await writer.drain()
                if status == 101:
                    break
        writer.close()

    async def page(self, path: str = "/", **fields: str) -> tuple[int, dict[str, str], bytes]:
        """Request a page like a browser's navigation; return status, header fields and body."""
        found = await self.made.ask("app.shop.svc", path, **fields)
        return (
            found.status,
            found.headers,
            found.body if "chunked" not in found.headers.values() else _joined(found.body),
        )

    async def script(self, method: str, path: str = "/", body: bytes = b"", **fields: str) -> int:
        """Send a request like a script of a page; return the status."""
        origin = f"http://{self.outer}"
        own = {"Origin": origin} if method not in ("GET", "HEAD") else {}
        own |= {"Referer": origin + "/", "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"} | fields
        found = await self.made.ask("app.shop.svc", path, method, page=False, body=body, **own)
        return found.status

    async def connect(self, path: str = "/ws", host: str = "") -> int:
        """Open a WebSocket like a script of a page; return the status. host: by default the page's host name."""
        host = host or self.outer
        reader, writer = await asyncio.open_connection("127.0.0.1", self.made.port)
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Origin: http://{host}"]
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
        writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(20):
            first = await reader.readline()
        writer.close()
        return int(first.split()[1])


@contextlib.asynccontextmanager
async def small(directory: Path, *more_ports: dict[str, object]) -> AsyncIterator[Small]:
    """Run the application and a door. more_ports: further ports of the Service."""
    async with front(directory) as made:
        found = Small(made, 0)
        server = await asyncio.start_server(found.accept, "127.0.0.1", 0)
        found.port = number = server.sockets[0].getsockname()[1]
        cluster = made.kubernetes.cluster
        cluster.add_pod("shop", "app-1", "127.0.0.1", {"name": "web", "containerPort": number})
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        cluster.objects["pods", "shop", "app-1"]["status"] |= {"phase": "Running", **ready}
        own = {"name": "http", "port": 80, "targetPort": number, "protocol": "TCP", "nodePort": 30080}
        cluster.add_service("shop", "app", own, *more_ports, clusterIP="10.96.7.7", clusterIPs=["10.96.7.7"])
        where = [endpoint("127.0.0.1", "app-1", "shop")]
        cluster.add_slice("shop", "app", [{"name": "http", "port": number, "protocol": "TCP"}], where)
        try:
            yield found
        finally:
            server.close()
            for task in found.served:
                task.cancel()


def _joined(chunked: bytes) -> bytes:
    """Return a body without its chunked coding."""
    body = b""
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        number = int(size, 16)
        body, chunked = body + chunked[:number], chunked[number + 2 :]
    return body
