"""An API server that records its requests: TLS, one thread per connection, a fixed response for each kind of path."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.tls import self_signed


@dataclass(frozen=True)
class Seen:
    """A request as it arrived: `headers` with lower-case names, in order."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the values of a header field joined by ", "; None if there is none."""
        found = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(found) if found else None


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests: paths with `/redirect`, `/cookies` or `/status/NNN` get that kind of response, others a 200.

    An upgrade is accepted, and its bytes are sent back, unless the path has `refused`.
    """

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        body = self._body()
        headers = tuple((name.lower(), value) for name, value in self.headers.items())
        self.server.seen.append(Seen(self.requestline, headers, body))
        upgrade = self.headers.get("Upgrade")
        if upgrade and "upgrade" in self.headers.get("Connection", "").lower() and "refused" not in self.path:
            self._echo(upgrade)
            return
        status, more = 200, list[tuple[str, str]]()
        if "/redirect" in self.path:
            status, more = 302, [("Location", f"https://{self.headers['Host']}/elsewhere")]
        elif "/cookies" in self.path:
            more = [("Set-Cookie", "a=b; Path=/x"), ("Set-Cookie", "c=d")]
        elif "/status/" in self.path:
            status = int(self.path.rpartition("/")[2])
        content = json.dumps({"you asked for": self.path}).encode()
        self.send_response(status)
        for name, value in [*more, ("Content-Type", "application/json"), ("Content-Length", str(len(content)))]:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _echo(self, protocol: str) -> None:
        self.send_response(101)
        self.send_header("Upgrade", protocol)
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        while chunk := self.rfile.read1(65536):  # type: ignore[attr-defined]
            self.wfile.write(chunk)
        self.close_connection = True


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    seen: list[Seen]

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that disconnect."""


@dataclass
class Recorder:
    """The server. `seen`: the requests so far. `address`: host:port."""

    address: str
    ca: Path
    seen: list[Seen]

    def kubeconfig(self, directory: Path, *, path: str = "", scheme: str = "https", address: str = "") -> Path:
        """Write a kubeconfig for this server (or another `address`), with the token `sesame`; return its path."""
        cluster = {"server": f"{scheme}://{address or self.address}{path}"}
        if scheme == "https":
            cluster["certificate-authority"] = str(self.ca)
        file = directory / "kubeconfig"
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "recorder",
                    "contexts": [{"name": "recorder", "context": {"cluster": "recorder", "user": "me"}}],
                    "clusters": [{"name": "recorder", "cluster": cluster}],
                    "users": [{"name": "me", "user": {"token": "sesame"}}],
                }
            )
        )
        return file


@contextlib.contextmanager
def recorder(directory: Path) -> Iterator[Recorder]:
    """Run a recorder on loopback. directory: where its certificate is written."""
    certificate, key = self_signed(directory, ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.seen = []
    # Each connection has its own thread, which makes the handshake, so that a silent client does not block others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Recorder(f"127.0.0.1:{server.server_address[1]}", certificate, server.seen)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
