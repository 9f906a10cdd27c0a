"""What the connections of one listener share: the routing function, limits, clock, pool, and who must be ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from hatchway.proxy.busypoll import BusyPoll
from hatchway.proxy.heads import KnownHeads
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import Respond, Route

if TYPE_CHECKING:
    from hatchway.proxy.connection import ClientConnection
    from hatchway.proxy.upstream import Pool

ErrorBody = Callable[[int, str], Respond]
logger = logging.getLogger("hatchway.proxy")


class Context:
    """Shared state of a listener's connections.

    now: the coarse clock (the loop's time at the last tick). date: a `Date` field line. heads: requests' heads that came
    before. busy_poll: is told of the messages of upgraded connections. connections: open client connections. closing: set while the server shuts down; exchanges then end with `Connection: close`.
    """

    __slots__ = (
        "_closing_transports",
        "_deserted",
        "_tasks",
        "_timer",
        "_writes",
        "busy_poll",
        "closing",
        "connections",
        "date",
        "error_body",
        "heads",
        "limits",
        "loop",
        "now",
        "pool",
        "route",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, route: Route, limits: Limits, pool: Pool, error_body: ErrorBody
    ) -> None:
        self.loop = loop
        self.route = route
        self.limits = limits
        self.pool = pool
        self.error_body = error_body
        self.heads = KnownHeads()
        self.busy_poll = BusyPoll(loop)
        self.connections: set[ClientConnection] = set()
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
        """One timer for all deadlines: a sweep a second costs less than a timer for every request."""
        now = self.now = self.loop.time()
        self.date = b"Date: " + formatdate(usegmt=True).encode() + b"\r\n"
        for connection in [found for found in self.connections if found.deadline <= now]:
            connection.deadline_passed()
        for transport in [found for found, deadline in self._closing_transports.items() if deadline <= now]:
            del self._closing_transports[transport]
            transport.abort()
        self.pool.sweep(now)
        self._timer = self.loop.call_later(self.limits.tick, self._tick)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that lives as long as an exchange; `end_tasks` ends those that are left."""
        task = self.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed", task.get_name(), exc_info=error)

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of the loop's turn, together with what other exchanges write.

        Waking a sleeping peer is what costs most in a send; while it is awake, the sends that follow wake nobody.
        """
        if not self._writes:
            self.loop.call_soon(self.flush)
        self._writes.append((transport, data))

    def flush(self) -> None:
        """Hand over now what `write` has kept: due before anything else is done to one of its transports."""
        writes = self._writes
        if not writes:
            return
        self._writes = []
        for transport, data in writes:
            transport.write(data)  # to one that was cut meanwhile it does nothing

    def close_transport(self, transport: asyncio.Transport) -> None:
        """Close after what is buffered has been sent, but do not wait for ever for a peer that does not read."""
        self.flush()
        transport.close()
        if transport.get_write_buffer_size():
            self._closing_transports[transport] = self.now + self.limits.close_timeout

    def transport_lost(self, transport: asyncio.Transport) -> None:
        """A transport is closed; asyncio's must not be aborted after that."""
        self._closing_transports.pop(transport, None)

    def forget(self, connection: ClientConnection) -> None:
        """A client's connection is gone."""
        self.connections.discard(connection)
        if not self.connections and self._deserted is not None:
            self._deserted.set()

    async def deserted(self) -> None:
        """Wait until no client is connected."""
        if self.connections:
            self._deserted = asyncio.Event()
            await self._deserted.wait()

    async def end_tasks(self) -> None:
        """Cancel what still runs and wait for it; stop the clock."""
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
