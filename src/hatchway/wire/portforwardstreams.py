"""Kubernetes' port-forward protocols: each forwarded connection has one stream for data and one for an error's text.

Sources: client-go `tools/portforward/portforward.go`; kubelet `pkg/cri/streaming/portforward/httpstream.go` (SPDY) and
`websocket.go` (the older protocol without SPDY: a WebSocket carries one connection for each port).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hatchway.wire.channels import ChannelError, ChannelProtocol
from hatchway.wire.spdyheaders import HeaderList

# The sub-protocol of a WebSocket whose binary messages carry the bytes of a SPDY session. A SPDY frame may span
# messages.
TUNNEL_PROTOCOL: Final = "SPDY/3.1+portforward.k8s.io"
# The `X-Stream-Protocol-Version` of an upgrade to SPDY.
SPDY_PROTOCOL: Final = "portforward.k8s.io"
# Hatchway's own port-forward protocol between its client and its API server: each connection is one stream, with one
# header, `port`. The server sends no reply when the connection succeeds. When the connection fails, the server ends the
# stream by a SYN_REPLY with the header `error`. Compared with Kubernetes' protocol, this needs half as many frames and
# a tenth of the header bytes.
SINGLE_STREAM_PROTOCOL: Final = "v1.portforward.hatchway"
# With this field in its answer to a WebSocket handshake, a server announces SINGLE_STREAM_PROTOCOL over SPDY.
OFFER_FIELD: Final = b"X-Hatchway-Port-Forward"
# Seconds for which a stream waits for the second stream of its pair (`streamCreationTimeout`).
PAIR_TIMEOUT: Final = 30.0

_ERROR, _DATA = b"error", b"data"
# The maximum number of streams that wait for the second stream of their pair.
_WAITING: Final = 1024
# The maximum number of bytes of an error's text in a header.
_LONGEST_TEXT: Final = 4096
# The maximum number of bytes of the header `requestID`.
_LONGEST_ID: Final = 256


class PortForwardError(Exception):
    """A stream or a request violates the protocol. The message is sent to the peer."""


def error_headers(port: int, request_id: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of the error stream. The client opens it before the data stream, and sends nothing on it."""
    return _headers(_ERROR, port, request_id)


def data_headers(port: int, request_id: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of the data stream."""
    return _headers(_DATA, port, request_id)


def _headers(kind: bytes, port: int, request_id: int) -> list[tuple[bytes, bytes]]:
    return [(b"streamtype", kind), (b"port", b"%d" % port), (b"requestid", b"%d" % request_id)]


def single_headers(port: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of a connection's only stream (`SINGLE_STREAM_PROTOCOL`)."""
    return [(b"port", b"%d" % port)]


def refusal_headers(text: str) -> list[tuple[bytes, bytes]]:
    """Return the headers that report a connection's error (`SINGLE_STREAM_PROTOCOL`)."""
    return [(b"error", text.encode()[:_LONGEST_TEXT])]


def refusal_text(headers: HeaderList) -> str:
    """Return the text of `refusal_headers`; "" when there is none."""
    return dict(headers).get(b"error", b"").decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class ForwardedConnection:
    """A forwarded connection for which the client has opened both streams."""

    port: int
    data_stream: int
    error_stream: int


@dataclass(slots=True)
class _Half:
    port: int
    data_stream: int
    error_stream: int
    since: float


class StreamPairs:
    """Matches the two streams of each connection, for a server."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, _Half] = {}

    def add(self, stream_id: int, headers: HeaderList, now: float) -> ForwardedConnection | None:
        """Add a stream that the client has opened. Return the connection if both of its streams are open now.

        now: the time in seconds, from the same clock as in `expire`.

        Raises PortForwardError when the stream must be reset.
        """
        fields = dict(headers)
        kind = fields.get(b"streamtype", b"")
        if kind not in (_ERROR, _DATA):
            raise PortForwardError('header "streamType" must be error or data')
        port = parse_port(fields.get(b"port", b""))
        name = fields.get(b"requestid", b"")
        if not name:
            # Clients before Kubernetes 1.2 send no requestID. They open the error stream first, and then the data
            # stream, which gets the client's next stream number.
            name = b"stream %d" % (stream_id if kind == _ERROR else stream_id - 2)
        if len(name) > _LONGEST_ID:
            raise PortForwardError('header "requestID" is too long')
        half = self._waiting.get(name)
        if half is None:
            if len(self._waiting) >= _WAITING:
                raise PortForwardError("too many streams wait for the second stream of their pair")
            data, error = (stream_id, 0) if kind == _DATA else (0, stream_id)
            self._waiting[name] = _Half(port, data, error, now)
            return None
        if (half.data_stream if kind == _DATA else half.error_stream) or half.port != port:
            raise PortForwardError("a stream of this type exists already for the requestID, or its port differs")
        del self._waiting[name]
        if kind == _DATA:
            return ForwardedConnection(port, stream_id, half.error_stream)
        return ForwardedConnection(port, half.data_stream, stream_id)

    def discard(self, stream_id: int) -> None:
        """Remove a stream that was reset while it waited for the second of its pair. Does nothing for other streams."""
        for name, half in self._waiting.items():
            if stream_id in (half.data_stream, half.error_stream):
                del self._waiting[name]
                return

    def expire(self, now: float) -> list[int]:
        """Remove and return streams that have waited for `PAIR_TIMEOUT` seconds. The caller must reset them."""
        old = {name: half for name, half in self._waiting.items() if half.since + PAIR_TIMEOUT <= now}
        for name in old:
            del self._waiting[name]
        return [half.data_stream or half.error_stream for half in old.values()]


def parse_port(text: bytes) -> int:
    """Return the number of a port. Raises PortForwardError."""
    if not (text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise PortForwardError(f"{text[:20]!r} is no port")
    return int(text)


def parse_ports(values: Iterable[str]) -> list[int]:
    """Return the ports of a WebSocket's query (`?ports=80,443&ports=8080`), in order. Raises PortForwardError."""
    ports = [parse_port(port.encode()) for value in values for port in value.split(",")]
    if not ports:
        raise PortForwardError('query parameter "ports" is required')
    if len(ports) > PortChannels.LARGEST:
        raise PortForwardError(f"more than {PortChannels.LARGEST} ports")
    return ports


class PortChannels:
    """The older protocol: a WebSocket with two channels for port n: 2n for data and 2n+1 for an error's text.

    protocol: v4.channel.k8s.io, v4.base64.channel.k8s.io or `UNNAMED`; only its encoding of messages is used.
    ports: the ports in the order of the query.
    """

    LARGEST: Final = 100

    def __init__(self, protocol: ChannelProtocol, ports: Sequence[int]) -> None:
        self.ports = tuple(ports)
        self._protocol = protocol

    def greeting(self) -> list[bytes]:
        """Return the first message of each channel: the port number as two bytes, in little-endian order."""
        return [
            self._protocol.encode(channel, self.ports[channel // 2].to_bytes(2, "little"))
            for channel in range(2 * len(self.ports))
        ]

    def data(self, index: int, data: bytes) -> bytes:
        """Return the message that carries data of the port with this index."""
        return self._protocol.encode(2 * index, data)

    def error(self, index: int, text: str) -> bytes:
        """Return the message that carries an error's text for the port with this index."""
        return self._protocol.encode(2 * index + 1, text.encode())

    def decode(self, message: bytes) -> tuple[int, bytes] | None:
        """Return (index of the port, data) of a client's message; None for a message on an error channel.

        Raises ChannelError.
        """
        channel, data = self._protocol.decode(message)
        if channel >= 2 * len(self.ports):
            raise ChannelError(f"there is no channel {channel}")
        return None if channel & 1 else (channel // 2, data)


def dial_text(port: int, pod: str, error: OSError) -> str:
    """Return the kubelet's error text for a port that cannot be reached. pod: the pod's description in the text."""
    if error.errno == errno.ETIMEDOUT:
        why = "i/o timeout"
    else:
        why = f"connect: {os.strerror(error.errno).lower() if error.errno else error}"
    return (
        f"error forwarding port {port} to pod {pod}: failed to execute portforward in network namespace: failed to "
        f"connect to localhost:{port} inside namespace, IPv4: dial tcp4 127.0.0.1:{port}: {why}"
    )
