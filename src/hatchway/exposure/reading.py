"""Reads the objects that decide what is reachable, with the user's rights, page by page and within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from hatchway.errors import ApiError
from hatchway.exposure.snapshot import ClusterSnapshot, ObservedNode, ObservedPod, Unread, foreign_endpoints, key
from hatchway.exposure.tolerant import mapping, mappings, pairs, text
from hatchway.exposure.traefikways import is_traefik
from hatchway.kube.api import Object
from hatchway.kube.wellknown import ENDPOINT_SLICES, NAMESPACE_NAME, SERVICE_NAME

_Reduced = TypeVar("_Reduced")

_GATEWAY: Final = "gateway.networking.k8s.io"
# The versions of the Gateway API's kinds that clusters have, the newest first.
_ROUTES: Final = {
    "httproutes": ("v1", "v1beta1"),
    "grpcroutes": ("v1", "v1alpha2"),
    "tlsroutes": ("v1", "v1alpha3", "v1alpha2"),
    "tcproutes": ("v1", "v1alpha2"),
    "udproutes": ("v1", "v1alpha2"),
}
# Traefik's API groups (the second one is of Traefik 2), its kinds, and the Services of its usual installations.
_TRAEFIK_GROUPS: Final = ("traefik.io", "traefik.containo.us")
_TRAEFIK_ROUTES: Final = ("ingressroutes", "ingressroutetcps", "ingressrouteudps")
_TRAEFIK_MIDDLEWARES: Final = ("middlewares", "middlewaretcps")
_TRAEFIK_SERVICES: Final = (("kube-system", "traefik"), ("traefik", "traefik"))
# The Service of an embedded cluster's ingress controller (cluster/addonmanifests/ingress.py).
_INGRESS_SERVICE: Final = ("kube-system", "hatchway-ingress")
# The maximum number of objects of one kind that are read: a hostile API server could send pages without end.
_MOST_OBJECTS: Final = 500_000
# When namespaces are read one by one: how many are read at the same time, and the most that are read.
_AT_ONCE: Final = 8
_MOST_NAMESPACES: Final = 1000
# How many times a list is begun. It begins again when its continue token has expired (410).
_BEGINNINGS: Final = 3


class ObjectPages(Protocol):
    """The part of `kube.restclient.RestClient` that is used here."""

    def pages(self, resource: str, namespace: str | None = None) -> AsyncIterator[list[Object]]:
        """Yield all objects of a resource, page by page. Raises ApiError."""
        ...

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        """Return one object. Raises ApiError."""
        ...


@dataclass(frozen=True, slots=True)
class _Listed:
    """The objects of one kind. found: those that could be read; None when the cluster does not have the kind."""

    found: list[Any] | None
    unread: tuple[Unread, ...] = ()


class SnapshotReader:
    """Reads a ClusterSnapshot of one namespace, or of all.

    namespace: "" for all namespaces. most: the maximum number of objects of one kind.
    """

    def __init__(self, client: ObjectPages, namespace: str = "", *, most: int = _MOST_OBJECTS) -> None:
        self._client = client
        self._namespace = namespace
        self._most = most
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._unread: list[Unread] = []
        self._spaces: list[str] | None = None

    async def read(self) -> ClusterSnapshot:
        """Read everything. The snapshot's `unread` names the objects that could not be read.

        Raises:
            ApiError: the API server cannot be reached, or does not know the user.
        """
        namespaces = await self._namespaces()
        snapshot = ClusterSnapshot(namespaces=namespaces)
        nodes, pods, services, slices = await asyncio.gather(
            self._all("nodes", ObservedNode.of, namespaced=False),
            self._all("pods", ObservedPod.of),
            self._all("services", _pruned),
            self._all(ENDPOINT_SLICES, _foreign_slice),
        )
        policies, ingresses, classes, gateways = await asyncio.gather(
            self._all("networkpolicies.networking.k8s.io", _pruned),
            self._all("ingresses.networking.k8s.io", _pruned),
            self._all("ingressclasses.networking.k8s.io", _pruned, namespaced=False),
            self._versioned("gateways", ("v1", "v1beta1")),
        )
        snapshot.nodes, snapshot.pods, snapshot.services = nodes or [], pods or [], services or []
        snapshot.endpoints = foreign_endpoints((one for one in slices or () if one), SERVICE_NAME)
        snapshot.policies, snapshot.ingresses = policies or [], ingresses or []
        snapshot.ingress_classes, snapshot.gateways = classes or [], gateways or []
        if gateways is not None:
            found = await asyncio.gather(*(self._versioned(kind, versions) for kind, versions in _ROUTES.items()))
            snapshot.routes = [route for routes in found for route in routes or ()]
            if self._namespace:
                snapshot.gateways += await self._gateways_elsewhere(snapshot)
        if self._namespace or _has_traefik(snapshot):
            await self._read_traefik(snapshot)
        if self._namespace and snapshot.ingresses and any(node.embedded for node in snapshot.nodes):
            snapshot.ingress_service = await self._ingress_service()
        snapshot.unread = self._unread
        return snapshot

    async def _ingress_service(self) -> Object | None:
        """Return the Service of the embedded ingress controller; None when it does not exist or may not be read."""
        namespace, name = _INGRESS_SERVICE
        return await self._service(namespace, name) if namespace != self._namespace else None

    async def _read_traefik(self, snapshot: ClusterSnapshot) -> None:
        """Read the objects of Traefik, if the cluster has them."""
        unread = list(self._unread)
        for group in _TRAEFIK_GROUPS:
            routes = await asyncio.gather(*(self._all(f"{kind}.v1alpha1.{group}", _pruned) for kind in _TRAEFIK_ROUTES))
            if all(one is None for one in routes):
                continue
            snapshot.traefik_routes += [route for found in routes for route in found or ()]
            guards = await asyncio.gather(
                *(self._all(f"{kind}.v1alpha1.{group}", _pruned) for kind in _TRAEFIK_MIDDLEWARES)
            )
            snapshot.middlewares += [one for found in guards for one in found or ()]
        if self._namespace and snapshot.traefik_routes:
            for namespace, name in _TRAEFIK_SERVICES:
                if namespace != self._namespace and (found := await self._service(namespace, name)):
                    snapshot.traefik_services.append(found)
        if not _has_traefik(snapshot):
            # An API server also answers 403 for kinds that it does not have. Nothing shows that this cluster has
            # Traefik, so the refusals are not reported.
            self._unread[:] = unread

    async def _service(self, namespace: str, name: str) -> Object | None:
        """Return a Service; None when it does not exist or may not be read."""
        try:
            return await self._client.get("services", name, namespace)
        except ApiError as error:
            if error.code not in (403, 404):
                raise
            return None

    async def _namespaces(self) -> dict[str, dict[str, str]]:
        """Return the labels of the namespaces that this user may read."""

        def labels(namespace: Object) -> tuple[str, dict[str, str]]:
            metadata = mapping(namespace.get("metadata"))
            return text(metadata.get("name")), pairs(metadata.get("labels"))

        try:
            found = await self._read("namespaces", None, labels)
        except ApiError as error:
            if error.code != 403:
                raise
            if self._namespace:
                return {self._namespace: {NAMESPACE_NAME: self._namespace}}
            self._unread.append(Unread("namespaces", _why(error)))
            return {}
        known = dict(found.found or [])
        self._spaces = sorted(known)
        self._unread += found.unread
        return known

    async def _gateways_elsewhere(self, snapshot: ClusterSnapshot) -> list[Object]:
        """Return the Gateways in other namespaces to which routes of this namespace are attached."""
        known = {key(gateway) for gateway in snapshot.gateways}
        wanted = {
            (text(reference.get("namespace")), text(reference.get("name")))
            for route in snapshot.routes
            for parent in mappings(mapping(route.get("status")).get("parents"))
            if (reference := mapping(parent.get("parentRef")))
        }
        found = []
        for namespace, name in sorted(wanted - known):
            if not namespace or not name:
                continue
            try:
                found.append(await self._client.get(f"gateways.v1.{_GATEWAY}", name, namespace))
            except ApiError as error:
                if error.code == 403:
                    self._unread.append(Unread("gateways", _why(error, "read"), (namespace,)))
                elif error.code != 404:
                    raise
        return found

    async def _versioned(self, plural: str, versions: tuple[str, ...]) -> list[Object] | None:
        """Return the objects of a kind of the Gateway API; None when the cluster does not have it."""
        for version in versions:
            found = await self._all(f"{plural}.{version}.{_GATEWAY}", _pruned)
            if found is not None:
                return found
        return None

    async def _all(
        self, resource: str, reduce: Callable[[Object], _Reduced], *, namespaced: bool = True
    ) -> list[_Reduced] | None:
        """Return all objects of a kind, reduced; None when the cluster does not have the kind."""
        plural = resource.partition(".")[0]
        space = self._namespace if namespaced else ""
        try:
            found = await self._read(resource, space or None, reduce)
        except ApiError as error:
            if error.code != 403:
                self._unread.append(Unread(plural, error.message))
                if error.code in (401, 503):
                    raise
                return []
            if not space and namespaced and self._spaces:
                found = await self._by_namespace(resource, reduce)
            else:
                where = (space,) if space else ()
                found = _Listed([], (Unread(plural, _why(error), where),))
        self._unread += found.unread
        return found.found

    async def _by_namespace(self, resource: str, reduce: Callable[[Object], _Reduced]) -> _Listed:
        """Return the objects of the namespaces in which the user may list them."""
        spaces = (self._spaces or [])[:_MOST_NAMESPACES]
        refused = (self._spaces or [])[_MOST_NAMESPACES:]
        reason = "you may not list them"

        async def one(space: str) -> list[Any]:
            nonlocal reason
            async with self._gate:
                try:
                    return (await self._read(resource, space, reduce)).found or []
                except ApiError as error:
                    if error.code != 403:
                        raise
                    refused.append(space)
                    reason = _why(error)
                    return []

        found = [item for items in await asyncio.gather(*map(one, spaces)) for item in items]
        if not refused:
            return _Listed(found)
        return _Listed(found, (Unread(resource.partition(".")[0], reason, tuple(sorted(refused))),))

    async def _read(self, resource: str, namespace: str | None, reduce: Callable[[Object], _Reduced]) -> _Listed:
        """Read a list, and reduce its objects page by page. Raises ApiError, except for a kind that does not exist."""
        for beginning in range(1, _BEGINNINGS + 1):
            found: list[_Reduced] = []
            try:
                async for page in self._client.pages(resource, namespace):
                    found += [reduce(item) for item in page]
                    if len(found) > self._most:
                        plural = resource.partition(".")[0]
                        return _Listed(found[: self._most], (Unread(plural, f"there are more than {self._most}"),))
            except ApiError as error:
                if error.code == 404:
                    return _Listed(None)
                if error.code == 410 and beginning < _BEGINNINGS:
                    continue
                raise
            return _Listed(found)
        raise AssertionError("the last beginning returns or raises")


def _has_traefik(snapshot: ClusterSnapshot) -> bool:
    """Return True when a cluster has Traefik: its class, a Service of it, or a route."""
    controllers = (text(mapping(one.get("spec")).get("controller")) for one in snapshot.ingress_classes)
    return (
        bool(snapshot.traefik_routes)
        or any("traefik" in one for one in controllers)
        or any(is_traefik(service) for service in snapshot.services)
    )


def _why(error: ApiError, verb: str = "list") -> str:
    """Return why objects may not be read: a flag of the door (the message begins with "--"), or a missing right."""
    return error.message if error.message.startswith("--") else f"you may not {verb} them"


def _pruned(obj: Object) -> Object:
    """Remove an object's managedFields, which need much memory, and return the object."""
    metadata = mapping(obj.get("metadata"))
    metadata.pop("managedFields", None)
    return obj


def _foreign_slice(piece: Object) -> Object | None:
    """Return an EndpointSlice if it has endpoints that are not pods; else None."""
    for endpoint in mappings(piece.get("endpoints")):
        if mapping(endpoint.get("targetRef")).get("kind") != "Pod":
            return _pruned(piece)
    return None
