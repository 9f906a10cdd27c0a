"""Makes and checks the header fields of a WebSocket handshake (RFC 6455 section 4), for client and server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hatchway.errors import HatchwayError

Fields = list[tuple[bytes, bytes]]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = b"13"
# The most sub-protocols that a client may offer.
_OFFERED: Final = 100
_token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z/]+").fullmatch  # "/" is for SPDY/3.1+portforward.k8s.io


class HandshakeError(HatchwayError):
    """The request or the answer of a WebSocket handshake is not valid."""


@dataclass(frozen=True, slots=True)
class OpeningRequest:
    """A client's request.

    key: the value of `Sec-WebSocket-Key`.
    protocols: the sub-protocols that the client offers, in its order of preference.
    """

    key: bytes
    protocols: list[str]


def new_key() -> bytes:
    """Return a random `Sec-WebSocket-Key`."""
    return base64.b64encode(os.urandom(16))


def accept_value(key: bytes) -> bytes:
    """Return the value of `Sec-WebSocket-Accept` for a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def request_fields(key: bytes, protocols: Sequence[str]) -> Fields:
    """Return the header fields of a client's request, except Host."""
    fields = [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", _VERSION),
        (b"Sec-WebSocket-Key", key),
    ]
    if protocols:
        fields.append((b"Sec-WebSocket-Protocol", ", ".join(protocols).encode("ascii")))
    return fields


def parse_request(fields: Iterable[tuple[bytes, bytes]]) -> OpeningRequest:
    """Parse the header fields of a request with `Upgrade: websocket`. Raises HandshakeError."""
    found = list(fields)
    keys, versions = _values(found, b"sec-websocket-key"), _values(found, b"sec-websocket-version")
    if versions != [_VERSION]:
        raise HandshakeError("only version 13 of WebSocket is served here")
    try:
        good = len(keys) == 1 and len(base64.b64decode(keys[0], validate=True)) == 16
    except binascii.Error:
        good = False
    if not good:
        raise HandshakeError("Sec-WebSocket-Key must be 16 bytes in base64")
    names = [name.strip() for value in _values(found, b"sec-websocket-protocol") for name in value.split(b",")]
    names = [name for name in names if name]
    if len(names) > _OFFERED or not all(map(_token, names)):
        raise HandshakeError("Sec-WebSocket-Protocol is malformed")
    return OpeningRequest(keys[0], [name.decode("ascii") for name in names])


def response_fields(key: bytes, protocol: str | None) -> Fields:
    """Return the header fields of a server's 101 answer. protocol: the chosen sub-protocol; None for none."""
    fields = [
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Accept", accept_value(key)),
    ]
    if protocol is not None:
        fields.append((b"Sec-WebSocket-Protocol", protocol.encode("ascii")))
    return fields


def check_response(fields: Iterable[tuple[bytes, bytes]], key: bytes, offered: Sequence[str]) -> str:
    """Check a server's 101 answer; return the sub-protocol that it chooses, "" for none. Raises HandshakeError.

    key: the `Sec-WebSocket-Key` of the request.
    offered: the sub-protocols of the request; if there are any, the server must choose one of them.
    """
    found = list(fields)
    if _values(found, b"sec-websocket-accept") != [accept_value(key)]:
        raise HandshakeError("the server's answer does not accept the WebSocket")
    if _values(found, b"sec-websocket-extensions"):
        raise HandshakeError("the server chose a WebSocket extension that was not offered")
    chosen = [value.decode("latin-1") for value in _values(found, b"sec-websocket-protocol") if value]
    if len(chosen) > 1 or (chosen and chosen[0] not in offered) or (offered and not chosen):
        raise HandshakeError(f"the server chose none of the WebSocket protocols {', '.join(offered)}")
    return chosen[0] if chosen else ""


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value.strip() for field, value in fields if field.lower() == name]
