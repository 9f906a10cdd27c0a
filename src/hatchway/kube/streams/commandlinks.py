"""The links that carry a remote command's input and output: messages of a WebSocket, or streams of a SPDY session."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final, Protocol, cast

from hatchway.kube.streams.spdyconnection import SpdyConnection
from hatchway.kube.streams.spdystream import SpdyStream
from hatchway.proxy import transports
from hatchway.wire.channels import (
    CLOSE,
    ERROR,
    RESIZE,
    STDIN,
    STREAM_TYPES,
    ChannelError,
    ChannelProtocol,
    CommandResult,
    decode_status,
    encode_size,
)
from hatchway.wire.spdyevents import Headers
from hatchway.wire.websocket import INTERNAL_ERROR, CloseReceived, Message, WebSocket, WebSocketError

# The maximum number of bytes of a message from the server, and of the input in one message to the server.
_LARGEST: Final = 4 * 1024 * 1024
_PIECE: Final = 64 * 1024
# The maximum number of bytes of the Status at the command's end.
_LARGEST_STATUS: Final = 1024 * 1024
# A link is full (`is_full`) while its transport's write buffer has more bytes than this.
_FULL: Final = 256 * 1024
# Seconds between two pings, and seconds without a byte from the server after which the connection counts as dead.
_PING: Final = 5.0
_DEAD: Final = 60.0

_NO_END = "the connection ended before the server reported the command's end"


class CommandUser(Protocol):
    """The owner of a link (`remotecommand.RemoteCommand`)."""

    def received(self, channel: int, data: bytes) -> None:
        """Take bytes that have arrived on a channel."""

    def has_room(self) -> None:
        """Continue to write: the link is no longer full."""

    def ended(self, outcome: CommandResult | Exception) -> None:
        """Take the command's result, or an error when the result is not known. Called once, at the end."""


class CommandLink(Protocol):
    """One connection for one command.

    is_full: True while no more input should be written. `CommandUser.has_room` is called when it becomes False.
    can_end_input: True when the protocol can report the end of the input to the server.
    """

    is_full: bool
    can_end_input: bool

    def write(self, data: bytes) -> None:
        """Send input."""

    def end_input(self) -> None:
        """Report the end of the input to the server, if the protocol can do so."""

    def resize(self, width: int, height: int) -> None:
        """Send the terminal's size, in characters."""

    def read(self, channel: int, count: int) -> None:
        """Count `count` bytes of a channel as consumed by the user. The link may then read more."""

    def cut(self) -> None:
        """Close the connection at once, in the protocol's orderly way."""

    def abort(self) -> None:
        """Close the connection at once, without a message to the server or a wait for the server's TLS close."""


class ChannelLink(asyncio.Protocol):
    """A command over a WebSocket; it is the asyncio protocol of the WebSocket's transport.

    limit: reading is paused while the user has not consumed this many received bytes.
    """

    def __init__(self, user: CommandUser, protocol: ChannelProtocol, limit: int) -> None:
        self.is_full = False
        self.can_end_input = protocol.has_close
        self._user: CommandUser | None = user
        self._protocol = protocol
        self._limit = limit
        self._unread = 0
        self._paused = False
        self._socket = WebSocket(client=True, largest=_LARGEST)
        self._transport: asyncio.Transport | None = None
        self._errors = b""
        self._heard_at = 0.0
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Send input; long input is split into several messages."""
        for at in range(0, len(data), _PIECE):
            self._send(STDIN, data[at : at + _PIECE])

    def end_input(self) -> None:
        """Close the input's channel. With a protocol before v5, which cannot do that, nothing is sent."""
        if self._protocol.has_close:
            self._socket.send_binary(self._protocol.encode_close(STDIN))
            self._flush()

    def resize(self, width: int, height: int) -> None:
        """Send the terminal's size."""
        self._send(RESIZE, encode_size(width, height))

    def read(self, channel: int, count: int) -> None:
        """Count bytes as consumed, and resume reading when at most half of the limit is left."""
        self._unread -= count
        if self._paused and self._unread <= self._limit // 2 and self._transport is not None:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def cut(self) -> None:
        """Send a close frame, and close the connection."""
        self._user = None
        if self._transport is not None:
            self._socket.close()
            self._flush()
            self._transport.close()

    def abort(self) -> None:
        """Abort the transport."""
        self._user = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_FULL)
        self._heard_at = asyncio.get_running_loop().time()
        self._timer = asyncio.get_running_loop().call_later(_PING, self._check_silence)

    def data_received(self, data: bytes) -> None:
        """Parse bytes from the server, and handle the messages in them."""
        assert self._transport is not None
        self._heard = True
        try:
            for event in self._socket.receive_data(data):
                if isinstance(event, Message):
                    self._take(event)
                elif isinstance(event, CloseReceived):
                    self._closed(event)
        except (WebSocketError, ChannelError) as error:
            self._socket.close(INTERNAL_ERROR)
            self._end(ConnectionError(f"the server violated the protocol: {error}"))
        self._flush()
        if self._socket.close_sent:
            self._transport.close()

    def _take(self, message: Message) -> None:
        channel, data = self._protocol.decode(message.data)
        if channel == ERROR:
            if len(self._errors) + len(data) > _LARGEST_STATUS:
                raise ChannelError("the status of the command is too long")
            self._errors += data
        elif data and channel != CLOSE and self._user is not None:
            self._unread += len(data)
            self._user.received(channel, data)
            if self._unread > self._limit and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()

    def _closed(self, event: CloseReceived) -> None:
        if self._errors and self._protocol.has_status:
            self._end(decode_status(self._errors))
        elif self._errors:
            self._end(CommandResult(None, self._errors.decode(errors="replace").strip()))
        else:
            self._end(ConnectionError(event.reason or _NO_END))

    def eof_received(self) -> bool | None:
        """Let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Report to the user how the command has ended, or that its result is not known."""
        assert self._transport is not None
        transports.note_lost(self._transport)
        if self._timer is not None:
            self._timer.cancel()
        # Some servers end the connection without a close frame.
        if self._errors and self._protocol.has_status:
            try:
                self._end(decode_status(self._errors))
            except ChannelError:
                self._end(exc or ConnectionError(_NO_END))
        else:
            self._end(exc or ConnectionError(_NO_END))

    def pause_writing(self) -> None:
        """Record that the transport is full."""
        self.is_full = True

    def resume_writing(self) -> None:
        """Record that the transport has room again, and tell the user."""
        self.is_full = False
        if self._user is not None:
            self._user.has_room()

    def _send(self, channel: int, data: bytes) -> None:
        message = self._protocol.encode(channel, data)
        if self._protocol.is_base64:
            self._socket.send_text(message)
        else:
            self._socket.send_binary(message)
        self._flush()

    def _flush(self) -> None:
        out = self._socket.data_to_send()
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(out)

    def _end(self, outcome: CommandResult | Exception) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.ended(outcome)

    def _check_silence(self) -> None:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        if self._heard or self._paused:
            self._heard = False
            self._heard_at = loop.time()
        elif loop.time() - self._heard_at >= _DEAD:
            self._end(TimeoutError(f"the server has sent nothing for {_DEAD:g} s"))
            self._transport.abort()
            return
        self._socket.ping()
        self._flush()
        self._timer = loop.call_later(_PING, self._check_silence)


class StreamsLink:
    """A command over a SPDY session of its own (v4.channel.k8s.io).

    outputs: STDOUT, STDERR or both.
    has_input: True when input is sent.
    has_size: True when the size of a terminal is sent.
    """

    def __init__(
        self,
        user: CommandUser,
        carrier: SpdyConnection,
        outputs: Collection[int],
        *,
        has_input: bool,
        has_size: bool,
    ) -> None:
        self.is_full = False
        self.can_end_input = True
        self._user: CommandUser | None = user
        self._carrier = carrier
        self._status = b""
        self._open: set[int] = {ERROR, *outputs}
        self._numbers: dict[int, int] = {}
        names = {channel: name for name, channel in STREAM_TYPES.items()}
        self._open_reader(ERROR, names)
        self._input = self._open_writer(STDIN, names) if has_input else None
        for channel in sorted(outputs):
            self._open_reader(channel, names)
        self._size = self._open_writer(RESIZE, names) if has_size else None
        carrier.closed.add_done_callback(self._lost)

    def write(self, data: bytes) -> None:
        """Send input."""
        if self._input is not None:
            self._input.write(data)

    def end_input(self) -> None:
        """End the stream of the input."""
        if self._input is not None:
            self._input.write_eof()

    def resize(self, width: int, height: int) -> None:
        """Send the terminal's size."""
        if self._size is not None:
            self._size.write(encode_size(width, height))

    def read(self, channel: int, count: int) -> None:
        """Count the bytes as consumed, so the server may send as many more."""
        self._carrier.count_unread(-count)
        self._carrier.session.consumed(self._numbers[channel], count)
        self._carrier.flush_soon()

    def cut(self) -> None:
        """End the session."""
        self._user = None
        self._carrier.close()

    def abort(self) -> None:
        """Abort the session."""
        self._user = None
        self._carrier.abort(ConnectionError("the connection to the command was aborted"))

    def received(self, channel: int, data: bytes) -> None:
        """Take bytes of a stream."""
        if channel == ERROR:
            if len(self._status) + len(data) <= _LARGEST_STATUS:
                self._status += data
        elif self._user is not None:
            self._carrier.count_unread(len(data))
            self._user.received(channel, data)

    def stream_ended(self, channel: int) -> None:
        """Record the end of a stream. When all streams have ended, report the command's result."""
        self._open.discard(channel)
        if not self._open:
            self._end(self._result())
            self._carrier.close()

    def stream_reset(self, channel: int) -> None:
        """Record that a stream was reset. If it is the error stream, the result of the command is not known."""
        if channel == ERROR and not self._status:
            self._end(ConnectionError(_NO_END))
            self._carrier.close()
        else:
            self.stream_ended(channel)

    def has_room(self) -> None:
        """Record that more input can be written, and tell the user."""
        self.is_full = False
        if self._user is not None:
            self._user.has_room()

    def _open_reader(self, channel: int, names: dict[int, bytes]) -> None:
        # Nothing is sent on these streams, not even FIN: kubectl sends none, and servers do not wait for it.
        number = self._carrier.open_for([(b"streamtype", names[channel])])
        self._numbers[channel] = number
        self._carrier.read_with(number, _Reader(self, channel))

    def _open_writer(self, channel: int, names: dict[int, bytes]) -> SpdyStream:
        stream = self._carrier.open([(b"streamtype", names[channel])])
        stream.start(_InputStream(self))
        return stream

    def _result(self) -> CommandResult | Exception:
        if not self._status:
            return CommandResult(0)
        try:
            return decode_status(self._status)
        except ChannelError as error:
            return ConnectionError(f"the server violated the protocol: {error}")

    def _lost(self, closed: asyncio.Future[Exception | None]) -> None:
        if self._status:
            self._end(self._result())
        else:
            self._end(closed.result() or ConnectionError(_NO_END))

    def _end(self, outcome: CommandResult | Exception) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.ended(outcome)


class _Reader:
    """The receiver of one stream (`spdyconnection.StreamReceiver`)."""

    def __init__(self, link: StreamsLink, channel: int) -> None:
        self._link = link
        self._channel = channel

    def replied(self, headers: Headers) -> None:
        """Do nothing: this protocol sends no information in a reply's headers."""

    def receive(self, data: bytes, fin: bool) -> None:
        if data:
            self._link.received(self._channel, data)
        if fin:
            self._link.stream_ended(self._channel)

    def was_reset(self, status: int) -> None:
        self._link.stream_reset(self._channel)

    def connection_lost(self, error: Exception) -> None:
        """Do nothing: the link learns this from `SpdyConnection.closed`."""

    def drained(self) -> None:
        """Do nothing: nothing is sent on this stream."""


class _InputStream(asyncio.Protocol):
    """The protocol of a stream that is only written to."""

    def __init__(self, link: StreamsLink) -> None:
        self._link = link

    def eof_received(self) -> bool:
        return True

    def pause_writing(self) -> None:
        self._link.is_full = True

    def resume_writing(self) -> None:
        self._link.has_room()
