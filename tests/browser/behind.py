"""The application, the proxy verb and the real browser that tests of path-prefix mode share.

The application is a `Site`: a table of pages by path. The proxy verb is the API server's own, without
authentication, on `http://prefix.localhost:PORT`, a secure context.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hatchway.cluster.api.connect.answers import status_response
from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.connect.proxyverb import ProxyVerb, Rewriting
from hatchway.cluster.api.connect.resourcelocation import Locator
from hatchway.cluster.api.http.requestinfo import parse
from hatchway.errors import ApiError
from hatchway.proxy.routing import Decision, RequestHead, Respond
from hatchway.proxy.server import serve
from hatchway.rewrite.stray import stray_target
from tests.conformance.backends import dial
from tests.conformance.cluster import FakeCluster, decide

if TYPE_CHECKING:
    pass

Fields = dict[str, str]
Answer = tuple[int, Fields, bytes | str]
TYPES = {"": "text/html; charset=utf-8", "html": "text/html", "js": "text/javascript", "css": "text/css"}
TYPES |= {"json": "application/json", "svg": "image/svg+xml", "txt": "text/plain", "mjs": "text/javascript"}


@dataclass
class Seen:
    """A request that reached the application."""

    method: str
    target: str
    headers: Any
    body: bytes


@dataclass
class Site:
    """The application. pages: path (without the query) -> text, or a function of the request. Other paths are 404."""

    pages: dict[str, Any]
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    def answer(self, request: Seen) -> Answer:
        path = urlsplit(request.target).path
        page = self.pages.get(path)
        if page is None:
            return 404, {"Content-Type": "text/plain"}, "missing " + path
        if callable(page):
            page = page(request)
        if isinstance(page, str | bytes):
            name = path.rsplit("/", 1)[-1]
            return 200, {"Content-Type": TYPES.get(name.rsplit(".", 1)[1] if "." in name else "", "text/html")}, page
        found: Answer = page
        return found

    def targets(self) -> list[str]:
        return [request.target for request in self.seen]

    def request(self, path: str) -> Seen:
        """Return the last request for this path."""
        return next(one for one in reversed(self.seen) if urlsplit(one.target).path == path)


@contextmanager
def serving(site: Site) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Seen(self.command, self.path, self.headers, self.rfile.read(length))
            site.seen.append(request)
            if self.headers.get("Upgrade", "").lower() == "websocket":
                self._echo()
                return
            status, headers, body = site.answer(request)
            data = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in headers.items():
                for one in value.split("\n"):
                    self.send_header(name, one)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _echo(self) -> None:
            """Accept a WebSocket; send its first text message back, after the path (RFC 6455; only short messages)."""
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            head = self.rfile.read(2)
            if len(head) == 2 and head[0] & 15 == 1:
                mask = self.rfile.read(4)
                body = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(head[1] & 127)))
                text = self.path.encode() + b" " + body
                self.wfile.write(bytes((0x81, len(text))) + text)
                self.rfile.read(6)
            self.close_connection = True

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._any
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Front:
    """The listener that `proxy_verb` has opened, and the URLs of an application behind it."""

    port: int

    @property
    def origin(self) -> str:
        return f"http://prefix.localhost:{self.port}"

    def prefix(self, site: Site) -> str:
        return f"/api/v1/namespaces/default/pods/site:{site.port}/proxy"

    def url(self, site: Site, path: str = "/") -> str:
        return self.origin + self.prefix(site) + path


@contextmanager
def proxy_verb(rewriting: Rewriting = "full", *, strays: bool = True) -> Iterator[Front]:
    """Run the proxy verb. strays: whether to redirect requests without the prefix to it; if not, they get a 404."""
    cluster = FakeCluster()
    cluster.add_node("node-1", "127.0.0.1", "127.0.0.0/8")
    cluster.add_pod("default", "site", "127.0.0.1")
    import ssl

    tls = ssl.create_default_context()
    proxy = ProxyVerb(Locator(lookup=cluster, dial=dial, kubelet_tls=tls, allow_loopback_pods=True), rewriting)

    def route(head: RequestHead) -> Decision:
        if strays and (belongs := stray_target(head.target, head.headers)) is not None:
            return Respond(307, [(b"Location", belongs)])
        try:
            info = parse(head.method, head.path, head.query)
        except ApiError as error:
            return status_response(error)
        if info.subresource != "proxy":
            return Respond(404, [(b"Content-Type", b"text/plain")], b"no such path")
        request = ConnectRequest(
            info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
        )
        return decide(proxy, head, request)

    started: list[int] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        server = await serve(route, host="127.0.0.1", port=0)
        started.append(server.port)
        ready.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait(10)
    try:
        yield Front(started[0])
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


Page = Callable[[Seen], Answer]
