"""Exposes one pod of many: gives it a label of its own, and makes a Service that selects the label. Removes both, too.

(https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/: "place a unique label on the pod
and create a new service which selects this label".)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hatchway.errors import ApiError, HatchwayError
from hatchway.exposure.exposing import DryRun, create_service
from hatchway.exposure.generator import LONGEST_NAME, ServiceRequest, make_service
from hatchway.kube.api import Client, Object
from hatchway.kube.restclient import RestClient
from hatchway.kube.workload import Workload, find_object, label_selector_of

# The label of the pod and the Service's selector. Its value is the pod's name, or its UID if the name is too long.
POD_LABEL: Final = "hatchway.dev/exposed-pod"
# The label of Services that `--undo` may delete, and the annotation with the pod's name.
MADE_BY: Final = "hatchway.dev/made-by"
_MADE_BY_VALUE: Final = "hatchway-expose"
_POD_NAME: Final = "hatchway.dev/exposed-pod-name"
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The Services and the label that `--undo` has removed.

    services: the names of the deleted Services. label: True when the pod's label was removed.
    """

    services: tuple[str, ...]
    label: bool


async def expose_single_pod(client: RestClient, workload: Workload, request: ServiceRequest, dry_run: DryRun) -> Object:
    """Label a pod, create a Service for it alone, and return the Service.

    When the Service cannot be created, the label is removed again.

    Raises:
        HatchwayError: the target is not a pod, or the pod is exposed already.
        ApiError: the user may not do this, or the API server cannot be asked.
    """
    pod = await _named_pod(client, workload)
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    value = name if _LABEL_VALUE.match(name) else pod["metadata"]["uid"]
    labels = pod["metadata"].get("labels") or {}
    if labels.get(POD_LABEL, value) != value:
        raise HatchwayError(
            f"pod {name} has the label {POD_LABEL}={labels[POD_LABEL]}, which is not its own",
            f"remove it first: kubectl label pod {name} -n {namespace} {POD_LABEL}-",
        )
    if request.selector:
        raise HatchwayError("--only chooses the pod by a label of its own", "leave out --selector")
    service = make_service(
        "pods", {**pod, "metadata": {**pod["metadata"], "labels": {**labels, POD_LABEL: value}}}, request
    )
    metadata = service["metadata"]
    metadata["name"] = request.name or _service_name(name)
    metadata["labels"] = {**(metadata.get("labels") or {}), POD_LABEL: value, MADE_BY: _MADE_BY_VALUE}
    metadata["annotations"] = {_POD_NAME: name}
    service["spec"]["selector"] = {POD_LABEL: value}
    labelled = dry_run == "none" and POD_LABEL not in labels
    if labelled:
        await _set_label(client, pod, value)
    try:
        return await create_service(client, namespace, service, dry_run)
    except BaseException:
        if labelled:
            await _set_label(client, pod, None)
        raise


async def _named_pod(client: Client, workload: Workload) -> Object:
    if workload.resource not in ("", "pods"):
        _, owner = await find_object(client, workload)
        selector = label_selector_of(owner)
        pods = await client.list("pods", workload.namespace, label_selector=selector) if selector else []
        names = [f"pod/{pod['metadata']['name']}" for pod in pods[:5]]
        raise HatchwayError(
            f"{workload} is not one pod, and --only exposes one pod alone",
            f"name one: {', '.join(names)}" if names else "name a pod: pod/NAME",
        )
    _, pod = await find_object(client, Workload("pods", workload.name, workload.namespace))
    return pod


def _service_name(pod: str) -> str:
    """Return a name for the Service: the pod's name, changed where it is no valid name of a Service."""
    name = pod.replace(".", "-")[:LONGEST_NAME].rstrip("-")
    return name if name[0].isalpha() else f"pod-{name}"[:LONGEST_NAME].rstrip("-")


async def _set_label(client: Client, pod: Object, value: str | None) -> None:
    """Set the pod's label, or remove it when `value` is None. Raises ApiError."""
    metadata = pod["metadata"]
    # The UID in the patch makes the patch fail if the pod was deleted and another pod has its name now.
    patch = {"metadata": {"uid": metadata["uid"], "labels": {POD_LABEL: value}}}
    await client.patch("pods", metadata["name"], patch, metadata["namespace"])


async def undo(client: Client, workload: Workload, dry_run: DryRun) -> Withdrawal:
    """Delete the Services that `expose_single_pod` has made for a pod, and remove the pod's label.

    The pod may be deleted already. Only Services with Hatchway's label, annotation and selector are deleted.

    Raises:
        HatchwayError: there is nothing to remove.
        ApiError: the user may not do this, or the API server cannot be asked.
    """
    if workload.resource not in ("", "pods"):
        raise HatchwayError(
            f"--undo removes what --only has made for a pod, and {workload} is not a pod",
            f"a Service is removed with `kubectl delete service NAME -n {workload.namespace}`",
        )
    pod: Object | None = None
    try:
        pod = await client.get("pods", workload.name, workload.namespace)
    except ApiError as error:
        if error.code != 404:
            raise
    marked = await client.list("services", workload.namespace, label_selector=f"{MADE_BY}={_MADE_BY_VALUE}")
    services = [service for service in marked if _is_ours(service, workload.name)]
    label = pod is not None and _has_own_label(pod)
    if not services and not label:
        raise HatchwayError(
            f"`hatchway expose --only` has made nothing for pod {workload.name} in namespace {workload.namespace}",
            f"`kubectl get services -n {workload.namespace} -l {MADE_BY}={_MADE_BY_VALUE}` shows what it has made",
        )
    for service in services if dry_run == "none" else ():
        metadata = service["metadata"]
        await client.delete("services", metadata["name"], workload.namespace, uid=metadata["uid"])
    if label and pod is not None and dry_run == "none":
        await _set_label(client, pod, None)
    return Withdrawal(tuple(service["metadata"]["name"] for service in services), label)


def _has_own_label(pod: Object) -> bool:
    metadata = pod["metadata"]
    return (metadata.get("labels") or {}).get(POD_LABEL) in (metadata["name"], metadata.get("uid") or metadata["name"])


def _is_ours(service: Object, pod: str) -> bool:
    metadata = service["metadata"]
    value = (metadata.get("labels") or {}).get(POD_LABEL)
    return bool(
        value
        and (metadata.get("annotations") or {}).get(_POD_NAME) == pod
        and ((service.get("spec") or {}).get("selector") or {}) == {POD_LABEL: value}
    )
