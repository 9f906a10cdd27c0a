"""Problems of targets that do not exist: an object, a namespace, a port, a host name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hatchway.door.problems.problem import Detail, DoorProblem, Links, kind_word
from hatchway.target import Target

# Readable paths of a kubelet's API (kubelet `pkg/kubelet/server/server.go`), and their content.
_KUBELET_PATHS = (
    ("healthz", "whether the kubelet is healthy"),
    ("pods", "its pods, as JSON"),
    ("runningpods/", "the pods that its runtime knows, as JSON"),
    ("logs/", "files of the node's /var/log"),
    ("configz", "its configuration, as JSON"),
    ("stats/summary", "processor, memory and disk in use, as JSON"),
    ("metrics", "its own metrics"),
    ("metrics/resource", "metrics of nodes, pods and containers, for autoscalers"),
    ("metrics/cadvisor", "metrics of containers"),
    ("metrics/probes", "metrics of probes"),
)


def not_found(target: Target, cluster: str, similar: Links = ()) -> DoorProblem:
    """Describe a service, pod or node that does not exist.

    Args:
        target: the target as it was requested.
        cluster: the cluster in which the target was looked for, as `Connection.label` names it.
        similar: (text, URL) of similar targets.
    """
    kind = kind_word(target)
    where = f' in the namespace "{target.namespace}" of {cluster}' if target.namespace else f" in {cluster}"
    scope = f" -n {target.namespace}" if target.namespace else ""
    return DoorProblem(
        kind="not-found",
        status=404,
        title=f"There is no {kind} {target.name}",
        message=f'{target.kind} "{target.name}" not found{where}',
        target=target,
        hint="" if similar else "Look through the portal, or list the objects that exist.",
        links=tuple(similar),
        links_title="Did you mean",
        commands=() if similar else (f"kubectl get {target.kind}{scope}",),
    )


def no_namespace(target: Target, cluster: str, meant: Links = (), similar: Sequence[str] = ()) -> DoorProblem:
    """Describe a namespace that does not exist.

    Args:
        target: the target as it was requested.
        cluster: the cluster in which the target was looked for, as `Connection.label` names it.
        meant: (text, URL) of targets with the same name in other namespaces.
        similar: namespaces with similar names, which are displayed when `meant` is empty.
    """
    names = () if meant else tuple(Detail(name, state="") for name in similar)
    return DoorProblem(
        kind="not-found",
        status=404,
        title=f"There is no namespace {target.namespace}",
        message=f'{target.kind} "{target.name}" not found: there is no namespace "{target.namespace}" in {cluster}',
        target=target,
        hint="" if meant or names else "Look through the portal, or list the namespaces that exist.",
        details=names,
        details_title="Namespaces with a similar name",
        links=tuple(meant),
        links_title="Did you mean",
        commands=() if meant else ("kubectl get namespaces",),
    )


def no_such_port(target: Target, ports: Links, others: Sequence[Detail] = ()) -> DoorProblem:
    """Describe a service without the requested port, or a service of which no port was named although all have names.

    A proxy path without a port means the port without a name (kube-apiserver's `service/storage/storage.go`).

    Args:
        target: the target as it was requested.
        ports: (port, URL or "") of its ports that may speak HTTP.
        others: its other ports, each with its protocol.
    """
    if target.port:
        title, said = f"{target.name} has no such port", f'has no port "{target.port}"'
    elif len(ports) + len(others) > 1:
        title, said = f"Which port of {target.name}?", "has several ports, and the address names none of them"
    else:
        title = f"The address does not name the port of {target.name}"
        said = "has one port, which has a name, and a proxy path without a port means a port without a name"
    return DoorProblem(
        kind="no-such-port",
        status=503,
        title=title,
        message=f'service "{target.name}" in namespace "{target.namespace}" {said}',
        target=target,
        hint="Take one of the ports that it has.",
        details=(*(Detail(port, state="") for port, url in ports if not url), *others),
        details_title="Its other ports" if any(url for _, url in ports) else "Ports that it has",
        links=tuple((port, url) for port, url in ports if url),
        links_title="Ports that it has",
    )


def unknown_host(host: str, domain: str, similar: Iterable[tuple[str, str]] = ()) -> DoorProblem:
    """Describe a host name below the door's domain that is not the host name of a target.

    Args:
        host: the requested host name.
        domain: the domain with which the door's host names end.
        similar: (text, URL) of similar targets.
    """
    return DoorProblem(
        kind="unknown-host",
        status=404,
        title="No target has this host name",
        message=f'the host name "{host}" names no service, pod or node',
        hint="A name needs its namespace and its kind; a port's name or number, or https, may stand in front of it.",
        facts=(
            ("A service", f"NAME.NAMESPACE.svc.{domain}"),
            ("One of its ports", f"PORT.NAME.NAMESPACE.svc.{domain}"),
            ("A pod", f"NAME.NAMESPACE.pod.{domain}"),
            ("One of its ports", f"PORT.NAME.NAMESPACE.pod.{domain}"),
            ("A node", f"NAME.node.{domain}"),
            ("A host of an Ingress", f"HOST.ingress.{domain}"),
        ),
        facts_title="Forms of host names",
        links=tuple(similar),
        links_title="Did you mean",
    )


def unknown_ingress_host(host: str, listed: str) -> DoorProblem:
    """Describe a host that no Ingress has, or whose controller is not known.

    Args:
        host: the requested host, without the door's domain.
        listed: the URL of the list of hosts; "" for none.
    """
    return DoorProblem(
        kind="unknown-host",
        status=404,
        title="No Ingress has this host",
        message=f'no Ingress that you may list has the host "{host}" and a controller whose Service the door knows',
        hint="The door finds a controller by the address of its Service, which must be in the Ingress's status. The "
        "Services behind an Ingress have host names of their own, too.",
        links=(("The hosts of Ingresses", listed),) if listed else (),
        links_title="Hosts that exist",
    )


def kubelet_paths(target: Target, root: str) -> DoorProblem:
    """Describe the root path of a node, where a kubelet serves nothing, and list paths that it does serve.

    root: the node's URL, without a slash at its end.
    """
    return DoorProblem(
        kind="kubelet-paths",
        status=404,
        title=f"The kubelet of {target.name} has no page here",
        message=f'node "{target.name}" is reached, and its kubelet answers: 404 page not found. It has an API for '
        "programs, which begins at the paths below",
        target=target,
        hint="A kubelet may refuse some of these paths, or switch them off.",
        links=tuple((f"/{path}: {text}", f"{root}/{path}") for path, text in _KUBELET_PATHS),
        links_title="What a kubelet offers",
    )
