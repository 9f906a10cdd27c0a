"""One exchange with a target: the fields of its request on their way in, its answer on the way out, what was learned.

The API server's own refusals are told apart from the application's: both may be a reason to ask once more in another
way, and what is not becomes a page for people.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from hatchway.door import links
from hatchway.door.diagnosis import status_of
from hatchway.door.guard import Sender
from hatchway.door.hostheader import REFUSALS, UNCHALLENGED
from hatchway.proxy.routing import (
    Forward,
    Headers,
    ProxyError,
    Reconsider,
    RequestHead,
    Respond,
    ResponseHead,
    Transform,
)
from hatchway.rewrite.unprefix import Unprefixer
from hatchway.route.api import AUTHORIZATION
from hatchway.route.ways import Way

if TYPE_CHECKING:
    from hatchway.door.targetsite import TargetSite
    from hatchway.rewrite.prefix import PrefixRewriter

_OURS: Final = frozenset(
    b"host forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-server"
    b" x-forwarded-prefix x-forwarded-uri x-real-ip authorization cookie".split()
)
# A browser must not act as somebody else for the API server, nor tell the embedded one what to do.
_NOT_THEIRS: Final = (b"impersonate-", b"x-remote-", b"x-hatchway-")
# Codings that a kube-apiserver leaves alone or undoes; it breaks pages in others (k/k PR#124194).
_KEPT_CODINGS: Final = frozenset((b"gzip", b"deflate", b"identity", b"x-gzip"))
_CACHE_CONTROL: Final = b"no-cache, private"
# How servers say that they speak TLS, and how Go says that what it heard was TLS, or was not.
_SPEAKS_TLS = re.compile(
    rb"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS|requires TLS|use https", re.I
)
_SAYS_HOST = re.compile(rb"\bhosts?\b|host[-_ ]?(?:name|header)", re.I)
_HEARD_TLS = re.compile(r"malformed HTTP|not an HTTP|\\x15\\x03|EOF|connection reset|server closed|broken pipe", re.I)
_HEARD_NO_TLS = re.compile(
    r"HTTP response to HTTPS|does not look like a TLS|wrong version number|record layer|tls: ", re.I
)


class Exchange:
    """One request for the target of a site. sent: the Host that the application is told.

    cookie: what the target is told as Cookie, b"" for nothing. way: the one that it takes. renewed: it is asked again
    with new credentials of the route. agrees: X-Forwarded-Host says the Host that is sent.
    """

    __slots__ = (
        "_agrees",
        "_authorization",
        "_cookie",
        "_head",
        "_outer",
        "_renewed",
        "_rewriter",
        "_sender",
        "_site",
        "_value",
        "_way",
        "sent",
    )

    def __init__(
        self,
        site: TargetSite,
        head: RequestHead,
        sender: Sender,
        cookie: bytes,
        way: Way,
        *,
        renewed: bool,
        agrees: bool,
    ) -> None:
        self._site = site
        self._head = head
        self._sender = sender
        self._cookie = cookie
        self._way = way
        self._renewed = renewed
        self._agrees = agrees
        self._outer = head.header(b"host") or b""
        self._value = site.host_for(head).value
        self._authorization = head.header(b"authorization")
        self.sent = way.host or self._value or self._outer
        self._rewriter: PrefixRewriter | None = None
        if site.prefix:
            # Not before it is needed: it takes longer to import than the rest of the door.
            from hatchway.rewrite.prefix import PrefixRewriter

            self._rewriter = PrefixRewriter(
                site.prefix, self._outer, self.sent, other_hosts=(*sorted(site.names | site.loopback), site.home)
            )

    def headers(self) -> Headers:
        """The fields of the request as they go to the route."""
        outer, way = self._outer, self._way
        scheme = b"https" if self._site.resolved().scheme == "https" else b"http"
        headers: Headers = [(b"Host", self.sent)]
        for name, value in self._head.headers:
            lower = name.lower()
            if lower in _OURS or lower.startswith(_NOT_THEIRS):
                continue
            if lower in (b"origin", b"referer"):
                value = links.inner_url(value, outer=outer, scheme=scheme, sent=self.sent)
            elif lower == b"accept-encoding" and not way.carries.codings:
                value = _known_codings(value)
            headers.append((name, value))
        if self._cookie:
            headers.append((b"Cookie", self._cookie))
        if self._authorization is not None and way.carries.authorization:
            headers.append((AUTHORIZATION, self._authorization))
        client = self._head.peer.address[0].encode() if self._head.peer.address is not None else b"unknown"
        told = self.sent if self._agrees else outer
        _, colon, port = told.rpartition(b":")
        headers += [
            (b"X-Forwarded-For", client),
            (b"X-Forwarded-Host", told),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Port", port if colon and port.isdigit() else b"80"),
            (b"Forwarded", b'for="%b";host="%b";proto=http' % (_quoted(client), told)),
        ]
        if self._rewriter is not None:
            headers = self._rewriter.edit_request(headers)
        return headers + way.fields

    # Answers

    def error_response(self, error: ProxyError) -> Respond:
        if error.stage == "upgrade":
            return Respond(502, [(b"Content-Type", b"text/plain")], f"{error.message}\n".encode())
        return self._site.diagnosis.away(error, self._head, html=self._sender.navigates)

    def edit_response(self, head: ResponseHead) -> Transform | None:
        site, way = self._site, self._way
        if site.connection.trouble is not None:
            site.connection.note(None)
        if head.status < 400 and self._sender.navigates:
            site.takes(self._value, self._head)
        if head.status < 400 and self._agrees:
            site.agrees(taken=True)
        prefix = b"" if way.carries.unchanged or site.prefix else way.prefix
        headers: Headers = []
        marked = False
        for name, value in head.headers:
            lower = name.lower()
            if lower in (b"location", b"content-location") and not site.prefix:
                value = links.outer_location(
                    value,
                    outer=self._outer,
                    sent=self.sent,
                    names=site.names,
                    prefix=prefix,
                    loopback=site.loopback,
                )
            elif lower == b"set-cookie" and not site.prefix:
                value = site.jar.set(value)
            elif lower == b"cache-control" and not marked and value == _CACHE_CONTROL:
                marked = True  # the API server's own, before the application's
                continue
            elif lower == b"x-hatchway-rewrite":
                continue
            headers.append((name, value))
        head.headers = headers
        if self._head.upgrade is not None:
            return None
        if self._rewriter is not None:
            if self._sender.navigates and 300 <= head.status < 400 and self._goes_home(head):
                # The same address again, which a browser must not answer from its cache.
                head.headers = [field for field in head.headers if field[0].lower() != b"cache-control"]
                head.headers.append((b"Cache-Control", b"no-store"))
            return self._rewriter.edit(head.status, head.headers, method=self._head.method)
        if prefix:
            return Unprefixer(prefix, (self._outer, self.sent)).edit(
                head.status, head.headers, method=self._head.method
            )
        return None

    def _goes_home(self, head: ResponseHead) -> bool:
        """Whether it knows itself by its own host name at the door (WordPress, which has been set up there), and will be
        told that from now on."""
        found = links.authority(head.header(b"location") or b"")
        return bool(found) and found == self._site.home and self._site.prefers(found)

    def switched(self) -> None:
        self._site.takes(self._value, self._head)
        if self._agrees:
            self._site.agrees(taken=True)

    def reconsider(self, head: ResponseHead) -> Reconsider | None:
        content_type = head.header(b"content-type")
        challenged = head.header(b"www-authenticate") is not None

        async def again(body: bytes) -> Respond | Forward | None:
            status = status_of(content_type, body)
            if status is not None:
                return await self._status(status)
            return self._refused(head.status, body, challenged)

        return again

    async def _status(self, status: dict[str, object]) -> Respond | Forward | None:
        """The API server itself (or an application that speaks like one) has said no."""
        site, head = self._site, self._head
        code = status.get("code")
        message = str(status.get("message") or "")
        if code == 401 and not self._renewed and await site.renew():
            return site.forward(head, self._sender, self._cookie, renewed=True)
        if code in (404, 503):
            site.forget()
        if code in (500, 502, 503) and "trying to reach" in message:
            wanted = "http" if site.resolved().scheme == "https" else "https"
            heard = _HEARD_NO_TLS if wanted == "http" else _HEARD_TLS
            if heard.search(message) and site.speaks(wanted):
                return site.forward(head, self._sender, self._cookie)
        if not self._sender.navigates:
            return None
        problem = await site.diagnosis.of_status(status, site.resolved(), head)
        return site.diagnosis.answer(problem, head, html=True)

    def _refused(self, status: int, body: bytes, challenged: bool) -> Respond | Forward | None:
        """The application has said no."""
        site, head = self._site, self._head
        if status == 400 and _SPEAKS_TLS.search(body) and site.speaks("https"):
            return site.forward(head, self._sender, self._cookie)
        if self._may_be_the_host(status, body, challenged) and site.refuses(self._value, self._head):
            return site.forward(head, self._sender, self._cookie)
        if self._agrees:
            site.agrees(taken=False)
        elif self._may_be_the_forwarded_host(status, challenged) and site.host_header.may_agree():
            return site.forward(head, self._sender, self._cookie, agrees=True)
        if status == 401 and challenged and self._authorization is not None and not self._way.carries.authorization:
            why = "its password in the Authorization field, which the API server keeps for itself"
            site.needs(why)
            return site.diagnosis.answer(
                site.diagnosis.needs_forward(site.resolved(), why), head, html=self._sender.navigates
            )
        return None

    def _may_be_about_hosts(self, status: int, challenged: bool) -> bool:
        if self._head.method not in ("GET", "HEAD") or self._way.host is not None:
            return False
        return status in REFUSALS or (status == UNCHALLENGED and not challenged)

    def _may_be_the_host(self, status: int, body: bytes, challenged: bool) -> bool:
        """Whether the application may have refused the Host that it was told, or the Origin that follows it: a person's
        navigation, a WebSocket, or its words say so."""
        if not self._may_be_about_hosts(status, challenged):
            return False
        if self._sender.navigates or self._head.upgrade is not None:
            return True
        return self.sent in body or _SAYS_HOST.search(body, 0, 4096) is not None

    def _may_be_the_forwarded_host(self, status: int, challenged: bool) -> bool:
        """Whether it may have found that X-Forwarded-Host is another one than Origin or Referer say."""
        if self.sent == self._outer or not self._may_be_about_hosts(status, challenged):
            return False
        return any(name.lower() in (b"origin", b"referer") for name, _ in self._head.headers)


def _known_codings(value: bytes) -> bytes:
    kept = [
        coding.strip() for coding in value.split(b",") if coding.partition(b";")[0].strip().lower() in _KEPT_CODINGS
    ]
    return b", ".join(kept) or b"identity"


def _quoted(client: bytes) -> bytes:
    return b"[%b]" % client if b":" in client else client
