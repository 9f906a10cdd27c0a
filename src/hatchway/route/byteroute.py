"""The common part of the routes that carry any protocol (`contract.ByteRoute`)."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from hatchway.errors import ApiError, HatchwayError, NoCredentials
from hatchway.kube.connection import Connection
from hatchway.kube.tls import unverified
from hatchway.proxy.routing import Upstream
from hatchway.route.contract import DatagramLink, RouteCapabilities, TargetRoute, TargetUnreached, Unreached
from hatchway.target import Target, format_argument

ANY_PROTOCOL: Final = RouteCapabilities(
    authorization=True, methods=True, codings=True, unchanged=True, transparent=True, any_protocol=True
)
# The maximum number of targets whose routes are cached.
_MOST_ROUTES: Final = 4096


class AnyProtocolRoute(ABC):
    """A route with one user's credentials at one API server, whose connections carry any protocol.

    A subclass opens the connections (`connect`); exchanges of HTTP use such connections, too (`route_to`).

    name: the route's name, as `--via` spells it.
    """

    name: str

    def __init__(self, connection: Connection) -> None:
        """Make the route. connection: the API server, which has the objects of targets and knows the user's rights."""
        self._connection = connection
        self._routes: dict[Target, tuple[int, TargetRoute]] = {}

    @property
    def generation(self) -> int:
        """Return a number that changes with the connection's credentials and server."""
        return self._connection.generation

    @property
    def ready(self) -> bool:
        """Return True: opening a connection fetches everything that the connection needs."""
        return True

    async def begin(self) -> None:  # noqa: B027 (not abstract: most routes make nothing)
        """Do nothing: most routes need no object of their own in the cluster."""

    async def connect_datagrams(
        self, target: Target, receive: Callable[[bytes], None], ended: Callable[[TargetUnreached | None], None]
    ) -> DatagramLink:
        """Raise TargetUnreached: most routes carry TCP only."""
        raise TargetUnreached(Unreached.OUT_OF_REACH, f"{format_argument(target)}: this route carries TCP only")

    async def renew(self) -> bool:
        """Renew the connection's credentials. Return True when there are new ones."""
        return await self._connection.renew()

    def route_to(self, target: Target) -> TargetRoute:
        """Return how exchanges reach a target: by connections that `connect` opens and that the engine pools."""
        connection = self._connection
        known = self._routes.get(target)
        if known is None or known[0] != connection.generation:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            # Pods' certificates are not verified: they contain names inside the cluster, if any, and this machine
            # usually does not have the certificate authority that signed them.
            tls = unverified() if target.scheme == "https" else None
            key = (self.name, *connection.identity, connection.upstream.key, target)
            upstream = Upstream(key, functools.partial(self.connect, target), tls)
            known = connection.generation, TargetRoute(self.name, upstream, b"", [], ANY_PROTOCOL)
            self._routes[target] = known
        return known[1]

    @abstractmethod
    async def connect(self, target: Target, patience: float = 0.0) -> asyncio.Transport:
        """Open a connection to a target (`contract.ByteRoute.connect`)."""

    async def _translate_api_error(self, error: Exception) -> TargetUnreached:
        """Turn an error of a request to the API server into TargetUnreached; on 401, renew the credentials."""
        if isinstance(error, NoCredentials):
            return TargetUnreached(Unreached.NO_CREDENTIALS, error.message, error.hint)
        trouble = self._connection.trouble
        if trouble is not None:
            return TargetUnreached(Unreached.AWAY, trouble.reason, trouble.hint)
        if isinstance(error, ApiError) and error.code == 401:
            if await self._connection.renew():
                return TargetUnreached(
                    Unreached.AWAY, "the API server refused the credentials; they were renewed", "try again"
                )
            return TargetUnreached(Unreached.CREDENTIALS, error.message, error.hint or "log in again")
        hint = error.hint if isinstance(error, HatchwayError) else ""
        return TargetUnreached(Unreached.AWAY, error.message if isinstance(error, HatchwayError) else str(error), hint)
