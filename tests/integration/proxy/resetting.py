"""A backend that resets connections by a request's path: `python -m tests.integration.proxy.resetting [CERTIFICATE]`.

It is a separate process, so that tests which count the descriptors of the engine do not count its own. It prints its
port.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import sys
import threading

BIG = 16 * 1024 * 1024
LONG = 1024 * 1024
# Milliseconds after which the path `/deaf`, which does not read, gives up.
DEAF = 3000


def reset(sock: socket.socket) -> None:
    """Close the connection by a reset. Data that have not been sent are lost."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def serve(sock: socket.socket, context: ssl.SSLContext | None) -> None:
    """Answer the requests of one connection."""
    with contextlib.suppress(OSError), sock:
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        with sock:
            while answer(sock):
                pass


def answer(sock: socket.socket) -> bool:
    """Read a request's head, and behave as its path demands. Return False when the connection has ended."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(65536)
        if not piece:
            return False
        head += piece
    what = head.split(b" ")[1].decode()
    upgrade = b"Upgrade: echo" in head
    if upgrade:
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    if what == "/ok":
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True
    if what == "/silent":
        while sock.recv(65536):
            pass
    elif what == "/deaf":
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        poll.poll(DEAF)
    elif what == "/flood":
        if not upgrade:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
        for _ in range(BIG // 65536):
            sock.sendall(b"x" * 65536)
    else:
        size = LONG if what == "/reset-long" else 100
        framing = {
            "/reset-body": b"Content-Length: %d\r\n\r\n" % size,
            "/reset-long": b"Content-Length: %d\r\n\r\n" % size,
            "/reset-chunk": b"Transfer-Encoding: chunked\r\n\r\n64\r\n",
            "/reset-open": b"\r\n",
        }
        if what in framing:
            sock.sendall(b"HTTP/1.1 200 OK\r\n" + framing[what] + b"x" * 50)
        elif what == "/reset-head":
            sock.sendall(b"HTTP/1.1 200 OK\r\nConte")
        elif what == "/reset-whole":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif what == "/reset-switched":
            sock.sendall(b"hello")
        reset(sock)
    return False


def main() -> None:
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, context), daemon=True).start()


if __name__ == "__main__":
    main()
