"""The common part of the routes that dial a target's address from inside the cluster: from a node or a relay pod."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import Final

from hatchway.errors import HatchwayError
from hatchway.kube import access
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.wellknown import SERVICE_NAME
from hatchway.route.byteroute import ANY_PROTOCOL, AnyProtocolRoute
from hatchway.route.contract import Refusal, RouteCapabilities, TargetUnreached, Unreached
from hatchway.route.dialplan import DialAddress, NoAddress, node_address, pod_address, service_address
from hatchway.route.podport import ReadyPods
from hatchway.target import Target, format_argument

# Pauses between attempts, in seconds.
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 1.0
# Causes for which another attempt is useless: `_FINAL` for all targets; for nodes and hosts also `_OF_ADDRESSES`.
_FINAL: Final = (Unreached.FORBIDDEN, Unreached.NO_CREDENTIALS, Unreached.CREDENTIALS, Unreached.NODE_REFUSES)
_OF_ADDRESSES: Final = (Unreached.REFUSED, Unreached.MISSING)
_ASK_ADMINISTRATOR: Final = "an administrator of the cluster can allow it"


class DialingRoute(AnyProtocolRoute):
    """A route that reads only a target's address from the API server, so that it also reaches targets without pods.

    A subclass dials the address (`_dial`) and finds ready pods (`_find_pods`).
    """

    def __init__(self, connection: Connection) -> None:
        """Make the route. connection: the API server, which has the objects of targets."""
        super().__init__(connection)
        self._lookup = ObjectLookup(connection)
        self._turn = 0

    async def prepare(self, target: Target) -> RouteCapabilities | Refusal:
        """Return the route's capabilities for a target, or a Refusal if the user may not read its address.

        Raises:
            HatchwayError: the answer cannot be found out now; ApiError 503 when the API server cannot be reached.
        """
        if target.kind == "hosts":
            return ANY_PROTOCOL
        await self._connection.ready()
        found = await self._lookup.get(target.kind, target.namespace, target.name)
        if found.readable:
            return ANY_PROTOCOL
        space = target.namespace
        user = await access.user_name(self._connection.client)
        rule = access.missing_rule(verb=("get",), resource=target.kind, namespace=space, user=user)
        where = f' in namespace "{space}"' if space else ""
        return Refusal(f"you may not get {target.kind}{where}", rule, ("get", target.kind, space))

    async def ready_pods(self, target: Target) -> ReadyPods:
        """Return the ready pods of a target (`contract.ByteRoute.ready_pods`)."""
        if target.kind in ("nodes", "hosts"):
            return ReadyPods((), outside=True)
        try:
            found = await self._find_pods(target)
        except HatchwayError as error:
            raise await self._translate_api_error(error) from error
        # A target that port-forward cannot reach, because it has no pods, still has an address.
        return ReadyPods((), outside=True) if found.out_of_reach and not target.is_workload else found

    @abstractmethod
    async def _find_pods(self, target: Target) -> ReadyPods:
        """Return the ready pods of a service or a pod. Raises ApiError, or TargetUnreached."""

    def connect_now(self, target: Target) -> None:
        """Return None: each connection needs a request to the node or the relay pod that dials it."""

    async def connect(self, target: Target, patience: float = 0.0) -> asyncio.Transport:
        """Open a connection to a target (`contract.ByteRoute.connect`).

        Raises:
            TargetUnreached: there is no connection.
        """
        until = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._dial(target, await self._find_address(target))
            except TargetUnreached as problem:
                self._lookup.forget()  # the addresses may have changed
                left = until - time.monotonic()
                # A service's pods may become ready soon; a node or a host is not expected to change.
                final = _FINAL if target.kind not in ("nodes", "hosts") else (*_FINAL, *_OF_ADDRESSES)
                if problem.cause in final or left <= 0:
                    raise
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 2, _LAST_PAUSE)

    @abstractmethod
    async def _dial(self, target: Target, place: DialAddress) -> asyncio.Transport:
        """Open a connection to an address. target: for error messages. Raises TargetUnreached."""

    async def _find_address(self, target: Target, protocol: str = "TCP") -> DialAddress:
        """Return the address of a target's port.

        Raises:
            TargetUnreached: the target has no address, or its address cannot be read.
        """
        named = format_argument(target)
        try:
            if target.kind == "hosts":
                return DialAddress(target.name, int(target.port))
            await self._connection.ready()
            found = await self._lookup.get(target.kind, target.namespace, target.name)
            if not found.readable:
                refusal = await self.prepare(target)
                rule = refusal.missing_rule if isinstance(refusal, Refusal) else ""
                why = refusal.why if isinstance(refusal, Refusal) else "its address may not be read"
                raise TargetUnreached(Unreached.FORBIDDEN, why, _ASK_ADMINISTRATOR, rule)
            if found.object is None:
                where = f" in namespace {target.namespace}" if target.namespace else ""
                raise TargetUnreached(Unreached.MISSING, f"there is no {named}{where}")
            if target.is_workload:
                return await self._pod_of(target)
            if target.kind == "pods":
                return pod_address(found.object, target.port, protocol)
            if target.kind == "nodes":
                return node_address(found.object, target.port)
            slices = []
            if (found.object.get("spec") or {}).get("clusterIP") == "None":
                slices = await self._connection.client.list(
                    "endpointslices", target.namespace, label_selector=f"{SERVICE_NAME}={target.name}"
                )
            return service_address(found.object, target.port, slices, protocol)
        except NoAddress as error:
            cause = Unreached.MISSING if error.missing else Unreached.NO_PODS
            raise TargetUnreached(cause, f"{named}: {error}") from error
        except HatchwayError as error:
            raise await self._translate_api_error(error) from error

    async def _pod_of(self, target: Target) -> DialAddress:
        """Return the address of a ready pod of a workload. Each call chooses the next pod.

        Raises:
            NoAddress: no pod is ready. HatchwayError, TargetUnreached: the pods cannot be listed.
        """
        pods = await self._find_pods(target)
        if not pods.pods:
            raise NoAddress(pods.why, missing=pods.missing)
        self._turn += 1
        chosen = pods.pods[self._turn % len(pods.pods)]
        found = await self._lookup.get("pods", chosen.namespace, chosen.name)
        if found.object is None:
            raise NoAddress(f"pod {chosen.name} has just ended")
        return pod_address(found.object, str(chosen.port))
