"""One target as browsers see it: under a host name of its own, or under a path prefix that it shares a host with others by.

Which port and scheme are meant, which cookies it may see, what was learned of it; what happens to a single request and
its answer is `exchange.py`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from hatchway.door import links
from hatchway.door.cookies import CookieJar
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.exchange import Exchange
from hatchway.door.guard import Sender
from hatchway.door.hostheader import HostHeader, Settled, check
from hatchway.door.lookup import Lookup
from hatchway.door.resolve import Resolved, resolve
from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import (
    Decision,
    Forward,
    Headers,
    RequestHead,
    Respond,
)
from hatchway.rewrite.location import collapse_path
from hatchway.route.ways import Route
from hatchway.target import Target, TargetError

# How long it stays so which port is meant, when nothing shows that it has changed.
_SECONDS: Final = 30.0
# A body that is larger is not sent twice for a cookie's sake.
_SMALL: Final = 64 * 1024
_WORKERS: Final = frozenset((b"worker", b"sharedworker", b"serviceworker"))
_DOTS = re.compile(rb"/(?:\.|%2[eE])")


class TargetSite:
    """Routes the requests for one target.

    host: the host name, without a port, in lower case. wanted: the Host that applications are told, as `--host-header`
    has it. prefix: the path under which the target is seen, without a slash at its end; b"" under a host name of its own.
    learned: called after something was learned of the target: the Host that it takes, its scheme, what it needs.

    host_header: the choice of Host so far, for pages. home: under a prefix, the target's own host name at the door, with
    its port, b"" otherwise. needs_forward: why the route cannot carry all that it asks for, "" when it can.
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
        learned: Callable[[Target], None] = lambda target: None,
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
        self._learned = learned
        self._names = links.own_names(target)
        self.home = self._home() if prefix else b""
        self._loopback: frozenset[bytes] = frozenset()
        self._resolved: Resolved | None = None
        self._until = 0.0
        self._scheme = ""
        self._tried: dict[str, float] = {}
        self._version = 0
        self.host_header = HostHeader(target, wanted, "")
        self._upgrades: HostHeader | None = None

    def _home(self) -> bytes:
        try:
            url = self._diagnosis.host_url(replace(self.target, port="", scheme=""))
        except TargetError:
            return b""
        return url.removeprefix("http://").removesuffix("/").encode()

    # Requests

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        sender = Sender.of(head)
        host = head.header(b"host") or b""
        if sender.foreign(head, b"http://" + host):
            return self._diagnosis.refused(
                f"{sender.who} asked for {host.decode('latin-1')}", head, html=sender.navigates
            )
        if self._ready():
            return self._decide(head, sender)
        return self._later(head, sender)

    def _ready(self) -> bool:
        return self._resolved is not None and time.monotonic() < self._until and self._route.ready

    def _holds(self, version: int, generation: int) -> bool:
        """Whether decisions of then are still right."""
        return (
            self._version == version
            and self._route.generation == generation
            and self._connection.trouble is None
            and self._ready()
        )

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
            # A proxy path says what it means; which Host is right there is told by the object.
            found = replace(await resolve(self.target, self._lookup), target=self.target, sure=True, http=True)
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
        self.host_header = HostHeader(self.target, wanted, found.number, found.service_number, self.home)
        self._upgrades = None
        self._loopback = links.loopback_names(found.number)
        self._resolved = found
        self.changed()

    def _decide(self, head: RequestHead, sender: Sender) -> Decision:
        assert self._resolved is not None
        if not self._resolved.http and sender.navigates:
            problem = self._diagnosis.needs_forward(self._resolved.target, "that port speaks no HTTP")
            return self._diagnosis.answer(problem, head, html=True)
        field = b"; ".join(value for name, value in head.headers if name.lower() == b"cookie")
        if field and sender.browser and not self.prefix:
            checked = self.jar.check(field)
            field = checked.passed
            if checked.unknown and _may_be_sent_twice(head, sender):
                whole = b"; ".join(value for name, value in head.headers if name.lower() == b"cookie")
                gone = self.jar.challenge(whole, checked.unknown, head.path)
                if gone:
                    # As a whole URL: a path of two slashes at its beginning would be another host's.
                    here = b"http://" + (head.header(b"host") or b"") + head.target
                    fields: Headers = [(b"Location", here), (b"Cache-Control", b"no-store")]
                    return Respond(307, fields + [(b"Set-Cookie", one) for one in gone])
        return self.forward(head, sender, field)

    def forward(
        self, head: RequestHead, sender: Sender, cookie: bytes, *, renewed: bool = False, agrees: bool = False
    ) -> Forward:
        """The request as it goes to the route with what is known now, the first time or once more.

        renewed: the route's credentials were renewed for it, which is not done twice. agrees: it is asked again with an
        X-Forwarded-Host that is the Host.
        """
        assert self._resolved is not None
        way = self._route.way(replace(self._resolved.target, scheme=self._scheme))
        exchange = Exchange(self, head, sender, cookie, way, renewed=renewed, agrees=agrees or self.host_header.agrees)
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
            switched=exchange.switched if head.upgrade is not None else None,
            holds=None if renewed or agrees else partial(self._holds, self._version, self._route.generation),
        )

    # What its exchanges ask

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def diagnosis(self) -> Diagnosis:
        return self._diagnosis

    @property
    def names(self) -> frozenset[bytes]:
        return self._names

    @property
    def loopback(self) -> frozenset[bytes]:
        """Hosts by which the target means itself when it takes its own machine for the browser's."""
        return self._loopback

    def resolved(self) -> Target:
        """The target with the port that is meant and the scheme that it speaks as far as is known."""
        assert self._resolved is not None
        return replace(self._resolved.target, scheme=self._scheme)

    async def renew(self) -> bool:
        """The route's credentials were refused. Whether there are new ones."""
        return await self._route.renew()

    def host_for(self, head: RequestHead) -> HostHeader:
        """The choice of Host for a request. Upgrades go by that of pages until one of them was answered."""
        if head.upgrade is None or self._upgrades is None:
            return self.host_header
        return self._upgrades

    def _own_choice(self, head: RequestHead) -> HostHeader:
        if head.upgrade is not None and self._upgrades is None:
            self._upgrades = self.host_header.apart()
        return self.host_for(head)

    # What they have learned from answers

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
        self.changed()
        return True

    def takes(self, host: bytes | None, head: RequestHead) -> None:
        """It has answered a page, or accepted an upgrade, to a request with this Host (None for the outer name)."""
        if self._own_choice(head).taken(host):
            self._learned(self.target)

    def refuses(self, host: bytes | None, head: RequestHead) -> bool:
        """It has refused a request with this Host. Whether another one is worth a try."""
        if not self._own_choice(head).refused(host):
            return False
        upgrades = self._upgrades
        if head.upgrade is None and upgrades is not None and upgrades.settled is not Settled.taken:
            self._upgrades = None  # what pages are sent now is to be tried first
        self.changed()
        return True

    def prefers(self, host: bytes) -> bool:
        """It has sent a browser to this name of its own. Whether that is news."""
        if not self.host_header.prefers(host):
            return False
        self._upgrades = None
        self.changed()
        return True

    def agrees(self, *, taken: bool) -> None:
        """It has taken, or refused, a request whose X-Forwarded-Host was its Host."""
        if self.host_header.agreed(taken):
            self.changed()

    def needs(self, why: str) -> None:
        """It asks for something that the route cannot carry."""
        if self.needs_forward != why:
            self.needs_forward = why
            self._learned(self.target)

    def changed(self) -> None:
        """Decisions of before do not hold any more."""
        self._version += 1
        self._learned(self.target)


def _may_be_sent_twice(head: RequestHead, sender: Sender) -> bool:
    if head.upgrade is not None or sender.dest in _WORKERS:
        return False
    length = head.header(b"content-length")
    if head.header(b"transfer-encoding") is not None:
        return False
    return length is None or int(length) <= _SMALL
