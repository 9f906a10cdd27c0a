"""A page under a path prefix: HTML with everything in it that a browser loads, and the script that does the rest.

`HtmlRewriter` knows one list of URL attributes; here are more of them (`srcset`, `style`, SVG's `href` ...), `<meta
http-equiv=refresh>`, style sheets, import maps and scripts inside the page, and `integrity`, which is dropped where the
file may have been changed on its way. A start tag is changed when it is whole and no longer than `TAG_LIMIT`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from hatchway.rewrite.css import CssRewriter, rewrite_srcset, rewrite_style
from hatchway.rewrite.encoding import Transform
from hatchway.rewrite.html import ATTRIBUTE, URL_ATTRIBUTES, HtmlRewriter
from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.rules import Rule

TAG_LIMIT: Final = 64 * 1024
_IMPORT_MAP_LIMIT: Final = 512 * 1024

_MORE: Final[Mapping[bytes, bytes]] = {
    b"a": b"ping",
    b"area": b"ping",
    b"feimage": b"href",
    b"iframe": b"src",
    b"image": b"href src",
    b"menuitem": b"icon",
    b"portal": b"src",
    b"table": b"background",
    b"td": b"background",
    b"th": b"background",
    b"tr": b"background",
    b"track": b"src",
    b"use": b"href",
}
_URLS: Final[Mapping[bytes, frozenset[bytes]]] = {
    element: URL_ATTRIBUTES.get(element, frozenset()) | frozenset(_MORE.get(element, b"").split())
    for element in {*URL_ATTRIBUTES, *_MORE}
}
_NONE: Final[frozenset[bytes]] = frozenset()
_SRCSETS: Final = frozenset((b"srcset", b"imagesrcset"))
_WITH_INTEGRITY: Final = frozenset((b"script", b"link"))
_FOREIGN = re.compile(rb"[\t\n\f\r ]*(?:[A-Za-z][A-Za-z0-9+.-]*:|//)")
_REFRESH = re.compile(
    rb"([\t\n\f\r ]*[0-9.]*[\t\n\f\r ]*[;,]?[\t\n\f\r ]*url[\t\n\f\r ]*=[\t\n\f\r ]*['\"]?)(.*)", re.I | re.S
)
_HASH = re.compile(rb"sha(?:256|384|512)-", re.IGNORECASE)
_JAVASCRIPT_TYPES: Final = frozenset(
    b" module text/javascript application/javascript application/x-javascript text/ecmascript application/ecmascript"
    b" text/jscript text/livescript text/x-javascript".split(b" ")
)
_TELLING: Final = {
    b"no-referrer": b"same-origin",
    b"never": b"same-origin",
    b"origin": b"origin-when-cross-origin",
    b"strict-origin": b"strict-origin-when-cross-origin",
}
_BEGINS_A_DOCUMENT: Final = frozenset((b"html", b"head", b"body"))
_DOCTYPE: Final = b"<!doctype"


class PageRewriter(HtmlRewriter):
    """A body transform.

    script: an element to put first into the head, or b"". whole: this is a document (True), a fragment (False), or
    only its beginning tells (None). inline: scripts inside the page may be changed (no policy knows them by hash). xml:
    it is XHTML.
    """

    def __init__(self, rule: Rule, script: bytes, *, whole: bool | None, inline: bool, xml: bool = False) -> None:
        super().__init__(rule, xml=xml)
        self._script = script if whole is not False else b""
        self._document = whole is True
        self._inline = inline
        self._inner: Transform | None = None

    def finish(self) -> bytes:
        out: list[bytes] = []
        rest = super().finish()
        if self._inner is not None:
            out.append(self._inner.feed(rest))
            self._content_end(out)
            return b"".join(out)
        return rest

    def _markup(self, buffer: bytes, found: int, out: list[bytes]) -> int:
        head = buffer[found : found + len(_DOCTYPE)].lower()
        if head == _DOCTYPE:
            self._document = True
        elif len(head) > 2 and _DOCTYPE.startswith(head):
            return found
        return super()._markup(buffer, found, out)

    def _waits(self, buffer: bytes, found: int) -> bool:
        return len(buffer) - found <= TAG_LIMIT

    def _end_of_tag(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        self._inner = None
        return super()._end_of_tag(buffer, position, out)

    def _tag_name(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        done = super()._tag_name(buffer, position, out)
        self._attributes = _NONE  # too long to be seen whole
        return done

    def _start_tag(self, buffer: bytes, start: int, tag: re.Match[bytes], name: bytes, out: list[bytes]) -> int:
        begin, end = tag.span()
        if end - begin > TAG_LIMIT:
            self._inner = None
            return start
        if self._script and name != b"html":
            self._document = self._document or name in _BEGINS_A_DOCUMENT
            place = end if name == b"head" else begin
            if self._document and place == begin:
                out += (buffer[start:begin], self._script)
                start = begin
            elif self._document:
                start = self._attributes_of(buffer, start, tag, name, out)
                out += (buffer[start:end], self._script)
                self._script = b""
                return end
            self._script = b""
        elif self._script:
            self._document = True
        return self._attributes_of(buffer, start, tag, name, out)

    def _attributes_of(self, buffer: bytes, start: int, tag: re.Match[bytes], name: bytes, out: list[bytes]) -> int:
        """Rewrite a start tag's attributes; up to where `buffer`, from `start` on, is in `out`."""
        self._inner = None
        urls = _URLS.get(name, _NONE)
        given: dict[bytes, bytes] = {}
        edits: list[tuple[int, int, bytes]] = []
        integrity: tuple[int, int] | None = None
        own = False
        for match in ATTRIBUTE.finditer(buffer, tag.end(2), tag.end()):
            attribute = match[1].lower()
            group = match.lastindex
            value = b"" if group is None or group == 1 else match[group]
            if attribute in given:
                continue  # only the first one counts
            given[attribute] = value
            if attribute == b"integrity" and name in _WITH_INTEGRITY:
                integrity = (match.start(), match.end())
                continue
            if not value or group is None:
                continue
            new = self._value_of(name, attribute, value, urls)
            if attribute in urls and not _FOREIGN.match(new):
                own = True
            if new is not value:
                edits.append((match.start(group), match.end(group), new))
        if integrity is not None and own:
            edits.append((*integrity, b""))
        if name == b"meta":
            edits += self._meta(buffer, tag, given)
        elif name in (b"script", b"style"):
            self._inner = self._transform_of(name, given)
        for first, last, new in sorted(edits):
            out += (buffer[start:first], new)
            start = last
        return start

    def _value_of(self, name: bytes, attribute: bytes, value: bytes, urls: frozenset[bytes]) -> bytes:
        if attribute in _SRCSETS:
            return rewrite_srcset(value, self._rule)
        if attribute == b"style":
            return rewrite_style(value, self._rule)
        if attribute == b"ping":
            return b" ".join(self._rule(url) for url in value.split()) if b"/" in value else value
        if attribute in urls or attribute == b"xlink:href":
            return self._rewrite(value)
        return value

    def _meta(self, buffer: bytes, tag: re.Match[bytes], given: dict[bytes, bytes]) -> list[tuple[int, int, bytes]]:
        """`http-equiv`: a refresh, or a policy."""
        kind = given.get(b"http-equiv", b"").lower()
        content = given.get(b"content", b"")
        if kind == b"content-security-policy" and _HASH.search(content):
            self._inline = False
        if kind == b"refresh" and (found := _REFRESH.match(content)) is not None:
            rewritten = found[1] + self._rewrite(found[2])
        elif given.get(b"name", b"").lower() == b"referrer":
            rewritten = telling_referrer(content)
        else:
            return []
        for match in ATTRIBUTE.finditer(buffer, tag.end(2), tag.end()):
            if match[1].lower() == b"content" and match.lastindex and match.lastindex > 1 and rewritten != content:
                return [(match.start(match.lastindex), match.end(match.lastindex), rewritten)]
        return []

    def _transform_of(self, name: bytes, given: dict[bytes, bytes]) -> Transform | None:
        """What changes the content of a `style` or `script` element."""
        if name == b"style":
            return CssRewriter(self._rule)
        kind = given.get(b"type", b"").split(b";", 1)[0].strip().lower()
        if b"src" in given or not self._inline:
            return None
        if kind in (b"importmap", b"speculationrules"):
            return ImportMapRewriter(self._rule)
        return JavaScriptRewriter(self._rule) if kind in _JAVASCRIPT_TYPES else None

    def _content(self, piece: bytes, out: list[bytes]) -> None:
        out.append(piece if self._inner is None else self._inner.feed(piece))

    def _content_end(self, out: list[bytes]) -> None:
        if self._inner is not None:
            out.append(self._inner.finish())
            self._inner = None


class ImportMapRewriter:
    """An import map (or speculation rules): every URL in it under the rule, specifiers too, since those in scripts are.

    `integrity` goes: the files may be changed on their way. What is no JSON object, or is too long, passes unchanged.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._kept: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        if self._kept is None:
            return data
        self._kept += data
        if len(self._kept) <= _IMPORT_MAP_LIMIT:
            return b""
        passed, self._kept = self._kept, None
        return passed

    def finish(self) -> bytes:
        text, self._kept = self._kept, None
        if not text:
            return b""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if not isinstance(found, dict):
            return text
        found.pop("integrity", None)
        # "<" could end the element.
        return json.dumps(self._under(found), separators=(",", ":")).replace("<", "\\u003c").encode()

    def _under(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._rule(value.encode()).decode()
        if isinstance(value, dict):
            return {self._under(key): self._under(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._under(inner) for inner in value]
        return value


def telling_referrer(value: bytes) -> bytes:
    """A referrer policy that tells the application's own addresses to itself, and to others no more than it did.

    `stray.py` knows by the Referer to which application a request without the prefix belongs.
    """
    return b", ".join(_TELLING.get(one.strip().lower(), one.strip()) for one in value.split(b","))
