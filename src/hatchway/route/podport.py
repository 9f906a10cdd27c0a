"""The ready pods that carry a port of a service, a workload or a pod, from the cluster's objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hatchway.kube.api import Object
from hatchway.kube.firstuse import first_use_state
from hatchway.kube.objects import is_finished, is_ready, key_of
from hatchway.kube.ports import Port, ports
from hatchway.kube.readyendpoints import endpoints_of, selector_of, why_none, why_not_ready, why_out_of_reach
from hatchway.kube.selectors import selector_is_empty, selector_matches
from hatchway.kube.wellknown import SERVICE_NAME
from hatchway.numerals import is_digits

# The maximum number of pods that a reason names.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port on which a program of a pod listens.

    uid: the pod's uid, which distinguishes it from a later pod of the same name; "" when it is not known.
    """

    namespace: str
    name: str
    uid: str
    port: int


@dataclass(frozen=True, slots=True)
class ReadyPods:
    """The pods that carry a target's port.

    pods: the ready pods.
    why: why no pod is ready, in one sentence without a full stop; "" when a pod is ready.
    missing: True when the target or its port does not exist.
    absent: True when the target itself does not exist.
    out_of_reach: True when port-forward can never reach the target, because it has no pods.
    sticky: True when all connections of a client go to one pod (`sessionAffinity: ClientIP`).
    outside: True for a target that is reached without pods: a node, a host, or a Service without a selector.
    starts: True for a Service that has no pods until it is used for the first time.
    """

    pods: tuple[PodPort, ...]
    why: str = ""
    missing: bool = False
    absent: bool = False
    out_of_reach: bool = False
    sticky: bool = False
    outside: bool = False
    starts: bool = False

    @property
    def reachable(self) -> bool:
        """Return True when there is a pod, or another address, to connect to."""
        return self.outside or bool(self.pods)


def service_pods(
    service: Object, port: str, slices: Iterable[Object] | None, pods: Iterable[Object] | None
) -> ReadyPods:
    """Return the ready pods behind a port of a Service.

    Args:
        service: the object.
        port: the port's name or number; "" for its only TCP port.
        slices: the service's EndpointSlices; None when the user may not see them. The selector then finds the pods.
        pods: pods of the service's namespace; None when the user may not see them.
    """
    slices = list(slices) if slices is not None else None
    if why := why_out_of_reach(service, slices):
        return ReadyPods((), why, out_of_reach=True)
    found = find_port(ports(service), port)
    if found is None:
        return ReadyPods((), _no_such_port(ports(service), port), missing=True)
    if found.protocol != "TCP":
        return ReadyPods((), f"port-forward carries TCP only, and this port is {found.protocol}", out_of_reach=True)
    if slices is None:
        selector = selector_of(service)
        if not selector:
            return ReadyPods((), why_none(service), out_of_reach=True)
        chosen = [
            pod
            for pod in pods or ()
            if key_of(pod)[0] == key_of(service)[0]
            and selector.items() <= (pod["metadata"].get("labels") or {}).items()
        ]
        ready = _pods_with(chosen, found.target or str(found.number))
    else:
        ready = _endpoints_with(service, found, slices)
    why = "" if ready else _why_none_ready(service, found, slices, pods)
    sticky = (service.get("spec") or {}).get("sessionAffinity") == "ClientIP"
    return ReadyPods(tuple(ready), why, sticky=sticky, starts=not ready and bool(first_use_state(service)))


def pod_port(pod: Object, port: str) -> ReadyPods:
    """Return a pod for one of its ports.

    A running pod is returned even when it is not ready, because the user has named this pod.

    port: the number of a port, even if no container declares it, or the name of a declared port.
    """
    namespace, name = key_of(pod)
    number = _number_in(pod, port)
    if number is None:
        return ReadyPods((), _no_such_port(ports(pod), port), missing=True)
    if (pod.get("status") or {}).get("phase") != "Running":
        return ReadyPods((), f"pod {name}: {why_not_ready(pod) or 'it does not run yet'}")
    return ReadyPods((PodPort(namespace, name, pod["metadata"].get("uid") or "", number),))


def workload_pods(workload: Object, port: str, pods: Iterable[Object]) -> ReadyPods:
    """Return the ready pods of a workload (a Deployment, a StatefulSet, a Job ...).

    The selector finds the pods, as for `kubectl port-forward`, so during a rollout both old and new pods count.

    Args:
        workload: the object.
        port: a number, or a name that containers declare; each pod may have another number for the name.
        pods: all pods of the workload's namespace.
    """
    selector = (workload.get("spec") or {}).get("selector") or {}
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        selector = {"matchLabels": selector}  # the selector of a ReplicationController is a plain map of labels
    if selector_is_empty(selector):
        return ReadyPods((), "it has no selector, so no pods belong to it", out_of_reach=True)
    namespace = key_of(workload)[0]
    own = [
        pod
        for pod in pods
        if key_of(pod)[0] == namespace and selector_matches(selector, pod["metadata"].get("labels") or {})
    ]
    ready = _pods_with(own, port)
    return ReadyPods(tuple(ready), "" if ready else _why_no_pod(workload, port, own))


def _why_no_pod(workload: Object, port: str, pods: list[Object]) -> str:
    if not pods:
        scaled = (workload.get("spec") or {}).get("replicas") == 0
        return "it is scaled to 0" if scaled else "it has no pods"
    going = [(key_of(pod)[1], why_not_ready(pod)) for pod in pods if not is_finished(pod)]
    if not going:
        return "all its pods have ended"
    told = [f"{name}: {why}" for name, why in going if why]
    if not told:
        return f'no container of its pods declares the port "{port}"'
    more = len(told) - _NAMED
    return "no pod is ready (" + "; ".join(told[:_NAMED]) + (f"; and {more} more)" if more > 0 else ")")


def find_port(declared: list[Port], port: str, protocol: str = "TCP") -> Port | None:
    """Return the declared port with a name or number; for "", the first port of the protocol; None when there is none.

    protocol: TCP or UDP; a port of another protocol is returned only when no port of this protocol matches.
    """
    if not port:
        return next((one for one in declared if one.protocol == protocol), None)
    matching = [one for one in declared if port in (one.name, str(one.number))]
    # For example, DNS uses one number for TCP and for UDP.
    return next((one for one in matching if one.protocol == protocol), None) or next(iter(matching), None)


def _endpoints_with(service: Object, port: Port, slices: list[Object]) -> list[PodPort]:
    namespace, name = key_of(service)
    found: dict[str, PodPort] = {}
    for piece in slices:
        if (piece["metadata"].get("labels") or {}).get(SERVICE_NAME) != name or key_of(piece)[0] != namespace:
            continue
        number = next(
            (
                one["port"]
                for one in piece.get("ports") or ()
                if (one.get("name") or "") == port.name and one.get("port") and (one.get("protocol") or "TCP") == "TCP"
            ),
            None,
        )
        if number is None:
            continue
        for entry in piece.get("endpoints") or ():
            reference = entry.get("targetRef") or {}
            # A missing condition means ready (discovery/v1 EndpointConditions).
            if reference.get("kind") == "Pod" and (entry.get("conditions") or {}).get("ready", True) is not False:
                pod = reference.get("name") or ""
                # Users who may write EndpointSlices can name any pod, so pods of other namespaces are ignored.
                if pod and reference.get("namespace", namespace) == namespace:
                    found[pod] = PodPort(namespace, pod, reference.get("uid") or "", int(number))
    return list(found.values())


def _pods_with(pods: Iterable[Object], target: str) -> list[PodPort]:
    found = []
    for pod in pods:
        if not is_ready(pod) or is_finished(pod) or pod["metadata"].get("deletionTimestamp"):
            continue
        number = _number_in(pod, target)
        if number is not None:
            found.append(PodPort(*key_of(pod), pod["metadata"].get("uid") or "", number))
    return found


def _number_in(pod: Object, port: str) -> int | None:
    """Return the number of a pod's port. port: its name or number. None when no container declares the name."""
    if is_digits(port):
        return int(port) if 0 < int(port) < 65536 else None
    declared = ports(pod)
    if not port:
        return next((one.number for one in declared if one.protocol == "TCP"), None)
    return next((one.number for one in declared if one.name == port and one.protocol == "TCP"), None)


def _no_such_port(declared: list[Port], port: str) -> str:
    known = ", ".join(f"{one.name} ({one.number})" if one.name else str(one.number) for one in declared)
    if not port:
        return f"it has no TCP port{f', only {known}' if known else ''}"
    return f'it has no port "{port}"; it has {known}' if known else f'it has no port "{port}", and declares none'


def _why_none_ready(service: Object, port: Port, slices: list[Object] | None, pods: Iterable[Object] | None) -> str:
    known = endpoints_of(service, slices, pods or ())
    if not known:
        return why_none(service)
    ready = [one.name for one in known if one.ready]
    if ready:
        if port.target and not is_digits(port.target):
            return f'no container declares its targetPort "{port.target}"'
        return "its pods have just become ready, and are not yet among its endpoints"
    told = [f"{one.name or one.address}: {one.why}" for one in known[:_NAMED]]
    more = len(known) - len(told)
    return "no pod is ready (" + "; ".join(told) + (f"; and {more} more)" if more > 0 else ")")
