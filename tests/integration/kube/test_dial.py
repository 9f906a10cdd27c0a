"""Connecting: every address of a name is tried, and a silent one does not hold up the next."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from hatchway.kube import dial
from hatchway.kube.dial import Dialer


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The door runs on uvloop, commands on asyncio's own."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that answers nothing: its queue of connections is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.2", 0))
        server.listen(0)
        port = server.getsockname()[1]
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.2", port))
        yield f"127.0.0.2:{port}"
        for client in clients:
            client.close()


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Make `k8s.example` mean these addresses."""
    loop = asyncio.get_running_loop()
    original = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        if host != "k8s.example":
            # uvloop's sock_connect asks for addresses, too.
            return await original(host, port, **more)
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number))
            for address, number in addresses
        ]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)


async def test_an_address_that_refuses_is_passed_over(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    port = listener.getsockname()[1]
    resolve(monkeypatch, ("::1", port), ("127.0.0.1", port))
    with await Dialer("k8s.example", 1)() as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
        assert sock.gettimeout() == 0


async def test_an_address_that_is_silent_does_not_hold_up_the_next(
    listener: socket.socket, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "_NEXT_ADDRESS", 0.05)
    port = listener.getsockname()[1]
    host, _, number = silent.partition(":")
    resolve(monkeypatch, (host, int(number)), ("127.0.0.1", port))
    with await asyncio.wait_for(Dialer("k8s.example", 1)(), 5) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)


async def test_what_does_not_answer_is_a_time_out(silent: str) -> None:
    host, _, port = silent.partition(":")
    with pytest.raises(TimeoutError, match="i/o timeout"):
        await Dialer(host, int(port), timeout=0.2)()


async def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch)
    with pytest.raises(OSError, match=r"k8s\.example has no address"):
        await Dialer("k8s.example", 1)()
