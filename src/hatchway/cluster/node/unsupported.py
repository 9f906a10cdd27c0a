"""Describes the fields of a pod that this cluster ignores, for the pod's events. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hatchway.addresses import is_loopback
from hatchway.cluster.capabilitynames import DEFAULT_CAPABILITIES
from hatchway.kube.api import Object


def messages(pod: Object, *, loopback: bool, is_host: Callable[[Object], bool]) -> list[str]:
    """Return one sentence for each kind of field that is ignored.

    loopback: True when isolation is off. is_host: whether a container runs a program of this machine.
    """
    spec = pod["spec"]
    containers = [container for key in ("initContainers", "containers") for container in spec.get(key) or ()]
    return [
        *_sharing(spec, loopback),
        *_ports(spec, containers, loopback),
        *_privileges(spec, list(filter(is_host, containers))),
    ]


def _sharing(spec: Object, loopback: bool) -> Iterator[str]:
    if not loopback:
        return
    for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(field):
            yield (
                f"{field} has no effect here: isolation is off, so the pod is an ordinary process of this machine with "
                "an address of its own"
            )
    if (spec.get("securityContext") or {}).get("sysctls"):
        yield "sysctls are not set here: isolation is off, so the pod has no kernel parameters of its own"


def _ports(spec: Object, containers: list[Object], loopback: bool) -> Iterator[str]:
    if spec.get("hostNetwork") and not loopback:
        return
    ports = [
        f"{port['hostIP']}:{port['hostPort']}"
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort") and not _is_served(port.get("hostIP") or "", loopback)
    ]
    if ports:
        yield (
            f"hostPort {', '.join(ports)}: host ports are on the node's own addresses only; a port with another "
            "hostIP cannot be reached"
        )


def _is_served(host_ip: str, loopback: bool) -> bool:
    """Return True when host ports work with this hostIP.

    In a private network, loopback addresses are the node's own.
    """
    return host_ip in ("", "0.0.0.0", "::") or (not loopback and ":" not in host_ip and is_loopback(host_ip))


def _privileges(spec: Object, containers: list[Object]) -> Iterator[str]:
    """Describe the settings that have no effect on containers that run this machine's programs."""
    contexts = [found for container in containers if (found := container.get("securityContext"))]
    if any(context.get("privileged") for context in contexts):
        yield (
            "privileged has no effect on this machine's programs: they have the usual capabilities in the cluster's "
            "own user namespace, and no rights on this machine"
        )
    added = sorted(
        {str(name) for c in contexts for name in (c.get("capabilities") or {}).get("add") or ()}
        - set(DEFAULT_CAPABILITIES)
    )
    if added:
        yield (
            f"capabilities {', '.join(added)} are not added: this machine's programs have the usual ones, in a user "
            "namespace only"
        )
    if any(context.get("procMount") == "Unmasked" for context in contexts):
        yield "procMount Unmasked has no effect on this machine's programs: they have a masked /proc"
    if containers and any(
        context.get("runAsUser") or context.get("runAsNonRoot")
        for context in (spec.get("securityContext") or {}, *contexts)
    ):
        yield "runAsUser and runAsNonRoot have no effect on this machine's programs: they have one user, called root"
