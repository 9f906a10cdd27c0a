"""The name server: answers queries from the cluster's objects, or with resolvers outside the cluster."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dnslib import DNSError

from hatchway.addons.dns.answercache import AnswerCache
from hatchway.addons.dns.dnsquery import BadDnsQuery, DnsQuery, deserves_answer, parse_query
from hatchway.addons.dns.message import UDP_PAYLOAD, DnsAnswer, Resolver, failure, refusal
from hatchway.dnssockets import DnsSockets
from hatchway.outsideresolvers import NoResolver, OutsideResolvers

# The most TCP connections.
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
        self._sockets = DnsSockets(self._on_datagram, self._answer_tcp, _CONNECTIONS)

    async def start(self, host: str, port: int) -> None:
        """Listen on an address; port 0 means any free port. Raises OSError when the address cannot be bound."""
        self.port = await self._sockets.listen(host, port)

    async def close(self) -> None:
        """Stop listening, end connections and queries that are under way, and close `upstream`."""
        await self._sockets.close()
        await self.upstream.close()

    # --- answering ---------------------------------------------------------------------------------------------

    def answer_locally(self, data: bytes) -> tuple[DnsQuery | None, DnsAnswer | None]:
        """Parse a query and answer it from the cluster's objects.

        Returns:
            (query, answer). (query, None): a resolver outside the cluster must answer. (None, answer): the query is
            malformed, and the answer refuses it. (None, None): the bytes get no answer.
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
        """Add the records of `answer.outside`, if the answer leads to a name outside the cluster."""
        if not answer.outside:
            return
        try:
            data = answer.outside_query()
            query = parse_query(data)
        except (DNSError, BadDnsQuery):
            # The API server validates each label of the name; the whole name may still be too long for DNS.
            return
        answer.add_outside(await self.ask_outside(query, data, tcp=tcp))

    def pack(self, message: DnsAnswer, limit: int) -> bytes:
        """Count an answer in the metrics, and return its bytes, at most `limit`."""
        self.metrics.responses[message.rcode] += 1
        return message.pack(limit)

    # --- transports --------------------------------------------------------------------------------------------

    def _on_datagram(self, data: bytes, address: Any) -> None:
        query, answer = self.answer_locally(data)
        if query is None and answer is None:
            return
        self.metrics.requests["udp"] += 1
        limit = min(query.payload, UDP_PAYLOAD) if query is not None else _SMALLEST
        if answer is not None and not answer.outside:
            self._sockets.send(self.pack(answer, limit), address)
        elif query is not None:
            self._sockets.start_task(self._answer_later(query, answer, data, limit, address))

    async def _answer_later(
        self, query: DnsQuery, answer: DnsAnswer | None, data: bytes, limit: int, address: Any
    ) -> None:
        if answer is None:
            self._sockets.send(await self.ask_outside(query, data, tcp=False), address)
            return
        await self.complete(answer, tcp=False)
        self._sockets.send(self.pack(answer, limit), address)

    async def _answer_tcp(self, data: bytes) -> bytes | None:
        query, answer = self.answer_locally(data)
        if answer is not None:
            await self.complete(answer, tcp=True)
            packed = self.pack(answer, _TCP_LIMIT)
        elif query is not None:
            packed = await self.ask_outside(query, data, tcp=True)
        else:
            return None
        self.metrics.requests["tcp"] += 1
        return packed
