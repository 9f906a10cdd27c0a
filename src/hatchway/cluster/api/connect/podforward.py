"""Port-forward for Hatchway's own client: the API server itself connects to a pod's loopback interface.

kubectl's port-forwards go through the kubelet, as in Kubernetes. For Hatchway's client, the node agent provides sockets
in the pod's network, and each stream of the session is joined with one of these sockets.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Final

from hatchway.cluster.api.connect.forwardedsocket import ForwardedSocket
from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.sockets import PodNetworks
from hatchway.kube.streams.spdyconnection import SharedRoom, SpdyConnection
from hatchway.kube.streams.spdystream import SpdyStream
from hatchway.proxy.routing import RequestHead
from hatchway.wire.portforwardstreams import (
    SINGLE_STREAM_PROTOCOL,
    PortForwardError,
    dial_text,
    parse_port,
    refusal_headers,
)
from hatchway.wire.spdyevents import SpdyLimits

log = logging.getLogger(__name__)

_SPDY: Final = SpdyLimits(streams=4096, window=256 * 1024)
# The maximum number of bytes that may wait for pods that read too slowly, for one client and for all clients together.
_KEPT: Final = 64 << 20
_KEPT_OF_ALL: Final = 256 << 20
# Seconds for which a disconnected client's last bytes wait for pods that read too slowly, at most.
_LAST_SECONDS: Final = 30.0
# The part of this process's descriptors for forwarded connections. The pods of one namespace may use half of it.
_SHARE: Final = 0.6
_LOOPBACK: Final = "127.0.0.1"
_LOOPBACK_IPV6: Final = "::1"
_VERSION_FIELD: Final = b"x-stream-protocol-version"


def is_offered(head: RequestHead) -> bool:
    """Return True for an upgrade to SPDY whose client offers Hatchway's own port-forward protocol first."""
    if (head.upgrade or b"").lower() != b"spdy/3.1":
        return False
    first = head.header(_VERSION_FIELD) or b""
    return first.partition(b",")[0].strip() == SINGLE_STREAM_PROTOCOL.encode()


class ForwardLimits:
    """The limits that all sessions share.

    connections: counts connections by the namespaces of their pods.
    room: the limit on bytes that wait for pods that read too slowly.
    """

    def __init__(self, connections: ClientQuota | None = None, room: SharedRoom | None = None) -> None:
        # A limit is needed here, because one client may use thousands of this process's descriptors. A port-forward
        # through a kubelet uses only a few.
        self.connections = connections if connections is not None else ClientQuota.of_process(_SHARE)
        self.room = room if room is not None else SharedRoom(_KEPT_OF_ALL)


class PodForwarding:
    """The port-forwards of one session.

    metadata: the pod's metadata.
    """

    def __init__(self, networks: PodNetworks, limits: ForwardLimits, metadata: Mapping[str, str]) -> None:
        self._networks = networks
        self._limits = limits
        self._namespace = metadata["namespace"]
        self._uid = metadata["uid"]
        self._name = metadata["name"]
        self._tasks: set[asyncio.Task[bool]] = set()
        self._sockets: set[ForwardedSocket] = set()

    def make_protocol(self) -> asyncio.Protocol:
        """Return the protocol of the client's connection (`AcceptUpgrade`)."""
        connection = SpdyConnection(
            server=True,
            tunnel=False,
            on_stream=self._opened,
            limits=_SPDY,
            kept=_KEPT,
            shared=self._limits.room,
            unsent=0,
        )
        connection.closed.add_done_callback(self._ended)
        return connection

    def _ended(self, _: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._sockets:
            asyncio.get_running_loop().call_later(_LAST_SECONDS, self._cut)

    def _cut(self) -> None:
        for sock in list(self._sockets):
            sock.abort()

    def _opened(self, stream: SpdyStream) -> None:
        if not stream.may_write():
            stream.abort()  # a unidirectional stream, but a connection needs both directions
            return
        try:
            port = parse_port(dict(stream.headers).get(b"port", b""))
        except PortForwardError as error:
            stream.refuse(refusal_headers(str(error)))
            return
        stream.accept(silent=True)
        if not self._limits.connections.take(self._namespace):
            text = f"error forwarding port {port} to pod {self._name}: there are too many forwarded connections"
            stream.refuse(refusal_headers(text))
            return
        try:
            sock = self._networks.take_now(self._uid)
        except OSError as error:
            self._give_back()
            self._refuse(stream, port, error)
            return
        if sock is not None:
            self._connect(sock, stream, port)
            return
        self._spawn(self._connect_later(stream, port))

    async def _connect_later(self, stream: SpdyStream, port: int) -> bool:
        """Wait for a socket, and begin to connect it. Return False if that failed; then no connection is counted."""
        try:
            sock = await self._networks.take(self._uid)
        except OSError as error:
            self._refuse(stream, port, error)
            return False
        if stream.is_closing():
            sock.close()
            return False
        self._connect(sock, stream, port)
        return True

    def _connect(self, sock: socket.socket, stream: SpdyStream, port: int) -> None:
        self._join(sock, stream, partial(self._refused, stream, port), _LOOPBACK, port)

    def _join(
        self, sock: socket.socket, stream: SpdyStream, refused: Callable[[OSError], None], address: str, port: int
    ) -> None:
        forwarded = ForwardedSocket(sock, stream, refused, self._closed)
        self._sockets.add(forwarded)
        forwarded.connect(address, port)

    def _closed(self, forwarded: ForwardedSocket) -> None:
        self._sockets.discard(forwarded)
        self._give_back()

    def _refused(self, stream: SpdyStream, port: int, error: OSError) -> None:
        """Try ::1 if nothing listens on 127.0.0.1, because some programs listen for `localhost` on ::1 only."""
        if error.errno == errno.ECONNREFUSED and self._limits.connections.take(self._namespace):
            self._spawn(self._connect_ipv6(stream, port, error))
        else:
            self._refuse(stream, port, error)

    async def _connect_ipv6(self, stream: SpdyStream, port: int, refused: OSError) -> bool:
        try:
            sock = await self._networks.take_ipv6(self._uid)
        except OSError:
            self._refuse(stream, port, refused)
            return False
        if stream.is_closing():
            sock.close()
            return False

        def refuse(_: OSError) -> None:
            self._refuse(stream, port, refused)

        self._join(sock, stream, refuse, _LOOPBACK_IPV6, port)
        return True

    def _give_back(self) -> None:
        self._limits.connections.give_back(self._namespace)

    def _refuse(self, stream: SpdyStream, port: int, error: OSError) -> None:
        stream.refuse(refusal_headers(dial_text(port, f"{self._name}, uid {self._uid}", error)))

    def _spawn(self, work: Coroutine[None, None, bool]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[bool]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a forwarded connection has failed", exc_info=error)
        if task.cancelled() or error is not None or not task.result():
            self._give_back()
