"""The state that the connections of one listener share: routing function, limits, clock, pool of upstreams, tasks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

from hatchway.proxy import heap, transports
from hatchway.proxy.busypoll import BusyPoll
from hatchway.proxy.cache import DECISIONS, DecisionCache
from hatchway.proxy.contracts import OpenConnection
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import Respond, RoutingFunction

ErrorBody = Callable[[int, str], Respond]
logger = logging.getLogger("hatchway.proxy")


class ByAddress:
    """Counts the connections of each client address. limit: the most that one address may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()
        self._addresses: dict[OpenConnection, str] = {}

    def admit(self, address: str) -> bool:
        """Count a new connection. Return False, and do not count it, when its address already has too many."""
        if self._counts[address] >= self._limit:
            return False
        self._counts[address] += 1
        return True

    def remember(self, connection: OpenConnection, address: str) -> None:
        """Remember the object of a connection that was counted for `address`."""
        self._addresses[connection] = address

    def forget(self, connection: OpenConnection) -> None:
        """Count the end of a connection. Idempotent."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            self.release(address)

    def release(self, address: str) -> None:
        """Count the end of a connection for which no object was made."""
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]


class Context:
    """Shared state of a listener's connections.

    Attributes:
        now: the coarse clock, which is the event loop's time at the last tick, in seconds.
        date: the current `Date` field line.
        decisions: the cache of decisions.
        busy_poll: the busy polling for messages of upgraded connections.
        connections: the open connections of clients.
        by_address: counts the connections of each address; None when they are not limited.
        closing: True while the listener shuts down; responses then have `Connection: close`.
    """

    __slots__ = (
        "_closing_transports",
        "_deserted",
        "_tasks",
        "_timer",
        "_writes",
        "busy_poll",
        "by_address",
        "closing",
        "connections",
        "date",
        "decisions",
        "error_body",
        "limits",
        "loop",
        "now",
        "pool",
        "route",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        route: RoutingFunction,
        limits: Limits,
        pool: Pool,
        error_body: ErrorBody,
        decisions: DecisionCache = DECISIONS,
    ) -> None:
        self.loop = loop
        self.route = route
        self.limits = limits
        self.pool = pool
        self.error_body = error_body
        self.decisions = decisions
        self.busy_poll = BusyPoll(loop)
        self.connections: set[OpenConnection] = set()
        self.by_address = ByAddress(limits.connections_per_address) if limits.connections_per_address else None
        self.closing = False
        self._writes: list[tuple[asyncio.Transport, bytes]] = []
        self._deserted: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing_transports: dict[asyncio.Transport, float] = {}
        self.now = loop.time()
        self.date = b""
        self._timer: asyncio.TimerHandle | None = None
        self._tick()

    def _tick(self) -> None:
        """Advance the coarse clock, and call `deadline_passed` of the connections whose deadline has passed.

        One pass over all connections each second costs less than a timer for each request.
        """
        now = self.now = self.loop.time()
        self.date = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in [found for found in self.connections if found.deadline <= now]:
            connection.deadline_passed()
        for transport in [found for found, deadline in self._closing_transports.items() if deadline <= now]:
            del self._closing_transports[transport]
            transport.abort()
        self.pool.sweep(now)
        heap.tend()
        self._timer = self.loop.call_later(self.limits.tick, self._tick)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task, which `end_tasks` cancels if it still runs. name: the task's name in the log."""
        task = self.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this iteration of the event loop, together with the writes of other exchanges.

        Most of the cost of a send is waking a sleeping peer. Several sends in a row wake it only once.
        """
        if not self._writes:
            self.loop.call_soon(self.flush)
        self._writes.append((transport, data))

    def flush(self) -> None:
        """Do the writes that `write` has delayed. Call this before other uses of a transport passed to `write`."""
        writes = self._writes
        if not writes:
            return
        self._writes = []
        for transport, data in writes:
            transport.write(data)  # does nothing if the transport was aborted meanwhile

    def close_transport(self, transport: asyncio.Transport) -> None:
        """Close a transport once its write buffer was sent, at the latest after `close_timeout`."""
        self.flush()
        transport.close()
        if transport.get_write_buffer_size():
            self._closing_transports[transport] = self.now + self.limits.close_timeout

    def transport_lost(self, transport: asyncio.Transport) -> None:
        """Remove a closed transport, so that it is not aborted later: asyncio does not allow that after the end."""
        self._closing_transports.pop(transport, None)
        transports.note_lost(transport)

    def forget(self, connection: OpenConnection) -> None:
        """Remove a client's connection that is closed."""
        self.connections.discard(connection)
        if self.by_address is not None:
            self.by_address.forget(connection)
        if not self.connections and self._deserted is not None:
            self._deserted.set()

    async def wait_until_deserted(self) -> None:
        """Wait until no client is connected."""
        if self.connections:
            self._deserted = asyncio.Event()
            await self._deserted.wait()

    async def end_tasks(self) -> None:
        """Cancel the tasks that still run, wait for them, and stop the clock."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for transport in self._closing_transports:
            transport.abort()
        self._closing_transports.clear()
