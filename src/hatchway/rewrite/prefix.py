"""The entry point of path-prefix mode: rewrites one exchange with an application that is served under a path prefix.

Make a `PrefixRewriter` for each exchange; this is cheap. Call `edit_request` before the request is forwarded, and
`edit_response` when the response's head has arrived. There are two modes. `full` supports applications whose scripts
build URLs. `kubernetes` does only what a kube-apiserver does, and writes `Location` as Go writes URLs.

Full mode changes bodies (`page.py`, `javascript.py`, `css.py`) and response fields: `_field` and `_URL_FIELDS` say
which fields it changes, and `_DROPPED` has those that it drops. Fields for a whole host, such as
`Strict-Transport-Security`, are not changed. `Clear-Site-Data` is dropped: other applications use the same host.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from hatchway.rewrite import encoding
from hatchway.rewrite.cookies import restore_cookies, rewrite_set_cookie
from hatchway.rewrite.csp import InlinePermissions, read_policy, rewrite_policy
from hatchway.rewrite.css import CssRewriter
from hatchway.rewrite.encoding import BodyTransform
from hatchway.rewrite.html import HtmlRewriter
from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.location import rewrite_as_go
from hatchway.rewrite.multistatus import MultistatusRewriter
from hatchway.rewrite.page import PageRewriter, full_referrer_policy
from hatchway.rewrite.script import script
from hatchway.rewrite.sniff import UNKNOWN, Sniffed, may_be_sniffed
from hatchway.rewrite.urlrules import KubernetesRule, PrefixRule, UnprefixRule, UrlRule

Mode = Literal["full", "kubernetes"]
Fields = list[tuple[bytes, bytes]]

# Fields that are wrong for a rewritten body, because they describe the original one.
OF_THE_ORIGINAL: Final = frozenset(
    (b"content-length", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges")
)
# Statuses whose bodies are not rewritten. A part of a page (206) may begin inside a script, a tag or a coding.
UNREADABLE: Final = (204, 206, 304)

_HTML: Final = b"text/html"
_XHTML: Final = b"application/xhtml+xml"
HTML_TYPES: Final = (_HTML, _XHTML)
_CSS: Final = b"text/css"
JAVASCRIPT_TYPES: Final = frozenset(
    b"text/javascript application/javascript application/x-javascript text/ecmascript application/ecmascript".split()
)
# Types that browsers run as a script unless `nosniff` forbids it.
_UNTYPED: Final = frozenset((b"", b"text/plain", b"application/octet-stream"))
_XML: Final = frozenset((b"text/xml", b"application/xml"))
DOCUMENTS: Final = frozenset((b"document", b"iframe", b"frame", b"embed", b"object"))
_WORKERS: Final = frozenset((b"worker", b"sharedworker", b"serviceworker"))
_SCRIPTS: Final = _WORKERS | {b"script"}
_URL_FIELDS: Final = frozenset(
    b"location content-location destination sourcemap x-sourcemap hx-redirect hx-push-url hx-replace-url turbo-location"
    b" x-inertia-location x-pjax-url operation-location azure-asyncoperation".split()
)
_POLICIES: Final = frozenset((b"content-security-policy", b"content-security-policy-report-only"))
_LINK_TARGET = re.compile(rb"<([^<>]*)>")
_REFRESH = re.compile(rb"([ \t]*[0-9.]*[ \t]*[;,]?[ \t]*(?:url[ \t]*=[ \t]*)?['\"]?)(.*)", re.IGNORECASE | re.DOTALL)
# Longer fields are not changed, because that would take too long.
_LONGEST_FIELD: Final = 64 * 1024
_QUOTED = re.compile(rb'"([^"]*)"')
_DECODABLE: Final = frozenset((b"gzip", b"x-gzip", b"deflate", b"identity"))
_REQUEST_URLS: Final = frozenset((b"referer", b"destination", b"hx-current-url", b"turbo-referrer"))
_TAGGED = re.compile(rb"<([^<>]*)>(?=[ \t]*\()")


class PrefixRewriter:
    """Rewrites one exchange.

    prefix: the path under which the backend is served, without a slash at its end. It must have only characters that
        need no escaping in HTML, CSS and JavaScript.
    request_host: the `Host` of the client's request.
    endpoint_host: the backend's own `host:port`.
    other_hosts: further names that the backend may use for itself.
    mode: `full` or `kubernetes` (see the module).
    """

    def __init__(
        self,
        prefix: bytes,
        request_host: bytes,
        endpoint_host: bytes,
        mode: Mode = "full",
        other_hosts: Iterable[bytes] = (),
    ) -> None:
        self.prefix = prefix
        self.mode = mode
        self._hosts = (request_host, endpoint_host, *other_hosts)
        self._rule: UrlRule = (
            PrefixRule(prefix, self._hosts) if mode == "full" else KubernetesRule(prefix, request_host, endpoint_host)
        )
        self._destination: bytes | None = None
        self._service_worker = False
        # True if the request's `Accept` names HTML; None without that field.
        self._accepts_html: bool | None = None

    def see_request(self, headers: Fields) -> None:
        """Record which kind of answer the request expects. `edit_request` calls this method."""
        for name, value in headers:
            lower = name.lower()
            if lower == b"sec-fetch-dest":
                self._destination = value.strip().lower()
            elif lower == b"service-worker":
                self._service_worker = value.strip().lower() == b"script"
            elif lower == b"accept":
                # Browsers send `Accept: text/html` for pages on any origin, `Sec-Fetch-Dest` only on secure ones.
                self._accepts_html = b"text/html" in value.lower()
        if self.mode == "full" and self._destination is None and self._accepts_html is False:
            # Not a browser: absolute URLs of this host stay absolute, with the prefix, as in a kube-apiserver's answer.
            self._rule = PrefixRule(self.prefix, self._hosts, absolute=self._hosts[0])

    def edit_request(self, headers: Fields) -> Fields:
        """Return the request's fields as the application must see them.

        The prefix is removed from `Referer`, `Destination` (WebDAV) and `If`, cookies get their own names back, and
        `Accept-Encoding` has only codings that can be decoded. `Origin` and the query are not changed: `Origin` has no
        path, and addresses that scripts put into a query were read through `prefix.js`, without the prefix.
        """
        self.see_request(headers)
        if self.mode != "full":
            return headers
        rule = UnprefixRule(self.prefix, self._hosts)
        edited: Fields = []
        for name, value in headers:
            lower = name.lower()
            if lower in _REQUEST_URLS:
                value = rule(value)
            elif lower == b"if":
                value = _TAGGED.sub(lambda match: b"<" + rule(match[1]) + b">", value)
            elif lower == b"cookie":
                value = restore_cookies(value)
            elif lower == b"accept-encoding":
                value = _decodable(value)
            edited.append((name, value))
        return edited

    def edit_response(self, status: int, headers: Fields, *, decode: bool = False) -> BodyTransform | None:
        """Change a response's fields in place, and return the transform of its body; None when the body stays as it is.

        Call this for HEAD, too. A transform then means that Content-Length is wrong, because GET's body is changed.

        Args:
            status: the response's status.
            headers: the response's fields; this list is changed.
            decode: True to decode a gzip body, because the client does not know content codings.

        Raises:
            GoURLError: in Kubernetes mode, when Go cannot parse Location.
        """
        media_type = coding = b""
        redirect = False
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-type":
                media_type = value.split(b";", 1)[0].strip().lower()
            elif lower == b"content-encoding":
                coding = coding + b"," + value if coding else value
            elif lower == b"location":
                redirect = True
        readable = status not in UNREADABLE
        plain = decode and coding.strip().lower() == b"gzip" and readable
        inner: BodyTransform | None = None
        known = readable and (plain or encoding.supported(coding))
        if self.mode == "full":
            # The body of a redirect is not shown.
            inner = self._full(status, headers, media_type, known and not (redirect and 300 <= status < 400))
        else:
            prefix, host, endpoint = self.prefix, self._hosts[0], self._hosts[1]
            headers[:] = [
                (name, rewrite_as_go(value, prefix=prefix, request_host=host, endpoint_host=endpoint))
                if name.lower() == b"location" and value
                else (name, value)
                for name, value in headers
            ]
            if known and media_type == _HTML and not redirect:
                inner = HtmlRewriter(self._rule)
        if inner is None and not plain:
            return None
        gone = OF_THE_ORIGINAL | {b"content-encoding"} if plain else OF_THE_ORIGINAL
        headers[:] = [field for field in headers if field[0].lower() not in gone]
        inner = inner or encoding.Unchanged()
        return encoding.decode(inner, coding) if plain else encoding.wrap(inner, coding)

    def _full(self, status: int, headers: Fields, media_type: bytes, known: bool) -> BodyTransform | None:
        policy = InlinePermissions()
        # A body without a type is a page only if a browser shows it as one.
        untold = media_type in UNKNOWN and self._shows_page() and may_be_sniffed(headers)
        page = known and (untold or media_type in HTML_TYPES)
        if page:
            policy = read_policy(
                (value for name, value in headers if name.lower() == b"content-security-policy"),
                (value for name, value in headers if name.lower() == b"content-security-policy-report-only"),
            )
        # The policies in a 304 are the application's own. They would replace the changed policies that the browser has
        # stored with the page.
        dropped = _DROPPED | _POLICIES if status == 304 else _DROPPED
        if policy.adds_nonce:
            dropped = dropped | _VALIDATORS
        headers[:] = [
            (name, self._field(name.lower(), value, page, policy))
            for name, value in headers
            if name.lower() not in dropped
        ]
        if not known:
            return None
        rule = self._rule
        if page:
            self._vary(headers)
            whole: bool | None = self._destination in DOCUMENTS
            if self._destination is None:
                whole = False if self._accepts_html is False else None
            xml = media_type == _XHTML
            element = self.element(policy.nonce, xml=xml)
            rewriter = PageRewriter(rule, element, whole=whole, policy=policy, xml=xml)
            return Sniffed(rewriter) if untold else rewriter
        if media_type == _CSS or (self._destination == b"style" and not media_type):
            return CssRewriter(rule)
        if media_type in JAVASCRIPT_TYPES or (self._destination in _SCRIPTS and media_type in _UNTYPED):
            self._vary(headers)
            worker = self._service_worker or self._destination in _WORKERS
            if self._service_worker:
                # A service worker may control any path within the prefix, because only this application is there.
                headers[:] = [field for field in headers if field[0].lower() != b"service-worker-allowed"]
                headers.append((b"Service-Worker-Allowed", self.prefix + b"/"))
            inner: BodyTransform = JavaScriptRewriter(rule)
            return _Prepend(self.script() + b"\n", inner) if worker else inner
        if status == 207 and media_type in _XML:
            return MultistatusRewriter(rule)
        return None

    def _shows_page(self) -> bool:
        """Return True when a browser shows the answer as a document."""
        return self._accepts_html is True if self._destination is None else self._destination in DOCUMENTS

    def _vary(self, headers: Fields) -> None:
        """Add `Vary`, because a worker and a `<script>` get different content from the same address."""
        if self._destination is not None:
            headers.append((b"Vary", b"Sec-Fetch-Dest, Service-Worker"))

    def _field(self, name: bytes, value: bytes, page: bool, policy: InlinePermissions) -> bytes:
        """Return a response field's value in full mode."""
        rule = self._rule
        if name == b"set-cookie":
            return rewrite_set_cookie(value, prefix=self.prefix)
        if name == b"service-worker-allowed":
            # Whatever the application allows (`/`, `../..`), paths above the prefix belong to other applications.
            return self.prefix + b"/"
        if len(value) > _LONGEST_FIELD and name not in _POLICIES:
            return value
        if name in _URL_FIELDS:
            return rule(value)
        if name == b"link":
            return _LINK_TARGET.sub(lambda match: b"<" + rule(match[1]) + b">", value)
        if name == b"refresh":
            found = _REFRESH.match(value)
            return found[1] + rule(found[2]) if found else value
        if name == b"reporting-endpoints":
            return _QUOTED.sub(lambda match: b'"' + rule(match[1]) + b'"', value)
        if name == b"referrer-policy":
            return full_referrer_policy(value)
        if name in _POLICIES:
            return rewrite_policy(value, self._hash() if page else b"", rule, policy if page else None)
        return value

    def script(self) -> bytes:
        """Return `prefix.js` for this prefix: a complete script, which works in workers, too."""
        return script(self.prefix, tuple(host for host in self._hosts if host))

    def element(self, nonce: bytes | None = None, *, xml: bool = False) -> bytes:
        """Return the script as an element of a page. xml: True if the page is XHTML."""
        attribute = b"" if nonce is None else b' nonce="' + nonce + b'"'
        if xml:
            return b"<script" + attribute + b"><![CDATA[" + self.script() + b"]]></script>"
        return b"<script" + attribute + b">" + self.script() + b"</script>"

    def _hash(self) -> bytes:
        return _csp_hash(self.script())


class _Prepend:
    """A transform that puts a text before the body."""

    def __init__(self, text: bytes, inner: BodyTransform) -> None:
        self._text = text
        self._inner = inner

    def feed(self, data: bytes) -> bytes:
        text, self._text = self._text, b""
        return text + self._inner.feed(data)

    def finish(self) -> bytes:
        return self._text + self._inner.finish()


@lru_cache(maxsize=64)
def _csp_hash(script: bytes) -> bytes:
    """Return the script's hash as a source of a policy."""
    return b"'sha256-" + base64.b64encode(hashlib.sha256(script).digest()) + b"'"


def _decodable(accepted: bytes) -> bytes:
    """Return `Accept-Encoding` with the codings that `encoding.py` can decode; never an empty value."""
    kept = [one.strip() for one in accepted.split(b",") if one.split(b";", 1)[0].strip().lower() in _DECODABLE]
    return b", ".join(kept) or b"identity"


# Changed files have no checksum, so a policy that requires checksums would block them.
_DROPPED: Final = frozenset((b"clear-site-data", b"integrity-policy", b"integrity-policy-report-only"))
# A page with a nonce must not be combined with the fields of another response, so the page gets no validators.
_VALIDATORS: Final = frozenset((b"etag", b"last-modified"))
