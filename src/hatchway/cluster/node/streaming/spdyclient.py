"""Connects a remote command's session with a client over SPDY (`pkg/cri/streaming/remotecommand/httpstream.go`)."""

from __future__ import annotations

import asyncio

from hatchway.cluster.node.streaming.clientlink import ClientLink
from hatchway.cluster.node.streaming.command import (
    INPUT_HIGH,
    INPUT_LOW,
    CommandEnd,
    CommandSession,
    WantedStreams,
    take_size,
)
from hatchway.wire import channels
from hatchway.wire.channels import ChannelError
from hatchway.wire.spdy import SpdySession
from hatchway.wire.spdyevents import (
    DataReceived,
    Event,
    SpdyError,
    SpdyLimits,
    StreamDrained,
    StreamOpened,
    StreamReset,
)

# Seconds in which the client must open its streams (`streamCreationTimeout`).
_STREAMS_SECONDS = 30.0
_LIMITS = SpdyLimits(streams=8)
_LARGEST_SIZE = 4096


class SpdyCommandClient:
    """Passes data between a session and the streams of a SPDY connection. It is the user of a `ClientLink`.

    protocol: the chosen version of the protocol.
    streams: the streams that the client has requested.
    """

    def __init__(self, session: CommandSession, protocol: str, streams: WantedStreams) -> None:
        self._session: CommandSession | None = session
        self._has_status = protocol == "v4.channel.k8s.io"
        self._spdy = SpdySession(server=True, limits=_LIMITS)
        self._link: ClientLink | None = None
        self._wanted = {channels.ERROR}
        for channel, wanted in (
            (channels.STDIN, streams.stdin),
            (channels.STDOUT, streams.stdout),
            (channels.STDERR, streams.stderr),
            # The channel RESIZE exists since version 3 of the protocol.
            (channels.RESIZE, streams.tty and protocol in channels.SPDY_PROTOCOLS[:2]),
        ):
            if wanted:
                self._wanted.add(channel)
        self._channels: dict[int, int] = {}
        self._streams: dict[int, int] = {}
        self._sizes = b""
        self._unread = 0
        self._began = False
        self._input_ended = not streams.stdin
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, link: ClientLink) -> None:
        """Take the connection, and wait for the client's streams."""
        self._link = link
        self._timer = asyncio.get_running_loop().call_later(_STREAMS_SECONDS, self._leave)
        self._flush()

    # Methods that the link calls

    def receive(self, data: bytes) -> None:
        """Handle frames of the client."""
        try:
            for event in self._spdy.receive_data(data):
                self._take(event)
        except (SpdyError, ChannelError):
            self._leave()
        self._flush()

    def pause_writing(self) -> None:
        """Do nothing: the session learns from the result of `send` that it must wait."""

    def resume_writing(self) -> None:
        """Let the session send again."""
        for channel in (channels.STDOUT, channels.STDERR):
            self._resume(channel)

    def lose_client(self) -> None:
        """Tell the session that its client has disconnected."""
        self._link = None
        self._forget_session(lost=True)

    def probe(self) -> None:
        """Ping the client."""
        self._spdy.ping()
        self._flush()

    def _take(self, event: Event) -> None:
        if isinstance(event, StreamOpened):
            self._open(event)
        elif isinstance(event, DataReceived):
            self._data(event)
        elif isinstance(event, StreamDrained):
            channel = self._channels.get(event.stream_id)
            if channel is not None:
                self._resume(channel)
        elif isinstance(event, StreamReset) and self._channels.get(event.stream_id) == channels.STDIN:
            self._end_input()

    def _open(self, event: StreamOpened) -> None:
        kind = dict(event.headers).get(b"streamtype", b"")
        channel = channels.STREAM_TYPES.get(kind)
        if channel is None or channel not in self._wanted or channel in self._streams:
            raise ChannelError(f"unexpected stream type: {kind[:32]!r}")
        if not self._spdy.may_send(event.stream_id):
            raise ChannelError("the client has opened a unidirectional stream")
        self._channels[event.stream_id] = channel
        self._streams[channel] = event.stream_id
        self._spdy.accept(event.stream_id)
        if len(self._streams) == len(self._wanted) and self._session is not None:
            self._began = True
            self._stop_timer()
            self._flush()
            self._session.begin(self)
            if self._input_ended and channels.STDIN in self._wanted:
                self._session.end_input()
        if event.fin and channel == channels.STDIN:
            self._end_input()

    def _data(self, event: DataReceived) -> None:
        channel = self._channels.get(event.stream_id)
        session = self._session
        if session is None:
            return
        if channel == channels.STDIN:
            if not self._began:
                raise ChannelError("input before the streams are open")
            if event.data:
                self._unread += len(event.data)
                if self._unread > INPUT_HIGH and not self._spdy.has_windows and self._link is not None:
                    self._link.hold()
                session.receive_input(event.data)
            if event.fin:
                self._end_input()
        elif channel == channels.RESIZE:
            self._spdy.consumed(event.stream_id, len(event.data))
            self._resize(event.data, session)

    def _resize(self, data: bytes, session: CommandSession) -> None:
        """Resize the terminal. data: a part of a stream of JSON objects, one on each line."""
        *whole, self._sizes = (self._sizes + data).split(b"\n")
        for line in whole:
            if line.strip():
                take_size(session, line)
        if len(self._sizes) > _LARGEST_SIZE:
            raise ChannelError("a terminal's size is too long")

    def _end_input(self) -> None:
        if not self._input_ended:
            self._input_ended = True
            if self._began and self._session is not None:
                self._session.end_input()

    def _resume(self, channel: int) -> None:
        stream = self._streams.get(channel)
        ready = self._link is not None and self._link.writable
        if ready and stream is not None and not self._spdy.unsent(stream) and self._session is not None:
            self._session.resume_output(channel)

    def _leave(self) -> None:
        """End the connection because of an error of the client."""
        self._spdy.go_away()
        self._flush()
        self._forget_session(lost=True)
        if self._link is not None:
            self._link.finish(at_once=True)

    def _forget_session(self, *, lost: bool) -> None:
        self._stop_timer()
        session, self._session = self._session, None
        if session is not None and lost and self._began:
            session.lose_client()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Methods that the session calls

    def send(self, channel: int, data: bytes) -> bool:
        """Send output."""
        stream = self._streams.get(channel)
        if stream is None or self._link is None:
            return True
        self._spdy.send_data(stream, data)
        self._flush()
        return self._link.writable and not self._spdy.unsent(stream)

    def consume_input(self, count: int) -> None:
        """Let the client send more input."""
        self._unread -= count
        stream = self._streams.get(channels.STDIN)
        if stream is not None:
            self._spdy.consumed(stream, count)
            self._flush()
        if self._unread <= INPUT_LOW and self._link is not None:
            self._link.release()

    def finish(self, end: CommandEnd) -> None:
        """Send the command's end on the error stream, end all streams, and close."""
        self._forget_session(lost=False)
        for channel in (channels.STDOUT, channels.STDERR):
            if channel in self._streams:
                self._spdy.send_data(self._streams[channel], b"", fin=True)
        told = end.status() if self._has_status else end.text()
        if channels.ERROR in self._streams:
            self._spdy.send_data(self._streams[channels.ERROR], told, fin=True)
        for channel in (channels.STDIN, channels.RESIZE):
            if channel in self._streams:
                self._spdy.reset(self._streams[channel])
        self._spdy.go_away()
        self._flush()
        if self._link is not None:
            # If the client may still send input, a close at once could reset the connection before the client has read
            # all data.
            self._link.finish(at_once=self._input_ended)

    def _flush(self) -> None:
        if self._link is not None:
            self._link.write(self._spdy.data_to_send())
