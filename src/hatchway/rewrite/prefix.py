"""The entry to path-prefix mode: what happens to one exchange of an application that is seen under a path prefix.

One `PrefixRewriter` for each exchange (it is cheap): `edit_request` before the request is sent on, `edit` when the
response's head is here. Two modes: `full` makes applications work whose scripts build their own URLs; `kubernetes`
does what a kube-apiserver does, and no more: `Location` comes out as Go writes URLs.

What full mode changes beside the body (`page.py`, `javascript.py`, `css.py`) is in `_FIELDS`. `Strict-Transport-
Security` and the like concern a whole host and pass; `Clear-Site-Data` is dropped, since the host belongs to others
as well.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import Final, Literal

from hatchway.rewrite import encoding
from hatchway.rewrite.cookies import restore_cookies, rewrite_set_cookie
from hatchway.rewrite.csp import Policy, read_policy, rewrite_policy
from hatchway.rewrite.css import CssRewriter
from hatchway.rewrite.encoding import Transform
from hatchway.rewrite.html import HtmlRewriter
from hatchway.rewrite.javascript import JavaScriptRewriter
from hatchway.rewrite.location import rewrite_as_go
from hatchway.rewrite.multistatus import MultistatusRewriter
from hatchway.rewrite.page import PageRewriter, telling_referrer
from hatchway.rewrite.rules import KubernetesRule, PrefixRule, Rule, UnprefixRule

Mode = Literal["full", "kubernetes"]
Fields = list[tuple[bytes, bytes]]

# What is true of the bytes that the backend sent, and not of rewritten ones.
OF_THE_ORIGINAL: Final = frozenset(
    (b"content-length", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges")
)
# A part of a page (206) may begin inside a script, a tag or a coding, so nothing in it can be told apart.
UNREADABLE: Final = (204, 206, 304)

_HTML: Final = b"text/html"
_XHTML: Final = b"application/xhtml+xml"
_CSS: Final = b"text/css"
_JAVASCRIPT: Final = frozenset(
    b"text/javascript application/javascript application/x-javascript text/ecmascript application/ecmascript".split()
)
# What browsers run as a script whatever it is called, as long as nothing forbids it.
_UNTYPED: Final = frozenset((b"", b"text/plain", b"application/octet-stream"))
_XML: Final = frozenset((b"text/xml", b"application/xml"))
_DOCUMENTS: Final = frozenset((b"document", b"iframe", b"frame", b"embed", b"object"))
_WORKERS: Final = frozenset((b"worker", b"sharedworker", b"serviceworker"))
_SCRIPTS: Final = _WORKERS | {b"script"}
_URL_FIELDS: Final = frozenset(
    b"location content-location sourcemap x-sourcemap hx-redirect hx-push-url hx-replace-url turbo-location"
    b" x-inertia-location x-pjax-url operation-location azure-asyncoperation".split()
)
_POLICIES: Final = frozenset((b"content-security-policy", b"content-security-policy-report-only"))
_LINK_TARGET = re.compile(rb"<([^>]*)>")
_REFRESH = re.compile(rb"([ \t]*[0-9.]*[ \t]*[;,]?[ \t]*(?:url[ \t]*=[ \t]*)?['\"]?)(.*)", re.IGNORECASE | re.DOTALL)
_QUOTED = re.compile(rb'"([^"]*)"')
_DECODABLE: Final = frozenset((b"gzip", b"x-gzip", b"deflate", b"identity"))
_REQUEST_URLS: Final = frozenset((b"referer", b"destination", b"hx-current-url", b"turbo-referrer"))
_TAGGED = re.compile(rb"<([^>]*)>(?=[ \t]*\()")


class PrefixRewriter:
    """Rewrites one exchange.

    prefix: the path under which the backend is seen, without a slash at its end; only characters that need no escaping
    in HTML, CSS and JavaScript. request_host: the `Host` that the client asked for. endpoint_host: the backend's own
    `host:port`. other_hosts: further names by which the backend may call itself. mode: see above.
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
        self._rule: Rule = (
            PrefixRule(prefix, self._hosts) if mode == "full" else KubernetesRule(prefix, request_host, endpoint_host)
        )
        self._destination: bytes | None = None
        self._service_worker = False
        self._page_wanted = True

    def see_request(self, headers: Fields) -> None:
        """Remember what the request is for. `edit_request` does it by itself."""
        for name, value in headers:
            lower = name.lower()
            if lower == b"sec-fetch-dest":
                self._destination = value.strip().lower()
            elif lower == b"service-worker":
                self._service_worker = value.strip().lower() == b"script"
            elif lower == b"accept":
                # What browsers say of a page everywhere; `Sec-Fetch-Dest` only on secure origins.
                self._page_wanted = b"text/html" in value.lower()
        if self.mode == "full" and self._destination is None and not self._page_wanted:
            # A tool: what the API server would say, as long as nothing is lost by it.
            self._rule = PrefixRule(self.prefix, self._hosts, absolute=self._hosts[0])

    def edit_request(self, headers: Fields) -> Fields:
        """The request's fields as the application must see them: no prefix in `Referer`, `Destination` (WebDAV), `If`,
        its own names of cookies; and only codings that can be undone in `Accept-Encoding`, where it matters.

        `Origin` and the query are left alone: neither has a path of the page in it, and what a script has put
        there was read through `prefix.js`, without the prefix.
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

    def edit(self, status: int, headers: Fields, *, method: str = "GET", decode: bool = False) -> Transform | None:
        """Change a response's fields in place, and say what changes its body (None: nothing). Raises GoURLError in
        Kubernetes mode when Location is no URL for Go.

        decode: the client does not know content codings: a gzip body comes out without one.
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
        inner: Transform | None = None
        known = readable and (plain or encoding.supported(coding))
        if self.mode == "full":
            # What comes with a redirect is not shown.
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
        if method == "HEAD":
            return None
        inner = inner or encoding.Unchanged()
        return encoding.decode(inner, coding) if plain else encoding.wrap(inner, coding)

    def _full(self, status: int, headers: Fields, media_type: bytes, known: bool) -> Transform | None:
        policy = Policy()
        page = known and media_type in (_HTML, _XHTML)
        if page:
            policy = read_policy([value for name, value in headers if name.lower() == b"content-security-policy"])
        headers[:] = [
            (name, self._field(name.lower(), value, page)) for name, value in headers if name.lower() not in _DROPPED
        ]
        if not known:
            return None
        rule = self._rule
        if page:
            self._vary(headers)
            whole: bool | None = self._destination in _DOCUMENTS
            if self._destination is None:
                whole = None if self._page_wanted else False
            xml = media_type == _XHTML
            element = self.element(policy.nonce, xml=xml)
            return PageRewriter(rule, element, whole=whole, inline=not policy.hashes, xml=xml)
        if media_type == _CSS:
            return CssRewriter(rule)
        if media_type in _JAVASCRIPT or (self._destination in _SCRIPTS and media_type in _UNTYPED):
            self._vary(headers)
            worker = self._service_worker or self._destination in _WORKERS
            if self._service_worker:
                # Within the prefix it may claim what it likes: nothing else of this host is there.
                headers[:] = [field for field in headers if field[0].lower() != b"service-worker-allowed"]
                headers.append((b"Service-Worker-Allowed", self.prefix + b"/"))
            inner: Transform = JavaScriptRewriter(rule)
            return _Prepend(self.script() + b"\n", inner) if worker else inner
        if status == 207 and media_type in _XML:
            return MultistatusRewriter(rule)
        return None

    def _vary(self, headers: Fields) -> None:
        """The same address gives a worker's script and an element's: a browser's cache must keep them apart."""
        if self._destination is not None:
            headers.append((b"Vary", b"Sec-Fetch-Dest, Service-Worker"))

    def _field(self, name: bytes, value: bytes, page: bool) -> bytes:
        """One response field in full mode."""
        rule = self._rule
        if name in _URL_FIELDS:
            return rule(value)
        if name == b"set-cookie":
            return rewrite_set_cookie(value, prefix=self.prefix)
        if name == b"service-worker-allowed":
            return self.prefix + b"/" if value == b"/" else rule(value)
        if name == b"link":
            return _LINK_TARGET.sub(lambda match: b"<" + rule(match[1]) + b">", value)
        if name == b"refresh":
            found = _REFRESH.match(value)
            return found[1] + rule(found[2]) if found else value
        if name == b"reporting-endpoints":
            return _QUOTED.sub(lambda match: b'"' + rule(match[1]) + b'"', value)
        if name == b"referrer-policy":
            return telling_referrer(value)
        if name in _POLICIES:
            return rewrite_policy(value, self._hash() if page else b"", rule)
        return value

    def script(self) -> bytes:
        """`prefix.js` for this prefix: a complete script, which works in workers, too."""
        return _script(self.prefix, tuple(host for host in self._hosts if host))

    def element(self, nonce: bytes | None = None, *, xml: bool = False) -> bytes:
        """The script as an element of a page. xml: of XHTML."""
        attribute = b"" if nonce is None else b' nonce="' + nonce + b'"'
        if xml:
            return b"<script" + attribute + b"><![CDATA[" + self.script() + b"]]></script>"
        return b"<script" + attribute + b">" + self.script() + b"</script>"

    def _hash(self) -> bytes:
        return _source(self.script())


class _Prepend:
    """Something before the body."""

    def __init__(self, text: bytes, inner: Transform) -> None:
        self._text = text
        self._inner = inner

    def feed(self, data: bytes) -> bytes:
        text, self._text = self._text, b""
        return text + self._inner.feed(data)

    def finish(self) -> bytes:
        return self._text + self._inner.finish()


@lru_cache(maxsize=1)
def _template() -> bytes:
    """The script without its comments and indentation."""
    text = resources.files(__package__).joinpath("prefix.js").read_bytes()
    lines = (line.strip() for line in text.splitlines())
    return b"\n".join(line for line in lines if line and not line.startswith(b"//"))


@lru_cache(maxsize=64)
def _script(prefix: bytes, hosts: tuple[bytes, ...]) -> bytes:
    names = b",".join(b'"' + host + b'"' for host in dict.fromkeys(hosts) if _PLAIN_HOST.fullmatch(host))
    return _template().replace(b'"/__PREFIX__"', b'"' + prefix + b'"').replace(b'["__HOSTS__"]', b"[" + names + b"]")


_PLAIN_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]+")


@lru_cache(maxsize=64)
def _source(script: bytes) -> bytes:
    """The script's hash as a source of a policy."""
    return b"'sha256-" + base64.b64encode(hashlib.sha256(script).digest()) + b"'"


def _decodable(accepted: bytes) -> bytes:
    """`Accept-Encoding` with what `encoding.py` can undo. Never empty: that would mean something else."""
    kept = [one.strip() for one in accepted.split(b",") if one.split(b";", 1)[0].strip().lower() in _DECODABLE]
    return b", ".join(kept) or b"identity"


_DROPPED: Final = frozenset((b"clear-site-data",))
