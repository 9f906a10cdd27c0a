"""Connections to the ports of a pod for port-forwards, counted so that one namespace cannot take all descriptors."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable

from hatchway.cluster.descriptors import ClientQuota


class PodPorts:
    """Connects to the ports of one pod's loopback.

    dial: connects to a port. namespace: the pod's namespace. pod: its description for errors. quota: counts the
    connections of all pods, for their namespaces.
    """

    def __init__(
        self, dial: Callable[[int], Awaitable[socket.socket]], namespace: str, pod: str, quota: ClientQuota
    ) -> None:
        self._dial = dial
        self._namespace = namespace
        self._quota = quota
        self.pod = pod

    async def connect(self, port: int) -> socket.socket:
        """Return a connected socket; call `release` when it is closed. Raises OSError; EMFILE beyond the quota."""
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
