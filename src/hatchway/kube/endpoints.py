"""What stands behind a service: which endpoints are ready, and why others, or pods and nodes, are not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hatchway.kube.api import Object
from hatchway.kube.relist import key_of

SERVICE_NAME = "kubernetes.io/service-name"
NOT_SEEN = "not known: you may see neither its endpoints nor its pods"


def selector_of(service: Object) -> dict[str, str]:
    """The labels that a service selects pods by; {} for one that selects none (somebody else writes its endpoints)."""
    spec = service.get("spec") or {}
    return {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}


def format_selector(selector: Mapping[str, str]) -> str:
    """A selector as kubectl's `-l` takes it."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """name: its pod's; "" where it says none. address: "" as long as it has none. why: why it gets no requests, "" when
    it is ready."""

    name: str
    address: str
    ready: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class NotReady:
    """An endpoint that gets no requests: the pod's name (or its address), and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Endpoints:
    """ready of total endpoints. why: one sentence when there is none at all, "" otherwise. known: False where nothing may
    be seen that would tell."""

    ready: int
    total: int
    waiting: tuple[NotReady, ...] = ()
    why: str = ""
    known: bool = True


def endpoints_of(service: Object, slices: Iterable[Object] | None, pods: Iterable[Object]) -> list[Endpoint]:
    """A Service's endpoints, each once, and the pods that it selects but that are none yet; those that are not ready first.

    slices: EndpointSlices (others are passed over); None when they may not be seen, then the pods have to tell. pods: what is known of the namespace's pods; may be empty for
    users who may not list them, then reasons are less exact.
    """
    namespace, name = key_of(service)
    selector = selector_of(service)
    # By the pod's name, or by the address of what is none.
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
            # A missing condition means ready (discovery/v1 EndpointConditions).
            if conditions.get("ready", True) is not False:
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
    """How many endpoints of a Service are ready, and why the others are not.

    slices, pods: as `endpoints_of` takes them; pods may be None, too, when they may not be seen.
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
    """Why a Service without endpoints has none."""
    selector = selector_of(service)
    if not selector:
        return "it has no selector, and nobody has written endpoints for it"
    return f"no pod matches its selector {format_selector(selector)}"


def why_out_of_reach(service: Object, slices: Iterable[Object] | None) -> str:
    """Why no way through the API server reaches a service, "" as far as nothing speaks against it: proxy verb and
    port-forward know pods of its namespace only (`service/storage/storage.go` `isValidAddress`). slices: its own."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return f"it is a name for {spec.get('externalName', 'something')} outside the cluster"
    found = [entry for piece in slices or () for entry in piece.get("endpoints") or ()]
    if found and not any((entry.get("targetRef") or {}).get("kind") == "Pod" for entry in found):
        return "its endpoints are no pods, and the API server's proxy reaches pods only"
    return ""


def is_finished(pod: Object) -> bool:
    """Whether all its containers have ended for good."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_ready(obj: Object) -> bool:
    """Whether a pod takes requests, or a node pods: its condition Ready."""
    return _condition(obj, "Ready").get("status") == "True"


def restarts(pod: Object) -> int:
    """How often its containers were started again."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    return sum(int(container.get("restartCount") or 0) for container in found)


def why_node_not_ready(node: Object) -> str:
    """What a node says of not being ready; "" when it is."""
    if is_ready(node):
        return ""
    ready = _condition(node, "Ready")
    return " ".join(str(ready.get("message") or ready.get("reason") or "it does not report").split())


def _condition(obj: Object, kind: str) -> Object:
    """The condition of this type, {} where there is none."""
    nothing: Object = {}
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == kind), nothing)


def why_not_ready(pod: Object) -> str:
    """What keeps a pod from taking requests, in kubectl's words where it has some; "" when it is ready."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    if status.get("phase") == "Succeeded":
        return _with(status.get("reason") or "Completed", status)
    if status.get("phase") == "Failed":
        # What ended a pod is said of the pod (Evicted ...), or of one of its containers.
        ended = next((_container(one) for one in status.get("containerStatuses") or () if _has_failed(one)), "")
        return _with(status.get("reason") or ended or "Failed", status)
    if status.get("reason") == "NodeLost":
        return _with("its node is lost", status)
    if is_ready(pod):
        return ""
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _with("Pending", scheduled)
    for container in status.get("initContainerStatuses") or ():
        state = container.get("state") or {}
        # A sidecar (an init container that goes on running) has started and is not in the way.
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
            return f'Running, but container "{called}" does not say that it is ready'
    gate = _condition(pod, "Ready")
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
    """What is wrong with a container, "" when it runs."""
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
    """An Endpoints object as an EndpointSlice, for clusters before Kubernetes 1.21."""
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
