r"""Rewrites an application's own address in pages that are served under the target's own host name.

In a page of an application that listens on port 8080, `http://0.0.0.0:8080/x.js` can only mean the application itself,
and the browser cannot reach this address. So such addresses are changed to the door's address: in URL attributes and in
CSS; and in scripts, `data-` attributes and the `content` of `<meta>`, if scheme, host and port of a URL are written
together (`ws://localhost:8080` or `http:\/\/localhost:8080`). Text, fields of forms, and data that scripts fetch are
not changed, because the page may save them again.

Addresses that a script composes or has fetched (`location.hostname + ":8080"`) are changed when the script opens them:
a small script (`ownaddress.js`) is put before the first script of a page, if the page's policy allows an inline script.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from hatchway.rewrite import encoding
from hatchway.rewrite.csp import InlinePermissions, read_policy
from hatchway.rewrite.css import CssRewriter
from hatchway.rewrite.encoding import BodyTransform
from hatchway.rewrite.html import ATTRIBUTE
from hatchway.rewrite.page import REFRESH, PageRewriter
from hatchway.rewrite.prefix import DOCUMENTS, HTML_TYPES, JAVASCRIPT_TYPES, OF_THE_ORIGINAL, UNREADABLE, Fields
from hatchway.rewrite.script import own_address_script
from hatchway.rewrite.sniff import UNKNOWN, Sniffed, may_be_sniffed
from hatchway.rewrite.urlrules import UrlRule

# Scripts of more bytes are decoded and encoded again only when the application is known to use its own address.
LONG_SCRIPT: Final = 512 * 1024
_SCRIPTS: Final = frozenset((b"script", b"worker", b"sharedworker", b"serviceworker"))
_SCHEME = re.compile(rb"(?<![A-Za-z0-9+.-])(http|ws)s?:(\\?)\Z", re.IGNORECASE)
# Elements whose tags are always parsed, because their content may change or because they may have a policy.
_ALWAYS: Final = frozenset((b"script", b"style", b"meta"))
# The number of bytes in which browsers search for a page's charset declaration, and the pattern of such a declaration.
_PRESCAN: Final = 1024
_CHARSET: Final = re.compile(rb"<meta[\s/][^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
# The maximum number of bytes of a scheme and the characters around it.
_MARGIN: Final = 16


class OwnAddressText:
    """A body transform for a script: it replaces host and port with `outer` in URLs whose host and port are in `hosts`.

    hosts: hosts with their ports, in lower case.
    found: called when an address of the application was found.
    """

    def __init__(self, hosts: Iterable[bytes], outer: bytes, found: Callable[[], None] = lambda: None) -> None:
        longest_first = sorted({host for host in hosts if host}, key=len, reverse=True)
        self.hosts = tuple(longest_first)
        self._keep = _MARGIN + max(map(len, longest_first), default=0)
        alternatives = b"|".join(map(re.escape, longest_first)) or b"(?!)"
        # The pattern begins with a slash, because the search for a single byte is fast.
        self._pattern = re.compile(rb"/(\\?/)(?i:" + alternatives + rb")(?=[^A-Za-z0-9.:@_-]|\Z)")
        self._outer = outer
        self._found = found
        self._before = self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the output, without bytes at its end that may begin an address."""
        return self._change(self._rest + data if self._rest else data, whole=False)

    def finish(self) -> bytes:
        """End the input; return the output that was held back."""
        rest, self._rest = self._rest, b""
        return self._change(rest, whole=True)

    def replace(self, text: bytes) -> bytes:
        """Return a whole text with its addresses changed; the same object when there are none."""
        found = self.fresh()._change(text, whole=True)
        return text if found == text else found

    def fresh(self) -> OwnAddressText:
        """Make another OwnAddressText with the same addresses, for another text."""
        other = OwnAddressText.__new__(OwnAddressText)
        other.hosts = self.hosts
        other._keep, other._pattern, other._outer, other._found = self._keep, self._pattern, self._outer, self._found
        other._before = other._rest = b""
        return other

    def _change(self, text: bytes, *, whole: bool) -> bytes:
        out: list[bytes] = []
        # The byte before the held back bytes shows whether a scheme begins there; that byte is not part of a scheme.
        start = len(self._before)
        text = self._before + text
        for match in self._pattern.finditer(text, start):
            if match.end() == len(text) and not whole:
                break  # the port may have more digits
            scheme = _SCHEME.search(text, max(start, match.start() - _MARGIN), match.start())
            if scheme is None:
                continue
            out += (text[start : scheme.end(1)], b":", scheme[2], b"/", match[1], self._outer)
            start = match.end()
        end = len(text) if whole else max(start, len(text) - self._keep)
        if not whole:
            self._before, self._rest = text[max(end - 1, 0) : end], text[end:]
        if out:
            self._found()
        out.append(text[start:end])
        return b"".join(out)


class OwnAddressPage(PageRewriter):
    """A body transform that rewrites the application's own address in a document.

    rule: rewrites one URL.
    text: rewrites addresses in scripts.
    marks: every URL that `rule` changes contains one of these texts; tags without any of them are skipped.
    """

    drops_integrity = False

    def __init__(
        self,
        rule: UrlRule,
        text: OwnAddressText,
        *,
        policy: InlinePermissions,
        xml: bool = False,
        marks: Iterable[bytes] = (),
    ) -> None:
        super().__init__(rule, b"", whole=False, policy=policy, xml=xml)
        self._text_of = text
        # "&#" may begin a character reference for a slash.
        self._marks = (b"//", b"/\\/", b"&#", *marks)
        # In XHTML the script would need another kind of element. It is left out, because XHTML is rare.
        self._with_script = xml
        self._told_charset = False

    def _own_element(self) -> bytes:
        nonce = self._policy.nonce
        attribute = b"" if nonce is None else b' nonce="' + nonce + b'"'
        return b"<script" + attribute + b">" + own_address_script(self._text_of.hosts) + b"</script>"

    def _charset(self, following: bytes) -> bytes:
        """Return a `<meta>` with the charset that the next bytes declare; b"" if they do not, or if earlier bytes did.

        Browsers search the first 1024 bytes of a page for the declaration (HTML, 13.2.3.3). Hatchway's script would
        move the declaration out of these bytes.
        """
        found = None if self._told_charset else _CHARSET.search(following)
        if found is None or b"<!--" in following[: found.start()]:
            return b""
        return b'<meta charset="' + found[1] + b'">'

    def _start_tag(self, buffer: bytes, start: int, tag: re.Match[bytes], name: bytes, out: list[bytes]) -> int:
        begin, end = tag.span()
        if name == b"script" and not self._with_script:
            self._with_script = True
            if self._policy.allows_own_address_script:
                out += (buffer[start:begin], self._charset(buffer[end : end + _PRESCAN]), self._own_element())
                start = begin
        elif name == b"meta" and b"charset" in buffer[begin:end].lower():
            self._told_charset = True
        if name not in _ALWAYS:
            for mark in self._marks:
                if buffer.find(mark, begin, end) >= 0:
                    break
            else:
                self._inner = None
                return start
        return super()._start_tag(buffer, start, tag, name, out)

    def _replace(self, value: bytes) -> bytes:
        if b"//" not in value and b"/\\/" not in value:
            return value
        return self._text_of.replace(value)

    def _value_of(self, name: bytes, attribute: bytes, value: bytes, urls: frozenset[bytes]) -> bytes:
        if attribute.startswith(b"data-"):
            return self._replace(value)
        return super()._value_of(name, attribute, value, urls)

    def _code(self, value: bytes) -> bytes:
        return self._replace(value)

    def _meta(self, buffer: bytes, tag: re.Match[bytes], given: dict[bytes, bytes]) -> list[tuple[int, int, bytes]]:
        kind = given.get(b"http-equiv", b"").lower()
        content = given.get(b"content", b"")
        if kind == b"content-security-policy":
            self._read_policy(content)
        refresh = REFRESH.match(content) if kind == b"refresh" else None
        new = refresh[1] + self._rewrite(refresh[2]) if refresh is not None else self._replace(content)
        if new == content:
            return []
        for match in ATTRIBUTE.finditer(buffer, tag.end(2), tag.end()):
            if match[1].lower() == b"content" and match.lastindex and match.lastindex > 1:
                return [(match.start(match.lastindex), match.end(match.lastindex), new)]
        return []

    def _transform_of(self, name: bytes, given: dict[bytes, bytes]) -> BodyTransform | None:
        if self._policy.has_hashes("style" if name == b"style" else "script", enforced=True):
            return None  # elements that a policy allows by their hash must not change
        if name == b"style":
            return CssRewriter(self._rule)
        return self._text_of.fresh() if b"src" not in given else None


class OwnAddressRewriter:
    """Chooses the transform of one answer of an application under the target's own host name.

    rule: rewrites one URL.
    text: rewrites addresses in scripts.
    destination: the request's `Sec-Fetch-Dest`; b"" without one.
    page: True when the user opens a page (a navigation).
    names_itself: True when the application is known to use its own address.
    marks: as in `OwnAddressPage`.
    """

    def __init__(
        self,
        rule: UrlRule,
        text: OwnAddressText,
        *,
        destination: bytes,
        page: bool,
        names_itself: bool,
        marks: Iterable[bytes] = (),
    ) -> None:
        self._marks = tuple(marks)
        self._rule = rule
        self._text = text
        self._destination = destination
        self._page = page or destination in DOCUMENTS
        self._names_itself = names_itself

    def edit_response(self, status: int, headers: Fields) -> BodyTransform | None:
        """Change a response's fields in place, and return the transform of its body; None when the body stays as it is.

        Call this for HEAD, too. A transform then means that Content-Length is wrong, because GET's body is changed.
        """
        kind = coding = b""
        length = -1
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-type":
                kind = value.split(b";", 1)[0].strip().lower()
            elif lower == b"content-encoding":
                coding = coding + b"," + value if coding else value
            elif lower == b"content-length" and value.isdigit():
                length = int(value)
            elif lower == b"location" and 300 <= status < 400:
                return None
        if status in UNREADABLE or length == 0 or not encoding.supported(coding):
            return None
        inner = self._transform(kind, length, headers)
        if inner is None:
            return None
        headers[:] = [field for field in headers if field[0].lower() not in OF_THE_ORIGINAL]
        return encoding.wrap(inner, coding)

    def _transform(self, kind: bytes, length: int, headers: Fields) -> BodyTransform | None:
        if self._page:
            untold = kind in UNKNOWN and may_be_sniffed(headers)
            if not untold and kind not in HTML_TYPES:
                return None
            policy = read_policy(
                (value for name, value in headers if name.lower() == b"content-security-policy"),
                (value for name, value in headers if name.lower() == b"content-security-policy-report-only"),
            )
            xml = kind == b"application/xhtml+xml"
            page = OwnAddressPage(self._rule, self._text, policy=policy, xml=xml, marks=self._marks)
            return Sniffed(page) if untold else page
        if self._destination in _SCRIPTS and (kind in JAVASCRIPT_TYPES or not kind):
            return self._text if self._names_itself or 0 <= length <= LONG_SCRIPT else None
        if self._destination == b"style" and kind in (b"", b"text/css"):
            return CssRewriter(self._rule)
        return None
