"""One target as browsers see it: under a host name of its own, or under a path prefix that it shares a host with others by.

What is asked of it, and what is made of its answers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hatchway.door import links
from hatchway.door.cookies import CookieJar
from hatchway.door.diagnosis import Diagnosis, status_of
from hatchway.door.guard import Sender
from hatchway.door.hostheader import REFUSALS, HostHeader, check
from hatchway.door.lookup import Lookup
from hatchway.door.problems import needs_forward
from hatchway.door.resolve import Resolved, resolve
from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import (
    Decision,
    Forward,
    Headers,
    ProxyError,
    Reconsider,
    RequestHead,
    Respond,
    ResponseHead,
    Transform,
)
from hatchway.rewrite.location import collapse_path
from hatchway.rewrite.unprefix import Unprefixer
from hatchway.route.api import AUTHORIZATION
from hatchway.route.ways import Route, Way
from hatchway.target import Target

if TYPE_CHECKING:
    from hatchway.rewrite.prefix import PrefixRewriter

# How long it stays so which port is meant, when nothing shows that it has changed.
_SECONDS: Final = 30.0
# A body that is larger is not sent twice for a cookie's sake.
_SMALL: Final = 64 * 1024
_WORKERS: Final = frozenset((b"worker", b"sharedworker", b"serviceworker"))
_OURS: Final = frozenset(
    b"host forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-server"
    b" x-forwarded-prefix x-forwarded-uri x-real-ip authorization cookie".split()
)
# A browser must not act as somebody else for the API server, nor tell the embedded one what to do.
_NOT_THEIRS: Final = (b"impersonate-", b"x-remote-", b"x-hatchway-")
# Codings that a kube-apiserver leaves alone or undoes; it breaks pages in others (k/k PR#124194).
_KEPT_CODINGS: Final = frozenset((b"gzip", b"deflate", b"identity", b"x-gzip"))
_DOTS = re.compile(rb"/(?:\.|%2[eE])")
_CACHE_CONTROL: Final = b"no-cache, private"
# How servers say that they speak TLS, and how Go says that what it heard was TLS, or was not.
_SPEAKS_TLS = re.compile(
    rb"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS|requires TLS|use https", re.I
)
_HEARD_TLS = re.compile(r"malformed HTTP|not an HTTP|\\x15\\x03|EOF|connection reset|server closed|broken pipe", re.I)
_HEARD_NO_TLS = re.compile(
    r"HTTP response to HTTPS|does not look like a TLS|wrong version number|record layer|tls: ", re.I
)


class TargetSite:
    """Routes the requests for one target.

    host: the host name, without a port, in lower case. wanted: the Host that applications are told, as `--host-header`
    has it. prefix: the path under which the target is seen, without a slash at its end; b"" under a host name of its own.
    """

    def __init__(
        self,
        target: Target,
        host: bytes,
        *,
        connection: Connection,
        route: Route,
        lookup: Lookup,
        diagnosis: Diagnosis,
        domain: str,
        wanted: str,
        prefix: bytes = b"",
    ) -> None:
        self.target = target
        self.prefix = prefix
        self.jar = CookieJar(host, domain.encode())
        self.needs_forward = ""
        self._connection = connection
        self._route = route
        self._lookup = lookup
        self._diagnosis = diagnosis
        self._wanted = wanted
        self._names = links.own_names(target)
        self._resolved: Resolved | None = None
        self._until = 0.0
        self._scheme = ""
        self._tried: dict[str, float] = {}
        self._version = 0
        self.host_header = HostHeader(target, wanted, "")

    # What the router remembers decisions by

    def stamp(self) -> object:
        """Equal to an earlier one as long as decisions of then still hold."""
        if not self._ready() or self._connection.trouble is not None:
            return object()
        return self._version, self._route.generation

    def _ready(self) -> bool:
        return self._resolved is not None and time.monotonic() < self._until and self._route.ready

    # Requests

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        sender = Sender.of(head)
        host = head.header(b"host") or b""
        if sender.foreign(head, b"http://" + host):
            who = (sender.origin or sender.site or b"another site").decode("latin-1")
            return self._diagnosis.refused(
                f"a page of {who} asked for {host.decode('latin-1')}", head, html=sender.navigates
            )
        if self._ready():
            return self._decide(head, sender)
        return self._later(head, sender)

    async def _later(self, head: RequestHead, sender: Sender) -> Decision:
        try:
            await self._prepare()
        except HatchwayError as error:
            return self._diagnosis.failed(error, head, html=sender.navigates)
        return self._decide(head, sender)

    async def _prepare(self) -> None:
        """Raises HatchwayError."""
        await self._route.prepare()
        if self._resolved is not None and time.monotonic() < self._until:
            return
        if self.prefix:
            # A proxy path says what it means.
            found = Resolved(self.target, sure=True)
        else:
            found = await resolve(self.target, self._lookup)
        self._until = time.monotonic() + _SECONDS
        if found == self._resolved:
            return
        if self._resolved is None or found.target != self._resolved.target:
            self._scheme = found.target.scheme
        wanted = self._wanted
        if found.host_header and wanted == "auto":
            wanted = check(found.host_header)
        self.host_header = HostHeader(self.target, wanted, found.number)
        self._resolved = found
        self._version += 1

    def _decide(self, head: RequestHead, sender: Sender) -> Decision:
        field = b"; ".join(value for name, value in head.headers if name.lower() == b"cookie")
        if field and sender.browser and not self.prefix:
            checked = self.jar.check(field)
            field = checked.passed
            if checked.unknown and _may_be_sent_twice(head, sender):
                whole = b"; ".join(value for name, value in head.headers if name.lower() == b"cookie")
                gone = self.jar.challenge(whole, checked.unknown, head.path)
                if gone:
                    fields: Headers = [(b"Location", head.target), (b"Cache-Control", b"no-store")]
                    return Respond(307, fields + [(b"Set-Cookie", one) for one in gone])
        return self._forward(head, sender, field)

    def _forward(self, head: RequestHead, sender: Sender, cookie: bytes, renewed: bool = False) -> Forward:
        assert self._resolved is not None
        way = self._route.way(replace(self._resolved.target, scheme=self._scheme))
        exchange = _Exchange(self, head, sender, cookie, way, renewed)
        path = head.target[len(self.prefix) :]
        if path[:1] != b"/":
            path = b"/" + path  # `.../proxy` is the application's root for a WebSocket, which cannot be redirected
        if _DOTS.search(head.path):
            # What stands between this and the API server must not come to another path.
            path = collapse_path(head.path[len(self.prefix) :]) + (b"?" + head.query if head.query is not None else b"")
        return Forward(
            way.upstream,
            way.prefix + path,
            exchange.headers(),
            exchange.error_response,
            exchange.edit_response,
            reconsider=exchange.reconsider,
        )

    def again(self, head: RequestHead, sender: Sender, cookie: bytes, *, renewed: bool = False) -> Forward:
        """The same request as it is to be asked now that something was learned."""
        return self._forward(head, sender, cookie, renewed)

    # What was learned from answers

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def diagnosis(self) -> Diagnosis:
        return self._diagnosis

    @property
    def names(self) -> frozenset[bytes]:
        return self._names

    def resolved(self) -> Target:
        assert self._resolved is not None
        return replace(self._resolved.target, scheme=self._scheme)

    async def renew(self) -> bool:
        return await self._route.renew()

    def forget(self) -> None:
        """What the API server says of the target has changed."""
        self._until = 0.0
        self._lookup.forget()

    def speaks(self, scheme: str) -> bool:
        """The target seems to speak this. Whether that is news, and worth another try."""
        assert self._resolved is not None
        now = time.monotonic()
        if self._resolved.sure or self._scheme == scheme or self._tried.get(scheme, 0.0) > now:
            return False
        # Not back and forth for one that speaks neither.
        self._tried[self._scheme or "http"] = now + _SECONDS
        self._scheme = scheme
        self._version += 1
        return True

    def changed(self) -> None:
        """Decisions of before do not hold any more."""
        self._version += 1


def _may_be_sent_twice(head: RequestHead, sender: Sender) -> bool:
    if head.upgrade is not None or sender.dest in _WORKERS:
        return False
    length = head.header(b"content-length")
    if head.header(b"transfer-encoding") is not None:
        return False
    return length is None or int(length) <= _SMALL


class _Exchange:
    """One request for the target. sent: the Host that the application is told."""

    __slots__ = (
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
        self, site: TargetSite, head: RequestHead, sender: Sender, cookie: bytes, way: Way, renewed: bool
    ) -> None:
        self._site = site
        self._head = head
        self._sender = sender
        self._cookie = cookie
        self._way = way
        self._renewed = renewed
        self._outer = head.header(b"host") or b""
        self._value = site.host_header.value
        self._authorization = head.header(b"authorization")
        self.sent = way.host or self._value or self._outer
        self._rewriter: PrefixRewriter | None = None
        if site.prefix:
            # Not before it is needed: it takes longer to import than the rest of the door.
            from hatchway.rewrite.prefix import PrefixRewriter

            self._rewriter = PrefixRewriter(site.prefix, self._outer, self.sent, other_hosts=site.names)

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
        name, colon, port = outer.rpartition(b":")
        headers += [
            (b"X-Forwarded-For", client),
            (b"X-Forwarded-Host", outer),
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Port", port if colon and port.isdigit() else b"80"),
            (b"Forwarded", b'for="%b";host="%b";proto=http' % (_quoted(client), outer)),
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
            site.host_header.taken(self._value)
        prefix = b"" if way.carries.unchanged or site.prefix else way.prefix
        headers: Headers = []
        marked = False
        for name, value in head.headers:
            lower = name.lower()
            if lower in (b"location", b"content-location") and not site.prefix:
                value = links.outer_location(value, outer=self._outer, sent=self.sent, names=site.names, prefix=prefix)
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
            return self._rewriter.edit(head.status, head.headers, method=self._head.method)
        if prefix:
            return Unprefixer(prefix, (self._outer, self.sent)).edit(
                head.status, head.headers, method=self._head.method
            )
        return None

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
            return site.again(head, self._sender, self._cookie, renewed=True)
        if code in (404, 503):
            site.forget()
        if code in (500, 502, 503) and "trying to reach" in message:
            wanted = "http" if site.resolved().scheme == "https" else "https"
            heard = _HEARD_NO_TLS if wanted == "http" else _HEARD_TLS
            if heard.search(message) and site.speaks(wanted):
                return site.again(head, self._sender, self._cookie)
        if not self._sender.navigates:
            return None
        problem = await site.diagnosis.of_status(status, site.resolved(), head)
        return site.diagnosis.answer(problem, head, html=True)

    def _refused(self, status: int, body: bytes, challenged: bool) -> Respond | Forward | None:
        """The application has said no."""
        site, head = self._site, self._head
        if status == 400 and _SPEAKS_TLS.search(body) and site.speaks("https"):
            return site.again(head, self._sender, self._cookie)
        nameable = status in REFUSALS and head.method in ("GET", "HEAD") and self._way.host is None
        if nameable and site.host_header.refused(self._value):
            site.changed()
            return site.again(head, self._sender, self._cookie)
        if status == 401 and challenged and self._authorization is not None and not self._way.carries.authorization:
            why = "its password in the Authorization field, which the API server keeps for itself"
            site.needs_forward = why
            return site.diagnosis.answer(needs_forward(site.resolved(), why), head, html=self._sender.navigates)
        return None


def _known_codings(value: bytes) -> bytes:
    kept = [
        coding.strip() for coding in value.split(b",") if coding.partition(b";")[0].strip().lower() in _KEPT_CODINGS
    ]
    return b", ".join(kept) or b"identity"


def _quoted(client: bytes) -> bytes:
    return b"[%b]" % client if b":" in client else client
