"""Provides sockets in pods' networks. The control plane connects these sockets to the pods' loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

# Returns the given number of unconnected sockets of an address family in a pod's network namespace. Raises OSError.
AskForSockets = Callable[[str, int, socket.AddressFamily], Awaitable[list[socket.socket]]]

# How many sockets are requested at a time: at first, and when many connections follow.
_FEWEST, _MOST = 4, 32
# Seconds for which unused sockets are kept. A pod's namespace exists as long as one of its sockets does.
_KEPT_SECONDS: Final = 1.0


class _Pod:
    """The sockets of one pod.

    requested: how many sockets were requested and have not arrived. waiting: callers that get the next sockets.
    used: how many were taken since the last check. batch: how many are requested next.
    """

    __slots__ = ("batch", "ready", "requested", "used", "waiting")

    def __init__(self) -> None:
        self.ready: deque[socket.socket] = deque()
        self.waiting: deque[asyncio.Future[socket.socket]] = deque()
        self.requested = 0
        self.batch = _FEWEST
        self.used = False


class PodSockets:
    """Sockets in pods' networks. Unused sockets are kept for a moment, because connections to a pod come in groups.

    Make it in an event loop, and `close` it.

    ask: makes new sockets.
    """

    def __init__(self, ask: AskForSockets) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._pods: dict[str, _Pod] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def take_now(self, uid: str) -> socket.socket | None:
        """Return an unused socket; None when there is none."""
        pod = self._pods.get(uid)
        if pod is None or not pod.ready:
            return None
        pod.used = True
        return pod.ready.popleft()

    async def take(self, uid: str) -> socket.socket:
        """Return a socket of the network of the pod with this uid; the caller closes it. Raises OSError."""
        pod = self._pods.get(uid)
        if pod is None:
            pod = self._pods[uid] = _Pod()
        if self._timer is None:
            self._timer = self._loop.call_later(_KEPT_SECONDS, self._drop_unused)
        pod.used = True
        if pod.ready:
            return pod.ready.popleft()
        waiting: asyncio.Future[socket.socket] = self._loop.create_future()
        pod.waiting.append(waiting)
        if pod.requested < len(pod.waiting):
            pod.requested += pod.batch
            task = self._loop.create_task(self._fill(uid, pod, pod.batch), name="sockets of a pod")
            pod.batch = min(2 * pod.batch, _MOST)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                waiting.result().close()
            raise

    async def take_ipv6(self, uid: str) -> socket.socket:
        """Return a new socket for IPv6 in this pod's network; the caller closes it. Raises OSError."""
        (made,) = await self._ask(uid, 1, socket.AF_INET6)
        return made

    def close(self) -> None:
        """Close the unused sockets."""
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pod in self._pods.values():
            _close(pod)
            _fail(pod, OSError(errno.ENETDOWN, "the network was closed"))
        self._pods.clear()

    async def _fill(self, uid: str, pod: _Pod, count: int) -> None:
        try:
            made = await self._ask(uid, count, socket.AF_INET)
        except OSError as error:
            _fail(pod, error)  # The next caller requests sockets again.
            return
        finally:
            pod.requested -= count
        pod.ready.extend(made)
        while pod.waiting and pod.ready:
            waiting = pod.waiting.popleft()
            if not waiting.done():
                waiting.set_result(pod.ready.popleft())
        if self._pods.get(uid) is not pod:
            _close(pod)

    def _drop_unused(self) -> None:
        self._timer = None
        for uid, pod in list(self._pods.items()):
            if not pod.used and not pod.waiting:
                _close(pod)
                del self._pods[uid]
            pod.used = False
        if self._pods:
            self._timer = self._loop.call_later(_KEPT_SECONDS, self._drop_unused)


def _close(pod: _Pod) -> None:
    while pod.ready:
        pod.ready.popleft().close()


def _fail(pod: _Pod, error: OSError) -> None:
    while pod.waiting:
        waiting = pod.waiting.popleft()
        if not waiting.done():
            waiting.set_exception(error)
