"""Chooses the route to each target, and caches the choice for some time."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from hatchway.errors import ApiError
from hatchway.kube.connection import Connection
from hatchway.route.apiproxy import ApiProxyRoute
from hatchway.route.contract import Refusal, Route, RouteCapabilities, TargetRoute
from hatchway.route.via import Via
from hatchway.target import Target

if TYPE_CHECKING:
    from hatchway.route.contract import ByteRoute
    from hatchway.route.relayoptions import RelayOptions
    from hatchway.route.sshdestination import SshDestination

_WORDS: Final = {"api": "the API server's proxy", "forward": "port-forward", "ssh": "SSH", "relay": "a relay pod"}
_PINNED: Final = "as the command line says"
# The seconds for which a choice that depends on the user's rights is valid.
_VALID_SECONDS: Final = 30.0
# The maximum number of targets whose choice is cached.
_MOST: Final = 4096


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The route that was chosen for a target.

    route: None when none of the routes reaches the target.
    capabilities: what the route carries; None without a route.
    refusals: why other routes were not chosen: (the route's name, the reason).
    valid_until: the time (`time.monotonic`) at which the choice expires, unless the connection changes before that.
    """

    route: Route | None
    capabilities: RouteCapabilities | None
    refusals: tuple[tuple[str, Refusal], ...] = ()
    valid_until: float = math.inf


class RouteChooser:
    """Chooses a route for each target, and caches the choice for a while. `run` keeps the routes up to date."""

    def __init__(
        self,
        via: Via,
        connection: Connection,
        on_change: Callable[[Target], None] = lambda target: None,
        ssh: SshDestination | None = None,
        relay: RelayOptions | None = None,
    ) -> None:
        """Make a chooser that has chosen nothing yet.

        Args:
            via: the only route to use, or auto.
            connection: the API server, with the user's credentials.
            on_change: called with a target after the first choice for this target, and after each change of the choice.
            ssh: the node to log in to, for `Via.ssh`.
            relay: the pod that may be made, for `Via.relay`.
        """
        self._via = via
        self._connection = connection
        self._api = ApiProxyRoute(connection)
        self._ssh = ssh
        self._relay = relay
        self._byte_route: ByteRoute | None = None
        self._group: asyncio.TaskGroup | None = None
        self._choices: dict[Target, RouteChoice] = {}
        self._on_change = on_change
        self._changes = 0
        # The number of calls of `forget`, each of which reports a failed attempt.
        self._failures = 0

    async def run(self) -> None:
        """Keep the routes' view of the cluster up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            if self._byte_route is not None:
                group.create_task(self._byte_route.run(), name=self._byte_route.name)
            await asyncio.Event().wait()

    def byte_route(self) -> ByteRoute:
        """Return the route that carries any protocol: port-forward, SSH or a relay; created on first use."""
        if self._byte_route is None:
            self._byte_route = self._make_byte_route()
            if self._group is not None:
                self._group.create_task(self._byte_route.run(), name=self._byte_route.name)
        return self._byte_route

    def _make_byte_route(self) -> ByteRoute:
        # Imported here: these imports take longer than all others together, and a door that uses only the proxy verb
        # does not need them.
        connection = self._connection
        if self._via is Via.ssh:
            from hatchway.route.ssh import SshRoute

            assert self._ssh is not None
            return SshRoute(connection, self._ssh)
        if self._via is Via.relay:
            from hatchway.route.relayroute import RelayRoute

            assert self._relay is not None
            return RelayRoute(connection, self._relay)
        from hatchway.kube.streams.portforwardsession import PortForwardSession
        from hatchway.route.portforward import PortForwardRoute

        return PortForwardRoute(connection, functools.partial(PortForwardSession.open, connection))

    @property
    def generation(self) -> tuple[int, int]:
        """Return numbers that change whenever a choice, or the answer of `route_to`, may have changed."""
        return self._connection.generation, self._changes

    def choice(self, target: Target) -> RouteChoice | None:
        """Return the valid choice for a target; None when there is none, so that `prepare` has to be awaited."""
        found = self._choices.get(_without_scheme(target))
        if found is None or found.valid_until < time.monotonic():
            return None
        return found if found.route is None or found.route.ready else None

    def last_choice(self, target: Target) -> RouteChoice | None:
        """Return the last choice for a target, valid or not; None when there was none."""
        return self._choices.get(_without_scheme(target))

    async def prepare(self, target: Target) -> RouteChoice:
        """Choose a route for a target.

        Raises:
            HatchwayError: no choice can be made now; ApiError 503 when the API server cannot be reached.
        """
        failures = self._failures
        found = await self._choose(target)
        if failures != self._failures:
            # An attempt has failed meanwhile, and the choice may not consider this. Only this request uses the choice.
            found = replace(found, valid_until=-math.inf)
        key = _without_scheme(target)
        before = self._choices.get(key)
        if before is not None and (before.route, before.capabilities) != (found.route, found.capabilities):
            self._changes += 1
        if len(self._choices) >= _MOST:
            self._choices.clear()
        self._choices[key] = found
        if before is None or (before.route, before.refusals) != (found.route, found.refusals):
            self._on_change(target)
        return found

    async def _choose(self, target: Target) -> RouteChoice:
        api = self._api
        if self._via is Via.api:
            return _choice_of(api, await api.prepare(target))
        by_proxy: RouteCapabilities | Refusal | None = None
        if self._via is Via.auto:
            by_proxy = await api.prepare(target)
            if isinstance(by_proxy, RouteCapabilities) and by_proxy.whole:
                return RouteChoice(api, by_proxy)
        route = self.byte_route()
        try:
            by_route = await route.prepare(target)
        except ApiError as error:
            if self._via is not Via.auto or error.code in (401, 503):
                raise
            # The server, or a gateway in front of it, may not answer access reviews; the proxy verb may still work.
            by_route = Refusal(f"Hatchway cannot find out whether you may use port-forward: {error.message}")
        choice = _choice_of(route, by_route)
        if choice.route is None and by_proxy is not None:
            return replace(_choice_of(api, by_proxy), refusals=choice.refusals, valid_until=choice.valid_until)
        return choice

    def describe(self, target: Target | None) -> str:
        """Return, in words, by which route a target is reached, and why. target: None before the first request."""
        choice = self._choices.get(_without_scheme(target)) if target is not None else None
        if choice is None:
            return f"{_WORDS[self._via.value]}, {_PINNED}" if self._via is not Via.auto else ""
        why = "; ".join(refusal.why for _, refusal in choice.refusals)
        if choice.route is None:
            return f"none: {why}"
        if why:
            why = f"since {why}"
        elif self._via is not Via.auto:
            why = _PINNED
        elif choice.route is self._api:
            why = "since it changes nothing on the way in this cluster"
        else:
            why = "since the API server's proxy does not carry everything"
        return f"{_WORDS[choice.route.name]}, {why}"

    def forget(self, target: Target) -> None:
        """Forget the choice for a target, because an attempt by that route has failed. `prepare` chooses again."""
        self._failures += 1
        if self._choices.pop(_without_scheme(target), None) is not None:
            self._changes += 1

    def route_to(self, target: Target) -> TargetRoute:
        """Return how exchanges reach a target, for which a route has been chosen."""
        choice = self._choices[_without_scheme(target)]
        assert choice.route is not None
        return choice.route.route_to(target)

    async def renew(self) -> bool:
        """Renew the credentials, which were refused. Return True when another attempt is worthwhile."""
        return await self._connection.renew()


def _choice_of(route: Route, answer: RouteCapabilities | Refusal) -> RouteChoice:
    until = math.inf if isinstance(route, ApiProxyRoute) else time.monotonic() + _VALID_SECONDS
    if isinstance(answer, Refusal):
        return RouteChoice(None, None, ((route.name, answer),), until)
    return RouteChoice(route, answer, (), until)


def _without_scheme(target: Target) -> Target:
    return replace(target, scheme="") if target.scheme else target
