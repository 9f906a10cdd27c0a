"""The door's routing function: finds the site of a request by its Host.

    localhost, and all that --accept-hosts accepts   the portal, the API, files (--www)
    [PORT.]NAME.NS.svc.localhost ...                 a target
    HOST.ingress.localhost                           the controller of the Ingress that has this host
    prefix.localhost                                 targets under their proxy paths

The engine does not call this function for a repeated head while the `CachedDecision` about that head is valid.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hatchway.door.address import DoorAddress
from hatchway.door.apisite import FORBIDDEN, ApiSite, clean_path, redirect
from hatchway.door.assets import INGRESSES
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.guard import Sender
from hatchway.door.ingresslookup import IngressLookup
from hatchway.door.problems.notfound import unknown_host, unknown_ingress_host
from hatchway.door.requestfilter import RequestFilter, host_name
from hatchway.door.targetsite import TargetSite
from hatchway.errors import HatchwayError
from hatchway.kube.ingresshosts import LABEL, IngressHost
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
# The maximum number of sites that are stored, and the longest path prefix of a site in bytes (names have up to 253
# characters).
_MAX_SITES = 1024
_LONGEST_PREFIX = 1024
# Values of Sec-Fetch-Dest for content that a browser does not execute. Other content must not come from an application
# on the API's origin.
_PASSIVE = frozenset((b"", b"empty", b"image", b"audio", b"video", b"track", b"font"))
# A proxy path anywhere in a path. Programs between the door and the API server may change the path.
_PROXY_VERB = re.compile(rb"/+api/+v1/+(?:namespaces/+[^/]*/+(?:services|pods)|nodes)/+[^/]*/+proxy(?:/|\Z)")
# A path is decoded at most this many times: an API server decodes it once, and proxies in front of it may do so, too.
_MAX_DECODINGS = 4
_FILTER_HINT = "To allow this request, start the door with other flags: `hatchway proxy --help` explains them."


@dataclass(frozen=True, slots=True)
class OwnApplications:
    """Makes the applications of the door's own origins when they are first needed.

    portal: the portal.
    prefix_list: the list of targets under a path prefix.
    files: the directory of --www; None without one.
    files_prefix: the path below which they are served, with a slash at both ends.
    """

    portal: Callable[[], ASGIApp]
    prefix_list: Callable[[], ASGIApp]
    files: Callable[[], ASGIApp] | None
    files_prefix: bytes


@dataclass(frozen=True, slots=True)
class IngressSites:
    """The sites of hosts of Ingresses.

    lookup: finds the controller of a host.
    make_site: makes the site of a controller from its target, the host name at the door, and the Host to send to it.
    """

    lookup: IngressLookup
    make_site: Callable[[Target, bytes, str], TargetSite]


class DoorRouter:
    """Finds the site of a request."""

    def __init__(
        self,
        *,
        address: DoorAddress,
        filter: RequestFilter | None,
        api: ApiSite,
        make_site: Callable[[Target, bytes, bytes], TargetSite],
        ingress: IngressSites,
        diagnosis: Diagnosis,
        applications: OwnApplications,
    ) -> None:
        """Store the arguments.

        Args:
            address: the address at which browsers reach the door.
            filter: `kubectl proxy`'s filter; None when it is off.
            api: the raw API.
            make_site: makes the site of a target, for a host name (without a port) and a path prefix (b"" for none).
            ingress: the sites of hosts of Ingresses.
            diagnosis: makes the door's own answers.
            applications: the portal, the list of targets, and the files of --www.
        """
        self._address = address
        self._domain = address.domain.encode()
        self._filter = filter
        self._api = api
        self._make_site = make_site
        self._ingress = ingress
        self._ingress_domain = f".{LABEL}.{address.domain}".encode()
        self._diagnosis = diagnosis
        self._applications = applications
        # The key is a host name, or a path prefix with a slash at its beginning. The last used site is at the end.
        self._sites: OrderedDict[bytes, TargetSite] = OrderedDict()
        self._by_target: dict[tuple[str, str, str], list[TargetSite]] = {}

    def route(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        """Return the decision for a request."""
        host = head.header(b"host") or b""
        name = host_name(host).removesuffix(b".")
        if name.endswith(self._ingress_domain):
            return self._route_ingress(head, name)
        site = self._use_site(name)
        if site is None and name.endswith(b"." + self._domain):
            if name == b"prefix." + self._domain:
                return self._route_prefix(head)
            try:
                target = parse_host_name(name.decode("ascii", "replace"), self._domain.decode())
            except TargetError:
                if not self._accepts_host(host):
                    navigates = Sender.of(head).navigates
                    return self._diagnosis.unknown_host(name.decode("latin-1"), head, html=navigates)
            else:
                site = self._add_site(name, target, name, b"")
        if site is not None:
            return self._route_target(site, head)
        return self._route_own_origin(head, host)

    # Targets

    def _route_target(self, site: TargetSite, head: RequestHead) -> Decision | Awaitable[Decision]:
        # Flags that exclude a target's proxy path from the API exclude its host name, too.
        target = site.knowledge.target
        if self._filter is not None and not self._filter.accepts(head.method, format_proxy_path(target).encode()):
            return self._refused_by_filter(str(target), head)
        return site.route(head)

    def _use_site(self, key: bytes) -> TargetSite | None:
        """Return a stored site, and move it to the end; None when there is none."""
        site = self._sites.get(key)
        if site is not None:
            self._sites.move_to_end(key)
        return site

    def _add_site(self, key: bytes, target: Target, host: bytes, prefix: bytes) -> TargetSite:
        """Make a target's site, and store it."""
        site = self._make_site(target, host, prefix)
        if len(key) <= _LONGEST_PREFIX:
            self._keep_site(key, site)
        return site

    def _keep_site(self, key: bytes, site: TargetSite) -> None:
        """Store a site. Drop the site with the same key, or the least recently used site if there are too many."""
        if key in self._sites:
            self._forget_site(key)
        elif len(self._sites) >= _MAX_SITES:
            self._forget_site(next(iter(self._sites)))
        self._sites[key] = site
        self._by_target.setdefault(_target_key(site.knowledge.target), []).append(site)

    def _forget_site(self, key: bytes) -> None:
        gone = self._sites.pop(key)
        target_key = _target_key(gone.knowledge.target)
        of_target = self._by_target[target_key]
        of_target.remove(gone)
        if not of_target:
            del self._by_target[target_key]

    def sites_of(self, target: Target) -> Sequence[TargetSite]:
        """Return the sites of a service, pod or node, oldest first, for all its ports and schemes."""
        return self._by_target.get(_target_key(target), ())

    # Hosts of Ingresses

    def _route_ingress(self, head: RequestHead, name: bytes) -> Decision | Awaitable[Decision]:
        lookup = self._ingress.lookup
        host = name[: -len(self._ingress_domain)].decode("latin-1")
        if lookup.is_fresh:
            return self._route_to_controller(head, name, host, lookup.known(host))
        return self._find_controller(head, name, host)

    async def _find_controller(self, head: RequestHead, name: bytes, host: str) -> Decision:
        try:
            entry = await self._ingress.lookup.find(host)
        except HatchwayError as error:
            return self._diagnosis.failed(error, head, html=Sender.of(head).navigates)
        found = self._route_to_controller(head, name, host, entry)
        return await found if isinstance(found, Awaitable) else found

    def _route_to_controller(
        self, head: RequestHead, name: bytes, host: str, entry: IngressHost | None
    ) -> Decision | Awaitable[Decision]:
        if entry is None:
            portal = self._address.portal_url
            listed = f"{portal}{INGRESSES.removeprefix('/')}" if portal else ""
            problem = unknown_ingress_host(host, listed)
            return self._diagnosis.answer(problem, head, html=Sender.of(head).navigates)
        site = self._use_site(name)
        if site is None or site.knowledge.target != entry.target:
            site = self._ingress.make_site(entry.target, name, host)
            self._keep_site(name, site)
        return self._route_target(site, head)

    # The portal, files and the API

    def _accepts_host(self, host: bytes) -> bool:
        # --accept-hosts has kubectl's default, which accepts only localhost and its addresses. The name of --domain is
        # accepted in addition.
        own = self._domain != b"localhost" and host_name(host) == self._domain
        return self._filter is None or own or self._filter.accepts_host(host)

    def _route_own_origin(self, head: RequestHead, host: bytes) -> Decision | Awaitable[Decision]:
        sender = Sender.of(head)
        if not self._accepts_host(host):
            return self._refused_host(host, head, sender)
        if sender.is_foreign(head, self._address.origin(host)):
            why = f"{sender.description} requested the API of your cluster"
            return self._diagnosis.refused(why, head, html=sender.navigates)
        applications = self._applications
        if head.path.startswith(PORTAL_PATHS) or (
            head.path == b"/" and sender.html and head.method in ("GET", "HEAD") and head.upgrade is None
        ):
            return App(applications.portal())
        bad = clean_path(head)
        if bad is not None:
            return bad
        if applications.files is not None:
            if head.path == applications.files_prefix[:-1] and head.path:
                return redirect(head, applications.files_prefix)
            longer = len(applications.files_prefix) > len(self._api.prefix) or not head.path.startswith(
                self._api.prefix
            )
            if longer and head.path.startswith(applications.files_prefix):
                return App(applications.files())
        path = self._api.path_of(head)
        if isinstance(path, Respond):
            return path
        return self._route_api(head, path, sender)

    def _route_api(self, head: RequestHead, path: bytes, sender: Sender) -> Decision | Awaitable[Decision]:
        if self._filter is not None and not self._filter.accepts(head.method, path):
            return self._refused_by_filter(f"{head.method} {path.decode('latin-1')}", head)
        by_browser = sender.is_browser or sender.html
        if sender.dest == b"serviceworker":
            return FORBIDDEN  # a service worker of a program behind the API server could control the portal
        if by_browser and _PROXY_VERB.search(_decoded(path)):
            elsewhere = self._away_from_own_origin(head, path, sender)
            if elsewhere is not None:
                return elsewhere
        return self._api.route(head, path, shown=by_browser)

    def _refused_host(self, host: bytes, head: RequestHead, sender: Sender) -> Respond:
        if not sender.navigates:
            return FORBIDDEN  # as `kubectl proxy` answers
        hint = f"Open {self._address.portal_url or 'the door'} instead, or allow this name with --accept-hosts."
        return self._diagnosis.refused(f"the door has no host {host.decode('latin-1')!r}", head, html=True, hint=hint)

    def _refused_by_filter(self, what: str, head: RequestHead) -> Respond:
        if not Sender.of(head).navigates:
            return FORBIDDEN  # as `kubectl proxy` answers
        why = f"--reject-paths, --reject-methods or --accept-paths exclude {what}"
        return self._diagnosis.refused(why, head, html=True, hint=_FILTER_HINT)

    def _away_from_own_origin(self, head: RequestHead, path: bytes, sender: Sender) -> Decision | None:
        """Return the answer to a browser's request for an application on the API's origin; None to forward the request.

        Applications are not shown on that origin: a browser is redirected to the target's own origin.
        """
        found = _parse_proxy_path(path)
        if found is None:
            # The path has escapes, or contains a proxy path after another path. So it is not a proxy path in this form,
            # but the API server, or a proxy in front of it, may parse it as a proxy path.
            return self._refused_spelling(head, sender)
        if sender.navigates and head.upgrade is None:
            query = b"?" + head.query if head.query is not None else b""
            rest = (found.rest or "/").encode("latin-1").removeprefix(b"/") + query
            try:
                location = self._address.url_of(found.target).encode() + rest
            except TargetError:
                location = self._address.prefix_url.encode() + path.removeprefix(b"/") + query
            return Respond(307, [(b"Location", location), (b"Cache-Control", b"no-store")])
        if sender.dest not in _PASSIVE:
            return self._refused_spelling(head, sender)
        return None

    def _refused_spelling(self, head: RequestHead, sender: Sender) -> Respond:
        why = "applications are not shown at the address of the cluster's API"
        hint = "Open the application at its own host name; the portal has a link to it."
        return self._diagnosis.refused(why, head, html=sender.navigates, hint=hint)

    # Targets under a path prefix

    def _route_prefix(self, head: RequestHead) -> Decision | Awaitable[Decision]:
        found = _parse_proxy_path(head.path)
        if found is None:
            return self._route_outside_prefixes(head)
        prefix = head.path[: len(head.path) - len(found.rest.encode("latin-1"))]
        canonical = format_proxy_path(found.target, "").encode()
        query = b"?" + head.query if head.query is not None else b""
        if head.upgrade is None and (not found.rest or prefix != canonical):
            rest = found.rest.encode("latin-1") or b"/"
            return Respond(307, [(b"Location", canonical + rest + query), (b"Cache-Control", b"no-store")])
        site = self._use_site(prefix)
        if site is None:
            site = self._add_site(prefix, found.target, host_name(head.header(b"host") or b""), prefix)
        return self._route_target(site, head)

    def _route_outside_prefixes(self, head: RequestHead) -> Decision:
        """Return the answer for a path of the prefix host that is not below any prefix."""
        stray = stray_target(head.target, head.headers)
        if stray is not None:
            return Respond(307, [(b"Location", stray), (b"Cache-Control", b"no-store")])
        sender = Sender.of(head)
        # Applications share this origin, and their scripts must not read the list.
        window = sender.dest == b"document" if sender.is_browser or sender.dest else True
        if head.path == b"/" and head.method in ("GET", "HEAD") and head.upgrade is None and window:
            return App(self._applications.prefix_list())
        domain = self._address.domain
        problem = unknown_host(f"prefix.{domain}{head.path.decode('latin-1')}", domain)
        return self._diagnosis.answer(problem, head, html=sender.navigates)


def _target_key(target: Target) -> tuple[str, str, str]:
    return target.kind, target.namespace, target.name


def _decoded(path: bytes) -> bytes:
    """Return a path with its percent-escapes decoded, repeatedly if it was escaped several times."""
    for _ in range(_MAX_DECODINGS if b"%" in path else 0):
        decoded = unquote_to_bytes(path)
        if decoded == path:
            break
        path = decoded
    return path


def _parse_proxy_path(path: bytes) -> ProxyPath | None:
    """Return a proxy path's target and rest; None for any other path."""
    try:
        return parse_proxy_path(path.decode("latin-1"))
    except TargetError:
        return None
