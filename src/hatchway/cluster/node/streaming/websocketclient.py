"""Connects a remote command's session with a client over WebSocket (`pkg/cri/streaming/remotecommand/websocket.go`)."""

from __future__ import annotations

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
from hatchway.wire.channels import ChannelError, ChannelProtocol
from hatchway.wire.websocket import PROTOCOL_ERROR, CloseReceived, Message, WebSocket, WebSocketError

# The maximum number of bytes of a message. Some clients send a whole file in one message.
_LARGEST = 16 * 1024 * 1024


class WebSocketCommandClient:
    """Passes data between a session and a WebSocket. It is the user of a `ClientLink`.

    protocol: the encoding of channels in messages.
    streams: the streams that the client has requested.
    """

    def __init__(self, session: CommandSession, protocol: ChannelProtocol, streams: WantedStreams) -> None:
        self._session: CommandSession | None = session
        self._protocol = protocol
        self._streams = streams
        self._websocket = WebSocket(client=False, largest=_LARGEST)
        self._link: ClientLink | None = None
        self._unread = 0
        self._input_open = streams.stdin

    def attach(self, link: ClientLink) -> None:
        """Take the connection, and begin."""
        self._link = link
        # Clients wait for an empty message on the first output channel that they have requested.
        first = channels.ERROR
        if self._streams.stdout:
            first = channels.STDOUT
        elif self._streams.stderr:
            first = channels.STDERR
        self._write(first, b"")
        if self._session is not None:
            self._session.begin(self)

    # Methods that the link calls

    def receive(self, data: bytes) -> None:
        """Handle messages of the client."""
        try:
            for event in self._websocket.receive_data(data):
                if isinstance(event, Message):
                    self._take(event.data)
                elif isinstance(event, CloseReceived):
                    self._leave()
        except WebSocketError:
            # `receive_data` has sent a close frame that tells the client the reason.
            self._leave()
        except ChannelError as error:
            self._websocket.close(PROTOCOL_ERROR, str(error))
            self._leave()
        self._flush()

    def pause_writing(self) -> None:
        """Do nothing: the session learns from the result of `send` that it must wait."""

    def resume_writing(self) -> None:
        """Let the session send again."""
        for channel in (channels.STDOUT, channels.STDERR):
            if self._session is not None:
                self._session.resume_output(channel)

    def lose_client(self) -> None:
        """Tell the session that its client has disconnected."""
        self._link = None
        session, self._session = self._session, None
        if session is not None:
            session.lose_client()

    def probe(self) -> None:
        """Ping the client."""
        self._websocket.ping()
        self._flush()

    def _take(self, message: bytes) -> None:
        channel, data = self._protocol.decode(message)
        session = self._session
        if session is None:
            return
        if channel == channels.STDIN and self._input_open:
            self._unread += len(data)
            if self._unread > INPUT_HIGH and self._link is not None:
                self._link.hold()
            session.receive_input(data)
        elif channel == channels.RESIZE:
            take_size(session, data)
        elif channel == channels.CLOSE and data[0] == channels.STDIN and self._input_open:
            self._input_open = False
            session.end_input()

    def _leave(self) -> None:
        """End the connection, because the client has closed it or violated the protocol."""
        self._flush()
        session, self._session = self._session, None
        if session is not None:
            session.lose_client()
        if self._link is not None:
            self._link.finish(at_once=self._websocket.closed)

    # Methods that the session calls

    def send(self, channel: int, data: bytes) -> bool:
        """Send output."""
        self._write(channel, data)
        return self._link is None or self._link.writable

    def consume_input(self, count: int) -> None:
        """Read the client again when enough input was taken."""
        self._unread -= count
        if self._unread <= INPUT_LOW and self._link is not None:
            self._link.release()

    def finish(self, end: CommandEnd) -> None:
        """Send the command's end on the error channel, and close."""
        self._session = None
        told = end.status() if self._protocol.has_status else end.text()
        if told:
            self._write(channels.ERROR, told)
        self._websocket.close()
        self._flush()
        if self._link is not None:
            self._link.finish(at_once=self._websocket.closed)

    def _write(self, channel: int, data: bytes) -> None:
        if self._protocol.is_base64:
            self._websocket.send_text(self._protocol.encode(channel, data))
        else:
            self._websocket.send_binary(bytes((channel,)), data)
        self._flush()

    def _flush(self) -> None:
        if self._link is not None:
            self._link.write(self._websocket.data_to_send())
