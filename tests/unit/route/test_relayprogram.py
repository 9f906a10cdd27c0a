"""The program of a relay pod, used over connections like those of a port-forward."""

# ruff: noqa: ASYNC110  the program reports no events

from __future__ import annotations

import ast
import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.route import relayprogram
from hatchway.route.relayprogram import BadLine, Relay, RelayClient, may_dial, parse_line
from hatchway.wire.podrelay import format_datagram, format_renewal, format_request
from tests.freeports import free_port
from tests.syntax import syntax_tree

SECRET = "5" * 64
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
SOURCE = Path(relayprogram.__file__)


class Running:
    """The program in this process, with an echo server that it may dial."""

    def __init__(self, relay: Relay, port: int, echo: int) -> None:
        self.relay = relay
        self.port = port
        self.echo = echo
        self._writers: list[asyncio.StreamWriter] = []

    async def send(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)  # Python closes the connection of an unreferenced writer
        writer.write(data)
        return reader, writer

    async def ask(self, host: str, port: int, rest: bytes = b"", command: str = "tcp") -> asyncio.StreamReader:
        reader, _ = await self.send(format_request(SECRET, command, host, port) + rest)
        return reader


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b" the end")
    writer.close()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    loop = asyncio.get_running_loop()
    relay = Relay(DIGEST, most=20)
    server = await loop.create_server(lambda: RelayClient(relay), "127.0.0.1", 0)
    echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
    yield Running(relay, server.sockets[0].getsockname()[1], echo.sockets[0].getsockname()[1])
    for client in list(relay.clients):
        client.transport.abort()
    server.close()
    echo.close()


async def _end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b"reset"


async def test_bytes_both_ways_with_an_end_for_each_direction(running: Running) -> None:
    data = os.urandom(3_000_000)
    reader, writer = await running.send(format_request(SECRET, "tcp", "127.0.0.1", running.echo) + data[:1000])
    writer.write(data[1000:])
    writer.write_eof()
    assert await _end(reader) == b"ok\n" + data + b" the end"


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_request_in_pieces(running: Running, pieces: int) -> None:
    line = format_request(SECRET, "tcp", "127.0.0.1", running.echo) + b"hello"
    reader, writer = await running.send(b"")
    for begin in range(0, len(line), pieces):
        writer.write(line[begin : begin + pieces])
        await writer.drain()
    writer.write_eof()
    assert await _end(reader) == b"ok\nhello the end"


async def test_a_refused_connection_and_a_name_that_does_not_exist(running: Running) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert (
            await _end(await running.ask("127.0.0.1", free.getsockname()[1])) == b"error refused Connection refused\n"
        )
    assert (await _end(await running.ask("no-such-name.invalid", 80))).startswith(b"error name ")


async def test_a_name_does_not_lead_to_the_pod_itself(running: Running) -> None:
    answer = await _end(await running.ask("localhost", running.echo))
    assert answer == b"error forbidden the name leads to the pod itself or its node\n"


@pytest.mark.parametrize(
    "line",
    [
        f"hatchway-relay {'6' * 64} renew\n".encode(),
        f"hatchway-relay {SECRET}0 renew\n".encode(),
        f"hatchway-relay {DIGEST} renew\n".encode(),
        f"hatchway-relay {SECRET} tcp 127.0.0.1\n".encode(),
        f"hatchway-relay {SECRET} icmp 127.0.0.1 1\n".encode(),
        f"hatchway-relay {SECRET} tcp 127.0.0.1 65536\n".encode(),
        f"hatchway-relay {SECRET} tcp 127.0.0.1 -1\n".encode(),
        f"relay {SECRET} renew\n".encode(),
        b"GET / HTTP/1.1\r\n",
        b"\n",
        b"\xff\n",
        b"x" * 600,
        b"x" * 600 + b"\n",
    ],
)
async def test_other_requests_are_disconnected_and_do_not_renew(running: Running, line: bytes) -> None:
    running.relay.renewed = before = 0.0
    reader, _ = await running.send(line)
    assert await _end(reader) in (b"", b"reset")
    assert running.relay.renewed == before


async def test_renewing(running: Running) -> None:
    running.relay.renewed = 0.0
    reader, _ = await running.send(format_renewal(SECRET))
    assert await _end(reader) == b"ok\n"
    assert running.relay.renewed > 0


async def test_a_reset_is_forwarded_as_a_reset(running: Running) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    reader = await running.ask("127.0.0.1", server.sockets[0].getsockname()[1], b"x\n")
    assert await reader.readline() == b"ok\n"
    assert await _end(reader) == b"reset"
    server.close()


async def test_a_slow_reader_pauses_only_its_own_sender(running: Running) -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while sent < 256 * 1024 * 1024:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    # This client has a small buffer and reads nothing.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", running.port))
    sock.sendall(format_request(SECRET, "tcp", "127.0.0.1", server.sockets[0].getsockname()[1]))
    last = -1
    async with asyncio.timeout(60):
        while sent != last or not sent:
            last = sent
            # Other connections continue in the meantime.
            reader, writer = await running.send(format_request(SECRET, "tcp", "127.0.0.1", running.echo) + b"y")
            writer.write_eof()
            assert await _end(reader) == b"ok\ny the end"
    waiting = [client.transport.get_write_buffer_size() for client in running.relay.clients]
    assert max(waiting) <= relayprogram.HIGH_WATER + relayprogram.PIECE
    assert sent < 256 * 1024 * 1024
    sock.close()
    server.close()


async def test_connections_are_limited_and_renewals_are_not_among_them(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relayprogram, "SPARE", 2)
    request = format_request(SECRET, "tcp", "127.0.0.1", running.echo)
    for _ in range(20):
        reader, _ = await running.send(request)
        assert await reader.readline() == b"ok\n"
    reader, _ = await running.send(request)
    assert await _end(reader) == b"error busy it has 20 connections already\n"
    reader, _ = await running.send(format_renewal(SECRET))
    assert await _end(reader) == b"ok\n"
    async with asyncio.timeout(30):
        while len(running.relay.clients) > 20:
            await asyncio.sleep(0.005)
    # Clients that send nothing do not count against the limit, either.
    for _ in range(2):
        await running.send(b"")
    async with asyncio.timeout(30):
        while len(running.relay.clients) < 22:
            await asyncio.sleep(0.005)
    reader, _ = await running.send(format_renewal(SECRET))
    assert await _end(reader) in (b"", b"reset")


class Answering(asyncio.DatagramProtocol):
    """Answers each datagram with itself, twice."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data + data, addr)


async def test_datagrams(running: Running) -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Answering, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    first = format_datagram(b"one")
    reader, writer = await running.send(format_request(SECRET, "udp", "127.0.0.1", port) + first[:3])
    assert await reader.readline() == b"ok\n"
    writer.write(first[3:] + format_datagram(b"") + format_datagram(b"z" * 9000))
    assert await reader.readexactly(8) == format_datagram(b"oneone")
    assert await reader.readexactly(18002) == format_datagram(b"z" * 18000)
    client = next(iter(running.relay.clients))
    assert client.datagrams is not None
    writer.close()
    async with asyncio.timeout(30):
        while not client.datagrams.transport.is_closing():
            await asyncio.sleep(0.005)
    transport.close()


@given(st.binary(max_size=700))
def test_lines_without_the_secret_are_refused(line: bytes) -> None:
    with pytest.raises(BadLine):
        parse_line(line, DIGEST)


@given(st.lists(st.text(max_size=20) | st.sampled_from(["tcp", "udp", "renew", "10.0.0.1", "80", ""]), max_size=6))
def test_a_line_with_the_secret_is_parsed_completely_or_refused(words: list[str]) -> None:
    line = " ".join(["hatchway-relay", SECRET, *words]).encode()
    try:
        command, host, port = parse_line(line, DIGEST)
    except BadLine:
        return
    if command == "renew":
        assert line == format_renewal(SECRET)[:-1]
    else:
        assert command in ("tcp", "udp") and host and 0 < port < 65536
        assert line.decode() == f"hatchway-relay {SECRET} {command} {host} {line.decode().rpartition(' ')[2]}"


@pytest.mark.parametrize(
    ("address", "may"),
    [("10.0.0.1", True), ("fd00::1", True), ("8.8.8.8", True), ("127.0.0.1", False), ("::1", False),
     ("::ffff:127.0.0.1", False), ("169.254.169.254", False), ("fe80::1%eth0", False), ("0.0.0.0", False), ("224.0.0.1", False)],
)  # fmt: skip
def test_addresses_to_which_names_may_lead(address: str, may: bool) -> None:
    assert may_dial(address) is may


def test_the_program_is_one_file_for_python_3_8_without_dependencies() -> None:
    tree = syntax_tree(SOURCE.read_text(), (3, 8))
    imported = [
        name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    ]
    assert set(imported) <= set(sys.stdlib_module_names)


def _start(seconds: str) -> tuple[subprocess.Popen[str], int]:
    port = free_port()
    arguments = [sys.executable, "-I", "-B", "-c", SOURCE.read_text(), str(port), DIGEST, seconds]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving")
    return process, port


def test_the_program_ends_when_it_is_not_renewed() -> None:
    process, _ = _start("0.2")
    assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()


def test_the_program_ends_at_once_on_request() -> None:
    process, port = _start("60")
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(format_renewal(SECRET))
        assert sock.recv(10) == b"ok\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()
