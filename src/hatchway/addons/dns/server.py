"""The name server's sockets: UDP datagrams, and TCP with its two bytes of length (RFC 1035 4.2, RFC 7766)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from typing import Any

from dnslib import DNSError

from hatchway.addons.dns.answercache import AnswerCache
from hatchway.addons.dns.dnsquery import BadDnsQuery, DnsQuery, deserves_answer, parse_query
from hatchway.addons.dns.message import UDP_PAYLOAD, DnsAnswer, Resolver, failure, refusal
from hatchway.outsideresolvers import NoResolver, OutsideResolvers

log = logging.getLogger(__name__)

_IDLE_SECONDS = 10.0
# The most TCP connections; a new one then closes the oldest one.
_CONNECTIONS = 256
# Bytes that every client accepts by UDP, and the longest message by TCP.
_SMALLEST, _TCP_LIMIT = 512, 65535


class DnsMetrics:
    """Counts for /metrics: requests by transport, answers by response code, forwarded queries by outcome."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.responses: Counter[str] = Counter()
        self.forwards: Counter[str] = Counter()


class DnsServer:
    """A name server on one address, by UDP and TCP.

    Args:
        resolver: answers names of the cluster.
        upstream: answers all other names; closed with the server.

    Attributes:
        port: the port on which it listens; 0 before `start`.
    """

    def __init__(self, resolver: Resolver, upstream: OutsideResolvers) -> None:
        self.resolver = resolver
        self.upstream = upstream
        self.metrics = DnsMetrics()
        self._cache = AnswerCache()
        self.port = 0
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # The tasks of TCP connections, the oldest first.
        self._connections: dict[asyncio.Task[None], None] = {}

    async def start(self, host: str, port: int) -> None:
        """Listen on an address; port 0 means any free port. Raises OSError when the address cannot be bound."""
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._connected, host, port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        try:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (host, self.port))
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening, end connections and queries that are under way, and close `upstream`."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.upstream.close()

    # --- answering ---------------------------------------------------------------------------------------------

    def answer_locally(self, data: bytes) -> tuple[DnsQuery | None, DnsAnswer | None]:
        """Parse a query and answer it from the cluster's objects.

        Returns:
            (query, answer). Without an answer, the query is for a resolver outside the cluster. Without a query, the
            answer is a refusal. Without both, the bytes get no answer.
        """
        if not deserves_answer(data):
            return None, None
        try:
            query = parse_query(data)
        except BadDnsQuery as error:
            return None, refusal(data, error.rcode)
        return query, self.resolver.answer(query)

    async def ask_outside(self, query: DnsQuery, data: bytes, *, tcp: bool) -> bytes:
        """Ask the resolvers outside the cluster, and return their answer; SERVFAIL when none of them answers.

        Names of one label do not exist outside (RFC 7085). When no resolver answers, they get NXDOMAIN, so that the
        mistyped name of a service is reported as unknown and not as a failure.
        """
        if (kept := self._cache.find(query, data, tcp=tcp)) is not None:
            self.metrics.forwards["cached"] += 1
            return kept
        try:
            answer = await self.upstream.ask(data, tcp=tcp)
        except NoResolver:
            self.metrics.forwards["failed"] += 1
            return self.pack(failure(query, "NXDOMAIN" if len(query.name) == 1 else "SERVFAIL"), _TCP_LIMIT)
        self.metrics.forwards["answered"] += 1
        self._cache.keep(query, data, answer, tcp=tcp)
        return answer

    async def complete(self, answer: DnsAnswer, *, tcp: bool) -> None:
        """Add the records of the name outside the cluster to which the answer leads, if it does."""
        if not answer.outside:
            return
        try:
            data = answer.outside_query()
            query = parse_query(data)
        except (DNSError, BadDnsQuery):
            # The API server has validated the name; this one is too long with all its labels.
            return
        answer.add_outside(await self.ask_outside(query, data, tcp=tcp))

    def pack(self, message: DnsAnswer, limit: int) -> bytes:
        """Count an answer in the metrics, and return its bytes, at most `limit`."""
        self.metrics.responses[message.rcode] += 1
        return message.pack(limit)

    # --- UDP ---------------------------------------------------------------------------------------------------

    def datagram(self, data: bytes, address: Any) -> None:
        """Answer a query by UDP from `address`, now or when a resolver outside has answered."""
        query, answer = self.answer_locally(data)
        if query is None and answer is None:
            return
        self.metrics.requests["udp"] += 1
        limit = min(query.payload, UDP_PAYLOAD) if query is not None else _SMALLEST
        if answer is not None and not answer.outside:
            self._send(self.pack(answer, limit), address)
        elif query is not None:
            task = asyncio.get_running_loop().create_task(self._answer_later(query, answer, data, limit, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer_later(
        self, query: DnsQuery, answer: DnsAnswer | None, data: bytes, limit: int, address: Any
    ) -> None:
        if answer is None:
            self._send(await self.ask_outside(query, data, tcp=False), address)
            return
        await self.complete(answer, tcp=False)
        self._send(self.pack(answer, limit), address)

    def _send(self, answer: bytes, address: Any) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(answer, address)

    # --- TCP ---------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if len(self._connections) >= _CONNECTIONS:
            # A client may keep many connections open without a query. Other connections are answered and closed soon.
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        self._connections[task] = None
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, TimeoutError) as error:
            log.debug("a connection has ended: %s", error)
        except asyncio.CancelledError:
            # The server is closing, or has too many connections. asyncio would log a cancelled handler as an error.
            log.debug("a connection is closed by the server")
        finally:
            self._connections.pop(task, None)
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(_IDLE_SECONDS):
                length = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(length)
            query, answer = self.answer_locally(data)
            if answer is not None:
                await self.complete(answer, tcp=True)
                packed = self.pack(answer, _TCP_LIMIT)
            elif query is not None:
                packed = await self.ask_outside(query, data, tcp=True)
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
