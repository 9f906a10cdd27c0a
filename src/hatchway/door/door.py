"""The door as a whole: connects router, sites and portal, and serves until the last connection has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatchway.door.address import DoorAddress
from hatchway.door.apisite import ApiSite
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.dooroptions import DoorOptions
from hatchway.door.doorrouter import DoorRouter, IngressSites, OwnApplications
from hatchway.door.hostheader import HostChoice, HostState
from hatchway.door.ingresslookup import IngressLookup
from hatchway.door.knowledge import TargetKnowledge
from hatchway.door.listeners import describe_listener, listen
from hatchway.door.pages import error_answer
from hatchway.door.problems.problem import from_status
from hatchway.door.targetsite import TargetSite
from hatchway.door.usersession import UserSession
from hatchway.kube.connection import Connection
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.routing import ASGIApp, Respond
from hatchway.proxy.server import Server, serve
from hatchway.route.chooser import RouteChooser
from hatchway.target import DEFAULT_PORTS, Target, TargetError

if TYPE_CHECKING:
    from hatchway.door.exposurereports import ExposureReports
    from hatchway.door.portal.feed import Feed
    from hatchway.door.portal.model import TargetFacts
    from hatchway.kube.view import View


@dataclass(frozen=True, slots=True)
class Listening:
    """The addresses at which a door is reached.

    addresses: the listening addresses as `kubectl proxy` prints them.
    url: the portal's URL; "" on a Unix socket.
    """

    addresses: tuple[str, ...]
    url: str


class Door:
    """One door in front of one API server, for one user. Make it in a running event loop; `running` serves it."""

    def __init__(self, connection: Connection, options: DoorOptions) -> None:
        self._connection = connection
        connection.keepalive = options.keepalive
        self._options = options
        self._address = DoorAddress(options.domain, options.scheme)
        self._session = UserSession(
            connection, RouteChooser(options.via, connection, self._target_changed, options.ssh), options.domain
        )
        self._diagnosis = Diagnosis(connection, self._session.lookup, self._address)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._portal: ASGIApp | None = None
        self._feed: Feed | None = None
        self._exposure: ExposureReports | None = None
        self._prefix_list: ASGIApp | None = None
        self._view: View | None = None
        self._files: ASGIApp | None = None
        self._files_prefix = options.www_prefix if options.www_prefix.endswith("/") else options.www_prefix + "/"
        self._ingresses = IngressLookup(connection, self._address, options.filter)
        self._router = DoorRouter(
            address=self._address,
            filter=options.filter,
            api=ApiSite(
                connection,
                self._diagnosis,
                prefix=options.api_prefix,
                append_server_path=options.append_server_path,
            ),
            make_site=self._make_site,
            ingress=IngressSites(self._ingresses, self._make_ingress_site),
            diagnosis=self._diagnosis,
            applications=OwnApplications(
                portal=self._make_portal,
                prefix_list=self._make_prefix_list,
                files=self._make_files if options.www else None,
                files_prefix=self._files_prefix.encode(),
            ),
        )

    def _make_site(self, target: Target, host: bytes, prefix: bytes) -> TargetSite:
        knowledge = TargetKnowledge(
            target,
            host,
            host_option=self._options.host_header,
            own_host_name=self._own_host_of(target) if prefix else b"",
            exact=bool(prefix),
            on_change=self._target_changed,
        )
        return TargetSite(
            knowledge, self._session, host=host, prefix=prefix, address=self._address, diagnosis=self._diagnosis
        )

    def _make_ingress_site(self, target: Target, host: bytes, sent_host: str) -> TargetSite:
        """Make the site for a host of an Ingress. Its controller chooses the application by Host."""
        # A name of one label may equal a keyword of --host-header (`localhost`). A name with a port is never a keyword.
        option = sent_host if "." in sent_host else f"{sent_host}:{DEFAULT_PORTS[target.scheme or 'http']}"
        knowledge = TargetKnowledge(target, host, host_option=option, on_change=self._target_changed)
        return TargetSite(knowledge, self._session, host=host, address=self._address, diagnosis=self._diagnosis)

    def _own_host_of(self, target: Target) -> bytes:
        """Return a target's own host name with the door's port; b"" when its name cannot be part of a host name."""
        try:
            url = self._address.url_of(replace(target, port="", scheme=""))
        except TargetError:
            return b""
        return url.partition("://")[2].removesuffix("/").encode()

    def _target_changed(self, target: Target) -> None:
        if self._feed is not None:
            self._feed.mark_changed(target.kind, target.namespace, target.name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Listening]:
        """Return a context manager: the door serves while its block runs.

        Raises:
            HatchwayError: the door cannot listen.
        """
        sockets = listen(self._options)
        limits = Limits(idle_upstreams_per_key=256)
        pool = Pool(limits)
        servers: list[Server] = []
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                background = [
                    group.create_task(self._connection.watch_files(), name="kubeconfig"),
                    group.create_task(self._session.routes.run(), name="routes"),
                ]
                for sock in sockets:
                    servers.append(
                        await serve(self._router.route, sock=sock, limits=limits, pool=pool, error_body=_engine_error)
                    )
                self._address.port = 0 if self._options.unix_socket else servers[0].port
                try:
                    yield Listening(tuple(describe_listener(sock) for sock in sockets), self._address.portal_url)
                finally:
                    for server in servers:
                        await server.close(0.0)
                    for task in background + list(self._tasks):
                        task.cancel()
                    if self._exposure is not None:
                        self._exposure.close()
        finally:
            for sock in sockets:
                sock.close()
            pool.close()
            if self._options.unix_socket:
                Path(self._options.unix_socket).unlink(missing_ok=True)
            await self._connection.aclose()

    # The door's own applications, made when they are first needed

    def _make_portal(self) -> ASGIApp:
        if self._portal is None:
            # Imported here because it takes time. Nothing is watched until a browser opens the portal.
            from hatchway.door.exposurereports import ExposureReports
            from hatchway.door.objectreader import ObjectReader
            from hatchway.door.portal.feed import Feed
            from hatchway.door.portal.portalapp import make_app

            assert self._group is not None
            view = self._shared_view()
            self._feed = Feed(view, self)
            options = self._options
            objects = ObjectReader(self._connection, self._address, options.filter, options.api_prefix)
            self._exposure = ExposureReports(self._connection, self._address, options.filter, options.published)
            self._portal = make_app(self._feed, self, objects, self._exposure, self._ingresses)
        return self._portal

    def _make_prefix_list(self) -> ASGIApp:
        if self._prefix_list is None:
            from hatchway.door.prefixlist import PrefixList

            self._prefix_list = PrefixList(self._shared_view(), self._address.portal_url)
        return self._prefix_list

    def _shared_view(self) -> View:
        """Return the view that all lists share; it is started on first use."""
        if self._view is None:
            from hatchway.kube.view import View

            assert self._group is not None
            self._view = View(self._connection)
            self._tasks += (self._group.create_task(self._view.run(), name="view"),)
        return self._view

    def _make_files(self) -> ASGIApp:
        if self._files is None:
            from hatchway.door.staticfiles import Directory

            self._files = Directory(self._options.www, self._files_prefix)
        return self._files

    # For the portal (`portal.model.DoorInfo`)

    @property
    def context(self) -> str:
        """Return the name of the kubeconfig's context."""
        return self._connection.context

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return self._connection.server

    def host_url(self, target: Target) -> str:
        """Return the URL of a target's host name.

        Raises:
            TargetError: the target's name cannot be part of a host name.
        """
        return self._address.url_of(target)

    def facts(self, target: Target) -> TargetFacts:
        """Return what the door has learned from a target's answers."""
        from hatchway.door.portal.model import TargetFacts

        known = [site.knowledge for site in self._router.sites_of(target)]
        routes = self._session.routes
        if not known:
            return TargetFacts(route=routes.describe(None))
        # There is a site for each port that was requested. Facts of the site without a port are preferred.
        main = next((one for one in known if not one.target.port), known[0])
        needs = next((one.unmet_need for one in known if one.unmet_need), "")
        asked = main.resolved.target if main.resolved is not None else None
        choice = routes.last_choice(asked) if asked is not None else None
        if choice is not None and choice.capabilities is not None and choice.capabilities.whole:
            needs = ""
        route = routes.describe(asked)
        return TargetFacts(_describe_host(main.host_choice), route, needs)


def _describe_host(choice: HostChoice) -> str:
    host = choice.value.host
    name = host.decode("latin-1") if host is not None else "the host name in the address bar"
    if not choice.value.forwarded:
        name += ", without X-Forwarded fields"
    return name if choice.state is HostState.OPEN else f"{name} ({choice.state.value})"


def _engine_error(status: int, message: str) -> Respond:
    return error_answer(from_status(status, message), accept_html=False)
