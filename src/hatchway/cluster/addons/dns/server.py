"""The name server's sockets: UDP datagrams, and TCP with its two bytes of length (RFC 1035 4.2, RFC 7766)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import Any

from hatchway.cluster.addons.dns.message import UDP_PAYLOAD, Message, Resolver, failure, refusal
from hatchway.cluster.addons.dns.query import BadQuery, Query, deserves_answer, parse_query
from hatchway.cluster.addons.dns.upstream import Unreachable, Upstream

log = logging.getLogger(__name__)

_IDLE_SECONDS = 10.0
_CONNECTIONS = 256
_TCP_LIMIT = 65535


class Metrics:
    """Counts for /metrics: requests by transport, answers by code, forwarded ones by outcome."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.responses: Counter[str] = Counter()
        self.forwards: Counter[str] = Counter()


class DnsServer:
    """A name server on one address, UDP and TCP. `port` is the one it got, when 0 was asked for."""

    def __init__(self, resolver: Resolver, upstream: Upstream) -> None:
        self.resolver = resolver
        self.upstream = upstream
        self.metrics = Metrics()
        self.port = 0
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._connected, host, port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        try:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (host, self.port))
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- answering ---------------------------------------------------------------------------------------------

    def at_once(self, data: bytes) -> Message | Query | None:
        """The answer to some bytes; the query when somebody else must be asked; None when they deserve none."""
        if not deserves_answer(data):
            return None
        try:
            query = parse_query(data)
        except BadQuery as error:
            return refusal(data, error.rcode)
        return self.resolver.answer(query) or query

    async def from_outside(self, query: Query, data: bytes, *, tcp: bool) -> bytes:
        """The answer of a resolver outside the cluster, else SERVFAIL."""
        try:
            answer = await self.upstream.ask(data, tcp=tcp)
        except Unreachable:
            self.metrics.forwards["failed"] += 1
            return self.packed(failure(query, "SERVFAIL"), _TCP_LIMIT)
        self.metrics.forwards["answered"] += 1
        return answer

    def packed(self, message: Message, limit: int) -> bytes:
        self.metrics.responses[message.rcode] += 1
        return message.pack(limit)

    # --- UDP ---------------------------------------------------------------------------------------------------

    def datagram(self, data: bytes, address: Any) -> None:
        found = self.at_once(data)
        if found is None:
            return
        self.metrics.requests["udp"] += 1
        if isinstance(found, Query):
            task = asyncio.get_running_loop().create_task(self._forward_datagram(found, data, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._send(self.packed(found, _udp_limit(data)), address)

    async def _forward_datagram(self, query: Query, data: bytes, address: Any) -> None:
        self._send(await self.from_outside(query, data, tcp=False), address)

    def _send(self, answer: bytes, address: Any) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(answer, address)

    # --- TCP ---------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections += 1
        try:
            if self._connections <= _CONNECTIONS:
                await self._converse(reader, writer)
        except (OSError, EOFError, TimeoutError) as error:
            log.debug("a connection has ended: %s", error)
        except asyncio.CancelledError:
            # The server closes; asyncio's own callback would report a cancelled handler as an error.
            log.debug("a connection is closed with the server")
        finally:
            self._connections -= 1
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                length = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(length)
            found = self.at_once(data)
            if found is None:
                return
            self.metrics.requests["tcp"] += 1
            if isinstance(found, Query):
                answer = await self.from_outside(found, data, tcp=True)
            else:
                answer = self.packed(found, _TCP_LIMIT)
            writer.write(len(answer).to_bytes(2, "big") + answer)
            async with asyncio.timeout(_IDLE_SECONDS):
                await writer.drain()


def _udp_limit(data: bytes) -> int:
    try:
        return min(parse_query(data).payload, UDP_PAYLOAD)
    except BadQuery:
        return 512


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.datagram(data, addr)
