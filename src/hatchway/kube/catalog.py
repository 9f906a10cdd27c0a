"""Lists a view's targets with ports, links and state, as `hatchway ls` prints them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.objects import is_finished, is_ready
from hatchway.kube.portlinks import PortLink, links
from hatchway.kube.readyendpoints import (
    Endpoints,
    NotReady,
    format_selector,
    ready_endpoints,
    selector_of,
    why_node_not_ready,
    why_not_ready,
    why_out_of_reach,
)
from hatchway.kube.view import View
from hatchway.kube.wellknown import ENDPOINT_SLICES, SERVICE_NAME
from hatchway.target import Target, format_argument

# Seconds to wait until everything has been listed.
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A service, pod or node.

    links: links to its ports. The default port comes first; the other ports follow in the order of declaration.
    endpoints: ready endpoints and all endpoints, as in `2/3`; for a pod or node 0/1 or 1/1.
    status: the state, as kubectl's word or as a sentence.
    out_of_reach: why the target can be reached neither by host name nor by proxy path; "" when it can be reached.
    """

    target: Target
    type: str
    address: str
    created: str
    links: tuple[PortLink, ...]
    endpoints: Endpoints
    status: str
    out_of_reach: str = ""

    def url(self, link: PortLink, door_port: int = 8001) -> str:
        """Return the link's URL by host name at the door; "" when it has none."""
        return "" if self.out_of_reach else link.url(door_port)

    def door_address(self, link: PortLink, door_port: int = 8001) -> str:
        """Return the link's URL by proxy path at the door, which needs no host name; "" when it has none."""
        return "" if self.out_of_reach or link.http is False else f"http://127.0.0.1:{door_port}{link.path}"

    def as_dict(self, door_port: int = 8001) -> dict[str, Any]:
        """Return the entry as `-o json` prints it."""
        return {
            "kind": self.target.kind,
            "namespace": self.target.namespace,
            "name": self.target.name,
            "argument": format_argument(self.target),
            "type": self.type,
            "address": self.address,
            "created": self.created,
            "status": self.status,
            "outOfReach": self.out_of_reach,
            "ready": self.endpoints.ready,
            "total": self.endpoints.total,
            "notReady": [{"name": found.name, "why": found.why} for found in self.endpoints.waiting],
            "ports": [
                {
                    "name": link.port.name,
                    "port": link.port.number,
                    "protocol": link.port.protocol,
                    "http": link.http,
                    "scheme": link.scheme,
                    "url": self.url(link, door_port),
                    "path": "" if self.out_of_reach else link.path,
                    "address": self.door_address(link, door_port),
                }
                for link in self.links
            ],
        }


def entries(view: View) -> list[CatalogEntry]:
    """Return the targets of a view, sorted by namespace, kind (services before pods) and name. Nodes come last."""
    pods: dict[str, list[Object]] = defaultdict(list)
    for pod in view.pods.values():
        pods[pod["metadata"]["namespace"]].append(pod)
    found = [
        service_entry(service, view.slices_of(*key), pods[key[0]] if view.sees_pods(key[0]) else None)
        for key, service in view.services.items()
    ]
    found += [pod_entry(pod) for pod in view.pods.values()]
    found += [node_entry(node) for node in view.nodes.values()]
    order = {"services": 0, "pods": 1, "nodes": 2}
    return sorted(
        found,
        key=lambda entry: (
            entry.target.kind == "nodes",
            entry.target.namespace,
            order[entry.target.kind],
            entry.target.name,
        ),
    )


async def read_entry(target: Target, lookup: ObjectLookup) -> CatalogEntry | None:
    """Read a target's objects and return its entry; None when it does not exist or may not be read.

    Raises:
        ApiError: as `ObjectLookup.get`.
    """
    found = (await lookup.get(target.kind, target.namespace, target.name)).object
    if found is None:
        return None
    if target.kind == "pods":
        return pod_entry(found)
    if target.kind == "nodes":
        return node_entry(found)
    slices = await lookup.list_if_allowed(ENDPOINT_SLICES, target.namespace, f"{SERVICE_NAME}={target.name}")
    selector = format_selector(selector_of(found))
    pods = await lookup.list_if_allowed("pods", target.namespace, selector) if selector else []
    return service_entry(found, slices, pods)


def service_entry(service: Object, slices: Iterable[Object] | None, pods: Iterable[Object] | None) -> CatalogEntry:
    """Return the entry for a service. slices, pods: as in `ready_endpoints`."""
    slices = None if slices is None else list(slices)
    endpoints = ready_endpoints(service, slices, pods)
    out_of_reach = why_out_of_reach(service, slices)
    metadata, spec = service["metadata"], service.get("spec") or {}
    target = Target("services", metadata["name"], metadata["namespace"])
    status = (
        endpoints.why
        or (out_of_reach and f"out of reach: {out_of_reach}")
        or ("" if endpoints.ready else _first(endpoints.waiting))
    )
    return CatalogEntry(
        target,
        spec.get("type") or "ClusterIP",
        spec.get("clusterIP") or spec.get("externalName") or "",
        metadata.get("creationTimestamp") or "",
        () if spec.get("type") == "ExternalName" else _default_first(links("services", service)),
        endpoints,
        status or ("Ready" if endpoints.ready == endpoints.total else _first(endpoints.waiting)),
        out_of_reach,
    )


def _first(waiting: Sequence[NotReady]) -> str:
    more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
    return f"{waiting[0].name}: {waiting[0].why}{more}" if waiting else ""


def pod_entry(pod: Object) -> CatalogEntry:
    """Return the entry for a pod."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    target = Target("pods", metadata["name"], metadata["namespace"])
    why = why_not_ready(pod)
    ready = is_ready(pod) and not why
    # A pod that has finished is not counted as an endpoint.
    total = 0 if is_finished(pod) else 1
    return CatalogEntry(
        target,
        "Pod",
        status.get("podIP") or "",
        metadata.get("creationTimestamp") or "",
        _default_first(links("pods", pod)),
        Endpoints(int(ready), total, (NotReady(target.name, why),) if why and total else ()),
        why or "Running",
    )


def node_entry(node: Object) -> CatalogEntry:
    """Return the entry for a node."""
    metadata, status = node["metadata"], node.get("status") or {}
    target = Target("nodes", metadata["name"])
    why = why_node_not_ready(node)
    address = next((found.get("address") for found in status.get("addresses") or ()), "")
    return CatalogEntry(
        target,
        "Node",
        address or "",
        metadata.get("creationTimestamp") or "",
        tuple(links("nodes", node)),
        Endpoints(int(not why), 1, (NotReady(target.name, why),) if why else ()),
        f"NotReady: {why}" if why else "Ready",
    )


def _default_first(found: list[PortLink]) -> tuple[PortLink, ...]:
    return tuple(sorted(found, key=lambda link: bool(link.target.port)))


@contextlib.asynccontextmanager
async def open_view(
    connection: Connection, namespaces: Sequence[str] | None = None, *, stay: bool = False
) -> AsyncIterator[View]:
    """Yield a view after everything has been listed, and keep the view up to date while the block runs.

    Args:
        stay: True when the block runs for long: edits of the kubeconfig are then applied during the block.

    Raises:
        HatchwayError: the API server is away, refuses the credentials, or takes too long.
    """
    view = View(connection, namespaces)
    async with contextlib.AsyncExitStack() as stack:
        running = asyncio.get_running_loop().create_task(view.run(), name="view")
        stack.push_async_callback(_ended, running)
        away = asyncio.Event()
        stop = view.subscribe(lambda kind, event, _: away.set() if (kind, event) == ("state", "away") else None)
        if stay:
            watching = asyncio.get_running_loop().create_task(connection.watch_files(), name="watch files")
            stack.push_async_callback(_ended, watching)
        complete = asyncio.get_running_loop().create_task(view.complete(), name="view complete")
        stack.push_async_callback(_ended, complete)
        left = asyncio.get_running_loop().create_task(away.wait(), name="view away")
        stack.push_async_callback(_ended, left)
        await asyncio.wait([running, complete, left], timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        stop()
        if running.done():
            running.result()
        if not complete.done():
            reason = view.state.reason or f"{connection.label} does not answer in {_PATIENCE:.0f} s"
            error = HatchwayError(reason, view.state.hint or "is the cluster running?")
            error.passing = True
            raise error
        yield view


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])
