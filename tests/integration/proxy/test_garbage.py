"""The objects of an exchange are freed at its end, without the garbage collector.

A TLS connection uses about fifty kilobytes that Python does not count. The collector counts only objects, so it would
run too late; and it never frees the old objects that a process exempts (`gc.freeze`).
"""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections import Counter
from collections.abc import Iterator

import pytest

from hatchway.proxy.limits import Limits
from hatchway.proxy.server import Server
from tests.integration.proxy.conftest import Authority
from tests.integration.proxy.test_upgrade import ASK, echo, switching
from tests.integration.proxy.wire import GET, OK, World, forward, until

pytestmark = pytest.mark.usefixtures("exempt_objects")

_TIMES = 3


@pytest.fixture
def circles() -> Iterator[Counter[str]]:
    """Count the objects of the engine and its transports that only the collector can free, after `gc.collect`.

    Objects that exist before are exempted, because a collection may not be able to free them: if a finalizer fails,
    pytest keeps the exception, and with it the object, until the setup of the test has ended.
    """
    found: Counter[str] = Counter()
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)

    def look(phase: str, _info: dict[str, int]) -> None:
        if phase == "stop":
            found.update(
                f"{kind.__module__}.{kind.__qualname__}"
                for kind in map(type, gc.garbage)
                if kind.__module__.startswith(("hatchway.", "aiofastnet."))
            )
            gc.garbage.clear()

    gc.callbacks.append(look)
    yield found
    gc.callbacks.remove(look)
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.unfreeze()


async def _ended(server: Server) -> None:
    await until(lambda: server.connections == 0)
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("secure", [False, True])
async def test_requests_leave_no_circles(
    world: World, authority: Authority, circles: Counter[str], secure: bool
) -> None:
    backend = await world.answering(OK, context=authority.server() if secure else None)
    server = await world.serve(
        forward(backend.upstream(authority.client() if secure else None, "localhost" if secure else None)),
        ssl=authority.server() if secure else None,
    )
    for _ in range(_TIMES):
        client = await world.client(server, authority.client() if secure else None)
        assert (await client.ask(GET)).status == 200
        assert (await client.ask(GET)).status == 200
        client.cut()
    await _ended(server)
    gc.collect()
    assert not circles


@pytest.mark.parametrize("secure", [False, True])
async def test_upgrades_leave_no_circles(
    world: World, authority: Authority, circles: Counter[str], secure: bool
) -> None:
    backend = await world.backend(switching(echo), authority.server() if secure else None)
    server = await world.serve(
        forward(backend.upstream(authority.client() if secure else None, "localhost" if secure else None)),
        ssl=authority.server() if secure else None,
    )
    for _ in range(_TIMES):
        client = await world.client(server, authority.client() if secure else None)
        assert (await client.ask(ASK)).status == 101
        client.send(b"ping")
        assert await client.reader.readexactly(4) == b"ping"
        client.cut()
    await _ended(server)
    await until(lambda: all(task.done() for task in backend._tasks))
    gc.collect()
    assert not circles


async def test_clients_that_leave_during_the_handshake_leave_no_circles(
    world: World, authority: Authority, circles: Counter[str]
) -> None:
    server = await world.serve(lambda head: pytest.fail("no request was sent"), ssl=authority.server())
    hello = ssl.MemoryBIO()
    half = authority.client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    begun = hello.read()
    for sent in (b"", begun[:20], begun, b"\x16garbage, not a handshake"):
        for _ in range(_TIMES):
            client = await world.client(server)
            client.send(sent)
            await until(lambda: bool(server._context._tasks))
            client.cut()
    await until(lambda: not server._context._tasks)
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert not circles


def _tls_transports() -> int:
    return sum(type(found).__name__ == "SSLTransport_Socket" for found in gc.get_objects())


async def test_a_connection_that_is_given_up_during_its_handshake_is_gone_at_once(
    world: World, authority: Authority
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    limits = Limits(upstream_tls_timeout=600, head_timeout=600)
    backend = await world.backend(lambda _: silent)
    server = await world.serve(forward(backend.upstream(authority.client(), "localhost")), limits=limits)
    gc.collect()
    before = _tls_transports()
    client = await world.client(server)
    client.send(GET)
    await until(lambda: _tls_transports() > before)
    client.cut()
    await until(lambda: _tls_transports() == before)


async def test_a_client_that_resets_during_its_handshake_is_gone_at_once(world: World, authority: Authority) -> None:
    limits = Limits(head_timeout=600)
    server = await world.serve(lambda head: pytest.fail("no request was sent"), ssl=authority.server(), limits=limits)
    gc.collect()
    before = _tls_transports()
    client = await world.client(server)
    await until(lambda: _tls_transports() > before)
    client.cut()
    await until(lambda: _tls_transports() == before)
