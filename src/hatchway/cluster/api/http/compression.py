"""Compresses large answers for clients that accept gzip (`endpoints/handlers/responsewriters/writers.go`)."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

__all__ = ["HEADERS", "LARGE", "accepts_gzip", "compress", "compress_pieces"]

# The size of the smallest answer that is compressed, in bytes, and the level. Kubernetes has the same values.
LARGE = 128 * 1024
_LEVEL = 1
_GZIP = 31
HEADERS = [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]


def accepts_gzip(header: str) -> bool:
    """Return True when an Accept-Encoding field contains gzip."""
    for clause in header[:1024].split(","):
        name, _, parameters = clause.partition(";")
        if name.strip().lower() == "gzip":
            return parameters.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def compress(body: bytes) -> bytes:
    """Compress a complete body."""
    return zlib.compress(body, _LEVEL, _GZIP)


async def compress_pieces(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Compress a body piece by piece. Compressing a piece (about 128 KiB) takes some two milliseconds."""
    compressor = zlib.compressobj(_LEVEL, wbits=_GZIP)
    async for piece in pieces:
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()
