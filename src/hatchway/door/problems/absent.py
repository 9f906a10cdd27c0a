"""Problems of targets that exist but have no endpoint that can answer. Pure.

kube-apiserver's messages say little about these problems: 404 `services "web" not found` for a Service without an
Endpoints object, 503 `no endpoints available` for a Service with empty Endpoints, 400 `address not allowed` for a pod
without an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hatchway.door.problems.problem import RETRY_SECONDS, Detail, DoorProblem, describe
from hatchway.kube.access import missing_rule
from hatchway.kube.wellknown import ENDPOINT_SLICES
from hatchway.target import Target

_READING_RESOURCES = ["services", "pods", ENDPOINT_SLICES]


def no_endpoints(target: Target, pods: Iterable[tuple[str, str]], selector: str = "") -> DoorProblem:
    """Describe a service with no ready endpoint.

    Args:
        target: the service.
        pods: (name, why it is not ready) of the pods that the service selects.
        selector: the service's selector as kubectl writes it; "" for none.
    """
    found = tuple(Detail(name, text) for name, text in pods)
    if found:
        hint = "Find out why they are not ready; everything works again as soon as one of them is ready."
        commands = tuple(f"kubectl describe pod {d.name} -n {target.namespace}" for d in found[:1])
    else:
        hint = "Start what it selects, or correct its selector." if selector else "Give it a selector, or endpoints."
        commands = (f"kubectl get pods -n {target.namespace} --show-labels",)
    said = "none of its pods is ready" if found else "no pod matches its selector" if selector else "it selects no pods"
    return DoorProblem(
        kind="no-endpoints",
        status=503,
        title=f"Nothing is ready behind {target.name}",
        message=f"no endpoints available for {describe(target)}: {said}",
        target=target,
        hint=hint,
        facts=(("Selector", selector),) if selector else (),
        details=found,
        details_title="Its pods",
        commands=commands,
        retry=RETRY_SECONDS,
    )


def external(target: Target, name: str, links: Sequence[tuple[str, str]] = ()) -> DoorProblem:
    """Describe an ExternalName service.

    Args:
        target: the service.
        name: the external name.
        links: (text, URL) of pages at that name.
    """
    return DoorProblem(
        kind="out-of-reach",
        status=503,
        title=f"{target.name} is a name for something outside the cluster",
        message=f"{describe(target)} cannot be proxied: it is only another name for {name}, outside the cluster",
        hint="The API server's proxy and port-forward lead to pods only. "
        + ("Open it where it really is." if links else f"Reach {name} from a machine that can."),
        target=target,
        facts=(("Stands for", name),),
        links=tuple(links),
        links_title="Where it really is",
    )


def foreign_endpoints(target: Target, addresses: Sequence[str]) -> DoorProblem:
    """Describe a service whose endpoints are not pods. addresses: some of the endpoints, with their ports."""
    where = ", ".join(addresses[:3]) + (f" and {len(addresses) - 3} more" if len(addresses) > 3 else "")
    return DoorProblem(
        kind="out-of-reach",
        status=503,
        title=f"{target.name} is out of reach",
        message=f"{describe(target)} cannot be proxied: its endpoints are not pods" + (f" ({where})" if where else ""),
        hint="The API server's proxy and port-forward lead to pods only (CVE-2021-25740). Reach these addresses "
        "directly, or give the service a selector that matches pods.",
        target=target,
        details=tuple(Detail(address, state="") for address in addresses),
        details_title="Its endpoints",
    )


def no_selector(target: Target) -> DoorProblem:
    """Describe a service without a selector and without endpoints."""
    where = f" -n {target.namespace}"
    return DoorProblem(
        kind="no-endpoints",
        status=503,
        title=f"Nothing is behind {target.name}",
        message=f"no endpoints available for {describe(target)}: it exists, but it has no selector, and no endpoints "
        "were written for it",
        hint="Give it a selector that matches the labels of pods, or an EndpointSlice whose endpoints are pods.",
        target=target,
        commands=(
            f"kubectl get pods{where} --show-labels",
            f"kubectl set selector service {target.name} KEY=VALUE{where}",
        ),
        retry=RETRY_SECONDS,
    )


def being_made(target: Target, pods: Iterable[str]) -> DoorProblem:
    """Describe a service whose pods are ready but whose endpoints are not written yet. pods: the pods' names."""
    return DoorProblem(
        kind="no-endpoints",
        status=503,
        title=f"The endpoints of {target.name} are being written",
        message=f"no endpoints available for {describe(target)}: its pods are ready, but the cluster is still writing "
        "its endpoints",
        hint="It works in a moment. If it does not, the cluster's endpoints controller (kube-controller-manager) may "
        "be stopped.",
        target=target,
        details=tuple(Detail(name, "ready", "ready") for name in pods),
        details_title="Its pods",
        commands=(f"kubectl get endpointslices -n {target.namespace} -l kubernetes.io/service-name={target.name}",),
        retry=RETRY_SECONDS,
    )


def no_target_port(target: Target, name: str, declared: Sequence[str], pods: Iterable[str]) -> DoorProblem:
    """Describe a service whose targetPort is a name that no container gives to a port.

    Args:
        target: the service.
        name: the targetPort.
        declared: the named ports of the service's pods, as `name (number)`.
        pods: the names of the service's pods.
    """
    has = f"they name {', '.join(declared)}" if declared else "they name no ports at all"
    return DoorProblem(
        kind="no-endpoints",
        status=503,
        title=f"No pod of {target.name} has a port of that name",
        message=f'no endpoints available for {describe(target)}: its targetPort is "{name}", and no container of its '
        f"pods has a port of that name; {has}",
        hint="Take one of those names, or a number, as the service's targetPort, or name the container's port.",
        target=target,
        facts=(("targetPort", name),),
        details=tuple(Detail(pod, "has no such port", "partly") for pod in pods),
        details_title="Its pods",
        commands=(f"kubectl edit service {target.name} -n {target.namespace}",),
    )


def no_ports(target: Target, pods: Sequence[tuple[str, str]]) -> DoorProblem:
    """Describe a service without ports (a headless service may have none). pods: (text, URL) of the service's pods."""
    return DoorProblem(
        kind="no-such-port",
        status=503,
        title=f"{target.name} has no port",
        message=f"{describe(target)} cannot be proxied: it declares no port",
        hint="Open one of its pods by the port that it listens on."
        if pods
        else "Declare the port that its pods listen on.",
        target=target,
        links=tuple(pods),
        links_title="Its pods",
    )


def not_told(target: Target, message: str, user: str = "") -> DoorProblem:
    """Describe a 404 with two possible reasons, when the user may not read the objects that show the reason.

    Args:
        target: the service.
        message: the API server's words.
        user: the user's name in the cluster; "" when it is not known.
    """
    return DoorProblem(
        kind="not-found",
        status=404,
        title=f"There is no service {target.name}, or nothing is behind it",
        message=f"{message}: an API server gives the same answer for a service without endpoints, and you may not read "
        f'services in namespace "{target.namespace}" to find out which it is',
        hint="Ask a person who may read them, or ask an administrator to apply the rule below.",
        target=target,
        commands=(f"kubectl describe service {target.name} -n {target.namespace}",),
        rule=_reading_rule(target, user),
    )


def not_seen(target: Target, missing: Sequence[str], user: str = "") -> DoorProblem:
    """Describe a service without endpoints, when the user may not read the objects that show the reason.

    Args:
        target: the service.
        missing: the resources that the user may not read.
        user: the user's name in the cluster; "" when it is not known.
    """
    which = " and ".join(missing)
    return DoorProblem(
        kind="no-endpoints",
        status=503,
        title=f"Nothing is ready behind {target.name}",
        message=f"no endpoints available for {describe(target)}; you may not read {which} in this namespace, so the "
        "reason is not known",
        hint="Ask a person who may read them, or ask an administrator to apply the rule below.",
        target=target,
        commands=(f"kubectl describe service {target.name} -n {target.namespace}",),
        rule=_reading_rule(target, user),
        retry=RETRY_SECONDS,
    )


def pod_does_not_run(target: Target, why: str, *, ended: bool) -> DoorProblem:
    """Describe a pod that has no address yet, or that has ended.

    Args:
        target: the pod.
        why: why the pod does not run, in kubectl's words if possible; "" when the reason is not known.
        ended: True if the pod has ended, False if it has not started.
    """
    state = "it has ended" if ended else "it does not run yet"
    return DoorProblem(
        kind="not-running",
        status=503,
        title=f"{target.name} has ended" if ended else f"{target.name} does not run yet",
        message=f"{describe(target)} cannot be reached: {state}" + (f" ({why})" if why else ""),
        hint="Open the pod that has taken its place, or the service in front of it."
        if ended
        else "The page appears as soon as it runs.",
        target=target,
        details=(Detail(target.name, why),) if why else (),
        details_title="Its state",
        commands=(
            f"kubectl {'logs' if ended else 'describe pod'} {target.name} -n {target.namespace}",
            f"kubectl get pods -n {target.namespace}",
        ),
        retry=0 if ended else RETRY_SECONDS,
    )


def node_not_ready(target: Target, error: str, why: str) -> DoorProblem:
    """Describe a node that cannot be reached and is not ready.

    Args:
        target: the node.
        error: the API server's words.
        why: why the node is not ready, from its conditions.
    """
    return DoorProblem(
        kind="not-ready",
        status=503,
        title=f"Node {target.name} is not ready",
        message=f"{error}: the node is not ready ({why})",
        hint="Find out why; everything works again as soon as its kubelet reports.",
        target=target,
        details=(Detail(target.name, why),),
        details_title="Its state",
        commands=(f"kubectl describe node {target.name}",),
        retry=RETRY_SECONDS,
    )


def _reading_rule(target: Target, user: str) -> str:
    """Return the RBAC rule that allows the user to read the reason why a service has no endpoints."""
    return missing_rule(verb=["get", "list"], resource=_READING_RESOURCES, namespace=target.namespace, user=user)
