"""Decodes and encodes content codings (gzip, deflate) around a body transform, while streaming.

`decode` does not encode the result again: it is for clients that have requested no coding. Every piece is flushed
(Z_SYNC_FLUSH), so that browsers display a slow page piece by piece. A damaged body ends at the damage, without the
coding's end mark, so that its receiver notices the damage, too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

GZIP = 16 + zlib.MAX_WBITS
ZLIB = zlib.MAX_WBITS
RAW_DEFLATE = -zlib.MAX_WBITS
# The maximum number of bytes that are decoded at once: a few bytes may decode to a thousand times as many.
PIECE = 64 * 1024
# zlib's fastest level, because each body is encoded for one reader only: compared with the default level, it takes a
# quarter of the time and gives a fifth more bytes.
_LEVEL = 1


class BodyTransform(Protocol):
    """Changes a body while it streams.

    It has the methods of `proxy.routing.Transform`, which this room must not import.
    """

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of a body, and return the bytes that can be sent. Both may be b""."""

    def finish(self) -> bytes:
        """End the body; return the output that was held back. No call may follow."""


def supported(coding: bytes) -> bool:
    """Return True when a body of this `Content-Encoding` can be changed: not Brotli, zstd, or several codings."""
    return coding.strip().lower() in (b"", b"identity", b"gzip", b"x-gzip", b"deflate")


def wrap(inner: BodyTransform, coding: bytes) -> BodyTransform:
    """Return a transform that applies `inner` to a body of this `Content-Encoding`.

    Raises ValueError when the coding is not supported.
    """
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return inner
    if name in (b"gzip", b"x-gzip"):
        return _Recode(inner, GZIP)
    if name == b"deflate":
        return _Deflate(inner)
    raise ValueError(f"content coding {name.decode('latin-1')!r} is not supported")


def decode(inner: BodyTransform, coding: bytes) -> BodyTransform:
    """Return a transform that decodes a body and applies `inner`, for an answer whose `Content-Encoding` is removed.

    Raises ValueError when the coding is not supported.
    """
    name = coding.strip().lower()
    if name in (b"gzip", b"x-gzip"):
        return _Decode(inner, GZIP)
    raise ValueError(f"content coding {name.decode('latin-1')!r} is not supported")


class Unchanged:
    """A transform that changes nothing."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes as they are."""
        return data

    def finish(self) -> bytes:
        """Return b"", because nothing was held back."""
        return b""


class _Decode:
    """Decodes and transforms. wbits: zlib's parameter for the coding."""

    def __init__(self, inner: BodyTransform, wbits: int) -> None:
        self._inner = inner
        self._wbits = wbits
        self._decoder = zlib.decompressobj(wbits)
        self._over = False

    @property
    def whole(self) -> bool:
        """Return True when the coding's end mark has arrived."""
        return self._decoder.eof

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield the transformed body, piece by piece."""
        pending = data
        while pending and not self._over:
            if self._decoder.eof:
                # RFC 1952 section 2.2: a gzip file is a series of members. Anything else after a member is padding.
                if self._wbits != GZIP or pending[:1] != b"\x1f":
                    self._over = True
                    return
                self._decoder = zlib.decompressobj(self._wbits)
            try:
                plain = self._decoder.decompress(pending, PIECE)
                yield self._inner.feed(plain)
                pending = self._decoder.unconsumed_tail or self._decoder.unused_data
                while len(plain) == PIECE and not pending:
                    plain = self._decoder.decompress(b"", PIECE)
                    yield self._inner.feed(plain)
            except zlib.error:
                self._over = True

    def feed(self, data: bytes) -> bytes:
        return b"".join(self.pieces(data))

    def finish(self) -> bytes:
        return self._inner.finish()


class _Recode:
    """Decodes, transforms and encodes."""

    def __init__(self, inner: BodyTransform, wbits: int) -> None:
        self._decode = _Decode(inner, wbits)
        self._encoder = zlib.compressobj(_LEVEL, wbits=wbits)

    def feed(self, data: bytes) -> bytes:
        out = [self._encoder.compress(piece) for piece in self._decode.pieces(data)]
        if out:
            out.append(self._encoder.flush(zlib.Z_SYNC_FLUSH))
        return b"".join(out)

    def finish(self) -> bytes:
        last = self._encoder.compress(self._decode.finish())
        return last + self._encoder.flush(zlib.Z_FINISH if self._decode.whole else zlib.Z_SYNC_FLUSH)


class _Deflate:
    """Recodes `deflate`: the zlib format (RFC 9110 section 8.4.1.2), or raw deflate, which some servers send.

    The first two bytes show the format; the result has the same format.
    """

    def __init__(self, inner: BodyTransform) -> None:
        self._inner = inner
        self._head = b""
        self._recode: _Recode | None = None

    def feed(self, data: bytes) -> bytes:
        if self._recode is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            first, second = self._head[:2]
            is_zlib = first & 0x0F == 8 and (first * 256 + second) % 31 == 0
            self._recode = _Recode(self._inner, ZLIB if is_zlib else RAW_DEFLATE)
            data, self._head = self._head, b""
        return self._recode.feed(data)

    def finish(self) -> bytes:
        return self._head if self._recode is None else self._recode.finish()
