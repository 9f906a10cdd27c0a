"""An asyncio transport for one connection over port-forward, which is tried on another pod when that is safe.

Port-forward does not report that a pod has accepted a connection, so the first bytes are sent before this is known.
These bytes are stored until the first byte comes back. If the pod has refused the connection, no program has read the
bytes, and they are sent to another pod.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any, Protocol

from hatchway.route.podport import PodPort
from hatchway.route.podsessions import PooledSession
from hatchway.target import Target

# The maximum number of bytes that are stored. A connection that has sent more without an answer is not tried on another
# pod.
KEPT = 64 * 1024
# A connection that has moved this many bytes may hold up the other connections of its session.
BUSY = 1 << 20
# The texts with which kubelets and container runtimes report that the pod was not connected (containerd
# `sandbox_portforward_linux.go`, CRI-O, dockershim's socat, cri/streaming/portforward).
_NOT_CONNECTED = re.compile(
    r"connection refused|failed to connect to|failed to dial|error dialing|no route to host|network is unreachable"
    r"|not running|(?:pod|container|sandbox|namespace)\b.{0,80}\bnot found|no such (?:container|pod|sandbox)",
    re.I,
)


def is_refusal(error: BaseException | None) -> bool:
    """Return True if the error says that the pod never accepted the connection: no program has read its bytes."""
    return error is not None and _NOT_CONNECTED.search(str(error)) is not None


def shorten(text: str) -> str:
    """Return a kubelet's error text; if it ends with "connection refused", only these two words."""
    return "connection refused" if text.rstrip().endswith("connection refused") else text


@dataclass(frozen=True, slots=True)
class StreamEndpoint:
    """The pod that a stream leads to, and the session that carries it."""

    session: PooledSession
    pod: PodPort


class Opener(Protocol):
    """Finds another pod for a connection that was refused (`portforward.py`)."""

    async def reopen(self, stream: PodStream, error: Exception) -> None:
        """Attach a stream, whose pod has refused it, to another pod. Raises OSError when there is none."""


class PodStream(asyncio.Transport):
    """A connection through the session of a pod.

    The caller sets the protocol, and nothing is read before `resume_reading`.

    target: the target of the connection.
    tried: the pods that have refused the connection or could not be reached, each with the error.
    """

    # With slots, because a door may have thousands of idle connections.
    __slots__ = (
        "_closing",
        "_endpoint",
        "_eof",
        "_full",
        "_inner",
        "_kept",
        "_kept_size",
        "_limits",
        "_lost",
        "_moved",
        "_opener",
        "_protocol",
        "_reading",
        "_retrying",
        "target",
        "tried",
    )

    def __init__(self, opener: Opener, target: Target) -> None:
        """Make a stream without a pod; `attach` sets the pod. opener: finds another pod when a pod has refused."""
        super().__init__()
        self.target = target
        self.tried: dict[PodPort, Exception] = {}
        self._opener = opener
        self._endpoint: StreamEndpoint | None = None
        self._inner: asyncio.Transport | None = None
        self._protocol: asyncio.BaseProtocol | None = None
        self._reading = False
        self._closing = False
        self._lost = False
        self._kept: list[bytes] | None = []
        self._kept_size = 0
        self._moved = 0
        self._eof = False
        self._limits: tuple[int | None, int | None] = (None, None)
        self._full = False
        self._retrying: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Return True when so many bytes were moved that new connections should not share this connection's session."""
        return self._moved > BUSY

    # Methods for the opener

    @property
    def pod(self) -> PodPort | None:
        """Return the pod of the connection; None while a pod is being looked for."""
        return self._endpoint.pod if self._endpoint is not None else None

    def detach(self) -> StreamEndpoint:
        """Leave the session of a pod that has refused the connection; return that session and pod."""
        endpoint, self._endpoint = self._endpoint, None
        assert endpoint is not None
        endpoint.session.remove(self)
        return endpoint

    def attach(self, inner: asyncio.Transport, endpoint: StreamEndpoint) -> None:
        """Use `inner` from now on, and send the stored bytes on it. inner: a transport that does not read yet."""
        self._inner = inner
        self._endpoint = endpoint
        endpoint.session.add(self)
        inner.set_protocol(_Receiver(self, inner))
        if self._closing:
            inner.abort()
            return
        if self._limits != (None, None):
            inner.set_write_buffer_limits(*self._limits)
        if self._reading:
            inner.resume_reading()
        for piece in self._kept or ():
            inner.write(piece)
        if self._eof:
            inner.write_eof()
        if self._full:
            self._full = False
            self._tell_resume()

    # Events of the session (`_Receiver`)

    def _data_received(self, data: bytes) -> None:
        # The pod has answered, so no other pod will be tried.
        self._kept = None
        self._moved += len(data)
        if self._endpoint is not None:
            self._endpoint.session.heard_at = time.monotonic()
        protocol = self._protocol
        if protocol is not None and not self._closing:
            protocol.data_received(data)  # type: ignore[attr-defined]

    def _eof_received(self) -> None:
        # A session reports a refusal before the end of the stream (`kube.streams.portforwardsession`), so the pod has
        # accepted the connection.
        self._kept = None
        protocol = self._protocol
        if protocol is not None and not self._closing and not protocol.eof_received():  # type: ignore[attr-defined]
            self.close()

    def _connection_lost(self, inner: asyncio.Transport, error: Exception | None) -> None:
        if inner is not self._inner or self._lost:
            return
        if self._kept is not None and not self._closing and is_refusal(error):
            assert error is not None
            self._inner = None
            self._retrying = asyncio.get_running_loop().create_task(self._retry(error), name="another pod")
            return
        self._end(error)

    async def _retry(self, error: Exception) -> None:
        try:
            await self._opener.reopen(self, error)
        except OSError as last:
            self._end(last)
        finally:
            self._retrying = None

    def _end(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._kept = None
        if self._endpoint is not None:
            self.detach()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    def _tell_pause(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def _tell_resume(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if self._closing:
            return
        kept = self._kept
        if kept is None:
            if self._inner is not None:
                self._moved += len(data)
                self._inner.write(data)
            return
        self._kept_size += len(data)
        if self._kept_size > KEPT and self._inner is not None:
            self._kept = None
        else:
            kept.append(bytes(data))
        if self._inner is not None:
            self._inner.write(data)
        elif self._kept_size > KEPT and not self._full:
            self._full = True
            self._tell_pause()

    def writelines(self, list_of_data: Any) -> None:
        """Send bytes that come in pieces."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send no more, and go on reading."""
        if not self._eof:
            self._eof = True
            if self._inner is not None:
                self._inner.write_eof()

    def can_write_eof(self) -> bool:
        """Return True: in port-forward, each direction can end separately."""
        return True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that gets the bytes from now on."""
        if self._lost:
            # No protocol has got `connection_lost` yet.
            asyncio.get_running_loop().call_soon(protocol.connection_lost, None)
            return
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        assert self._protocol is not None
        return self._protocol

    def is_reading(self) -> bool:
        """Return True while received bytes are passed to the protocol."""
        return self._reading

    def pause_reading(self) -> None:
        """Pass no bytes to the protocol until `resume_reading`."""
        if self._reading:
            self._reading = False
            if self._inner is not None:
                self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Pass bytes to the protocol again."""
        if not self._reading:
            self._reading = True
            if self._inner is not None:
                self._inner.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait before `pause_writing` is called."""
        self._limits = high, low
        if self._inner is not None:
            self._inner.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that wait to be written."""
        if self._inner is not None:
            return self._inner.get_write_buffer_size()
        return self._kept_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        if self._inner is not None:
            return self._inner.get_write_buffer_limits()
        return 0, KEPT

    def is_closing(self) -> bool:
        """Return True after the stream was closed."""
        return self._closing

    def close(self) -> None:
        """Close the connection after the buffered bytes were sent."""
        if not self._closing:
            self._closing = True
            self._stop_trying()
            if self._inner is not None:
                self._inner.close()
            else:
                asyncio.get_running_loop().call_soon(self._end, None)

    def abort(self) -> None:
        """Close the connection at once."""
        self._closing = True
        self._stop_trying()
        if self._inner is not None:
            self._inner.abort()
        elif not self._lost:
            asyncio.get_running_loop().call_soon(self._end, None)

    def _stop_trying(self) -> None:
        if self._retrying is not None:
            self._retrying.cancel()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a property of the session's transport (asyncio's names); `default` while there is no pod."""
        return self._inner.get_extra_info(name, default) if self._inner is not None else default


class _Receiver(asyncio.Protocol):
    """Passes the session's events about one attempt to the stream."""

    __slots__ = ("_stream", "_transport")

    def __init__(self, stream: PodStream, transport: asyncio.Transport) -> None:
        self._stream = stream
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._stream._data_received(data)

    def eof_received(self) -> bool:
        self._stream._eof_received()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stream._connection_lost(self._transport, exc)

    def pause_writing(self) -> None:
        self._stream._tell_pause()

    def resume_writing(self) -> None:
        self._stream._tell_resume()
