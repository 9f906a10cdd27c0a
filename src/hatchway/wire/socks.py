"""The server's side of SOCKS 5 (RFC 1928, without authentication), SOCKS 4 and 4a, without I/O.

`SocksNegotiation` parses the client's request, and makes the answer after the connection to the host was opened or has
failed. Bytes that the client sends after its request are meant for the host; the caller finds them in `rest`.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import Final

# The first byte of SOCKS 4 and SOCKS 5. Any other first byte belongs to another protocol.
VERSIONS: Final = (4, 5)
# The maximum number of bytes of a user name and a host name in SOCKS 4a; the same limit as in RFC 1928.
_LONGEST: Final = 255
_CONNECT: Final = 1
_NO_AUTHENTICATION: Final = 0
_NONE_ACCEPTABLE: Final = 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
# SOCKS 4's replies.
_GRANTED, _REJECTED = 0x5A, 0x5B


class Reply(enum.IntEnum):
    """The replies of RFC 1928 section 6."""

    SUCCEEDED = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class SocksError(Exception):
    """The client's bytes are not SOCKS, or the request is not supported. Send the client `data_to_send()`."""


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """A client's request for a connection.

    host: a host name, or an address as text.
    port: 1 to 65535.
    """

    host: str
    port: int


class SocksNegotiation:
    """One client's negotiation.

    request: the client's request, once it is complete.
    rest: the bytes after the request.
    """

    def __init__(self) -> None:
        self.request: SocksRequest | None = None
        self._in = bytearray()
        self._out = bytearray()
        self._version = 0
        self._greeted = False

    @property
    def rest(self) -> bytes:
        """Return the bytes after the client's request; they are meant for the host."""
        return bytes(self._in) if self.request is not None else b""

    def receive_data(self, data: bytes) -> SocksRequest | None:
        """Add bytes from the client; return its request once it is complete.

        Raises:
            SocksError: the negotiation has failed; send `data_to_send()` and close the connection.
        """
        self._in += data
        if self.request is None:
            self.request = self._parse()
        return self.request

    def data_to_send(self) -> bytes:
        """Remove and return the bytes that must be sent to the client."""
        found = bytes(self._out)
        self._out.clear()
        return found

    def answer(self, reply: Reply) -> bytes:
        """Return the bytes that answer the request."""
        if self._version == 4:
            return bytes((0, _GRANTED if reply is Reply.SUCCEEDED else _REJECTED, 0, 0, 0, 0, 0, 0))
        return bytes((5, reply, 0, _IPV4, 0, 0, 0, 0, 0, 0))

    def _parse(self) -> SocksRequest | None:
        data = self._in
        if not self._version and data:
            if data[0] not in VERSIONS:
                raise SocksError("this is not SOCKS")
            self._version = data[0]
        if self._version == 4:
            return self._parse_4()
        if self._version == 5 and not self._greeted:
            if len(data) < 2 or len(data) < 2 + data[1]:
                return None
            methods = bytes(data[2 : 2 + data[1]])
            del data[: 2 + len(methods)]
            if _NO_AUTHENTICATION not in methods:
                self._out += bytes((5, _NONE_ACCEPTABLE))
                raise SocksError("the client requires authentication, and this server supports none")
            self._out += bytes((5, _NO_AUTHENTICATION))
            self._greeted = True
        return self._parse_5() if self._greeted else None

    def _parse_5(self) -> SocksRequest | None:
        data = self._in
        if len(data) < 5:
            return None
        version, command, _, kind, first = data[:5]
        if version != 5:
            raise SocksError("the request and the greeting have different SOCKS versions")
        if kind == _NAME:
            start, length = 5, first
        elif kind in (_IPV4, _IPV6):
            start, length = 4, 4 if kind == _IPV4 else 16
        else:
            raise self._refused(Reply.ADDRESS_TYPE_NOT_SUPPORTED, "the address type is not supported")
        end = start + length + 2
        if len(data) < end:
            return None
        raw, port = bytes(data[start : end - 2]), int.from_bytes(data[end - 2 : end], "big")
        del data[:end]
        if command != _CONNECT:
            raise self._refused(Reply.COMMAND_NOT_SUPPORTED, "only CONNECT is supported")
        return self._request(self._name(raw) if kind == _NAME else str(ipaddress.ip_address(raw)), port)

    def _parse_4(self) -> SocksRequest | None:
        data = self._in
        if len(data) < 9:
            return None
        user_end = data.find(0, 8, 8 + _LONGEST + 1)
        if user_end < 0:
            if len(data) > 8 + _LONGEST:
                raise self._refused(Reply.FAILURE, "the user name is too long")
            return None
        address, end = bytes(data[4:8]), user_end + 1
        host = str(ipaddress.ip_address(address))
        if address[:3] == b"\0\0\0" and address[3]:
            # SOCKS 4a: the invalid address 0.0.0.x means that a host name follows the user name.
            name_end = data.find(0, end, end + _LONGEST + 1)
            if name_end < 0:
                if len(data) > end + _LONGEST:
                    raise self._refused(Reply.FAILURE, "the host name is too long")
                return None
            host = self._name(bytes(data[end:name_end]))
            end = name_end + 1
        command, port = data[1], int.from_bytes(data[2:4], "big")
        del data[:end]
        if command != _CONNECT:
            raise self._refused(Reply.COMMAND_NOT_SUPPORTED, "only CONNECT is supported")
        return self._request(host, port)

    def _request(self, host: str, port: int) -> SocksRequest:
        if not port:
            raise self._refused(Reply.FAILURE, "port 0 is not allowed")
        return SocksRequest(host, port)

    def _name(self, raw: bytes) -> str:
        # Only printable ASCII characters: the name is also written to logs, so it must not contain a line break.
        if not raw or not raw.isascii() or not all(0x21 <= byte < 0x7F for byte in raw):
            raise self._refused(Reply.HOST_UNREACHABLE, "the host name is not valid")
        return raw.decode("ascii")

    def _refused(self, reply: Reply, why: str) -> SocksError:
        self._out += self.answer(reply)
        return SocksError(why)
