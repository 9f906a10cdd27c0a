"""The pool of idle connections to upstreams. It also opens new connections."""

from __future__ import annotations

import socket

from hatchway.proxy import transports
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import ProxyError, Upstream
from hatchway.proxy.socketerrors import describe
from hatchway.proxy.upstream import UpstreamConnection


class Pool:
    """Idle connections by `Upstream.key`. The most recently used one is taken first. Listeners may share a pool."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._idle: dict[object, list[UpstreamConnection]] = {}
        self._count = 0
        self._now = 0.0

    def __len__(self) -> int:
        """Return how many idle connections there are."""
        return self._count

    def take(self, key: object, check: bool) -> UpstreamConnection | None:
        """Return an idle connection, or None.

        check: True to skip connections that the peer has closed, which costs a system call.
        """
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            self._count -= 1
            if connection.transport.is_closing():
                continue
            if check and connection.looks_dead():
                connection.transport.abort()
                continue
            return connection
        return None

    def put(self, connection: UpstreamConnection) -> None:
        """Store an idle connection, or close it when there are too many. `take` skips connections that are closing."""
        idle = self._idle.get(connection.key)
        if idle is None:
            idle = self._idle[connection.key] = []
        limits = self.limits
        if self._count >= limits.idle_upstreams or len(idle) >= limits.idle_upstreams_per_key:
            connection.transport.close()
            return
        connection.idle_until = self._now + limits.upstream_idle_timeout
        idle.append(connection)
        self._count += 1

    def discard(self, connection: UpstreamConnection) -> None:
        """Remove a connection that is closed."""
        idle = self._idle.get(connection.key)
        if idle is not None and connection in idle:
            idle.remove(connection)
            self._count -= 1

    def sweep(self, now: float) -> None:
        """Close the connections that have been idle for too long. now: by the coarse clock."""
        self._now = now
        for key, idle in list(self._idle.items()):
            # Connections are taken from the end and put back at the end, so the oldest connections come first.
            while idle and idle[0].idle_until <= now:
                self._count -= 1
                idle.pop(0).transport.close()
            if not idle:
                del self._idle[key]

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for connection in idle:
                connection.transport.close()
        self._idle.clear()
        self._count = 0

    async def connect(self, upstream: Upstream) -> UpstreamConnection:
        """Open a connection. Raises ProxyError ("dial", "tls" or "read")."""
        try:
            opened = await upstream.connect()
        except OSError as error:
            raise ProxyError("dial", describe(error)) from error
        sock = opened if isinstance(opened, socket.socket) else None
        connection = UpstreamConnection(self, upstream.key, sock)
        try:
            await transports.connect(
                connection, opened, self.limits, tls=upstream.tls, server_hostname=upstream.server_hostname
            )
        except (OSError, ValueError, EOFError) as error:
            opened.close()
            if isinstance(error, ConnectionAbortedError) and not error.errno:
                seconds = self.limits.upstream_tls_timeout
                message = f"no answer to the TLS handshake in {seconds:g} s"
                raise ProxyError("tls", message, silent=seconds) from error
            raise ProxyError("tls" if upstream.tls is not None else "dial", describe(error)) from error
        except BaseException:
            opened.close()
            raise
        return _alive(connection)


def _alive(connection: UpstreamConnection) -> UpstreamConnection:
    if connection.transport.is_closing():
        raise ProxyError("read", "EOF")
    return connection
