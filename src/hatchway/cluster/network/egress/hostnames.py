"""Answers pods' DNS queries with this machine's name servers.

Pods cannot use this machine's /etc/resolv.conf: the name server in it may listen only on the loopback interface
(127.0.0.53 of systemd-resolved). So the control plane, which is in this machine's network, listens on one address of
the private network (`plan.HOST_NAMESERVER`), and forwards queries and answers. The control plane reads resolv.conf
again when the file changes.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any, Final

from hatchway.dnssockets import DnsSockets
from hatchway.outsideresolvers import NoResolver, OutsideResolvers, read_servers

_FILE: Final = Path("/etc/resolv.conf")
# The most name servers that are used, as in glibc (resolv.conf(5), MAXNS).
_SERVERS: Final = 3
# Seconds for all name servers together: a little less than clients wait.
_SECONDS: Final = 4.0
# The longest query, in bytes.
_LONGEST_QUERY: Final = 4096
# The most pending UDP queries of all clients, and of one client. The cluster's name server sends no more than that.
_QUERIES: Final = 512
_OF_ONE_CLIENT: Final = 200
# The most TCP connections.
_CONNECTIONS: Final = 64
_SERVFAIL: Final = 2


class HostNames:
    """Answers queries until `close`. Create it in an event loop.

    queries, connections: the UDP socket and the listening TCP socket, which this object closes.
    file: this machine's resolv.conf.
    """

    def __init__(self, queries: socket.socket, connections: socket.socket, file: Path = _FILE) -> None:
        self._file = file
        self._read: object = None
        self._resolvers = OutsideResolvers([])
        self._by_client: Counter[str] = Counter()
        self._sockets = DnsSockets(self.datagram, self._answer_tcp, _CONNECTIONS)
        self._sockets.start_task(self._open(queries, connections))

    async def close(self) -> None:
        """Stop serving."""
        await self._sockets.close()
        await self._resolvers.close()

    async def _open(self, queries: socket.socket, connections: socket.socket) -> None:
        await self._sockets.use(queries, connections)
        await self._current().start()

    def datagram(self, data: bytes, address: Any) -> None:
        """Start to answer a query by UDP. Queries beyond the limits are dropped: clients send them again."""
        client = address[0]
        if self._by_client.total() >= _QUERIES or self._by_client[client] >= _OF_ONE_CLIENT or not is_query(data):
            return
        self._by_client[client] += 1
        self._sockets.start_task(self._answer_datagram(data, address))

    def under_way(self, client: str) -> int:
        """Return the number of pending UDP queries of a client's address."""
        return self._by_client[client]

    async def _answer_datagram(self, data: bytes, address: Any) -> None:
        try:
            answer = await self._answer(data, tcp=False)
        finally:
            self._by_client[address[0]] -= 1
            if not self._by_client[address[0]]:
                del self._by_client[address[0]]
        self._sockets.send(answer, address)

    async def _answer_tcp(self, data: bytes) -> bytes | None:
        return await self._answer(data, tcp=True) if is_query(data) else None

    async def _answer(self, data: bytes, *, tcp: bool) -> bytes:
        try:
            return await self._current().ask(data, tcp=tcp)
        except NoResolver:
            return servfail(data)

    def _current(self) -> OutsideResolvers:
        """Return the resolvers of the file; read it again if it has changed."""
        try:
            found = os.stat(self._file)
            state: object = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            state = ""
        if state != self._read:
            self._read = state
            servers = read_servers(self._file)[:_SERVERS]
            seconds = _SECONDS / max(1, len(servers))
            old, self._resolvers = self._resolvers, OutsideResolvers(servers, seconds, seconds, _QUERIES)
            self._sockets.start_task(old.close())
        return self._resolvers


def is_query(data: bytes) -> bool:
    """Return True for a query with one complete question (RFC 1035 section 4.1)."""
    if not 17 <= len(data) <= _LONGEST_QUERY or data[2] & 0x80 or data[4:6] != b"\0\1":
        return False
    at = 12
    while at < len(data) and data[at]:
        if data[at] > 63:
            return False
        at += 1 + data[at]
    return at - 12 < 255 and at + 5 <= len(data)


def servfail(query: bytes) -> bytes:
    """Return the answer SERVFAIL. query: a query that `is_query` accepts."""
    end = 12
    while query[end]:
        end += 1 + query[end]
    flags = bytes([0x80 | query[2] & 0x79, 0x80 | _SERVFAIL])
    return query[:2] + flags + b"\0\1\0\0\0\0\0\0" + query[12 : end + 5]
