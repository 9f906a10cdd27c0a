"""Connects to ports of a pod for port-forwards, with a quota of connections for each namespace."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable

from hatchway.cluster.descriptors import ClientQuota


class PodPorts:
    """Connects to ports on the loopback interface of one pod.

    dial: connects to a port.
    namespace: the pod's namespace.
    pod: the pod's description in errors.
    quota: counts the connections of all pods by namespace.
    """

    def __init__(
        self, dial: Callable[[int], Awaitable[socket.socket]], namespace: str, pod: str, quota: ClientQuota
    ) -> None:
        self._dial = dial
        self._namespace = namespace
        self._quota = quota
        self.pod = pod

    async def connect(self, port: int) -> socket.socket:
        """Return a connected socket. Call `release` when it is closed. Raises OSError; EMFILE beyond the quota."""
        if not self._quota.take(self._namespace):
            raise OSError(errno.EMFILE, "there are too many forwarded connections")
        try:
            return await self._dial(port)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give one connection back to the quota."""
        self._quota.give_back(self._namespace)
