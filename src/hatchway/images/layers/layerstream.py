"""Decompresses a layer's blob and verifies its digest, in separate threads beside the thread that writes files.

isal, backports.zstd and `hashlib` release Python's global lock while they work. So on two processors, unpacking takes
only as long as the slower of decompressing and writing.
"""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Final, Protocol, cast

from isal import igzip_lib

from hatchway.images.layers.layererrors import BadLayer, UnpackLimits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Bytes of the blob that are read at a time; the maximum number of bytes of a decompressed piece.
_FEED: Final = 256 * 1024
_PIECE: Final = 512 * 1024
# The maximum number of pieces that wait for the writer.
_AHEAD: Final = 4
# The largest window of zstd, as a power of two (128 MiB of memory). The command `zstd` has the same limit.
_ZSTD_WINDOW: Final = 27

_GZIP: Final = b"\x1f\x8b\x08"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_DAMAGED: Final = cast("tuple[type[Exception], ...]", (igzip_lib.IsalError, zstd.ZstdError, EOFError, ValueError))
_REFUSED: Final = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


class _Decompressor(Protocol):
    """The common interface of all decompressors; the same as that of `bz2.BZ2Decompressor`."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompress(blob: BinaryIO) -> Iterator[bytes]:
    """Yield a blob's uncompressed content in pieces of at most `_PIECE` bytes.

    The blob is gzip, zstd or not compressed.

    As in Docker and containerd (`DetectCompression`), the first bytes decide the format, not the media type. Several
    gzip members or zstd frames in a row are joined. Raises BadLayer.
    """
    start = blob.read(_FEED)
    if start.startswith(_GZIP):
        return _members(blob, start, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), "gzip")
    if start.startswith(_ZSTD) or (start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F):
        options = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW}
        return _members(blob, start, lambda: zstd.ZstdDecompressor(options=options), "zstd")
    for magic, name in _REFUSED.items():
        if start.startswith(magic):
            raise BadLayer(f"it is compressed with {name}; gzip, zstd and no compression are supported")
    return _plain(blob, start)


def _plain(blob: BinaryIO, start: bytes) -> Iterator[bytes]:
    while start:
        yield start
        start = blob.read(_PIECE)


def _members(blob: BinaryIO, data: bytes, make: Callable[[], _Decompressor], form: str) -> Iterator[bytes]:
    while data:
        decompressor = make()
        while not decompressor.eof:
            if decompressor.needs_input and not data:
                data = blob.read(_FEED)
                if not data:
                    raise BadLayer(f"its {form} data is cut off")
            try:
                piece = decompressor.decompress(data, _PIECE)
            except _DAMAGED as error:
                raise BadLayer(f"its {form} data is damaged: {error}") from error
            data = b""
            if piece:
                yield piece
        data = decompressor.unused_data or blob.read(_FEED)


class LayerStream:
    """The uncompressed bytes of one layer, read ahead.

    Use it as a context manager: its threads have ended when the block ends.
    """

    def __init__(self, blob: BinaryIO, diff_id: str, limits: UnpackLimits) -> None:
        """Read `blob`. diff_id: the expected digest of the uncompressed bytes. limits: only `size` is used."""
        algorithm, _, self._expected = diff_id.partition(":")
        if algorithm not in ("sha256", "sha512"):
            raise BadLayer(f"the digest {diff_id[:100]!r} of the uncompressed layer is of an unknown kind")
        self._hash = hashlib.new(algorithm)
        self._blob = blob
        self._limits = limits
        self._pieces: Iterator[bytes] | None = None
        self._count = 0
        self._reader = ThreadPoolExecutor(1, "decompress")
        self._hasher = ThreadPoolExecutor(1, "digest")
        self._ahead: deque[Future[bytes]] = deque()
        self._hashing: deque[Future[None]] = deque()

    def __enter__(self) -> LayerStream:
        """Begin to read ahead."""
        for _ in range(_AHEAD):
            self._ahead.append(self._reader.submit(self._next_piece))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the threads."""
        self._reader.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def read(self) -> bytes:
        """Return the next bytes; b"" at the end. Raises BadLayer, or OSError when the blob cannot be read."""
        piece = self._ahead[0].result()
        if piece:
            self._ahead.popleft()
            self._ahead.append(self._reader.submit(self._next_piece))
            self._hashing.append(self._hasher.submit(self._hash.update, piece))
            if len(self._hashing) > _AHEAD:
                self._hashing.popleft().result()
        return piece

    def verify(self) -> None:
        """Read the rest, and verify the digest of all bytes. Raises BadLayer."""
        while self.read():
            continue
        while self._hashing:
            self._hashing.popleft().result()
        if self._hash.hexdigest() != self._expected:
            raise BadLayer(
                f"its content has the digest {self._hash.name}:{self._hash.hexdigest()}, "
                f"and its image's configuration says {self._hash.name}:{self._expected}; "
                "the image was built like this, and must be built again"
            )

    def _next_piece(self) -> bytes:
        if self._pieces is None:
            self._pieces = decompress(self._blob)
        piece = next(self._pieces, b"")
        self._count += len(piece)
        if self._count > self._limits.size:
            raise self._limits.too_large()
        return piece
