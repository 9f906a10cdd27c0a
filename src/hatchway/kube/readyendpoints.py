"""Finds the ready endpoints of services, and the reasons why endpoints, pods and nodes are not ready. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hatchway.kube.api import Object
from hatchway.kube.firstuse import first_use_state
from hatchway.kube.objects import endpoint_is_ready, get_condition, is_finished, is_ready, key_of
from hatchway.kube.wellknown import SERVICE_NAME

NOT_SEEN = "not known: you may see neither its endpoints nor its pods"


def selector_of(service: Object) -> dict[str, str]:
    """Return the labels by which a service selects pods; {} for a service without a selector.

    The endpoints of such a service are written by hand or by another controller.
    """
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def format_selector(selector: Mapping[str, str]) -> str:
    """Return a selector in the form of kubectl's `-l`."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a service.

    name: the pod's name; "" for an endpoint that is not a pod.
    address: the endpoint's address; "" while it has none.
    ready: True when requests are sent to the endpoint.
    why: why the endpoint is not ready; "" when it is ready.
    """

    name: str
    address: str
    ready: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class NotReady:
    """An endpoint that is not ready: the pod's name (or the endpoint's address), and the reason."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of a service: how many are ready, how many there are, and why some are not ready.

    waiting: the endpoints that are not ready.
    why: one sentence when there are no endpoints at all, "" otherwise.
    known: False when the user may read neither endpoints nor pods.
    """

    ready: int
    total: int
    waiting: tuple[NotReady, ...] = ()
    why: str = ""
    known: bool = True


def endpoints_of(service: Object, slices: Iterable[Object] | None, pods: Iterable[Object]) -> list[Endpoint]:
    """Return a Service's endpoints, and its selected pods that are not endpoints yet; each pod once.

    Endpoints and pods that are not ready come first.

    Args:
        slices: EndpointSlices; slices of other services are ignored. None when the user may not list EndpointSlices:
            the endpoints are then derived from the pods.
        pods: the pods of the namespace. Empty when the user may not list pods: reasons are then less exact.
    """
    namespace, name = key_of(service)
    selector = selector_of(service)
    # The key is ("pod", name) or, for an endpoint that is not a pod, its address.
    found: dict[tuple[str, str], Endpoint] = {}
    for piece in slices or ():
        labels = piece["metadata"].get("labels") or {}
        if labels.get(SERVICE_NAME) != name or key_of(piece)[0] != namespace:
            continue
        for entry in piece.get("endpoints") or ():
            reference, conditions = entry.get("targetRef") or {}, entry.get("conditions") or {}
            address = next(iter(entry.get("addresses") or ()), "")
            called = reference.get("name") or ""
            identity = ("pod", called) if reference.get("kind") == "Pod" else ("", address)
            if endpoint_is_ready(entry):
                found[identity] = Endpoint(called, address, True)
            elif identity not in found:
                why = "Terminating" if conditions.get("terminating") else "not ready"
                found[identity] = Endpoint(called, address, False, why)
    for pod in pods:
        if key_of(pod)[0] != namespace:
            continue
        called = key_of(pod)[1]
        known = found.get(("pod", called))
        if known is None and (is_finished(pod) or not _selects(selector, pod)):
            continue
        if slices is None and is_ready(pod):
            found["pod", called] = Endpoint(called, (pod.get("status") or {}).get("podIP") or "", True)
        elif known is None or not known.ready:
            why = why_not_ready(pod) or (known.why if known else "not yet among the endpoints")
            found["pod", called] = Endpoint(called, known.address if known else "", False, why)
    return sorted(found.values(), key=lambda endpoint: (endpoint.ready, endpoint.name, endpoint.address))


def _selects(selector: Mapping[str, str], pod: Object) -> bool:
    # An empty selector selects no pods, not all of them.
    return bool(selector) and selector.items() <= (pod["metadata"].get("labels") or {}).items()


def ready_endpoints(service: Object, slices: Iterable[Object] | None, pods: Iterable[Object] | None) -> Endpoints:
    """Count a Service's endpoints and its ready endpoints; find out why the other endpoints are not ready.

    slices: as in `endpoints_of`.
    pods: as in `endpoints_of`, or None when the user may not list pods.
    """
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return Endpoints(0, 0, why=f"it is a name for {spec.get('externalName', 'something')} outside the cluster")
    if slices is None and pods is None:
        return Endpoints(0, 0, why=NOT_SEEN, known=False)
    found = endpoints_of(service, slices, pods or ())
    waiting = tuple(NotReady(one.name or one.address or "?", one.why) for one in found if not one.ready)
    return Endpoints(len(found) - len(waiting), len(found), waiting, "" if found else why_none(service))


def why_none(service: Object) -> str:
    """Return why a Service without endpoints has none."""
    if first_use_state(service):
        return "starts on first use"
    selector = selector_of(service)
    if not selector:
        return "it has no selector, and no endpoints were written for it"
    return f"no pod matches its selector {format_selector(selector)}"


def why_out_of_reach(service: Object, slices: Iterable[Object] | None) -> str:
    """Return the reason why neither the proxy verb nor port-forward can reach a service; "" when none is known.

    Both ways lead only to pods of the service's namespace (`service/storage/storage.go` `isValidAddress`).

    Args:
        service: the service.
        slices: the service's EndpointSlices; None when they are not known.
    """
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return f"it is a name for {spec.get('externalName', 'something')} outside the cluster"
    found = [entry for piece in slices or () for entry in piece.get("endpoints") or ()]
    if found and not any((entry.get("targetRef") or {}).get("kind") == "Pod" for entry in found):
        return "its endpoints are not pods; the API server's proxy and port-forwards reach pods only"
    return ""


def restarts(pod: Object) -> int:
    """Return the number of restarts of all containers of the pod together."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(int(container.get("restartCount") or 0) for container in found)


def why_node_not_ready(node: Object) -> str:
    """Return why a node is not ready, from its conditions; "" when it is ready."""
    if is_ready(node):
        return ""
    ready = get_condition(node, "Ready") or {}
    return " ".join(str(ready.get("message") or ready.get("reason") or "it reports no status").split())


def why_not_ready(pod: Object) -> str:
    """Return why a pod is not ready; "" when it is ready. Where kubectl has a word for the reason, it is used."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if status.get("phase") == "Succeeded":
        return _with(status.get("reason") or "Completed", status)
    if status.get("phase") == "Failed":
        # The reason why a pod failed is in the pod's status (Evicted ...) or in the status of a container.
        ended = next((_container(one) for one in status.get("containerStatuses") or () if _has_failed(one)), "")
        return _with(status.get("reason") or ended or "Failed", status)
    if status.get("reason") == "NodeLost":
        return _with("its node is lost", status)
    if is_ready(pod):
        return ""
    scheduled = get_condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return _with("Pending", scheduled)
    for container in status.get("initContainerStatuses") or ():
        state = container.get("state") or {}
        # A sidecar (an init container that keeps running) blocks the next containers only until it has started.
        if (state.get("terminated") or {}).get("exitCode") == 0 or container.get("started"):
            continue
        if problem := _container(container):
            return f"Init:{problem}"
        return f'Init: container "{container.get("name")}" has not ended yet'
    for container in status.get("containerStatuses") or ():
        if problem := _container(container):
            return problem
    probed = {found["name"] for found in (pod.get("spec") or {}).get("containers") or () if found.get("readinessProbe")}
    for container in status.get("containerStatuses") or ():
        if not container.get("ready"):
            called = container.get("name")
            if called in probed:
                return f'Running, but the readiness probe of container "{called}" fails'
            return f'Running, but container "{called}" is not ready'
    gate = get_condition(pod, "Ready") or {}
    if gate.get("status") == "Unknown":
        return _with("its node is lost", gate)
    if gate.get("reason") not in (None, "", "ContainersNotReady"):
        return _with(gate["reason"], gate)
    phase = str(status.get("phase") or "Pending")
    return "Running, but not ready" if phase == "Running" else phase


def _has_failed(container: Object) -> bool:
    ended = (container.get("state") or {}).get("terminated") or {}
    return bool(ended.get("exitCode"))


def _container(container: Object) -> str:
    """Return why a container does not run; "" when it runs."""
    state = container.get("state") or {}
    if (waiting := state.get("waiting")) is not None:
        reason = waiting.get("reason") or "waiting"
        last = ((container.get("lastState") or {}).get("terminated")) or {}
        if reason == "CrashLoopBackOff" and "exitCode" in last:
            return f'{reason}: container "{container.get("name")}" ended with exit code {last["exitCode"]}'
        return _with(reason, waiting)
    if (ended := state.get("terminated")) is not None:
        reason = ended.get("reason") or "Error"
        return f'{reason}: container "{container.get("name")}" ended with exit code {ended.get("exitCode")}'
    return ""


def _with(reason: str, told: Object) -> str:
    message = " ".join(str(told.get("message") or "").split())
    return f"{reason}: {message}" if message else reason


def slice_of_endpoints(endpoints: Object) -> Object:
    """Return an Endpoints object as an EndpointSlice, for clusters before Kubernetes 1.21."""
    metadata = endpoints["metadata"]
    found: list[Object] = []
    listed: list[Object] = []
    for subset in endpoints.get("subsets") or ():
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(key) or ():
                endpoint = {"addresses": [address.get("ip")], "conditions": {"ready": ready}}
                if address.get("targetRef"):
                    endpoint["targetRef"] = address["targetRef"]
                found.append(endpoint)
        listed += subset.get("ports") or ()
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), SERVICE_NAME: metadata["name"]}},
        "addressType": "IPv4",
        "endpoints": found,
        "ports": listed,
    }
