"""Validates changes of the ephemeral containers of a running pod (`ValidatePodEphemeralContainersUpdate`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.podcontainers import validate_container
from hatchway.cluster.api.registry.strategies.podvolumes import validate_volumes
from hatchway.errors import Cause
from hatchway.kube.api import Object

Spec = dict[str, Any]

_AT = "spec.ephemeralContainers"
_MIRROR = "kubernetes.io/config.mirror"
_REFUSED = "cannot be set for an Ephemeral Container"
# The fields that an ephemeral container may have (`allowedEphemeralContainerFields`).
_ALLOWED = frozenset(
    (
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "envFrom",
        "env",
        "volumeMounts",
        "volumeDevices",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "imagePullPolicy",
        "securityContext",
        "stdin",
        "stdinOnce",
        "tty",
        "targetContainerName",
    )
)


def validate_ephemeral_change(obj: Object, old: Object) -> list[Cause]:
    """Return the errors in the ephemeral containers of a changed pod; [] when the change is valid."""
    causes: list[Cause] = []
    _validate(obj["spec"], causes)
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        causes.append(v.forbidden("", "static pods do not support ephemeral containers"))
    new = {one.get("name"): one for one in obj["spec"].get("ephemeralContainers") or ()}
    for former in old["spec"].get("ephemeralContainers") or ():
        name = former["name"]
        if name not in new:
            causes.append(v.forbidden(_AT, f'existing ephemeral containers "{name}" may not be removed'))
        elif new[name] != former:
            causes.append(v.forbidden(_AT, f'existing ephemeral containers "{name}" may not be changed'))
    return causes


def _validate(spec: Spec, causes: list[Cause]) -> None:
    volumes = validate_volumes(spec.get("volumes") or [], "spec.volumes", [])
    others = {one.get("name") for kind in ("containers", "initContainers") for one in spec.get(kind) or ()}
    names = set(others)
    for index, container in enumerate(spec.get("ephemeralContainers") or ()):
        here = f"{_AT}[{index}]"
        validate_container(container, here, volumes, spec, causes)
        image = container.get("image") or ""
        if image != image.strip():
            causes.append(v.invalid(f"{here}.image", image, "must not have leading or trailing whitespace"))
        name, target = container.get("name"), container.get("targetContainerName")
        if name in names:
            causes.append(v.duplicate(f"{here}.name", name))
        names.add(name)
        if target and target not in others:
            causes.append(v.not_found(f"{here}.targetContainerName", target))
        for key, value in container.items():
            if key not in _ALLOWED and value not in (None, [], {}, ""):
                causes.append(v.forbidden(f"{here}.{key}", _REFUSED))
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    causes.append(v.forbidden(f"{here}.volumeMounts[{number}].{key}", _REFUSED))
