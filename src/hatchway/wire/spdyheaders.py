"""SPDY/3.1 header blocks: names and values, compressed by one zlib stream for each direction of a session.

Source: SPDY protocol draft 3.1, section 2.6.10.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Final

# Names are in lower case; several values of one name are separated by NUL.
HeaderList = Sequence[tuple[bytes, bytes]]

_WORDS: Final = (
    b"options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow"
    b" authorization cache-control connection content-base content-encoding content-language content-length"
    b" content-location content-md5 content-range content-type date etag expect expires from host if-match"
    b" if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
    b" proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    b" user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie"
    b" keep-alive origin"
)
_TAIL: Final = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    b"403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    b"Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    b"chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    b"text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _length_prefixed(words: Iterable[bytes]) -> bytes:
    return b"".join(len(word).to_bytes(4, "big") + word for word in words)


DICTIONARY: Final = _length_prefixed(word.replace(b"_", b" ") for word in _WORDS.split()) + _TAIL


class HeaderError(Exception):
    """A header block cannot be parsed. The zlib stream cannot continue after that, so the session must be closed."""


class HeaderWriter:
    """Compresses the header blocks of one direction of a session."""

    def __init__(self) -> None:
        # 11: the smallest zlib window (2 KB) that holds the dictionary. A session then needs 10 KB instead of 270 KB.
        self._zlib = zlib.compressobj(6, zlib.DEFLATED, 11, 3, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)

    def write(self, headers: HeaderList) -> bytes:
        """Return the compressed block of `headers`."""
        parts = [len(headers).to_bytes(4, "big")]
        for name, value in headers:
            parts += (len(name).to_bytes(4, "big"), name, len(value).to_bytes(4, "big"), value)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderReader:
    """Decompresses the header blocks of one direction of a session.

    size: the maximum number of bytes of one block after decompression; a larger block raises HeaderError.
    count: the maximum number of headers in one block; a block with more raises HeaderError.
    """

    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self._count = count
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def read(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of a compressed block. Raises HeaderError."""
        inflater = self._zlib
        try:
            plain = inflater.decompress(block, self._size + 1)
        except zlib.error as error:
            raise HeaderError(f"headers cannot be decompressed: {error}") from None
        if len(plain) > self._size or inflater.unconsumed_tail:
            raise HeaderError(f"headers are larger than {self._size} bytes")
        if inflater.eof:
            raise HeaderError("the headers' zlib stream has ended before the session")
        return _parse(plain, self._count)


def _parse(plain: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    count = int.from_bytes(plain[:4], "big")
    if len(plain) < 4 or count > limit:
        raise HeaderError(f"more than {limit} headers" if count > limit else "headers are cut off")
    at = 4
    strings: list[bytes] = []
    for _ in range(2 * count):
        start = at + 4
        at = start + int.from_bytes(plain[at:start], "big")
        if at > len(plain) or start > len(plain):
            raise HeaderError("headers are cut off")
        strings.append(plain[start:at])
    if at != len(plain):
        raise HeaderError("bytes follow the headers")
    names, values = strings[::2], strings[1::2]
    if len(set(names)) != count:
        raise HeaderError("two headers have the same name")
    for name in names:
        if not name or name != name.lower():
            raise HeaderError("a header's name is empty or not in lower case")
    return list(zip(names, values, strict=True))
