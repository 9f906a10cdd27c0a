"""The image hatchway/echo: an HTTP server for demonstrations that answers with a description of the request, as JSON.

It listens on `PORT` (8080 by default), and answers every method on every path.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BODY_LIMIT = 1 << 20


class Echo(BaseHTTPRequestHandler):
    """Answers a request with its own description."""

    protocol_version = "HTTP/1.1"
    server_version = "hatchway-echo"

    def __getattr__(self, name: str) -> object:
        # http.server looks up do_METHOD: all methods have the same handler.
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        size = int(length) if length.isdigit() else 0
        if size > _BODY_LIMIT:
            self.send_error(413)
            return
        said = {
            "pod": os.environ.get("HOSTNAME", ""),
            "method": self.command,
            "path": self.path,
            "headers": dict(self.headers.items()),
            "body": self.rfile.read(size).decode("utf-8", "replace"),
        }
        body = json.dumps(said, indent=1).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> None:
    """Serve until SIGTERM."""
    # Without a handler, the first process of a PID namespace does not get SIGTERM at all.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address = os.environ.get("HATCHWAY_POD_IP", "0.0.0.0")
    with ThreadingHTTPServer((address, int(os.environ.get("PORT", "8080"))), Echo) as server:
        print(f"listening on {server.server_address[0]!s}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
