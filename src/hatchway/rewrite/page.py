"""Rewrites a page under a path prefix: all URLs in its HTML that a browser loads. It also adds Hatchway's script.

`HtmlRewriter` changes one list of URL attributes. `PageRewriter` also changes other attributes (`srcset`, `style`,
SVG's `href` ...), `<meta http-equiv=refresh>`, and the style sheets, import maps and scripts inside the page, and drops
`integrity` when Hatchway may change the file. A start tag is changed when it is complete, unless it is longer than
`TAG_LIMIT` bytes.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, Final

from hatchway.rewrite.csp import ElementKind, InlinePermissions, rewrite_policy
from hatchway.rewrite.css import CssRewriter, rewrite_srcset, rewrite_style
from hatchway.rewrite.encoding import BodyTransform
from hatchway.rewrite.html import ATTRIBUTE, HtmlRewriter, unescape
from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.urlrules import UrlRule
from hatchway.rewrite.vocabulary import ANY_URLS, CANDIDATES, LISTS, STYLES, URLS, attributes, words

TAG_LIMIT: Final = 64 * 1024
_IMPORT_MAP_LIMIT: Final = 512 * 1024

_URLS: Final = attributes(URLS)
_LISTS: Final = attributes(LISTS)
_NONE: Final[frozenset[bytes]] = frozenset()
_ANY_URLS: Final = words(ANY_URLS)
_CANDIDATES: Final = words(CANDIDATES)
_WITH_INTEGRITY: Final = frozenset((b"script", b"link"))
# Browsers treat backslashes as slashes, and ignore line ends and tabs.
_FOREIGN = re.compile(rb"[\x00-\x20]*(?:[A-Za-z][A-Za-z0-9+.\t\n\r-]*:|[/\\][\t\n\r]*[/\\])")
REFRESH = re.compile(
    rb"([\t\n\f\r ]*(?:[0-9.]+[\t\n\f\r ]*)?(?:[;,][\t\n\f\r ]*)?url[\t\n\f\r ]*=[\t\n\f\r ]*['\"]?)(.*)", re.I | re.S
)
# An inline script or style that a policy may allow by its hash is held back until its end, if it has at most this many
# bytes.
_KNOWN_LIMIT: Final = 1024 * 1024
_HANDLER = re.compile(rb"on[a-z]+\Z")
_JAVASCRIPT = re.compile(rb"[\x00-\x20]*javascript:", re.IGNORECASE)
_STYLES: Final = words(STYLES)
_JAVASCRIPT_TYPES: Final = frozenset(
    b" module text/javascript application/javascript application/x-javascript text/ecmascript application/ecmascript"
    b" text/jscript text/livescript text/x-javascript".split(b" ")
)
# Characters that may end an attribute, with quotes or without.
_SPECIAL = re.compile(rb"[&\"'<>`=\t\n\f\r ]")
_TELLING: Final = {
    b"no-referrer": b"same-origin",
    b"never": b"same-origin",
    b"origin": b"origin-when-cross-origin",
    b"strict-origin": b"strict-origin-when-cross-origin",
}
_BEGINS_A_DOCUMENT: Final = frozenset((b"html", b"head", b"body"))
_DOCTYPE: Final = b"<!doctype"


class PageRewriter(HtmlRewriter):
    """A body transform that rewrites a page.

    script: an element to put first into the head; b"" for none.
    whole: True for a document, False for a fragment, None to find out from its beginning.
    policy: the permissions of the response's Content-Security-Policy fields; a `<meta>` may add policies.
    xml: True for XHTML.
    """

    # Hatchway may rewrite the files, whose checksums then differ.
    drops_integrity = True

    def __init__(
        self,
        rule: UrlRule,
        script: bytes,
        *,
        whole: bool | None,
        policy: InlinePermissions | None = None,
        xml: bool = False,
    ) -> None:
        super().__init__(rule, xml=xml)
        self._script = script if whole is not False else b""
        self._document = whole is True
        self._policy = policy or InlinePermissions()
        self._inner: BodyTransform | None = None
        self._waiting = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the output that no longer depends on later bytes."""
        if self._waiting and b">" not in data and len(self._rest) + len(data) <= TAG_LIMIT:
            # The tag that was held back does not end in the new bytes, so it need not be parsed again.
            self._rest += data
            return b""
        self._waiting = False
        return super().feed(data)

    def finish(self) -> bytes:
        """End the input; return the output that was held back."""
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
        self._waiting = len(buffer) - found <= TAG_LIMIT
        return self._waiting

    def _end_of_tag(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        self._inner = None
        return super()._end_of_tag(buffer, position, out)

    def _tag_name(self, buffer: bytes, position: int, out: list[bytes]) -> int:
        done = super()._tag_name(buffer, position, out)
        self._attributes = _NONE  # too long to be changed
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
        """Rewrite a start tag's attributes. Return the index up to which `buffer` was copied to `out`.

        start: the index up to which `buffer` was copied before.
        """
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
                continue  # of attributes with the same name only the first counts
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
        if integrity is not None and own and self.drops_integrity:
            # The attribute is dropped: Hatchway may change the file, and then the checksum would not match.
            edits.append((*integrity, b""))
        if name == b"meta":
            edits += self._meta(buffer, tag, given)
        elif name in (b"script", b"style"):
            self._inner = self._transform_of(name, given)
        for first, last, new in sorted(edits):
            out += (buffer[start:first], new)
            start = last
        if isinstance(self._inner, KnownElement):
            out.append(buffer[start : tag.end() - 1])  # `KnownElement` writes the end of the tag, after a nonce
            start = tag.end()
        return start

    def _value_of(self, name: bytes, attribute: bytes, value: bytes, urls: frozenset[bytes]) -> bytes:
        if attribute in _CANDIDATES:
            return rewrite_srcset(value, self._rule)
        if attribute in _STYLES:
            # A style that a policy allows by its hash ('unsafe-hashes') is changed by the browser's script instead.
            return value if self._policy.has_hashes("style", enforced=True) else rewrite_style(value, self._rule)
        if _HANDLER.match(attribute):
            return value if self._policy.has_hashes("script", enforced=True) else self._code(value)
        if attribute in _LISTS.get(name, _NONE):
            return b" ".join(self._rule(url) for url in value.split()) if b"/" in value else value
        if attribute in urls or attribute in _ANY_URLS:
            if _JAVASCRIPT.match(value):
                return self._code(value)
            return self._rewrite(value)
        return value

    def _code(self, value: bytes) -> bytes:
        """Rewrite JavaScript in an attribute.

        If it changes, all special characters are written as character references.
        """
        text = unescape(value.decode("latin-1"))
        if not text.isascii() and "&" in value.decode("latin-1"):
            return value  # a reference may mean a character that the page's charset encodes differently
        source = text.encode("latin-1", "replace")
        rewriter = JavaScriptRewriter(self._rule)
        changed = rewriter.feed(source) + rewriter.finish()
        if changed == source:
            return value
        return _SPECIAL.sub(lambda match: b"&#%d;" % match[0][0], changed)

    def _meta(self, buffer: bytes, tag: re.Match[bytes], given: dict[bytes, bytes]) -> list[tuple[int, int, bytes]]:
        """Rewrite a `meta http-equiv`: a refresh, or a policy."""
        kind = given.get(b"http-equiv", b"").lower()
        content = given.get(b"content", b"")
        if kind == b"content-security-policy":
            self._read_policy(content)
            rewritten = self._meta_policy(content)
        elif kind == b"refresh" and (found := REFRESH.match(content)) is not None:
            rewritten = found[1] + self._rewrite(found[2])
        elif given.get(b"name", b"").lower() == b"referrer":
            rewritten = full_referrer_policy(content)
        else:
            return []
        for match in ATTRIBUTE.finditer(buffer, tag.end(2), tag.end()):
            if match[1].lower() == b"content" and match.lastindex and match.lastindex > 1 and rewritten != content:
                return [(match.start(match.lastindex), match.end(match.lastindex), rewritten)]
        return []

    def _read_policy(self, content: bytes) -> None:
        """Read the policy of a `<meta>`."""
        self._policy.read(unescape(content.decode("latin-1")).encode("latin-1", "replace"))

    def _meta_policy(self, content: bytes) -> bytes:
        """Rewrite a policy in the page. It does not affect Hatchway's script, which comes before the policy."""
        text = unescape(content.decode("latin-1")).encode("latin-1", "replace")
        changed = rewrite_policy(text, b"", self._rule, self._policy)
        return (
            content
            if changed.split() == text.split()
            else html.escape(changed.decode("latin-1").strip()).encode("latin-1")
        )

    def _transform_of(self, name: bytes, given: dict[bytes, bytes]) -> BodyTransform | None:
        """Return the transform for the content of a `style` or `script` element."""
        kind: ElementKind = "style" if name == b"style" else "script"
        inner = self._inner_of(name, given)
        nonce = self._policy.nonce_for(kind)
        if inner is None or not self._policy.has_hashes(kind) or (nonce is not None and given.get(b"nonce") == nonce):
            return inner
        return KnownElement(inner, self._policy, kind, nonce if b"nonce" not in given else None)

    def _inner_of(self, name: bytes, given: dict[bytes, bytes]) -> BodyTransform | None:
        if name == b"style":
            return CssRewriter(self._rule)
        kind = given.get(b"type", b"").split(b";", 1)[0].strip().lower()
        if b"src" in given:
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


class KnownElement:
    """Rewrites an inline script or style that a policy may allow by its hash, and the end of its tag.

    If a policy allows the element and the element changes, it gets the nonce, so that it stays allowed. All other tags
    are unchanged.
    """

    def __init__(self, inner: BodyTransform, policy: InlinePermissions, kind: ElementKind, nonce: bytes | None) -> None:
        self._inner = inner
        self._policy = policy
        self._kind: ElementKind = kind
        self._nonce = nonce
        self._kept: list[bytes] = []
        self._size = 0
        self._passes = False

    def feed(self, data: bytes) -> bytes:
        """Hold back the element, up to `_KNOWN_LIMIT` bytes."""
        if self._passes:
            return data
        self._kept.append(data)
        self._size += len(data)
        if self._size <= _KNOWN_LIMIT:
            return b""
        self._passes = True
        return b">" + b"".join(self._kept)

    def finish(self) -> bytes:
        """Return the end of the tag and the element."""
        if self._passes:
            return b""
        text = b"".join(self._kept)
        if self._nonce is None or not self._policy.allows_by_hash(self._kind, _as_browsers_read(text)):
            if self._policy.has_hashes(self._kind, enforced=True):
                return b">" + text
            return b">" + self._inner.feed(text) + self._inner.finish()
        changed = self._inner.feed(text) + self._inner.finish()
        return b">" + text if changed == text else b' nonce="' + self._nonce + b'">' + changed


def _as_browsers_read(text: bytes) -> bytes:
    """Return the text with normalized line ends (HTML, 13.2.3.5); browsers compute hashes of this form."""
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in text else text


class ImportMapRewriter:
    """Rewrites all URLs in an import map or speculation rules, including specifiers.

    `integrity` is dropped, because the files may be changed. Text that is not a JSON object, or is too long, passes
    unchanged.
    """

    def __init__(self, rule: UrlRule) -> None:
        self._rule = rule
        self._kept: list[bytes] | None = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Hold back the map, up to `_IMPORT_MAP_LIMIT` bytes."""
        if self._kept is None:
            return data
        self._kept.append(data)
        self._size += len(data)
        if self._size <= _IMPORT_MAP_LIMIT:
            return b""
        passed, self._kept = self._kept, None
        return b"".join(passed)

    def finish(self) -> bytes:
        """Return the rewritten import map."""
        text, self._kept = b"".join(self._kept or ()), None
        if not text:
            return b""
        try:
            found = json.loads(text)
            if not isinstance(found, dict):
                return text
            found.pop("integrity", None)
            # "<" could end the element.
            return json.dumps(self._under(found), separators=(",", ":")).replace("<", "\\u003c").encode()
        except (ValueError, RecursionError):  # too deep, or half a surrogate pair
            return text

    def _under(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._rule(value.encode()).decode()
        if isinstance(value, dict):
            return {self._under(key): self._under(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._under(inner) for inner in value]
        return value


def full_referrer_policy(value: bytes) -> bytes:
    """Return a referrer policy that sends a full Referer to the same origin, and no more than `value` to others.

    `stray.py` uses the Referer of a request without the prefix to find the application.
    """
    return b", ".join(_TELLING.get(one.strip().lower(), one.strip()) for one in value.split(b","))
