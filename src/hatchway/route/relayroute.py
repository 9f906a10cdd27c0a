"""The route through a relay pod: any protocol over TCP, and UDP, dialed from a small pod that is made in the cluster.

The pod is reached by port-forward, and dials the target's address: a ClusterIP, an endpoint of a Service without a
selector, an external name, a node, or any address. The pod is made only when the user has requested it (`--relay`).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube import access
from hatchway.kube.connection import Connection
from hatchway.kube.streams.portforwardsession import PortForwardSession
from hatchway.route.byteroute import ANY_PROTOCOL
from hatchway.route.contract import DatagramLink, Refusal, RouteCapabilities, TargetUnreached, Unreached
from hatchway.route.dialing import DialingRoute
from hatchway.route.dialplan import DialAddress
from hatchway.route.podport import ReadyPods
from hatchway.route.podsessions import OpenSession
from hatchway.route.podstream import PodStream
from hatchway.route.portforward import PortForwardRoute
from hatchway.route.relayoptions import RIGHTS, RelayOptions
from hatchway.route.relaypod import RelayKeeper, RelayPod
from hatchway.route.relaystream import DatagramStream, RelayLost, RelayStream, ask
from hatchway.target import Target, format_argument
from hatchway.wire.podrelay import RelayAnswer, RelayProtocolError, format_renewal, format_request

_T = TypeVar("_T")

_CAPABILITIES: Final = replace(ANY_PROTOCOL, datagrams=True)
# The rights (verb, resource, subresource) without which the route does not work. The other rights of RIGHTS are for
# older servers, or for the removal of pods of earlier commands.
_NEEDED: Final = (
    ("create", "pods", ""),
    ("get", "pods", ""),
    ("list", "pods", ""),
    ("watch", "pods", ""),
    ("delete", "pods", ""),
    ("create", "pods", "portforward"),
)
# How long the relay may take to answer (seconds): first for a request, for which the relay tries to connect for ten
# seconds; then for a renewal.
_ANSWER_SECONDS, _RENEWAL_SECONDS = 15.0, 10.0
# The maximum number of relays that one connection tries: the first one may have ended a moment ago.
_RELAYS: Final = 2
# The cause for each kind of error that the relay reports (`RelayAnswer.kind`).
_CAUSES: Final = {"refused": Unreached.REFUSED, "name": Unreached.MISSING}
# Causes of a failed connection to the relay's pod that may mean that the pod has gone.
_GONE: Final = (Unreached.MISSING, Unreached.NO_PODS, Unreached.REFUSED, Unreached.FAILED)


class _Unreachable(Exception):
    """The relay's pod was not reached. (`TargetUnreached` means that the relay does not reach the target.)"""

    def __init__(self, problem: TargetUnreached) -> None:
        super().__init__(problem.message)
        self.problem = problem


class RelayRoute(DialingRoute):
    """The route through a relay pod (`contract.ByteRoute`). `run` keeps the pod, and removes it at the end.

    name: the route's name, as `--via` spells it.
    """

    name = "relay"

    def __init__(self, connection: Connection, options: RelayOptions, open_session: OpenSession | None = None) -> None:
        """Make the route; the pod is made by `begin`, or by the first connection.

        Args:
            connection: the API server, with the user's credentials.
            options: the kind of pod that the user has allowed.
            open_session: opens a session of port-forward with a pod; None to open it through `connection`.
        """
        super().__init__(connection)
        self._namespace = options.namespace
        self._pods = PortForwardRoute(
            connection, open_session or functools.partial(PortForwardSession.open, connection)
        )
        self._cluster = _cluster_of(connection)
        self._keeper = RelayKeeper(
            connection.client, options, self._renew_relay, lambda: _cluster_of(connection) == self._cluster
        )

    async def run(self) -> None:
        """Keep the relay pod until cancelled; then remove it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeper.run(), name="relay pod")
            group.create_task(self._pods.run(), name="port-forward")

    async def begin(self) -> None:
        """Make the relay pod, and wait until it answers.

        Raises:
            HatchwayError: a right is missing, or the pod does not start.
        """
        await self._connection.ready()
        refusal = await self._missing_right()
        if refusal is not None:
            raise HatchwayError(
                refusal.why, f"an administrator of the cluster can allow it with:\n{refusal.missing_rule}"
            )
        await self._keeper.relay()

    async def prepare(self, target: Target) -> RouteCapabilities | Refusal:
        """Return the route's capabilities for a target, or a Refusal.

        Raises:
            HatchwayError: the answer cannot be found out now; ApiError 503 when the API server cannot be reached.
        """
        found = await super().prepare(target)
        if isinstance(found, Refusal):
            return found
        return await self._missing_right() or _CAPABILITIES

    async def _missing_right(self) -> Refusal | None:
        """Return the Refusal for a user who lacks a right that a relay pod needs; None for a user with all of them."""
        client, space = self._connection.client, self._namespace
        for verb, resource, subresource in _NEEDED:
            allowed, _ = await access.may(
                client, verb=verb, resource=resource, subresource=subresource, namespace=space
            )
            if not allowed:
                user = await access.user_name(client)
                rule = "---\n".join(
                    access.missing_rule(verb=verbs, resource=kind, subresource=part, namespace=space, user=user)
                    for verbs, kind, part in RIGHTS
                )
                what = f"{resource}/{subresource}" if subresource else resource
                why = f'a relay pod needs the right to {verb} {what} in namespace "{space}"'
                return Refusal(why, rule, (verb, what, space))
        return None

    async def _find_pods(self, target: Target) -> ReadyPods:
        return await self._pods.ready_pods(target)

    async def _dial(self, target: Target, place: DialAddress) -> RelayStream:
        request = functools.partial(_request, target, place, "tcp")

        async def open_with(relay: RelayPod) -> RelayStream:
            answer, stream = await ask(await self._reach(relay), request(relay), _ANSWER_SECONDS)
            if answer.kind:
                stream.abort()
                raise _refused(target, place, answer)
            return stream

        return await self._by_relay(target, open_with)

    async def connect_datagrams(
        self, target: Target, receive: Callable[[bytes], None], ended: Callable[[TargetUnreached | None], None]
    ) -> DatagramLink:
        """Open a link for datagrams to a target's UDP port (`contract.ByteRoute.connect_datagrams`).

        Raises:
            TargetUnreached: the target or the relay cannot be reached now.
        """
        place = await self._find_address(target, "UDP")

        def end(answer: RelayAnswer | None) -> None:
            ended(_refused(target, place, answer) if answer is not None else None)

        async def open_with(relay: RelayPod) -> DatagramStream:
            return DatagramStream(await self._reach(relay), _request(target, place, "udp", relay), receive, end)

        return await self._by_relay(target, open_with)

    async def _by_relay(self, target: Target, open_with: Callable[[RelayPod], Awaitable[_T]]) -> _T:
        """Call `open_with` with the relay, or with a new relay when the first one has gone. Return its result.

        Raises:
            TargetUnreached: there is no relay, or the relay does not reach the target.
        """
        named = format_argument(target)
        for left in range(_RELAYS - 1, -1, -1):
            try:
                relay = await self._keeper.relay()
            except ApiError as error:
                raise await self._translate_api_error(error) from error
            except HatchwayError as error:
                raise TargetUnreached(Unreached.FAILED, f"{named}: {error.message}", error.hint) from error
            try:
                return await open_with(relay)
            except RelayLost as error:
                if await self._keeper.give_up_if_gone(relay) and left:
                    continue
                raise TargetUnreached(Unreached.FAILED, f"{named}: relay pod {relay.name}: {error}") from error
            except _Unreachable as error:
                if error.problem.cause in _GONE and await self._keeper.give_up_if_gone(relay) and left:
                    continue
                raise error.problem from error
        raise AssertionError("the last relay has been returned or refused")

    async def _reach(self, relay: RelayPod) -> PodStream:
        """Open a connection to the relay. Raises _Unreachable."""
        try:
            return await self._pods.connect(Target("pods", relay.name, relay.namespace, port=str(relay.port)))
        except TargetUnreached as problem:
            raise _Unreachable(problem) from problem

    async def _renew_relay(self, relay: RelayPod) -> None:
        """Renew a relay, so that it does not end. Raises TargetUnreached when the relay does not answer."""
        try:
            answer, stream = await ask(await self._reach(relay), format_renewal(relay.secret), _RENEWAL_SECONDS)
        except _Unreachable as error:
            raise error.problem from error
        except RelayLost as error:
            raise TargetUnreached(Unreached.FAILED, f"relay pod {relay.name}: {error}") from error
        stream.abort()
        if answer.kind:
            raise TargetUnreached(Unreached.FAILED, f"relay pod {relay.name}: {answer.text}")


def _cluster_of(connection: Connection) -> tuple[str, str]:
    """Return (server, certificate authority), by which clusters are distinguished."""
    return connection.identity[0], connection.identity[-1]


def _request(target: Target, place: DialAddress, command: str, relay: RelayPod) -> bytes:
    try:
        return format_request(relay.secret, command, place.host, place.port)
    except RelayProtocolError as error:
        raise TargetUnreached(Unreached.MISSING, f"{format_argument(target)}: {place.host!r}: {error}") from error


def _refused(target: Target, place: DialAddress, answer: RelayAnswer) -> TargetUnreached:
    """Return the error for a connection that the relay could not make."""
    message = f"{format_argument(target)}: from the relay pod to {place.host}, port {place.port}: {answer.text}"
    return TargetUnreached(_CAUSES.get(answer.kind, Unreached.FAILED), message)
