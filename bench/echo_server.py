"""A TLS server that accepts every upgrade, and then sends back all received bytes.

It does not parse frames, because the benchmark's client knows what it has sent. It answers a request without an upgrade
with a Service.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
import sys
from typing import cast

import uvloop

_KEY = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SERVICE = b'{"metadata":{"name":"bench"},"spec":{"ports":[{"port":80}]}}'


class _Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._head = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._upgraded:
            self.transport.write(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        self._head = rest
        found = _KEY.search(head)
        if found is None:
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (len(_SERVICE), _SERVICE)
            )
            return
        accept = base64.b64encode(hashlib.sha1(found[1] + _GUID).digest())
        self._upgraded = True
        self._head = b""
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n%b" % (accept, rest)
        )


async def _serve(port: int, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", port, ssl=context, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
