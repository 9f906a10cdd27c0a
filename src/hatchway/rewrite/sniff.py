"""Recognizes pages without a type by their first bytes, as browsers do (https://mimesniff.spec.whatwg.org/).

As in browsers, this applies only to responses without a specific `Content-Type` and without
`X-Content-Type-Options: nosniff`.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.encoding import BodyTransform, Unchanged

# Types for which "identifying a resource with an unknown MIME type" (section 7.1) is done.
UNKNOWN: Final = frozenset((b"", b"unknown/unknown", b"application/unknown", b"*/*"))
# The "resource header" (section 5.2).
LIMIT: Final = 1445
_SPACE: Final = b"\t\n\x0c\r "
_BEGINNINGS: Final = tuple(
    b"<" + name
    for name in b"!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|!--".split(b"|")
)
_HTML: Final = re.compile(rb"(?:" + b"|".join(map(re.escape, _BEGINNINGS)) + rb")[ >]", re.IGNORECASE)


def may_be_sniffed(fields: list[tuple[bytes, bytes]]) -> bool:
    """Return True for a response whose type a browser finds out from its body."""
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-type" and value.split(b";", 1)[0].strip().lower() not in UNKNOWN:
            return False
        if lower == b"x-content-type-options" and value.split(b",", 1)[0].strip().lower() == b"nosniff":
            return False
    return True


def is_html(beginning: bytes, *, whole: bool = False) -> bool | None:
    """Return True when a body that begins with these bytes is HTML; None when more bytes are needed.

    whole: True when these are all bytes of the body.
    """
    text = beginning[:LIMIT].lstrip(_SPACE)
    if _HTML.match(text):
        return True
    if whole or len(beginning) >= LIMIT:
        return False
    lower = text.lower()
    return None if any(one.startswith(lower) or lower == one for one in _BEGINNINGS) else False


class Sniffed:
    """A body transform that applies `page` when the body is HTML, and changes nothing otherwise."""

    def __init__(self, page: BodyTransform) -> None:
        self._page = page
        self._inner: BodyTransform | None = None
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Hold back the body's beginning, at most `LIMIT` bytes, until its type is known."""
        if self._inner is not None:
            return self._inner.feed(data)
        self._held += data
        return self._decide(is_html(self._held))

    def _decide(self, found: bool | None) -> bytes:
        if found is None:
            return b""
        self._inner = self._page if found else Unchanged()
        held, self._held = self._held, b""
        return self._inner.feed(held)

    def finish(self) -> bytes:
        """End the input; return the output that was held back."""
        begun = b"" if self._inner is not None else self._decide(is_html(self._held, whole=True))
        assert self._inner is not None
        return begun + self._inner.finish()
