"""Converts the body of a streamed answer into messages of a WebSocket, and checks the handshake.

Source for watches: `WatchServer.HandleWS` (apiserver's `endpoints/handlers/watch.go`), whose handshake is that of
`golang.org/x/net/websocket` (`Handler`). Source for all other streams: `wsstream.NewReader` (`k8s.io/streaming`,
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

# The maximum number of bytes of a stream in one message: the size of the buffer in `messageCopy`.
_CHUNK: Final = 2048
_BINARY: Final = "binary.k8s.io"
_BASE64: Final = "base64.binary.k8s.io"
_PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"
# In a watch in protobuf, each event comes after its length, which has this many bytes.
_LENGTH: Final = 4
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:").match


class HandshakeRefused(Exception):
    """A handshake that Kubernetes refuses. status: the status of the answer. message: the body of the answer."""

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
    """Divides the body of one answer into messages.

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
    """The messages of a watch: one for each event.

    A message is text (JSON with its newline), or binary (protobuf without the length before it). A client may offer one
    sub-protocol. Its name does not matter, and does not change the messages.

    offered: the client's sub-protocols.
    origin: the header field `Origin`, which clients must send.
    content_type: the header field `Content-Type` of the answer. Each piece of the body must contain only whole events.

    Raises HandshakeRefused.
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
    """The messages of any other stream: an empty message, then at most 2048 bytes in each, in binary or in base64.

    offered: the client's sub-protocols. The first known sub-protocol is chosen.

    Raises HandshakeRefused.
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
    """Return True for an absolute URL or a path (Go's `url.ParseRequestURI`). Browsers may send `null` instead."""
    text = origin.decode("latin-1")
    if not text.startswith("/") and _scheme(text) is None:
        return False
    try:
        urlsplit(text).port  # noqa: B018 - raises for an invalid port or host
    except ValueError:
        return False
    return True
