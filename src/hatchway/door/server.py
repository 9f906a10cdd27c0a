"""The door put together: router, sites, the portal's live view; and its life, from listening to the last connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hatchway.door.apisite import ApiSite
from hatchway.door.diagnosis import Diagnosis
from hatchway.door.hostheader import HostHeader, Settled
from hatchway.door.listeners import listen, printed
from hatchway.door.lookup import Lookup
from hatchway.door.options import Options
from hatchway.door.pages import error_answer
from hatchway.door.problems import from_status
from hatchway.door.router import Router
from hatchway.door.targetsite import TargetSite
from hatchway.kube.connection import Connection
from hatchway.proxy.limits import Limits
from hatchway.proxy.routing import ASGIApp, Respond
from hatchway.proxy.server import Server, serve
from hatchway.proxy.upstream import Pool
from hatchway.route.chooser import choose
from hatchway.target import Target

if TYPE_CHECKING:
    from hatchway.door.portal.feed import Feed
    from hatchway.door.portal.model import Facts


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a door is reached. addresses: as `kubectl proxy` prints them. url: the portal's, "" on a Unix socket."""

    addresses: tuple[str, ...]
    url: str


class Door:
    """One door in front of one API server. Make it in an event loop, `running` serves it."""

    def __init__(self, connection: Connection, options: Options) -> None:
        """Raises HatchwayError for a route that does not exist."""
        self._connection = connection
        connection.keepalive = options.keepalive
        self._options = options
        self._lookup = Lookup(connection)
        self._diagnosis = Diagnosis(connection, self._lookup, options.domain)
        self._route = choose(options.via, connection)
        self._group: asyncio.TaskGroup | None = None
        self._portal: ASGIApp | None = None
        self._feed: Feed | None = None
        self._files: ASGIApp | None = None
        self.router = Router(
            domain=options.domain,
            filter=options.filter,
            api=ApiSite(
                connection,
                self._diagnosis,
                prefix=options.api_prefix,
                append_server_path=options.append_server_path,
            ),
            make_site=self._make_site,
            diagnosis=self._diagnosis,
            portal=self._make_portal,
            files=self._make_files if options.www else None,
            files_prefix=options.www_prefix if options.www_prefix.endswith("/") else options.www_prefix + "/",
        )

    def _make_site(self, target: Target, host: bytes, prefix: bytes) -> TargetSite:
        return TargetSite(
            target,
            host,
            connection=self._connection,
            route=self._route,
            lookup=self._lookup,
            diagnosis=self._diagnosis,
            domain=self._options.domain,
            wanted=self._options.host_header,
            prefix=prefix,
            learned=self._learned,
        )

    def _learned(self, target: Target) -> None:
        if self._feed is not None:
            self._feed.facts_changed(target.kind, target.namespace, target.name)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Listening]:
        """Serve for the length of a block. Raises HatchwayError when it cannot listen."""
        sockets = listen(self._options)
        limits = Limits(idle_upstreams_per_key=256)
        pool = Pool(limits)
        servers: list[Server] = []
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                background = [group.create_task(self._connection.watch_files(), name="kubeconfig")]
                for sock in sockets:
                    servers.append(
                        await serve(self.router.route, sock=sock, limits=limits, pool=pool, error_body=_engine_error)
                    )
                port = 0 if self._options.unix_socket else servers[0].port
                self._diagnosis.port = port
                try:
                    yield Listening(tuple(printed(sock) for sock in sockets), self._diagnosis.portal)
                finally:
                    for server in servers:
                        await server.close(0.0)
                    for task in background + list(self._tasks):
                        task.cancel()
        finally:
            for sock in sockets:
                sock.close()
            pool.close()
            if self._options.unix_socket:
                Path(self._options.unix_socket).unlink(missing_ok=True)
            await self._connection.aclose()

    # The portal

    _tasks: tuple[asyncio.Task[None], ...] = ()

    def _make_portal(self) -> ASGIApp:
        if self._portal is None:
            # Not before somebody looks: it takes time to import, and asks for everything that may be listed.
            from hatchway.door.portal.app import make_app
            from hatchway.door.portal.feed import Feed
            from hatchway.kube.view import View

            assert self._group is not None
            view = View(self._connection)
            self._feed = Feed(view, self)
            self._portal = make_app(self._feed)
            self._tasks = (self._group.create_task(view.run(), name="view"),)
        return self._portal

    def _make_files(self) -> ASGIApp:
        if self._files is None:
            from hatchway.door.static import Directory

            prefix = self._options.www_prefix
            self._files = Directory(self._options.www, prefix if prefix.endswith("/") else prefix + "/")
        return self._files

    # What the portal asks (`portal.model.Door`)

    @property
    def context(self) -> str:
        return self._connection.context

    @property
    def server(self) -> str:
        return self._connection.server

    def host_url(self, target: Target) -> str:
        return self._diagnosis.host_url(target)

    def facts(self, target: Target) -> Facts:
        from hatchway.door.portal.model import Facts

        sites = self.router.sites_of(target)
        if not sites:
            return Facts(route=self._route.name)
        # A target has a site for each of its ports that was asked for; its default port speaks for it.
        main = next((site for site in sites if not site.target.port), sites[0])
        needs = next((site.needs_forward for site in sites if site.needs_forward), "")
        return Facts(_described(main.host_header), self._route.name, needs)


def _described(choice: HostHeader) -> str:
    name = choice.value.decode("latin-1") if choice.value is not None else "the host name in the address bar"
    return name if choice.settled is Settled.open else f"{name} ({choice.settled.value})"


def _engine_error(status: int, message: str) -> Respond:
    return error_answer(from_status(status, message), accept_html=False)
