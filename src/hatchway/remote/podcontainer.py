"""Chooses the pod and the container in which a command runs."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube import access
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import is_finished
from hatchway.kube.workload import Workload, choose_container, containers, explain_absence, find_pods, pick_pod


@dataclass(frozen=True, slots=True)
class PodContainer:
    """The pod and the container in which a command runs.

    pod: the pod's object at the time of the choice.
    note: a remark about the choice for the user; "" when nothing was chosen automatically.
    """

    namespace: str
    name: str
    container: str
    pod: Object
    note: str = ""

    def __str__(self) -> str:
        return f"pod {self.name}, container {self.container}"


async def find_pod_container(client: Client, workload: Workload, container: str = "") -> PodContainer:
    """Return the container for a command: in the named pod, or in a ready pod of a service or workload.

    Raises:
        HatchwayError: the object does not exist, it has no running pod, or the pod has ended.
        ApiError: the API server cannot be reached, or refuses the request; 400 when there is no such container.
    """
    try:
        pods = await find_pods(client, workload)
        pod = await pick_pod(client, pods)
    except ApiError as error:
        if error.code == 404:
            raise HatchwayError(f"there is no {workload}", await explain_absence(client, workload)) from error
        if error.code == 403:
            details = error.details or {}
            kind, group = details.get("kind") or "pods", details.get("group")
            resource = f"{kind}.{group}" if group else str(kind)
            hint = await _allowing(client, ("get", "list"), resource, workload.namespace)
            raise HatchwayError(error.message, hint) from error
        raise
    name = pod["metadata"]["name"]
    if is_finished(pod):
        phase = str(pod["status"]["phase"]).lower()
        raise HatchwayError(f"pod {name} has ended ({phase})", "`hatchway logs` shows what it has printed")
    chosen = choose_container(pod, container)
    notes = [] if pods.is_one_pod else [f"pod {name}"]
    others = [one for one in containers(pod) if one != chosen]
    if others and not container:
        notes.append(f"container {chosen} (-c takes {', '.join(others)} too)")
    return PodContainer(workload.namespace, name, chosen, pod, ", ".join(notes))


async def explain_refusal(error: ApiError, where: str, verb: str, client: Client, namespace: str) -> HatchwayError:
    """Return the error of a command that the API server has refused, with the rule that would allow the command.

    where: the pod and the container, as text.
    verb: the subresource, `exec` or `attach`.
    """
    if is_not_running(error):
        return HatchwayError(
            f"{where}: the container does not run now", "`hatchway logs` and `kubectl describe pod` show why"
        )
    if error.code != 403:
        return error
    message = f"you may not run commands in {where}: {error.message}"
    # A WebSocket begins with a GET request; API servers before Kubernetes 1.35 authorize it as `get`.
    hint = await _allowing(client, ("create", "get"), "pods", namespace, verb)
    return HatchwayError(message, hint)


def is_not_running(error: ApiError) -> bool:
    """Return True when a command is refused because the container does not run (kubelet_pods.go, `GetExec`)."""
    return error.code == 500 and "container not found (" in error.message


async def _allowing(
    client: Client, verbs: tuple[str, ...], resource: str, namespace: str, subresource: str = ""
) -> str:
    """Return a hint with the rule that grants this user a right."""
    try:
        user = await access.user_name(client)
    except ApiError:
        # Without a user name, the rule has a placeholder for it.
        user = ""
    rule = access.missing_rule(verb=verbs, resource=resource, subresource=subresource, namespace=namespace, user=user)
    return f"an administrator of the cluster can allow it with:\n{rule}"
