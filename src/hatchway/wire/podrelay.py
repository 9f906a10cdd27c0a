"""The client's side of a relay pod's protocol, without I/O. `route/relayprogram.py`, the server, describes it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

# The maximum number of bytes of the line that answers a request.
LONGEST_LINE: Final = 1024
# The maximum number of bytes of a UDP datagram.
LONGEST_DATAGRAM: Final = 0xFFFF
# The maximum number of characters of a host name.
_LONGEST_HOST: Final = 253


class RelayProtocolError(Exception):
    """The peer violates the protocol, or the protocol cannot express the request."""


def format_request(secret: str, command: str, host: str, port: int) -> bytes:
    """Return the line that requests a connection to a host.

    command: "tcp" or "udp".

    Raises:
        RelayProtocolError: the host is neither a name nor an address, or the port is not a port number.
    """
    if not 0 < len(host) <= _LONGEST_HOST or not host.isascii() or not host.isprintable() or " " in host:
        raise RelayProtocolError("this is neither a host name nor an address")
    if not 0 < port < 65536:
        raise RelayProtocolError(f"{port} is no port")
    return f"hatchway-relay {secret} {command} {host} {port}\n".encode()


def format_renewal(secret: str) -> bytes:
    """Return the line that extends the lifetime of the relay pod."""
    return f"hatchway-relay {secret} renew\n".encode()


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """The answer to a request.

    kind: "" when the connection was opened; otherwise the kind of the error: refused, unreachable, name, forbidden,
        timeout, busy.
    text: the reason, for an error message.
    rest: the bytes that arrived after the answer; they come from the host.
    """

    kind: str
    text: str
    rest: bytes


class AnswerReader:
    """Reads the line that answers a request."""

    def __init__(self) -> None:
        self._data = b""

    def receive_data(self, data: bytes) -> RelayAnswer | None:
        """Take bytes; return the answer once it is complete.

        Raises:
            RelayProtocolError: the bytes are not an answer.
        """
        self._data += data
        line, found, rest = self._data.partition(b"\n")
        if len(line) > LONGEST_LINE:
            raise RelayProtocolError("the relay's answer is too long")
        if not found:
            return None
        self._data = b""
        if line == b"ok":
            return RelayAnswer("", "", rest)
        word, _, reason = line.decode(errors="replace").partition(" ")
        kind, _, text = reason.partition(" ")
        if word != "error" or not kind:
            raise RelayProtocolError("the relay's answer is malformed")
        return RelayAnswer(kind, text, rest)


def format_datagram(data: bytes) -> bytes:
    """Return the datagram's length followed by the datagram. Raises ValueError for more than 65535 bytes."""
    if len(data) > LONGEST_DATAGRAM:
        raise ValueError("a datagram has at most 65535 bytes")
    return struct.pack("!H", len(data)) + data


class DatagramReader:
    """Splits a byte stream into datagrams, each preceded by its length. It buffers at most one incomplete datagram."""

    def __init__(self) -> None:
        self._data = bytearray()

    def receive_data(self, data: bytes) -> list[bytes]:
        """Add received bytes; return the datagrams that are now complete."""
        self._data += data
        found: list[bytes] = []
        begin = 0
        while len(self._data) - begin >= 2:
            end = begin + 2 + int(struct.unpack_from("!H", self._data, begin)[0])
            if len(self._data) < end:
                break
            found.append(bytes(self._data[begin + 2 : end]))
            begin = end
        del self._data[:begin]
        return found
