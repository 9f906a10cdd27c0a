"""Documents that the server makes of itself (discovery, OpenAPI): bytes, ready to send, with their ETag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["Document"]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Document:
    """body: pre-encoded. content_type: the value of `Content-Type`. etag: quoted, of the body; "" for one that lasts no moment."""

    body: bytes
    content_type: str = "application/json"
    etag: str = field(default="")

    @classmethod
    def of(cls, value: Any, content_type: str = "application/json") -> Document:
        """`value` as JSON."""
        return cls.of_bytes(_encode(value), content_type)

    @classmethod
    def of_bytes(cls, body: bytes, content_type: str) -> Document:
        return cls(body, content_type, f'"{hashlib.sha256(body).hexdigest().upper()}"')

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Content-Type, and ETag and Vary: a client that sends this ETag in `If-None-Match` may be answered with 304."""
        kind = (b"content-type", self.content_type.encode())
        return [kind, (b"etag", self.etag.encode()), (b"vary", b"Accept")] if self.etag else [kind]
