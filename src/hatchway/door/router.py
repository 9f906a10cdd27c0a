"""The door's routing function: which site a request is for, told by its Host.

    localhost, and whatever --accept-hosts accepts   the portal, the API, files (--www)
    [PORT.]NAME.NS.svc.localhost ...                 a target
    prefix.localhost                                 targets under their proxy paths

A head that comes again takes the way it took before without being seen here, as long as its `Forward` holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from hatchway.door.apisite import FORBIDDEN, ApiSite, clean_path, redirect
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.filter import Filter, host_name
from hatchway.door.guard import Sender
from hatchway.door.problems import unknown_host
from hatchway.door.targetsite import TargetSite
from hatchway.proxy.routing import App, ASGIApp, Decision, RequestHead, Respond
from hatchway.rewrite.stray import stray_target
from hatchway.target import (
    ProxyPath,
    Target,
    TargetError,
    format_proxy_path,
    parse_host_name,
    parse_proxy_path,
)

PORTAL_PATHS = b"/-/hatchway/"
_SITES = 4096
# What a browser runs, or shows as a document, must not come from an application on the API's origin.
_PASSIVE = frozenset((b"", b"empty", b"image", b"audio", b"video", b"track", b"font"))


class Router:
    """domain: what host names end with. filter: `kubectl proxy`'s, None when it is off. files: the directory of --www
    under `files_prefix`, or None. portal: makes the portal's application when it is first asked for.
    """

    def __init__(
        self,
        *,
        domain: str,
        filter: Filter | None,
        api: ApiSite,
        make_site: Callable[[Target, bytes, bytes], TargetSite],
        diagnosis: Diagnosis,
        portal: Callable[[], ASGIApp],
        files: Callable[[], ASGIApp] | None,
        files_prefix: str,
    ) -> None:
        self._domain = domain.encode()
        self._filter = filter
        self._api = api
        self._make_site = make_site
        self._diagnosis = diagnosis
        self._portal = portal
        self._files = files
        self._files_prefix = files_prefix.encode()
        self._sites: dict[bytes, TargetSite] = {}
        self._prefixed: dict[bytes, TargetSite] = {}
        self._by_target: dict[tuple[str, str, str], list[TargetSite]] = {}

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        host = head.header(b"host") or b""
        name = host_name(host).removesuffix(b".")
        site = self._sites.get(name)
        if site is None and name.endswith(b"." + self._domain):
            if name == b"prefix." + self._domain:
                return self._under_prefix(head)
            try:
                target = parse_host_name(name.decode("ascii", "replace"), self._domain.decode())
            except TargetError:
                if not self._accepts_host(host):
                    problem = unknown_host(name.decode("latin-1"), self._domain.decode())
                    return self._diagnosis.answer(problem, head, html=Sender.of(head).navigates)
            else:
                site = self._sites[name] = self._new_site(target, name, b"")
        if site is not None:
            return self._to(site, head)
        return self._own_origin(head, host)

    def _to(self, site: TargetSite, head: RequestHead) -> Decision | Awaitable[Decision]:
        # What the flags keep from the API's proxy paths they keep from host names, too.
        if self._filter is not None and not self._filter.accepts(head.method, format_proxy_path(site.target).encode()):
            return self._no(f"--reject-paths, --reject-methods or --accept-paths leave out {site.target}", head)
        return site.route(head)

    def _new_site(self, target: Target, host: bytes, prefix: bytes) -> TargetSite:
        if len(self._sites) + len(self._prefixed) >= _SITES:
            for known in (self._sites, self._prefixed, self._by_target):
                known.clear()
        site = self._make_site(target, host, prefix)
        self._by_target.setdefault((target.kind, target.namespace, target.name), []).append(site)
        return site

    def sites_of(self, target: Target) -> Sequence[TargetSite]:
        """The sites that a service, pod or node has been given so far, whatever their ports and schemes, oldest first."""
        return self._by_target.get((target.kind, target.namespace, target.name), ())

    def _accepts_host(self, host: bytes) -> bool:
        # --accept-hosts speaks of kubectl's names; another domain was said to be the door's own.
        own = self._domain != b"localhost" and host_name(host) == self._domain
        return self._filter is None or own or self._filter.accepts_host(host)

    # The portal, files and the API

    def _own_origin(self, head: RequestHead, host: bytes) -> Decision | Awaitable[Decision]:
        sender = Sender.of(head)
        if not self._accepts_host(host):
            return self._no(f"the door has no host {host.decode('latin-1')!r}", head)
        if sender.foreign(head, b"http://" + host):
            return self._no(f"{sender.who} asked for the API of your cluster", head)
        if head.path.startswith(PORTAL_PATHS) or (
            head.path == b"/" and sender.html and head.method in ("GET", "HEAD") and head.upgrade is None
        ):
            return App(self._portal())
        bad = clean_path(head)
        if bad is not None:
            return bad
        if self._files is not None:
            if head.path == self._files_prefix[:-1] and head.path:
                return redirect(head, self._files_prefix)
            longer = len(self._files_prefix) > len(self._api.prefix) or not head.path.startswith(self._api.prefix)
            if longer and head.path.startswith(self._files_prefix):
                return App(self._files())
        path = self._api.path_of(head)
        if isinstance(path, Respond):
            return path
        if self._filter is not None and not self._filter.accepts(head.method, path):
            return FORBIDDEN
        if (sender.browser or sender.html) and b"/proxy" in path:
            elsewhere = self._not_here(head, path, sender)
            if elsewhere is not None:
                return elsewhere
        return self._api.route(head, path)

    def _no(self, why: str, head: RequestHead) -> Respond:
        return self._diagnosis.refused(why, head, html=True) if Sender.of(head).navigates else FORBIDDEN

    def _not_here(self, head: RequestHead, path: bytes, sender: Sender) -> Decision | None:
        """Applications are not shown on the API's origin: a browser is sent to the target's own."""
        found = _proxied(path)
        if found is None:
            return None
        if sender.navigates and head.upgrade is None:
            query = b"?" + head.query if head.query is not None else b""
            rest = (found.rest or "/").encode("latin-1").removeprefix(b"/") + query
            try:
                location = self._diagnosis.host_url(found.target).encode() + rest
            except TargetError:
                location = self._diagnosis.prefix_url.encode() + path.removeprefix(b"/") + query
            return Respond(307, [(b"Location", location), (b"Cache-Control", b"no-store")])
        if sender.dest not in _PASSIVE:
            return FORBIDDEN
        return None

    # Targets under a path prefix

    def _under_prefix(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        found = _proxied(head.path)
        if found is None:
            stray = stray_target(head.target, head.headers)
            if stray is not None:
                return Respond(307, [(b"Location", stray), (b"Cache-Control", b"no-store")])
            problem = unknown_host(
                f"prefix.{self._domain.decode()}{head.path.decode('latin-1')}", self._domain.decode()
            )
            return self._diagnosis.answer(problem, head, html=Sender.of(head).navigates)
        prefix = head.path[: len(head.path) - len(found.rest.encode("latin-1"))]
        canonical = format_proxy_path(found.target, "").encode()
        query = b"?" + head.query if head.query is not None else b""
        if head.upgrade is None and (not found.rest or prefix != canonical):
            rest = found.rest.encode("latin-1") or b"/"
            return Respond(307, [(b"Location", canonical + rest + query), (b"Cache-Control", b"no-store")])
        site = self._prefixed.get(prefix)
        if site is None:
            name = host_name(head.header(b"host") or b"")
            site = self._prefixed[prefix] = self._new_site(found.target, name, prefix)
        return self._to(site, head)


def _proxied(path: bytes) -> ProxyPath | None:
    """The target of a proxy path, or None for any other."""
    try:
        return parse_proxy_path(path.decode("latin-1"))
    except TargetError:
        return None
