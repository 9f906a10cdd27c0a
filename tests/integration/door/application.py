"""An application for the door's tests, with the standard library only, because it runs as a pod.

`application.py [--strict]` listens on 8080, and on 8443 with TLS if its directory has a certificate:

    /headers      the request's fields as JSON
    /to?URL       a redirect to URL          /cookie?VALUE   Set-Cookie: VALUE
    /page         HTML with links
    /events       server-sent events: one at once, the next after POST /go
    /ws           a WebSocket that sends its query, subprotocol and Origin, then echoes
    /local        the same, only for pages of localhost:8080, as in Bokeh; otherwise 403
    /secret       behind basic authentication (ada:lovelace)
    /status?CODE  a response with that status

With --strict any Host except localhost is refused, as in JupyterLab.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

GO = threading.Event()
STRICT = "--strict" in sys.argv


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes, *fields: tuple[str, str], kind: str = "application/json") -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *fields):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        host = (self.headers.get("Host") or "").partition(":")[0]
        if STRICT and host != "localhost":
            self.answer(403, b"Blocked request: this host is not allowed", kind="text/plain")
            return
        path, _, query = self.path.partition("?")
        handler = getattr(self, "on_" + path.strip("/").replace("/", "_"), None)
        if handler is None:
            self.answer(200, json.dumps({"path": self.path}).encode())
        else:
            handler(unquote(query))

    do_HEAD = do_GET
    do_PROPFIND = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/go":
            GO.set()
        self.answer(200, body)

    def on_headers(self, _: str) -> None:
        self.answer(200, json.dumps([[name, value] for name, value in self.headers.items()]).encode())

    def on_to(self, url: str) -> None:
        self.answer(302, b"", ("Location", url.replace("HOST", self.headers["Host"])))

    def on_cookie(self, value: str) -> None:
        self.answer(200, b"{}", ("Set-Cookie", value))

    def on_page(self, _: str) -> None:
        body = b'<!doctype html><a href="/here">here</a> <img src="http://elsewhere.example/x"> <script>"/x"</script>'
        self.answer(200, body, ("Cache-Control", "max-age=60"), kind="text/html; charset=utf-8")

    def on_status(self, code: str) -> None:
        self.answer(int(code), b'{"said": "by the application"}')

    def on_secret(self, _: str) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"ada:lovelace").decode():
            self.answer(401, b"who are you?", ("WWW-Authenticate", 'Basic realm="app"'), kind="text/plain")
        else:
            self.answer(200, b'"welcome"')

    def on_events(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        GO.wait(30)
        GO.clear()
        self.wfile.write(b"data: second\n\n")
        self.close_connection = True

    def on_local(self, query: str) -> None:
        if self.headers.get("Origin") != "http://localhost:8080":
            self.answer(403, b"Cross origin websockets not allowed", kind="text/plain")
        else:
            self.on_ws(query)

    def on_ws(self, query: str) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        protocol = (self.headers.get("Sec-WebSocket-Protocol") or "").split(",")[0].strip()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines.append(f"Sec-WebSocket-Accept: {accepted}")
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.say(f"{query} {protocol} {self.headers.get('Origin')}".encode())
        while True:
            start = self.rfile.read(2)
            if len(start) < 2 or start[0] & 15 == 8:
                break
            mask = self.rfile.read(4)
            self.say(bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(start[1] & 127))))
        self.close_connection = True

    def say(self, text: bytes) -> None:
        self.wfile.write(bytes((0x81, len(text))) + text)

    def log_message(self, *_: object) -> None: ...


def main() -> None:
    address = os.environ.get("HATCHWAY_POD_IP", "0.0.0.0")
    certificate = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tls.pem")
    if os.path.exists(certificate):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        secure = ThreadingHTTPServer((address, 8443), Handler)
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threading.Thread(target=secure.serve_forever, daemon=True).start()
    ThreadingHTTPServer((address, 8080), Handler).serve_forever()


if __name__ == "__main__":
    main()
