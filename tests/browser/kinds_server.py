"""Kinds of applications that do not work behind simple proxies, in one server on port 8080.

A pod runs the server, so it uses only the standard library. Its paths:

/            a page with absolute addresses of the server itself, and a policy (Content-Security-Policy) that names one
/configured  a page whose script fetches its settings, which have absolute addresses of the server itself
/composed    a page whose scripts join the page's host and the server's port; ?policy is its Content-Security-Policy
/untold      a page without Content-Type that opens a WebSocket
/dir         a redirect to the request's host with the server's port
/form        a form that accepts only the configured address as Origin
/ws          a WebSocket that accepts only pages of the forwarded host; it reads the fields as code-server does
"""

from __future__ import annotations

import base64
import hashlib
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

SCRIPT = """
function open_socket(url) {
    const socket = new WebSocket(url);
    socket.onmessage = event => document.getElementById("said").textContent = event.data;
    socket.onerror = () => document.getElementById("said").textContent = "refused";
}
"""
PAGE = """<!DOCTYPE html><title>own</title><p id="said"></p><img id="picture" src="http://localhost:8080/picture.svg">
<script src="http://0.0.0.0:8080/script.js"></script>
<script type="application/json" id="settings">{"socket": "ws:\\/\\/0.0.0.0:8080\\/ws"}</script>
<script>open_socket(JSON.parse(document.getElementById("settings").textContent).socket)</script>
<a id="next" href="http://0.0.0.0:8080/dir">next</a><a id="mine" href="http://localhost:9222/">mine</a>"""
CONFIGURED = """<!DOCTYPE html><title>configured</title><p id="said"></p><script src="/script.js"></script>
<script>
fetch("/settings.json").then(answer => answer.json()).then(settings => {
    open_socket(settings.socket);
    fetch(new Request(settings.api)).then(answer => answer.text()).then(text => document.title = text);
});
</script>"""
COMPOSED = """<!DOCTYPE html><title>composed</title><p id="said"></p><script src="/script.js"NONCE></script>
<script NONCE>
const port = 8000 + 80, host = `${location.hostname}:${port}`;
open_socket(`ws://${host}/ws`);
const asked = new Promise(done => {
    const request = new XMLHttpRequest();
    request.onload = () => done(request.responseText);
    request.open("GET", `http://${host}/api`);
    request.send();
});
const told = new Promise(done => new EventSource(`//${host}/events`).onmessage = event => done(event.data));
const posted = fetch(new Request(`http://${host}/echo`, { method: "POST", body: "sent" })).then(got => got.text());
Promise.all([asked, told, posted, fetch(new URL(`http://localhost:${port}/api`)).then(got => got.text())])
    .then(all => document.title = [...all, document.scripts.length].join());
</script>"""
SETTINGS = '{"api": "http://localhost:8080/api", "socket": "ws://0.0.0.0:8080/ws"}'
UNTOLD = """<!DOCTYPE html><title>untold</title><p id="said"></p><script src="/script.js"></script>
<script>open_socket("ws://" + location.host + "/ws")</script>"""
FORM = """<!DOCTYPE html><title>form</title><form method="post" action="/form"><button id="save">save</button></form>"""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' http://0.0.0.0:8080; connect-src ws://0.0.0.0:8080;"
    " img-src http://localhost:8080"
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: str, **fields: str) -> None:
        data = body.encode()
        self.send_response(status)
        for name, value in {**fields, "Content_Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        path, html = self.path.partition("?")[0], "text/html; charset=utf-8"
        if path == "/":
            self.answer(200, PAGE, Content_Type=html, Content_Security_Policy=POLICY)
        elif path == "/configured":
            self.answer(200, CONFIGURED, Content_Type=html)
        elif path == "/composed":
            policy = unquote(self.path.partition("?")[2])
            nonce = ' nonce="abc"' if "nonce" in policy else ""
            given = {"Content_Security_Policy": policy} if policy else {}
            self.answer(200, COMPOSED.replace("NONCE", nonce), Content_Type=html, **given)
        elif path == "/events":
            self.answer(200, "data: told\n\n", Content_Type="text/event-stream")
        elif path == "/settings.json":
            self.answer(200, SETTINGS, Content_Type="application/json")
        elif path == "/api":
            self.answer(200, "asked", Content_Type="text/plain")
        elif path == "/untold":
            self.answer(200, UNTOLD)
        elif path == "/form":
            self.answer(200, FORM, Content_Type=html)
        elif path == "/script.js":
            self.answer(200, SCRIPT, Content_Type="text/javascript")
        elif path == "/picture.svg":
            picture = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
            self.answer(200, picture, Content_Type="image/svg+xml")
        elif path == "/dir":
            host = self.headers["Host"].partition(":")[0]
            self.answer(301, "", Location=f"http://{host}:8080/dir/")
        elif path == "/dir/":
            self.answer(200, "<title>there</title>", Content_Type=html)
        elif path == "/ws":
            self.socket()
        else:
            self.answer(404, "nothing there", Content_Type="text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/echo":
            self.answer(200, body.decode(), Content_Type="text/plain")
        elif self.headers.get("Origin") == "http://localhost:8080":
            self.answer(200, "<title>saved</title>", Content_Type="text/html")
        else:
            self.answer(403, "<title>refused</title>", Content_Type="text/html")

    def forwarded(self) -> str:
        for part in re.split("[;,]", self.headers.get("Forwarded", "")):
            name, _, value = part.partition("=")
            if name.strip().lower() == "host" and value:
                return value
        return str(self.headers.get("X-Forwarded-Host") or self.headers["Host"])

    def socket(self) -> None:
        if (self.headers.get("Origin") or "").partition("://")[2] != self.forwarded():
            self.answer(403, "Forbidden", Content_Type="text/plain")
            return
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.write(b"\x81\x07welcome")
        self.rfile.read(6)
        self.close_connection = True

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
