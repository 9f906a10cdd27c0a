"""Computes the user and the rights of a container of an image from its securityContext. Pure.

Behaviour: `pkg/kubelet/kuberuntime/security_context.go`, `pkg/securitycontext/util.go`; the capabilities: containerd's
`internal/cri/server/container_create.go` and `pkg/oci/spec_opts.go`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hatchway.cluster.capabilitynames import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from hatchway.cluster.node.env import ConfigError
from hatchway.cluster.runtime import Privileges
from hatchway.kube.api import Object
from hatchway.numerals import is_digits

__all__ = ["CreateError", "check_non_root", "privileges_of", "setting"]


class CreateError(Exception):
    """The container cannot be created. Its message is for a status with the reason CreateContainerError."""


def setting(pod: Object, container: Object, name: str) -> Any:
    """Return a field of the container's securityContext, or else of the pod's; None when neither has the field."""
    own = (container.get("securityContext") or {}).get(name)
    return (pod["spec"].get("securityContext") or {}).get(name) if own is None else own


def check_non_root(pod: Object, container: Object, image_user: str) -> None:
    """Raise ConfigError when a container with runAsNonRoot would run as root (verifyRunAsNonRoot).

    image_user: the user in the image's configuration.
    """
    if not setting(pod, container, "runAsNonRoot"):
        return
    metadata = pod["metadata"]
    full_name = f"{metadata['name']}_{metadata.get('namespace', '')}({metadata.get('uid', '')})"
    where = f'(pod: "{full_name}", container: {container["name"]})'
    user = setting(pod, container, "runAsUser")
    if user is not None:
        if user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    name = image_user.partition(":")[0]
    if not name or (is_digits(name) and int(name) == 0):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if not is_digits(name):
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root "
            f"{where}"
        )


def privileges_of(pod: Object, container: Object, image_user: str) -> Privileges:
    """Return the user and the rights of a container of an image.

    image_user: the user in the image's configuration. Raises CreateError for settings that are not supported.
    """
    own = container.get("securityContext") or {}
    shared = pod["spec"].get("securityContext") or {}
    privileged = bool(own.get("privileged"))
    groups = [shared["fsGroup"]] if shared.get("fsGroup") is not None else []
    groups += shared.get("supplementalGroups") or ()
    return Privileges(
        user=_user(pod, container, image_user),
        groups=tuple(dict.fromkeys(groups)),
        merge_groups=shared.get("supplementalGroupsPolicy") != "Strict",
        capabilities=ALL_CAPABILITIES if privileged else _capabilities(own.get("capabilities") or {}),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        seccomp="" if privileged else _seccomp(setting(pod, container, "seccompProfile") or {}),
        unmasked_proc=privileged or own.get("procMount") == "Unmasked",
    )


def _user(pod: Object, container: Object, image_user: str) -> str:
    user, group = (setting(pod, container, name) for name in ("runAsUser", "runAsGroup"))
    if user is None and group is None:
        return image_user
    name = str(user) if user is not None else image_user.partition(":")[0] or "0"
    return name if group is None else f"{name}:{group}"


def _capabilities(wanted: Object) -> tuple[str, ...] | None:
    """Return the capabilities of a container; None for the default capabilities."""
    added, dropped = _names(wanted.get("add") or ()), _names(wanted.get("drop") or ())
    if not added and not dropped:
        return None
    found = set(ALL_CAPABILITIES if "ALL" in added else DEFAULT_CAPABILITIES)
    if "ALL" in dropped:
        # As in containerd, `add` of single capabilities wins over `drop` of ALL.
        found = set()
    return tuple(sorted((found | (added - {"ALL"})) - (dropped - {"ALL"})))


def _names(names: Iterable[str]) -> set[str]:
    """Return names of capabilities in capitals and without `CAP_`. Raises CreateError for unknown names."""
    found = {str(name).upper().removeprefix("CAP_") for name in names}
    if unknown := sorted(found - {"ALL", *ALL_CAPABILITIES}):
        raise CreateError(f'failed to generate container spec: unknown capability "CAP_{unknown[0]}"')
    return found


def _seccomp(profile: Object) -> str:
    kind = profile.get("type")
    if kind == "Localhost":
        raise CreateError(
            "seccompProfile of type Localhost is not supported by Hatchway: nodes have no profiles; it has "
            "RuntimeDefault and Unconfined"
        )
    return "" if kind == "Unconfined" else "default"
