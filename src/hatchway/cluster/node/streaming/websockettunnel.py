"""A link that carries a byte stream in a WebSocket's binary messages (`SPDY/3.1+portforward.k8s.io`)."""

from __future__ import annotations

from hatchway.cluster.node.streaming.clientlink import Buffers, ClientLink, LinkUser
from hatchway.wire.websocket import CloseReceived, Piece, WebSocket, WebSocketError


class TunnelLink:
    """A link for `user` over another link, which carries the WebSocket."""

    def __init__(self, user: LinkUser) -> None:
        self._user = user
        self._below: ClientLink | None = None
        self._websocket = WebSocket(client=False, largest=None)

    def attach(self, link: ClientLink) -> None:
        """Take the connection that carries the WebSocket."""
        self._below = link
        self._user.attach(self)

    # Methods that the link below calls

    def receive(self, data: bytes) -> None:
        """Pass on the bytes of messages."""
        try:
            events = self._websocket.receive_data(data)
        except WebSocketError:
            self._flush()
            self._end()
            return
        for event in events:
            if isinstance(event, Piece):
                self._user.receive(bytes(event.data))  # unmasked data is already `bytes`, so this copies nothing
        self._flush()
        if events and isinstance(events[-1], CloseReceived):
            self._end()

    def pause_writing(self) -> None:
        """Tell the user to write little."""
        self._user.pause_writing()

    def resume_writing(self) -> None:
        """Tell the user that it may write again."""
        self._user.resume_writing()

    def lose_client(self) -> None:
        """Tell the user that the client has disconnected."""
        self._below = None
        self._user.lose_client()

    def probe(self) -> None:
        """Ping the client."""
        self._websocket.ping()
        self._flush()

    # Methods that the user calls

    @property
    def writable(self) -> bool:
        """Return True while the link below has room."""
        return self._below is not None and self._below.writable

    def write(self, buffers: Buffers) -> None:
        """Send buffers as one message."""
        self._websocket.send_binary(*buffers)
        self._flush()

    def hold(self) -> None:
        """Pause reading."""
        if self._below is not None:
            self._below.hold()

    def release(self) -> None:
        """Resume reading."""
        if self._below is not None:
            self._below.release()

    def finish(self, *, at_once: bool = False) -> None:
        """Send a close frame, and end the connection."""
        self._websocket.close()
        self._flush()
        self._end(at_once=at_once)

    def abort(self) -> None:
        """End the connection now."""
        if self._below is not None:
            self._below.abort()

    def _end(self, *, at_once: bool = False) -> None:
        if self._below is not None:
            self._below.finish(at_once=at_once or self._websocket.closed)

    def _flush(self) -> None:
        if self._below is not None:
            self._below.write(self._websocket.data_to_send())
