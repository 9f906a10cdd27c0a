"""Documents about the server itself (discovery, OpenAPI), as bytes with an ETag."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["ServedDocument"]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ServedDocument:
    """An encoded document.

    body: the encoded document.
    content_type: the value of `Content-Type`.
    etag: the ETag of the body, in quotes; "" for a document that changes all the time.
    """

    body: bytes
    content_type: str = "application/json"
    etag: str = field(default="")

    @classmethod
    def of(cls, value: Any, content_type: str = "application/json") -> ServedDocument:
        """Return a document with `value` as JSON."""
        return cls.of_bytes(_encode(value), content_type)

    @classmethod
    def of_bytes(cls, body: bytes, content_type: str) -> ServedDocument:
        """Return a document of these bytes, with its ETag."""
        return cls(body, content_type, f'"{hashlib.sha256(body).hexdigest().upper()}"')

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return Content-Type and, if there is an ETag, ETag and Vary.

        A request with the same ETag in `If-None-Match` may be answered with 304.
        """
        kind = (b"content-type", self.content_type.encode())
        return [kind, (b"etag", self.etag.encode()), (b"vary", b"Accept")] if self.etag else [kind]
