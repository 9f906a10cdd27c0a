"""Creates the Service that exposes an object, and waits for a load balancer's address."""

from __future__ import annotations

import asyncio
from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from hatchway.errors import ApiError, HatchwayError
from hatchway.exposure.generator import EXPOSABLE, ServiceRequest, make_service
from hatchway.kube import access
from hatchway.kube.api import Client, Object
from hatchway.kube.paths import parse_resource
from hatchway.kube.readyendpoints import format_selector, selector_of
from hatchway.kube.restclient import RestClient, answer_error
from hatchway.kube.workload import Workload, find_object
from hatchway.target import SHORT

# The values of --dry-run. "client": nothing is sent to the server. "server": the server checks the object, but does not
# store it.
DryRun = Literal["none", "client", "server"]

_MANAGER: Final = "hatchway-expose"


async def make_exposing_service(client: Client, workload: Workload, request: ServiceRequest) -> Object:
    """Return the Service that exposes a workload, a pod or another Service. It is not created yet.

    Raises:
        HatchwayError: there is no such object, it cannot be exposed, or the request does not fit it.
        ApiError: the API server cannot be reached, or refuses the request.
    """
    meant, obj = await find_object(client, workload)
    if not meant.resource or meant.resource not in EXPOSABLE:
        kinds = ", ".join(f"{SHORT[kind]}/NAME" for kind in EXPOSABLE)
        raise HatchwayError(f"{meant} cannot be exposed", f"it takes {kinds}")
    return make_service(meant.resource, obj, request)


async def create_service(client: RestClient, namespace: str, service: Object, dry_run: DryRun) -> Object:
    """Create a Service, and return the server's version of it; with dry_run "client", the version to be sent.

    Raises:
        HatchwayError: the user may not create Services here, or the name is taken.
        ApiError: the API server refuses the Service for another reason, or cannot be reached.
    """
    placed = {**service, "metadata": {**service["metadata"], "namespace": namespace}}
    if dry_run == "client":
        return placed
    query = {"fieldManager": _MANAGER, **({"dryRun": "All"} if dry_run == "server" else {})}
    path = parse_resource("services").path(namespace)
    status, body = await client.exchange("POST", f"{path}?{urlencode(query)}", msgspec.json.encode(placed))
    if status >= 300:
        error = answer_error(status, body, path)
        name = service["metadata"]["name"]
        if error.code == 409 and error.reason == "AlreadyExists":
            raise HatchwayError(
                f"there is already a Service {name} in namespace {namespace}",
                f"choose another name with --name, or remove it: kubectl delete service {name} -n {namespace}",
            ) from error
        if error.code == 403:
            raise HatchwayError(error.message, await _allowing_rule(client, namespace)) from error
        raise error
    found: Object = msgspec.json.decode(body)
    return found


async def _allowing_rule(client: Client, namespace: str) -> str:
    """Return a hint with the rule that lets this user create Services."""
    try:
        user = await access.user_name(client)
    except ApiError:
        # Without a user name, the rule in the hint has a placeholder for it.
        user = ""
    rule = access.missing_rule(verb="create", resource="services", namespace=namespace, user=user)
    return f"an administrator of the cluster can allow it with:\n{rule}"


async def count_selected(client: Client, service: Object) -> tuple[int, int] | None:
    """Return (ready, all) of the pods that a Service selects; None when they may not be listed."""
    from hatchway.kube.objects import is_finished, is_ready

    selector = selector_of(service)
    if not selector:
        return None
    try:
        found = await client.list("pods", service["metadata"]["namespace"], label_selector=format_selector(selector))
    except ApiError:
        return None
    running = [pod for pod in found if not is_finished(pod)]
    return sum(map(is_ready, running)), len(running)


async def wait_for_address(client: Client, service: Object, patience: float) -> Object:
    """Wait until a Service of type LoadBalancer has an address; return the Service.

    patience: the longest wait in seconds. After this time the Service is returned without an address.
    """
    metadata = service["metadata"]
    found = service
    try:
        async with asyncio.timeout(patience):
            async for event in client.watch(
                "services", metadata["namespace"], field_selector=f"metadata.name={metadata['name']}"
            ):
                if event.type in ("ADDED", "MODIFIED"):
                    found = event.object
                    if balancer_addresses(found):
                        break
                elif event.type == "DELETED":
                    break
    except (TimeoutError, ApiError):
        # The Service exists. The user can read its address later.
        return found
    return found


def balancer_addresses(service: Object) -> list[str]:
    """Return the addresses and host names that a load balancer has given to a Service."""
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [str(address) for entry in entries if (address := entry.get("ip") or entry.get("hostname"))]
