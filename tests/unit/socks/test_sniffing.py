from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.proxy.join import EarlyReceiver
from hatchway.socks.sniffing import sniff, speaks_http


@contextlib.asynccontextmanager
async def side() -> AsyncIterator[EarlyReceiver]:
    """Yield one side of a tunnel. No program reads or writes at its other end."""
    ours, others = socket.socketpair()
    _, found = await asyncio.get_running_loop().connect_accepted_socket(EarlyReceiver, ours)
    with others:
        yield found
        found.transport.abort()


@pytest.mark.parametrize(("first", "http"), [(b"GET / HTTP/1.1\r\n\r\n", True), (b"hello world", False), (b"", False)])
async def test_an_end_of_file_after_the_first_bytes_is_kept(first: bytes, http: bool) -> None:
    async with side() as near, side() as far:
        near.early, near.eof = first, True
        found = await sniff(near, far.transport)
        assert (found.http, found.near.early, found.near.eof) == (http, first, True)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"GET /chat?x=%20 HTTP/1.1\r\nHost: web\r\n\r\n",
        b"POST http://web/ HTTP/1.0\r\n",
        b"patch /x HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /" + b"x" * 20_000,
    ],
)
def test_http_requests_are_recognized(data: bytes) -> None:
    assert speaks_http(data) is True


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",  # HTTP/2
        b"CONNECT web:80 HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL
        b"*1\r\n$4\r\nPING\r\n",  # Redis
        b"PING\r\n",
        b"get key\r\n",  # memcached
        b"HELO example.org\r\n",
        b'CONNECT {"verbose":false}\r\n',  # NATS
        b"OPTIONS rtsp://web/ RTSP/1.0\r\n",
        b" GET / HTTP/1.1\r\n",
        b"GET  HTTP/1.1\r\n",
        b"GET /\r\n",
    ],
)
def test_other_protocols_are_not_taken_for_http(data: bytes) -> None:
    assert speaks_http(data) is False


@given(st.sampled_from([b"GET /a?b=c HTTP/1.1\r\n", b"M-SEARCH * HTTP/1.0\r\n", b"x /\xe4 HTTP/1.1\r\n"]), st.data())
def test_a_part_of_a_request_is_not_decided_yet(line: bytes, data: st.DataObject) -> None:
    known = line.index(b"HTTP/1.") + len(b"HTTP/1.")
    size = data.draw(st.integers(0, len(line)))
    assert speaks_http(line[:size]) is (True if size >= known else None)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_more_bytes_do_not_change_a_decision(data: bytes, more: bytes) -> None:
    found = speaks_http(data)
    if found is not None:
        assert speaks_http(data + more) is found
