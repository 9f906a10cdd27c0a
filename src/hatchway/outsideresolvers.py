"""Forwards DNS queries to the resolvers of a resolv.conf, as CoreDNS' `forward . /etc/resolv.conf`.

A resolver may be unreachable, and programs should get an error soon. So each resolver is probed in the background,
before its first query and after a failure. Only resolvers that have answered their last probe get queries.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_UDP_SECONDS, _TCP_SECONDS = 1.5, 3.0
_PROBE_AGAIN_SECONDS = 5.0
# Seconds that a query waits for a probe when no resolver has answered its last probe.
_PROBE_WAIT_SECONDS = 0.3
_AT_ONCE = 200
# A query for the root's name servers, which every resolver knows.
_PROBE = bytes.fromhex("0000 0100 0001 0000 0000 0000 00 0002 0001")


class NoResolver(Exception):
    """No resolver outside the cluster has answered."""


@dataclass(slots=True)
class _OutsideResolver:
    address: tuple[str, int]
    up: bool = False
    # The time of the last probe (the event loop's clock), and the task of a probe.
    probed: float = float("-inf")
    probe: asyncio.Task[None] | None = None


class OutsideResolvers:
    """Resolvers outside the cluster, used in the given order; call `close` at the end.

    Args:
        servers: addresses with ports.
        udp_seconds, tcp_seconds: how long one resolver may take to answer.
        at_once: the maximum number of queries that are under way at a time; further ones fail.
    """

    def __init__(
        self,
        servers: Iterable[tuple[str, int]],
        udp_seconds: float = _UDP_SECONDS,
        tcp_seconds: float = _TCP_SECONDS,
        at_once: int = _AT_ONCE,
    ) -> None:
        self._servers = [_OutsideResolver(address) for address in servers]
        self._udp_seconds = udp_seconds
        self._tcp_seconds = tcp_seconds
        self._slots = asyncio.Semaphore(at_once)

    async def start(self) -> None:
        """Probe all resolvers, and wait for the results (at most 1.5 seconds)."""
        for server in self._servers:
            self._probe_soon(server)
        if probes := self._probes():
            await asyncio.wait(probes)

    async def close(self) -> None:
        """End the probes that are under way."""
        tasks = [server.probe for server in self._servers if server.probe is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        """Send a query to the resolvers, one after the other; return the first answer. Raises NoResolver."""
        if self._slots.locked():
            raise NoResolver("too many queries are under way")
        async with self._slots:
            if not any(server.up for server in self._servers):
                await self._await_probes()
            for server in self._servers:
                if not server.up:
                    self._probe_soon(server)
                    continue
                try:
                    if tcp:
                        answer = await _ask_tcp(server.address, query, self._tcp_seconds)
                    else:
                        answer = await _ask_udp(server.address, query, self._udp_seconds)
                except (OSError, EOFError, TimeoutError):
                    # Only a probe decides whether the resolver is up. Otherwise one client could disable it for all
                    # others, by a name whose servers are slow, or by TCP queries to a resolver that refuses TCP.
                    self._probe_soon(server)
                    continue
                return query[:2] + answer[2:]
        raise NoResolver("no resolver outside the cluster can be reached")

    async def _await_probes(self) -> None:
        """Wait until a resolver answers its probe, for at most `_PROBE_WAIT_SECONDS`."""
        for server in self._servers:
            self._probe_soon(server)
        try:
            async with asyncio.timeout(_PROBE_WAIT_SECONDS):
                while not any(server.up for server in self._servers) and (probes := self._probes()):
                    await asyncio.wait(probes, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            # The probes go on, for later queries.
            return

    def _probes(self) -> list[asyncio.Task[None]]:
        """Return the probes that are under way."""
        return [server.probe for server in self._servers if server.probe is not None and not server.probe.done()]

    def _probe_soon(self, server: _OutsideResolver) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - server.probed >= _PROBE_AGAIN_SECONDS and (server.probe is None or server.probe.done()):
            server.probe = loop.create_task(self._probe(server), name=f"probe of {server.address[0]}")

    async def _probe(self, server: _OutsideResolver) -> None:
        server.probed = asyncio.get_running_loop().time()
        try:
            await _ask_udp(server.address, _PROBE, _UDP_SECONDS)
        except (OSError, TimeoutError):
            server.up = False
        else:
            server.up = True


def read_servers(path: Path, own: str = "") -> list[tuple[str, int]]:
    """Return the nameservers of a resolv.conf, without this server's own address, to avoid a loop."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Without the file there is no resolver.
        return []
    words = (line.split() for line in text.splitlines())
    named = [found[1] for found in words if len(found) > 1 and found[0] == "nameserver" and found[1] != own]
    return [(address, 53) for address in named if _is_address(address)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        # A name would have to be resolved by the resolver that it names.
        return False
    return True


class _UdpLookup(asyncio.DatagramProtocol):
    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        # Only an answer with this id and this question counts; upper and lower case do not matter.
        length = len(self._wanted)
        genuine = len(data) >= length and data[:2] == self._wanted[:2] and data[2] & 0x80
        if genuine and data[12:length].lower() == self._wanted[12:].lower() and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_udp(server: tuple[str, int], query: bytes, seconds: float) -> bytes:
    asked = secrets.token_bytes(2) + query[2:]
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(
        lambda: _UdpLookup(asked[: _question_end(asked)]), remote_addr=server
    )
    try:
        transport.sendto(asked)
        async with asyncio.timeout(seconds):
            return await exchange.answer
    finally:
        transport.close()


async def _ask_tcp(server: tuple[str, int], query: bytes, seconds: float) -> bytes:
    asked = secrets.token_bytes(2) + query[2:]
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(len(asked).to_bytes(2, "big") + asked)
            length = int.from_bytes(await reader.readexactly(2), "big")
            answer = await reader.readexactly(length)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    if len(answer) < 12 or answer[:2] != asked[:2]:
        raise EOFError("the answer belongs to another question")
    return answer


def _question_end(query: bytes) -> int:
    """Return the offset where the question of a well-formed query ends."""
    offset = 12
    while query[offset]:
        offset += 1 + query[offset]
    return offset + 5
