"""Rewrites `href` elements in WebDAV's multi-status answers (RFC 4918 section 13), streaming."""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.urlrules import UrlRule

_LIMIT: Final = 8 * 1024
_HREF = re.compile(rb"(<(?:[A-Za-z_][\w.-]*:)?href(?:\s[^<>]*)?>\s*)([^<\s]*)(?=[<\s]|\Z)")
_BEGIN = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?href(?=[\s>])[^<]*\Z|<[\w.:-]*\Z")


class MultistatusRewriter:
    """A body transform that rewrites `href` elements. An element longer than 8 KiB passes unchanged."""

    def __init__(self, rule: UrlRule) -> None:
        self._rule = rule
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the output that no longer depends on later bytes."""
        buffer = self._rest + data
        begun = _BEGIN.search(buffer, max(0, len(buffer) - _LIMIT))
        done = begun.start() if begun else len(buffer)
        self._rest = buffer[done:]
        return self._rewrite(buffer[:done])

    def finish(self) -> bytes:
        """End the input; return the output that was held back."""
        rest, self._rest = self._rest, b""
        return self._rewrite(rest)

    def _rewrite(self, text: bytes) -> bytes:
        return _HREF.sub(lambda match: match[1] + self._rule(match[2]), text)
