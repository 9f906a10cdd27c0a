"""A web server with a secret, used as attacker and as victim; its log has the requests. Standard library only.

python hostile_server.py BIND PORT SECRET
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import sys
from urllib.parse import parse_qs, urlsplit

SECRET = sys.argv[3]
LOG: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve a hostile application.

    `/log` returns the requests so far, `/cookies` the received cookies; `/set` sets the cookies in its query;
    `/ws` sends a greeting; the origin of `/sandboxed` is null.
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        LOG.append(f"{self.command} {self.path}")
        headers: list[tuple[str, str]] = []
        kind, text = "text/html", "<!doctype html><title>page</title><h1>hello</h1>"
        if url.path == "/ws":
            self._websocket()
            return
        if url.path == "/log":
            kind, text = "application/json", json.dumps(LOG)
        elif url.path == "/cookies":
            kind, text = "application/json", json.dumps(self.headers.get_all("Cookie") or [])
        elif url.path == "/set":
            headers = [("Set-Cookie", one) for one in parse_qs(url.query)["cookie"]]
        elif url.path == "/secret":
            kind, text = "text/plain", SECRET
        elif url.path == "/secret.js":
            kind, text = "text/javascript", f"window.stolen = {SECRET!r};"
        elif url.path == "/secret.json":
            kind, text = "application/json", json.dumps({"secret": SECRET})
        elif url.path == "/events":
            kind, text = "text/event-stream", f"data: {SECRET}\n\n"
        elif url.path == "/sandboxed":
            headers = [("Content-Security-Policy", "sandbox allow-scripts allow-forms allow-popups")]
        elif url.path == "/worker.js":
            kind, text = "text/javascript", "self.addEventListener('fetch', e => e.respondWith(new Response('taken')));"
            headers = [("Service-Worker-Allowed", "/")]
        self._answer(kind, text, headers)

    def do_POST(self) -> None:
        LOG.append(f"POST {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer("text/plain", "done", [])

    def _answer(self, kind: str, text: str, headers: list[tuple[str, str]]) -> None:
        self.send_response(200)
        for name, value in [("Content-Type", kind), ("Content-Length", str(len(text.encode()))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def _websocket(self) -> None:
        key = self.headers.get("Sec-WebSocket-Key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.wfile.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        message = SECRET.encode()
        self.wfile.write(bytes([0x81, len(message)]) + message)
        self.rfile.read(1)
        self.close_connection = True


if __name__ == "__main__":
    http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
