"""A TLS server that needs little CPU time: `GET .../N` returns N bytes, `POST` reads a body and returns its size.

It has one thread for each connection, and uses blocking calls and large pieces. So nearly all its time is spent in
OpenSSL and the kernel, outside the interpreter's lock. It answers every other request with a Service of one port,
because a proxy requests nothing else.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading

_PIECE = bytes(256 * 1024)
_SERVICE = b'{"metadata":{"name":"bench"},"spec":{"ports":[{"port":80}]}}'


def serve(port: int, certificate: str, key: str) -> None:
    """Serve on a port of 127.0.0.1 for ever. certificate, key: paths of PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_connection, args=(context, sock), daemon=True).start()


def _connection(context: ssl.SSLContext, sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(sock, server_side=True) as stream:
            while _exchange(stream):
                pass
    except OSError:  # the peer has disconnected
        sock.close()


def _exchange(stream: ssl.SSLSocket) -> bool:
    """Answer one request. Return False when the peer has closed."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = stream.recv(16 * 1024)
        if not piece:
            return False
        head += piece
    head, _, body = head.partition(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
    if method == b"POST":
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(fields[b"content-length"])
        buffer = bytearray(256 * 1024)
        left = size - len(body)
        while left:
            got = stream.recv_into(buffer)
            if not got:
                return False
            left -= got
        _answer(stream, b"%d" % size)
    elif (last := target.rpartition(b"/")[2]).isdigit():
        left = int(last)
        stream.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % left
        )
        while left:
            piece = _PIECE[:left] if left < len(_PIECE) else _PIECE
            stream.sendall(piece)
            left -= len(piece)
    else:
        _answer(stream, _SERVICE)
    return True


def _answer(stream: ssl.SSLSocket, body: bytes) -> None:
    stream.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
