"""Converts the body of a streamed answer into messages of a WebSocket, and checks the handshake.

Watches are from `WatchServer.HandleWS` (apiserver `endpoints/handlers/watch.go`), whose handshake is that of
`golang.org/x/net/websocket` (`Handler`). All other streams are from `wsstream.NewReader` (`k8s.io/streaming`,
`pkg/httpstream/wsstream/stream.go`).
"""

from __future__ import annotations

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

__all__ = ["BytesMessages", "HandshakeRefused", "SocketMessage", "SocketMessages", "WatchMessages"]

# The most bytes of a stream that one message has: the buffer of `messageCopy`.
_CHUNK: Final = 2048
_BINARY: Final = "binary.k8s.io"
_BASE64: Final = "base64.binary.k8s.io"
_PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"
# The number of bytes before each event of a watch in protobuf; they are the event's length.
_LENGTH: Final = 4
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:").match


class HandshakeRefused(Exception):
    """A handshake that Kubernetes refuses. status: that of the answer. message: its body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class SocketMessage:
    """One message to the client."""

    data: bytes | memoryview
    is_text: bool


class SocketMessages(ABC):
    """The rules of one kind of stream, for one connection.

    protocol: the sub-protocol that was chosen; None for an answer without `Sec-WebSocket-Protocol`.
    """

    protocol: str | None

    def first(self) -> Iterator[SocketMessage]:
        """Yield the messages that come before the body."""
        return iter(())

    @abstractmethod
    def split(self, body: bytes) -> Iterator[SocketMessage]:
        """Yield the messages of a piece of the body."""


class WatchMessages(SocketMessages):
    """A watch: one event a message, as text with its newline, or in binary without the length before it (protobuf).

    A client may name one sub-protocol, whatever it is; it does not change the messages.

    offered: the client's sub-protocols. origin: the field `Origin`, which clients must send. content_type: that of the
    answer. Raises HandshakeRefused. Each piece of the body must hold whole events.
    """

    def __init__(self, offered: Sequence[str], origin: bytes | None, content_type: bytes) -> None:
        if not _is_url(origin or b""):
            raise HandshakeRefused(403, "a watch over a WebSocket needs the field Origin with a URL")
        if len(offered) > 1:
            raise HandshakeRefused(400, "a watch over a WebSocket takes one Sec-WebSocket-Protocol at most")
        self.protocol = offered[0] if offered else None
        self._in_protobuf = content_type.startswith(_PROTOBUF)

    def split(self, body: bytes) -> Iterator[SocketMessage]:
        """Yield one message for each event."""
        if not self._in_protobuf:
            for line in body.splitlines(keepends=True):
                yield SocketMessage(line, True)
            return
        view = memoryview(body)
        at = 0
        while at < len(body):
            begin = at + _LENGTH
            at = begin + int.from_bytes(view[at:begin], "big")
            yield SocketMessage(view[begin:at], False)


class BytesMessages(SocketMessages):
    """Any other stream: at most 2048 bytes a message, as they are or as text in base64, after an empty message.

    offered: the client's sub-protocols; the first that is known is chosen. Raises HandshakeRefused.
    """

    def __init__(self, offered: Sequence[str]) -> None:
        chosen = next((name for name in offered or ("",) if name in ("", _BINARY, _BASE64)), None)
        if chosen is None:
            named = " ".join(offered)
            message = f"requested protocol(s) are not supported: [{named}]; supports [ {_BINARY} {_BASE64}]"
            raise HandshakeRefused(403, message)
        # Without a sub-protocol, the answer has the field with an empty value.
        self.protocol = chosen
        self._as_text = chosen == _BASE64

    def first(self) -> Iterator[SocketMessage]:
        """Yield the empty message that tells the client that the stream begins."""
        yield SocketMessage(b"", self._as_text)

    def split(self, body: bytes) -> Iterator[SocketMessage]:
        """Yield the messages of a piece of the stream."""
        view = memoryview(body)
        for at in range(0, len(body), _CHUNK):
            piece = view[at : at + _CHUNK]
            yield SocketMessage(base64.b64encode(piece) if self._as_text else piece, self._as_text)


def _is_url(origin: bytes) -> bool:
    """Return True for what Go's `url.ParseRequestURI` takes: an absolute URL, or a path. Browsers may send `null`."""
    text = origin.decode("latin-1")
    if not text.startswith("/") and _scheme(text) is None:
        return False
    try:
        urlsplit(text).port  # noqa: B018 - it raises for a port or a host that is not valid
    except ValueError:
        return False
    return True
