"""Joins a stream of a port-forward with a socket of a pod, without a transport between them.

For a short connection, making a transport with its futures and timers would take longer than relaying the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from hatchway.kube.streams.spdystream import SpdyStream

# The maximum number of bytes of one read. The second number holds while the stream's window has no room: the bytes then
# wait in memory, and there may be thousands of streams.
_PIECE: Final = 256 * 1024
_LEAST: Final = 4 * 1024
# Timeouts in seconds: for connecting, and for a pod to read the last bytes.
_CONNECT_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 30.0
_UNDER_WAY: Final = (errno.EINPROGRESS, errno.EALREADY)
_RESET: Final = struct.pack("ii", 1, 0)


class ForwardedSocket(asyncio.Protocol):
    """The protocol of a stream, and the owner of the pod's socket.

    While one side reads too slowly, reading from the other side is paused, so that a connection buffers at most one
    piece of data for each direction. The two directions end independently. A reset of one side resets the other side.

    sock: an unconnected socket in non-blocking mode; this object owns it.
    stream: the stream, which must not be reading yet.
    refused: called when the connection fails.
    closed: called once with this object, after the socket was closed.
    """

    __slots__ = (
        "_client_ended",
        "_closed",
        "_closing",
        "_fd",
        "_held",
        "_loop",
        "_pod_ended",
        "_reading",
        "_refused",
        "_socket",
        "_stream",
        "_tell_closed",
        "_timer",
        "_unsent",
    )

    def __init__(
        self,
        sock: socket.socket,
        stream: SpdyStream,
        refused: Callable[[OSError], None],
        closed: Callable[[ForwardedSocket], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._fd = sock.fileno()
        self._stream = stream
        self._refused = refused
        self._tell_closed = closed
        # The part of the last piece that was not sent to the pod. This view keeps the piece (`_held` bytes) in memory.
        self._unsent: memoryview | None = None
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reading = False
        self._client_ended = False
        self._pod_ended = False
        self._closing = False
        self._closed = False

    def connect(self, address: str, port: int) -> None:
        """Connect to the pod, then begin to pass bytes on."""
        sock = self._socket
        # Set the protocol before connecting: if the stream ends, `connection_lost` must end the attempt to connect.
        self._stream.set_protocol(self)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            number = sock.connect_ex((address, port))
            if number == errno.EINPROGRESS:
                # On the same machine, the connection is already established. Calling again is quicker than waiting for
                # an event.
                number = sock.connect_ex((address, port))
        except OSError as error:
            self._refuse(error.errno or errno.EIO)
            return
        if number in (0, errno.EISCONN):
            self._begin()
        elif number in _UNDER_WAY:
            self._loop.add_writer(self._fd, self._connected)
            self._timer = self._loop.call_later(_CONNECT_SECONDS, self._refuse, errno.ETIMEDOUT)
        else:
            self._refuse(number)

    def _connected(self) -> None:
        self._loop.remove_writer(self._fd)
        self._stop_timer()
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._refuse(number)
        else:
            self._begin()

    def _refuse(self, number: int) -> None:
        self._close()
        if not self._stream.is_closing():
            self._refused(OSError(number, os.strerror(number)))

    def _begin(self) -> None:
        if self._stream.is_closing():
            self._close(reset=True)
            return
        self._reading = True
        self._loop.add_reader(self._fd, self._readable)
        self._stream.start(self)

    # From the pod to the client

    def _readable(self) -> None:
        """Read the data that has arrived. If the pod has also ended its direction, send the data and the end together.

        Always read until nothing is left, because uvloop reports a broken connection only once.
        """
        stream = self._stream
        if stream.pause_if_full():
            return
        for _ in range(2):
            size = max(stream.room(_PIECE), _LEAST)
            try:
                data = self._socket.recv(size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._break()
                return
            if not data:
                self._pod_ended = True
                self._stop_reading()
                stream.write_eof()
                return
            stream.write(data)
            if not self._reading or len(data) == size:
                break
        self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._reading:
            self._readable()

    def pause_writing(self) -> None:
        """Pause reading from the pod: the client's connection or the stream's window has no room."""
        self._stop_reading()

    def resume_writing(self) -> None:
        """Read from the pod again."""
        if not (self._reading or self._pod_ended or self._closed):
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    # From the client to the pod

    def data_received(self, data: bytes) -> None:
        """Send data to the pod. Pause the stream if the pod's socket does not accept all of the data."""
        if self._closed:
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._break()
            return
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._held = len(data)
            self._stream.hold(self._held)
            self._loop.add_writer(self._fd, self._writable)
            self._stream.pause_reading()

    def _writable(self) -> None:
        unsent = self._unsent
        assert unsent is not None
        try:
            unsent = unsent[self._socket.send(unsent) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._break()
            return
        if unsent:
            self._unsent = unsent
            return
        self._forget_unsent()
        self._loop.remove_writer(self._fd)
        if self._closing:
            self._close()
            return
        if self._client_ended:
            self._shut_down()
        self._stream.resume_reading()

    def _forget_unsent(self) -> None:
        if self._unsent is not None:
            self._unsent = None
            self._stream.hold(-self._held)

    def eof_received(self) -> bool:
        """Half-close the pod's connection; the other direction continues."""
        self._client_ended = True
        if self._unsent is None:
            self._shut_down()
        return True

    def _shut_down(self) -> None:
        if not self._closed:
            with contextlib.suppress(OSError):  # If the connection is broken, the next read reports it.
                self._socket.shutdown(socket.SHUT_WR)

    # The end

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the socket: at once if the stream was reset, otherwise after the last bytes were sent to the pod."""
        if exc is None and self._unsent is not None and not self._closed:
            self._closing = True
            self._stop_reading()
            self._timer = self._loop.call_later(_LAST_SECONDS, self._close)
            return
        self._close(reset=exc is not None)

    def abort(self) -> None:
        """Reset the pod's connection, and end the stream."""
        self._close(reset=True)
        self._stream.abort()

    def _break(self) -> None:
        """Close the socket, and reset the stream, because the pod's connection is broken."""
        self._close()
        self._stream.abort()

    def _close(self, *, reset: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        self._stop_reading()
        self._loop.remove_writer(self._fd)
        self._forget_unsent()
        if reset:
            with contextlib.suppress(OSError):  # The pod may have closed its end.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()
        self._tell_closed(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
