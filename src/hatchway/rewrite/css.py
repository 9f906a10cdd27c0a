"""Rewrites URLs in CSS (`url(...)`, `@import "..."`) while streaming, and in attributes that have several URLs.

The tokenizer recognizes comments, strings and unquoted URLs (https://www.w3.org/TR/css-syntax-3/#tokenization). The
result does not depend on how the input is cut into pieces. URLs longer than `URL_LIMIT` are `data:` URLs and pass
unchanged.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.urlrules import UrlRule

URL_LIMIT: Final = 8 * 1024

_STOP = re.compile(rb"/\*|[\"']|(?<![\w-])url\(|@import(?![\w-])", re.IGNORECASE)
# Text at the end of the input that may be the beginning of a match of `_STOP`.
_PARTIAL = re.compile(rb"(?:/|(?<![\w-])u(?:rl?)?|@(?:i(?:m(?:p(?:o(?:rt?)?)?)?)?)?)\Z", re.IGNORECASE)
_SPACE = re.compile(rb"[\t\n\f\r ]*")
_STRING_END = {
    b'"': re.compile(rb"[^\"\\\n\f\r]*(?:\\[\s\S][^\"\\\n\f\r]*)*"),
    b"'": re.compile(rb"[^'\\\n\f\r]*(?:\\[\s\S][^'\\\n\f\r]*)*"),
}
_BARE_END = re.compile(rb"[^)\\]*(?:\\[\s\S][^)\\]*)*")
_IN_ATTRIBUTE = re.compile(
    rb"(?<![\w-])url\([\t\n\f\r ]*(?:&quot;|&#0*3[49];|&#x0*2[27];|&apos;|[\"'])?", re.IGNORECASE
)
_ATTRIBUTE_URL = re.compile(rb"[^\t\n\f\r \"'()&;]*")
_CANDIDATE = re.compile(rb"[\t\n\f\r ,]*([^\t\n\f\r ]+)")
# Everything up to the next comma outside parentheses. A parenthesis that is not closed contains all the rest.
_DESCRIPTORS = re.compile(rb"[^,(]*(?:\([^)]*(?:\)|\Z)[^,(]*)*")

_PLAIN, _COMMENT, _STRING, _BARE = range(4)


class CssRewriter:
    """A body transform that rewrites the URLs of a style sheet. rule: rewrites one URL."""

    def __init__(self, rule: UrlRule) -> None:
        self._rule = rule
        self._rest = b""
        self._state = _PLAIN
        self._quote = b""
        self._last = b""  # the byte before `_rest`, which shows whether `_rest` begins in the middle of a name

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the output that no longer depends on later bytes."""
        return self._run(self._rest + data if self._rest else data, final=False)

    def finish(self) -> bytes:
        """End the input; return the output that was held back."""
        return self._run(self._rest, final=True)

    def _run(self, buffer: bytes, *, final: bool) -> bytes:
        out: list[bytes] = []
        # One byte of context, for `(?<!...)`.
        context = len(self._last)
        buffer = self._last + buffer
        at = context
        while at < len(buffer):
            before = (at, self._state)
            at = self._step(buffer, at, out, final)
            if (at, self._state) == before:
                break
        self._last = buffer[at - 1 : at] if at else b""
        self._rest = b"" if final else buffer[at:]
        if final:
            out.append(buffer[at:])
        return b"".join(out)

    def _step(self, buffer: bytes, at: int, out: list[bytes], final: bool) -> int:
        if self._state == _COMMENT:
            end = buffer.find(b"*/", at)
            done = end + 2 if end >= 0 else max(at, len(buffer) - 1)
            if end >= 0:
                self._state = _PLAIN
        elif self._state == _STRING:
            done = self._skip(_STRING_END[self._quote], buffer, at)
            if done < len(buffer) and not _is_half_escape(buffer, done):
                done += 1  # the string's quote, or a line end, which also ends the string
                self._state = _PLAIN
        elif self._state == _BARE:
            done = self._skip(_BARE_END, buffer, at)
            if done < len(buffer) and not _is_half_escape(buffer, done):
                self._state = _PLAIN
        else:
            return self._plain(buffer, at, out, final)
        out.append(buffer[at:done])
        return done

    @staticmethod
    def _skip(pattern: re.Pattern[bytes], buffer: bytes, at: int) -> int:
        match = pattern.match(buffer, at)
        return match.end() if match else at

    def _plain(self, buffer: bytes, at: int, out: list[bytes], final: bool) -> int:
        found = _STOP.search(buffer, at)
        if found is None or (found[0][:1] == b"@" and found.end() == len(buffer) and not final):
            kept = None if final else _PARTIAL.search(buffer, max(at, len(buffer) - 7))
            done = kept.start() if kept else len(buffer)
            out.append(buffer[at:done])
            return done
        begin, end = found.span()
        mark = found[0].lower()
        if mark == b"/*" or mark in (b'"', b"'"):
            self._state = _COMMENT if mark == b"/*" else _STRING
            self._quote = mark
            out.append(buffer[at:end])
            return end
        return self._url(buffer, at, begin, end, mark == b"url(", out, final)

    def _url(self, buffer: bytes, at: int, begin: int, end: int, is_url: bool, out: list[bytes], final: bool) -> int:
        """Rewrite a URL after `url(` or `@import`, at `end`."""
        space = _SPACE.match(buffer, end)
        start = space.end() if space else end
        if start >= len(buffer) and not final and start - end <= URL_LIMIT:
            out.append(buffer[at:begin])
            return begin
        quote = buffer[start : start + 1]
        if quote in (b'"', b"'"):
            inside = start + 1
            stop = self._skip(_STRING_END[quote], buffer, inside)
        elif is_url:
            inside = start
            stop = self._skip(_BARE_END, buffer, inside)
        else:
            out.append(buffer[at:start])  # `@import url(`, or something unknown
            return start
        complete = stop < len(buffer) and not _is_half_escape(buffer, stop)
        if not complete and not final and len(buffer) - inside <= URL_LIMIT:
            out.append(buffer[at:begin])
            return begin
        value = buffer[inside:stop]
        whole = complete and stop - inside <= URL_LIMIT and (not quote or buffer[stop : stop + 1] != b"\n")
        if whole and b"\\" not in value:
            url = value.rstrip(b"\t\n\f\r ")
            out.append(buffer[at:inside])
            out.append(self._rule(url) + value[len(url) :])
            at = stop
        else:
            out.append(buffer[at:inside])
            at = inside
        self._quote = quote
        self._state = _STRING if quote in (b'"', b"'") else _BARE
        return at


def _is_half_escape(buffer: bytes, position: int) -> bool:
    return position == len(buffer) - 1 and buffer[position] == 0x5C


def rewrite_style(value: bytes, rule: UrlRule) -> bytes:
    """Rewrite the URLs in each `url(...)` of a `style` attribute's value, which may have character references."""
    if b"(" not in value:
        return value
    out: list[bytes] = []
    done = 0
    for found in _IN_ATTRIBUTE.finditer(value):
        url = _ATTRIBUTE_URL.match(value, found.end())
        if url is None or found.end() < done:
            continue
        rewritten = rule(url[0])
        if rewritten != url[0]:
            out += (value[done : found.end()], rewritten)
            done = url.end()
    return b"".join((*out, value[done:])) if out else value


def rewrite_srcset(value: bytes, rule: UrlRule) -> bytes:
    """Rewrite each candidate's URL in the value of a `srcset` or `imagesrcset` attribute."""
    out: list[bytes] = []
    done = 0
    at = 0
    while (found := _CANDIDATE.match(value, at)) is not None:
        url = found[1].rstrip(b",")
        rewritten = rule(url)
        if rewritten != url:
            out += (value[done : found.start(1)], rewritten)
            done = found.start(1) + len(url)
        at = found.end()
        # A comma right after the URL ends the candidate: there is no descriptor.
        descriptors = _DESCRIPTORS.match(value, at) if len(url) == len(found[1]) else None
        if descriptors is not None:
            at = descriptors.end()
    return b"".join((*out, value[done:])) if out else value
