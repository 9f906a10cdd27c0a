from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hatchway.errors import HatchwayError
from hatchway.forward.forwarder import Forwarder, LocalForward
from hatchway.forward.localports import PlannedForward
from hatchway.target import Target
from tests.unit.route.pods import World, speaks

Told = list[tuple[str, str]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World().running() as found:
        target = await found.add_service()
        assert target.port == "80"
        await found.add_pod("a", handler=speaks("a"))
        await found.set_endpoints("a")
        yield found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatchway.forward.forwarder._PATIENCE", 0.0)


WEB = PlannedForward(Target("services", "web", "shop", port="80"), 80, "http", 0, exact=False)


@contextlib.asynccontextmanager
async def _forwarding(
    world: World,
    *planned: PlannedForward,
    unix: Callable[[PlannedForward], str] | None = None,
    told: Told | None = None,
) -> AsyncIterator[list[LocalForward]]:
    forwarder = Forwarder(
        world.route, lambda forward, message, hint: ([] if told is None else told).append((message, hint))
    )
    async with forwarder.listening(list(planned) or [WEB], lambda one: "127.0.0.1", unix) as forwards:
        yield forwards


async def _ask(port: int, line: bytes = b"x\n") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    return answer


async def test_connections_are_forwarded_and_counted(world: World) -> None:
    async with _forwarding(world) as (forward,):
        assert [await _ask(forward.listen.port) for _ in range(3)] == [b"a x\n"] * 3
        await _until(lambda: not forward.connections)
        assert (forward.total, forward.sent, forward.received, forward.failed) == (3, 6, 12, 0)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (no event reports this)
            await asyncio.sleep(0.005)


async def test_the_end_of_each_direction_is_forwarded(world: World) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d" % len(await reader.read()))
        writer.close()

    await world.add_pod("b", handler=count)
    await world.set_endpoints("b")
    await world.client.settle()
    async with _forwarding(world) as (forward,):
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.listen.port)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert await reader.read() == b"300000"
        writer.close()


async def test_a_server_that_speaks_first_is_heard(world: World) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\n")
        await reader.read()
        writer.close()

    await world.add_pod("b", handler=greet)
    await world.set_endpoints("b")
    await world.client.settle()
    async with _forwarding(world) as (forward,):
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.listen.port)
        assert await reader.readline() == b"220 ready\n"
        writer.close()


@pytest.mark.usefixtures("impatient")
async def test_a_connection_without_a_ready_pod_is_reset_and_the_reason_is_reported_once(world: World) -> None:
    told: Told = []
    await world.set_endpoints(not_ready=("a",))
    await world.client.settle()
    async with _forwarding(world, told=told) as (forward,):
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", forward.listen.port)
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            writer.close()
        assert forward.failed == 2 and len(told) == 1 and "no pod is ready" in told[0][0]
        # The forward itself continues.
        await world.set_endpoints("a")
        await world.client.settle()
        assert await _ask(forward.listen.port) == b"a x\n"
        assert forward.problem == ""


async def test_a_client_that_does_not_read_does_not_delay_other_clients(world: World) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    await world.add_pod("b", app="flood", handler=flood)
    await world.add_service("flood")
    await world.set_endpoints("b", service="flood")
    await world.client.settle()
    flooding = PlannedForward(Target("services", "flood", "shop", port="80"), 80, "http", 0, exact=False)
    async with _forwarding(world, WEB, flooding) as (web, other):
        sock = socket.create_connection(("127.0.0.1", other.listen.port))
        before = -1
        while before != other.received or not other.received:
            before = other.received
            await asyncio.sleep(0.1)
        assert other.received < 32 << 20
        assert await _ask(web.listen.port) == b"a x\n"
        sock.close()


async def test_a_unix_socket_is_private_and_replaces_an_unused_socket(world: World, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with _forwarding(world, unix=lambda one: str(path)) as (forward,):
        assert str(forward.listen) == str(path)
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"x\n")
        assert await reader.readline() == b"a x\n"
        writer.close()
    assert not path.exists()


async def test_a_port_in_use_is_an_error_or_another_port_is_chosen(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HatchwayError, match=f"cannot listen on 127.0.0.1:{port}") as raised:
            async with _forwarding(world, PlannedForward(WEB.target, 80, "http", port, exact=True)):
                raise AssertionError
        assert "choose another local port (LOCAL:PORT)" in raised.value.hint
        async with _forwarding(world, PlannedForward(WEB.target, 80, "http", port, exact=False)) as (forward,):
            assert forward.listen.port != port
