"""Finds the pods that a command names (a pod, or the pods of a workload or service), and chooses one of them.

Kinds, their short names and the order of a workload's pods are the same as in kubectl (`ActivePods` in
`pkg/util/podutils`): a pod that is scheduled, running and ready comes first, and pods that are being deleted come last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from hatchway import target
from hatchway.errors import ApiError, HatchwayError, bad_request
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import get_condition, is_finished, is_ready
from hatchway.kube.readyendpoints import format_selector
from hatchway.printable import printable
from hatchway.target import SHORT, Kind, TargetError, parse_qualified_argument

# The kinds that have pods: maps each word of the command line to the resource.
KINDS: Final = {word: kind for word, kind in target.KINDS.items() if kind != "nodes"}
# When an argument has a name but no kind, these kinds are tried in this order.
_KINDS_TO_TRY: Final[tuple[Kind, ...]] = (
    "pods",
    "services",
    "deployments.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
)
# The pod annotation by which kubectl finds the default container.
DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
_OPERATORS: Final = {"In": "in", "NotIn": "notin"}


@dataclass(frozen=True, slots=True)
class Workload:
    """The object that an argument of the command line names.

    resource: as `kube.api` spells it; "" when the argument has no kind.
    """

    resource: Kind | Literal[""]
    name: str
    namespace: str

    def __str__(self) -> str:
        spelled = f"{SHORT[self.resource]}/{self.name}" if self.resource else self.name
        return f"{spelled} in namespace {self.namespace}"


@dataclass(frozen=True, slots=True)
class PodSet:
    """The pods to which a command applies.

    workload: the owner of the pods, with its kind.
    label_selector, field_selector: the selector that finds them; one of the two is "".
    pod: the pod, if it was read because the argument had no kind; None otherwise.
    """

    workload: Workload
    label_selector: str = ""
    field_selector: str = ""
    pod: Object | None = None

    @property
    def is_one_pod(self) -> bool:
        """Return True when the argument named a pod, not its owner."""
        return self.workload.resource == "pods"


def parse_workload(text: str, namespace: str | None, default: str) -> Workload:
    """Parse an argument: `web-0`, `pod/web-0`, `svc/web`, `deploy/web`, `web.shop`.

    Args:
        text: the argument.
        namespace: the namespace of the option `-n`; None when it was not given.
        default: the namespace to use when none was given.

    Raises:
        TargetError: the argument is malformed, or its kind has no pods.
    """
    word, slash, _ = text.partition("/")
    if not slash and "." not in text and ":" not in text:
        # The kind is not known yet. Every kind has the same rules for names, so the name is checked as a pod's name.
        parse_qualified_argument(f"pod/{text}", namespace, default)
        return Workload("", text, namespace or default)
    found = parse_qualified_argument(text, namespace, default, workloads=True)
    if found.kind == "nodes":
        raise TargetError(f'"{word}" is not a kind of target that has pods', f"write one of {target.WITH_PODS}")
    if found.port or found.scheme:
        raise TargetError(f'"{text}" has a port, and this command takes none', f"write {text.split(':')[0]}")
    return Workload(found.kind, found.name, found.namespace)


async def find_pods(client: Client, workload: Workload) -> PodSet:
    """Return the selector that finds the pods of a workload. For `pod/NAME` no request is sent.

    Raises:
        HatchwayError: there is no such object; the hint names similar objects.
        ApiError: the API server cannot be reached, or refuses the request.
    """
    if workload.resource == "pods":
        return PodSet(workload, field_selector=f"metadata.name={workload.name}")
    meant, found = await find_object(client, workload)
    if meant.resource == "pods":
        return PodSet(meant, field_selector=f"metadata.name={workload.name}", pod=found)
    selector = label_selector_of(found)
    if not selector:
        raise HatchwayError(
            f"{meant} has no selector, so no pods belong to it",
            "name one of the pods behind it: pod/NAME" if meant.resource == "services" else "",
        )
    return PodSet(meant, label_selector=selector)


async def find_object(client: Client, workload: Workload) -> tuple[Workload, Object]:
    """Return the object of a workload, pod or service, and the workload with its kind.

    Raises:
        HatchwayError: there is no such object; the hint names similar objects or a missing namespace.
        ApiError: the API server cannot be reached, or refuses the request.
    """
    refused: ApiError | None = None
    for resource in (workload.resource,) if workload.resource else _KINDS_TO_TRY:
        try:
            found = await client.get(resource, workload.name, workload.namespace)
        except ApiError as error:
            if error.code == 403 and not workload.resource:
                # The user may not read this kind, but the name may belong to an object of the next kind.
                refused = refused or error
                continue
            if error.code != 404:
                raise
            continue
        return Workload(resource, workload.name, workload.namespace), found
    if refused is not None:
        raise refused
    what = "" if workload.resource else "pod, service or workload "
    raise HatchwayError(f"there is no {what}{workload}", await explain_absence(client, workload))


async def explain_absence(client: Client, workload: Workload) -> str:
    """Return a hint for an object that does not exist: a missing namespace, or similar names."""
    from hatchway.kube.lookup import similar_names

    try:
        await client.get("namespaces", workload.namespace)
    except ApiError as error:
        if error.code == 404:
            return f'there is no namespace "{workload.namespace}"{await _meant_namespaces(client, workload.namespace)}'
    found: list[str] = []
    for resource in (workload.resource,) if workload.resource else ("pods", "services"):
        try:
            names = [one["metadata"]["name"] for one in await client.list(resource, workload.namespace)]
        except ApiError:
            continue
        found += [f"{SHORT[resource]}/{name}" for name in similar_names(workload.name, names, 3)]
    if found:
        return f"did you mean {' or '.join(found[:4])}?"
    return f"`hatchway ls -n {workload.namespace}` shows what is there, `hatchway ls -A` looks everywhere"


async def _meant_namespaces(client: Client, name: str) -> str:
    """Return a question that names the namespaces similar to `name`; "" when there are none."""
    from hatchway.kube.lookup import similar_names

    try:
        similar = similar_names(name, [one["metadata"]["name"] for one in await client.list("namespaces")], 3)
    except ApiError:
        return ""
    return f"; did you mean {' or '.join(similar)}?" if similar else ""


async def pick_pod(client: Client, pods: PodSet) -> Object:
    """Return the pod of a set in which a command should run; ready pods are preferred.

    Raises:
        HatchwayError: the set has no running pod.
        ApiError: the API server cannot be reached, or refuses the request.
    """
    if pods.pod is not None:
        return pods.pod
    if pods.is_one_pod:
        return await client.get("pods", pods.workload.name, pods.workload.namespace)
    found = await client.list("pods", pods.workload.namespace, label_selector=pods.label_selector)
    running = [pod for pod in in_order(found) if not is_finished(pod)]
    if not running:
        ended = f"; {len(found)} have ended" if found else ""
        raise HatchwayError(
            f"{pods.workload} has no running pod{ended}",
            f"`kubectl get pods -n {pods.workload.namespace} -l '{pods.label_selector}'` shows its pods",
        )
    return running[0]


def in_order(pods: Iterable[Object]) -> list[Object]:
    """Return the pods sorted by their suitability for a command, the best one first.

    The best pod is not being deleted, is scheduled and running, and has been ready for the longest time.
    """

    def rank(pod: Object) -> tuple[object, ...]:
        status = pod.get("status") or {}
        phase = {"Running": 0, "Unknown": 1, "Pending": 2}.get(str(status.get("phase")), 3)
        ready = get_condition(pod, "Ready") or {}
        restarts = max((int(one.get("restartCount") or 0) for one in status.get("containerStatuses") or ()), default=0)
        metadata = pod["metadata"]
        return (
            "deletionTimestamp" in metadata,
            not (pod.get("spec") or {}).get("nodeName"),
            phase,
            not is_ready(pod),
            str(ready.get("lastTransitionTime") or ""),
            restarts,
            str(metadata.get("creationTimestamp") or ""),
            metadata["name"],
        )

    return sorted(pods, key=rank)


def containers(pod: Object) -> list[str]:
    """Return the names of all containers of a pod: init containers, containers, ephemeral containers."""
    spec = pod.get("spec") or {}
    return [
        str(one.get("name"))
        for key in ("initContainers", "containers", "ephemeralContainers")
        for one in spec.get(key) or ()
    ]


def choose_container(pod: Object, name: str = "") -> str:
    """Return the container to use: `name`, else the container in the pod's annotation, else the first container.

    Raises:
        ApiError: 400, the pod has no container of this name.
    """
    known = containers(pod)
    if name:
        if name not in known:
            pod_name = pod["metadata"]["name"]
            there = printable(", ".join(known)) or "none"
            raise bad_request(f"container {name} not found in pod {pod_name}", f"it has {there}")
        return name
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if annotated in known:
        return str(annotated)
    spec = pod.get("spec") or {}
    first = next(iter(spec.get("containers") or ()), None)
    if first is None:
        raise bad_request(f"pod {pod['metadata']['name']} has no containers")
    return str(first["name"])


def label_selector_of(obj: Object) -> str:
    """Return the label selector of a service or workload, for a query to the API; "" without one.

    (apimachinery `pkg/apis/meta/v1/helpers.go`, `LabelSelectorAsSelector`.)
    """
    given = (obj.get("spec") or {}).get("selector")
    if not isinstance(given, dict):
        return ""
    if "matchLabels" not in given and "matchExpressions" not in given:
        # A service or a replication controller has a plain mapping of labels.
        return "" if (obj.get("spec") or {}).get("type") == "ExternalName" else format_selector(given)
    parts = [format_selector({key: value}) for key, value in sorted((given.get("matchLabels") or {}).items())]
    for one in given.get("matchExpressions") or ():
        key, operator = one["key"], one["operator"]
        if operator in _OPERATORS:
            parts.append(f"{key} {_OPERATORS[operator]} ({','.join(one.get('values') or ())})")
        elif operator == "Exists":
            parts.append(key)
        else:
            parts.append(f"!{key}")
    return ",".join(parts)
