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
# What every asker can take by UDP, and what the length of a TCP message can say.
_SMALLEST, _TCP_LIMIT = 512, 65535


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
        await self.upstream.close()

    # --- answering ---------------------------------------------------------------------------------------------

    def at_once(self, data: bytes) -> tuple[Query | None, Message | None]:
        """(the query, its answer). No answer: somebody else must be asked. Neither: the bytes deserve none."""
        if not deserves_answer(data):
            return None, None
        try:
            query = parse_query(data)
        except BadQuery as error:
            return None, refusal(data, error.rcode)
        return query, self.resolver.answer(query)

    async def from_outside(self, query: Query, data: bytes, *, tcp: bool) -> bytes:
        """The answer of a resolver outside the cluster, else SERVFAIL.

        A name of one label is nobody's outside (RFC 7085): without a resolver it is simply not there, and whoever has
        mistyped a service's name hears that instead of a failure.
        """
        try:
            answer = await self.upstream.ask(data, tcp=tcp)
        except Unreachable:
            self.metrics.forwards["failed"] += 1
            return self.packed(failure(query, "NXDOMAIN" if len(query.name) == 1 else "SERVFAIL"), _TCP_LIMIT)
        self.metrics.forwards["answered"] += 1
        return answer

    def packed(self, message: Message, limit: int) -> bytes:
        self.metrics.responses[message.rcode] += 1
        return message.pack(limit)

    # --- UDP ---------------------------------------------------------------------------------------------------

    def datagram(self, data: bytes, address: Any) -> None:
        query, answer = self.at_once(data)
        if query is None and answer is None:
            return
        self.metrics.requests["udp"] += 1
        if answer is not None:
            limit = min(query.payload, UDP_PAYLOAD) if query is not None else _SMALLEST
            self._send(self.packed(answer, limit), address)
        elif query is not None:
            task = asyncio.get_running_loop().create_task(self._forward_datagram(query, data, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
            query, answer = self.at_once(data)
            if answer is not None:
                packed = self.packed(answer, _TCP_LIMIT)
            elif query is not None:
                packed = await self.from_outside(query, data, tcp=True)
            else:
                return
            self.metrics.requests["tcp"] += 1
            writer.write(len(packed).to_bytes(2, "big") + packed)
            async with asyncio.timeout(_IDLE_SECONDS):
                await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.datagram(data, addr)
