"""The contract of a route.

A route answers questions about a target. `prepare`: can the route reach it, and what does the route carry? `route_to`:
how does an HTTP exchange get there? A route that carries any protocol also opens connections (`ByteRoute.connect`). The
chooser (`chooser.py`) asks the routes one after the other; the door and `hatchway forward` use the chosen route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hatchway.proxy.routing import Headers, Upstream
from hatchway.route.podport import ReadyPods
from hatchway.target import Target


@dataclass(frozen=True, slots=True)
class RouteCapabilities:
    """The parts of requests that a route carries unchanged; each attribute is True or False.

    authorization: the client's `Authorization` field arrives.
    methods: methods beyond GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS arrive.
    codings: bodies arrive in any content coding, including HTML in Brotli and Zstandard.
    unchanged: pages and redirects arrive as the application has written them.
    transparent: every answer is the application's; no proxy on the way answers in its place.
    any_protocol: protocols other than HTTP arrive, too, over TCP.
    datagrams: UDP arrives, too.
    """

    authorization: bool
    methods: bool
    codings: bool
    unchanged: bool
    transparent: bool = False
    any_protocol: bool = False
    datagrams: bool = False

    @property
    def whole(self) -> bool:
        """Return True if every application that speaks HTTP works by this route."""
        return self.authorization and self.methods and self.codings and self.unchanged


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a route cannot reach a target.

    why: the reason, as one sentence without a full stop.
    missing_rule: YAML of the RBAC rule with which an administrator can allow it; "" when no right is missing.
    missing: (verb, resource with its subresource, namespace) of the missing right; None when no right is missing.
    """

    why: str
    missing_rule: str = ""
    missing: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class TargetRoute:
    """Describes how HTTP exchanges reach one target by one route.

    name: the route's name.
    upstream: the server to which exchanges are sent.
    prefix: the path before the application's own path, without a slash at its end; b"" for none.
    fields: the route's own request fields, credentials among them.
    capabilities: what the route carries to this target.
    authorization_field: the field in which the client's `Authorization` is sent, if the route carries it.
    host: the `Host` that the route needs; None: the application's own.
    """

    name: str
    upstream: Upstream
    prefix: bytes
    fields: Headers
    capabilities: RouteCapabilities
    authorization_field: bytes = b"Authorization"
    host: bytes | None = None


class Unreached(Enum):
    """The reasons why there is no connection to a target."""

    AWAY = "the API server cannot be reached"
    NO_CREDENTIALS = "there are no credentials for the API server"
    CREDENTIALS = "the API server refuses the credentials"
    NODE_AWAY = "the node of the route by SSH cannot be reached"
    NODE_REFUSES = "the node of the route by SSH refuses the user"
    FORBIDDEN = "a right is missing"
    MISSING = "the target, or its port, does not exist"
    OUT_OF_REACH = "the route cannot reach such a target"
    NO_PODS = "no pod is ready"
    FAILED = "the pods could not be reached"
    REFUSED = "the pod refused the connection"


class TargetUnreached(ConnectionError):
    """No connection to a target was made, and nothing was sent to it.

    cause: the reason.
    message: what was tried, on what, and what happened; one line without a final full stop.
    hint: what to do next; "" when there is nothing to add.
    missing_rule: YAML of the RBAC rule that would allow the connection; "" when no right is missing.
    """

    def __init__(self, cause: Unreached, message: str, hint: str = "", missing_rule: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.hint = hint
        self.missing_rule = missing_rule


class Route(Protocol):
    """A way to carry one user's exchanges to targets.

    name: the route's name, as `--via` spells it.
    """

    name: str

    @property
    def generation(self) -> int:
        """Return a number that changes whenever `route_to` may give another answer."""
        ...

    @property
    def ready(self) -> bool:
        """Return True when `route_to` may be called now for targets that `prepare` has accepted before."""
        ...

    async def prepare(self, target: Target) -> RouteCapabilities | Refusal:
        """Return what the route carries to a target, or a Refusal. This may send access reviews, but does not connect.

        Raises:
            HatchwayError: the answer cannot be found out now; ApiError 503 when the API server cannot be reached.
        """
        ...

    def route_to(self, target: Target) -> TargetRoute:
        """Return how exchanges reach a target that `prepare` has accepted. Call it only while `ready` is True."""
        ...

    async def renew(self) -> bool:
        """Renew the route's credentials, which were refused. Return True when another attempt is worthwhile."""
        ...


class DatagramLink(Protocol):
    """Datagrams to and from one address."""

    def send(self, data: bytes) -> None:
        """Send a datagram. It may be lost, as on every network."""
        ...

    def close(self) -> None:
        """Close the link. Its callbacks are not called any more."""
        ...


class ByteRoute(Route, Protocol):
    """A route that carries any protocol."""

    async def begin(self) -> None:
        """Make the objects that the route needs in the cluster, if it needs any. Call it after `run` was started.

        Raises:
            HatchwayError: the objects cannot be made.
        """
        ...

    async def run(self) -> None:
        """Keep the route's view of the cluster up to date until cancelled; then end all connections."""
        ...

    async def ready_pods(self, target: Target) -> ReadyPods:
        """Return the ready pods of a target.

        Raises:
            TargetUnreached: the pods cannot be listed.
        """
        ...

    def connect_now(self, target: Target) -> asyncio.Transport | None:
        """Do what `connect` does if that is possible without waiting; otherwise return None."""
        ...

    async def connect(self, target: Target, patience: float = 0.0) -> asyncio.Transport:
        """Open a connection to a target, which must have a port.

        Args:
            target: a target of any kind; a route may not reach all kinds.
            patience: how many seconds to wait for a ready pod, or for an API server that cannot be reached.

        Returns:
            A transport. The caller sets its protocol; it reads nothing before its `resume_reading` is called.

        Raises:
            TargetUnreached: there is no connection.
        """
        ...

    async def connect_datagrams(
        self, target: Target, receive: Callable[[bytes], None], ended: Callable[[TargetUnreached | None], None]
    ) -> DatagramLink:
        """Open a link for datagrams to a target's UDP port. Call it only if the capabilities have `datagrams`.

        Args:
            target: a target with a port.
            receive: called with each datagram from the target.
            ended: called once when the link ends, with the reason or None; not called after `close`.

        Raises:
            TargetUnreached: the link cannot be opened now.
        """
        ...
