"""Checks whether nodes, built-in services and their APIs work, and waits until they do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from hatchway.kube.api import Client, Object
from hatchway.kube.clusterinfo import NAMESPACE
from hatchway.kube.informer import Informer, running
from hatchway.kube.objects import endpoint_is_ready, get_condition, is_ready
from hatchway.kube.readyendpoints import selector_of
from hatchway.kube.wellknown import API_SERVICES, ENDPOINT_SLICES, SERVICE_NAME

# Wait at least this long, even when the deadline is near (seconds).
_LEAST_SECONDS = 5.0


def has_ready_endpoint(service: str, slices: Iterable[Object]) -> bool:
    """Return True when a service has a ready endpoint. slices: the EndpointSlices of the service's namespace."""
    return any(
        endpoint_is_ready(endpoint)
        for found in slices
        if (found["metadata"].get("labels") or {}).get(SERVICE_NAME) == service
        for endpoint in found.get("endpoints") or ()
    )


def without_replicas(services: Iterable[Object], deployments: Iterable[Object]) -> set[str]:
    """Return the names of services whose Deployment has no replicas: it starts on first use, or a user stopped it.

    services, deployments: the objects of one namespace.
    """
    idle = [
        (one["spec"]["template"]["metadata"].get("labels") or {}).items()
        for one in deployments
        if one["spec"].get("replicas") == 0
    ]
    return {
        service["metadata"]["name"]
        for service in services
        if (selector := selector_of(service)) and any(selector.items() <= labels for labels in idle)
    }


async def wait_for_nodes(client: Client, names: Sequence[str], deadline: float) -> list[str]:
    """Wait until these nodes are ready. Return those that are not ready at `deadline` (seconds since the epoch)."""
    nodes = Informer(client, "nodes")

    def missing() -> list[str]:
        return [name for name in names if not ((node := nodes.get(name)) and is_ready(node))]

    return await _wait_until_none(nodes, missing, deadline)


async def wait_for_built_in(client: Client, names: Sequence[str], deadline: float) -> list[str]:
    """Wait until these built-in services have a ready endpoint. Return those that have none at `deadline`."""
    slices = Informer(client, ENDPOINT_SLICES, NAMESPACE)

    def missing() -> list[str]:
        return [name for name in names if not has_ready_endpoint(name, slices.items.values())]

    return await _wait_until_none(slices, missing, deadline)


async def wait_for_apis(client: Client, names: Sequence[str], deadline: float) -> list[str]:
    """Wait until these APIServices are available. Return those that are not available at `deadline`.

    A client that reads discovery before that may cache a list of types in which the types of these APIs are missing.
    """
    services = Informer(client, API_SERVICES)

    def is_available(service: Object) -> bool:
        condition = get_condition(service, "Available")
        return condition is not None and condition.get("status") == "True"

    def missing() -> list[str]:
        return [name for name in names if not ((service := services.get(name)) and is_available(service))]

    return await _wait_until_none(services, missing, deadline)


async def _wait_until_none(informer: Informer, missing: Callable[[], list[str]], deadline: float) -> list[str]:
    """Run the informer until `missing` returns nothing. Call `missing` again whenever an object has changed."""
    changed = asyncio.Event()
    informer.subscribe(lambda _type, _obj: changed.set())
    async with running(informer):
        try:
            async with asyncio.timeout(max(_LEAST_SECONDS, deadline - time.time())):
                while missing():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return missing()
    return []
