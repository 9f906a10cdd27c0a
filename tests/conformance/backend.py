#!/usr/bin/env python3
# ruff: noqa
# fmt: off
"""Test backend (stdlib only).  backend.py NAME ADDR PORT [CERT KEY]
Paths:
  /            text/html page with absolute-path, relative and off-site links (the apiserver rewrites html)
  /echo...     JSON of method, path, headers, body
  /status/N    that status      /redirect?to=URL   302 to URL    /redirect-rel -> "target"   /redirect-abs -> "/target"
  /cookie      Set-Cookie x2    /gzip  gzipped html   /chunked  5 chunks 0.2 s apart   /sse  5 events
  /slow?s=N    sleeps           /bytes?n=N   N bytes   /close  HTTP/1.0-style, no length   /drop  closes without an answer
  /ws          WebSocket echo (RFC 6455; picks first offered subprotocol)    /raw  Upgrade: raw, then byte echo
"""
import base64, gzip, hashlib, json, socket, ssl, struct, sys, time, urllib.parse as up
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
NAME, ADDR, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
TLS = len(sys.argv) > 5
PAGE = b"""<!DOCTYPE html><html><head><link rel="stylesheet" href="/style.css"><script src="js/app.js"></script></head>
<body><h1>%s</h1><a href="/abs/path?x=1#f">abs</a> <a href="rel/path">rel</a> <a href="../up">up</a>
<a href="http://example.com/off">off</a> <img src="/img.png"><form action="/submit" method="post"></form>
<a href="http://HOSTHDR/self">self</a></body></html>
"""
class H(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "backend"
    def log_message(self, f, *a):
        sys.stderr.write("%s %s %s %s\n" % (time.strftime("%H:%M:%S"), NAME, self.client_address, f % a)); sys.stderr.flush()
    def send(self, code, body=b"", ctype="text/plain", extra=()):
        self.send_response(code)
        if ctype: self.send_header("Content-Type", ctype)
        for k, v in extra: self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(body)
    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            out = b""
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                out += self.rfile.read(n); self.rfile.readline()
                if n == 0: return out
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    def do(self):
        u = up.urlsplit(self.path); q = dict(up.parse_qsl(u.query)); p = u.path
        if p.startswith("/ws"): return self.ws()
        if p.startswith("/raw"): return self.raw()
        b = self.body()
        if p == "/": 
            return self.send(200, PAGE.replace(b"HOSTHDR", self.headers.get("Host", "").encode()) % NAME.encode(), "text/html; charset=utf-8")
        if p.startswith("/status/"): return self.send(int(p.split("/")[2]), b"status " + p.split("/")[2].encode() + b"\n")
        if p == "/redirect": return self.send(302, b"", None, [("Location", q.get("to", "/target"))])
        if p == "/redirect-rel": return self.send(302, b"", None, [("Location", "target")])
        if p == "/redirect-abs": return self.send(302, b"", None, [("Location", "/target")])
        if p == "/redirect-self": return self.send(302, b"", None, [("Location", "http%s://%s/target" % ("s" * TLS, self.headers.get("Host")))])
        if p == "/cookie": return self.send(200, b"cookies\n", "text/plain", [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/x; HttpOnly")])
        if p == "/gzip": return self.send(200, gzip.compress(PAGE % NAME.encode()), "text/html", [("Content-Encoding", "gzip")])
        if p == "/slow": time.sleep(float(q.get("s", 1))); return self.send(200, b"slow\n")
        if p == "/bytes": return self.send(200, b"x" * int(q.get("n", 10)), "application/octet-stream")
        if p == "/close":
            self.send_response(200); self.send_header("Content-Type", "text/plain"); self.send_header("Connection", "close"); self.end_headers()
            self.wfile.write(b"until close\n"); self.close_connection = True; return
        if p == "/drop": self.close_connection = True; self.connection.shutdown(socket.SHUT_RDWR); return
        if p in ("/chunked", "/sse"):
            self.send_response(200); self.send_header("Content-Type", "text/event-stream" if p == "/sse" else "text/plain")
            self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for i in range(5):
                c = (b"data: %d\n\n" if p == "/sse" else b"chunk %d\n") % i
                self.wfile.write(b"%x\r\n%s\r\n" % (len(c), c)); self.wfile.flush(); time.sleep(0.2)
            self.wfile.write(b"0\r\n\r\n"); return
        self.send(200, (json.dumps({"backend": NAME, "tls": TLS, "method": self.command, "path": self.path, "client": self.client_address[0],
            "headers": [[k, v] for k, v in self.headers.items()], "body": b.decode("latin-1")}, indent=1) + "\n").encode(), "application/json",
            [("X-Backend", NAME)])
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do
    def raw(self):
        if not self.headers.get("Upgrade"): return self.send(426, b"upgrade required\n")
        self.send_response(101); self.send_header("Upgrade", self.headers["Upgrade"]); self.send_header("Connection", "Upgrade"); self.end_headers(); self.wfile.flush()
        while True:
            d = self.connection.recv(65536)
            if not d: break
            self.connection.sendall(d)
        self.close_connection = True
    def ws(self):
        k = self.headers.get("Sec-WebSocket-Key")
        if self.headers.get("Upgrade", "").lower() != "websocket" or not k: return self.send(400, b"not a websocket request\n")
        self.send_response(101); self.send_header("Upgrade", "websocket"); self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1((k + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode())
        sp = self.headers.get("Sec-WebSocket-Protocol")
        if sp: self.send_header("Sec-WebSocket-Protocol", sp.split(",")[0].strip())
        self.end_headers(); self.wfile.flush(); self.close_connection = True
        r = self.rfile
        while True:
            h = r.read(2)
            if len(h) < 2: return
            op, n = h[0] & 15, h[1] & 127
            if n == 126: n = struct.unpack(">H", r.read(2))[0]
            elif n == 127: n = struct.unpack(">Q", r.read(8))[0]
            m = r.read(4) if h[1] & 128 else b"\0\0\0\0"
            d = bytes(c ^ m[i & 3] for i, c in enumerate(r.read(n)))
            if op == 9: op2 = 10
            elif op in (1, 2, 8): op2 = op
            else: continue
            ln = bytes([len(d)]) if len(d) < 126 else b"\x7e" + struct.pack(">H", len(d)) if len(d) < 65536 else b"\x7f" + struct.pack(">Q", len(d))
            self.wfile.write(bytes([128 | op2]) + ln + d); self.wfile.flush()
            if op == 8: return
class S(ThreadingHTTPServer):
    daemon_threads = True; allow_reuse_address = True
    def handle_error(self, r, a): sys.stderr.write("%s %s error %r\n" % (NAME, a, sys.exc_info()[1]))
s = S((ADDR, PORT), H)
if TLS:
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[4], sys.argv[5])
    s.socket = c.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
s.serve_forever()
