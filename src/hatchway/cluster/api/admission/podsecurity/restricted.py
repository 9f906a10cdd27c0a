"""The checks that the level `restricted` adds: hardening (pod-security-admission `policy/check_*.go`). Pure."""

from __future__ import annotations

from hatchway.cluster.api.admission.podsecurity.baseline import in_user_namespace, seccomp_1_19, valid_seccomp
from hatchway.cluster.api.admission.podsecurity.findings import (
    CheckFunction,
    Finding,
    Json,
    every_container,
    names,
    plural,
    quoted,
    security,
    setters,
)

__all__ = [
    "capabilities_1_22",
    "no_escalation",
    "not_on_windows",
    "restricted_volumes",
    "run_as_non_root",
    "run_as_user",
    "seccomp_required",
    "unless_user_namespace",
]

_VOLUMES = (
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
)  # fmt: skip
_OTHER_VOLUMES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd",
    "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
    "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos",
)  # fmt: skip


def not_on_windows(check: CheckFunction) -> CheckFunction:
    """Return the check for all pods except pods for Windows, because Windows does not have the setting."""

    def on_linux(metadata: Json, spec: Json) -> Finding | None:
        return None if (spec.get("os") or {}).get("name") == "windows" else check(metadata, spec)

    return on_linux


def unless_user_namespace(check: CheckFunction) -> CheckFunction:
    """Return the check for all pods except pods in user namespaces."""

    def with_host_users(metadata: Json, spec: Json) -> Finding | None:
        return None if in_user_namespace(spec) else check(metadata, spec)

    return with_host_users


def no_escalation(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers that do not forbid privilege escalation."""
    bad = [
        one.get("name", "")
        for one in every_container(spec)
        if security(one).get("allowPrivilegeEscalation") is not False
    ]
    if not bad:
        return None
    detail = f"{names(bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail)


def capabilities_1_22(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers that do not drop all capabilities, or that add capabilities other than NET_BIND_SERVICE."""
    keeping, adding, found = [], [], set()
    for container in every_container(spec):
        given = security(container).get("capabilities") or {}
        if "ALL" not in (given.get("drop") or ()):
            keeping.append(container.get("name", ""))
        extra = set(given.get("add") or ()) - {"NET_BIND_SERVICE"}
        if extra:
            adding.append(container.get("name", ""))
            found |= extra
    details = []
    if keeping:
        details.append(f'{names(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        what = quoted(sorted(found))
        details.append(f"{names(adding)} must not include {what} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def restricted_volumes(_metadata: Json, spec: Json) -> Finding | None:
    """Find volumes of types that the level does not allow."""
    bad, types = [], set()
    for volume in spec.get("volumes") or ():
        if any(volume.get(key) is not None for key in _VOLUMES):
            continue
        bad.append(volume.get("name", ""))
        types.add(next((key for key in _OTHER_VOLUMES if volume.get(key) is not None), "unknown"))
    if not bad:
        return None
    verb, noun = plural(len(bad), "uses", "use"), plural(len(types), "restricted volume type")
    detail = f"{plural(len(bad), 'volume')} {quoted(bad)} {verb} {noun} {quoted(sorted(types))}"
    return Finding("restricted volume types", detail)


def run_as_non_root(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers that may run as root, because runAsNonRoot is not set for them."""
    of_pod = security(spec).get("runAsNonRoot")
    chosen = [(one.get("name", ""), security(one).get("runAsNonRoot")) for one in every_container(spec)]
    who = setters(of_pod is False, [name for name, value in chosen if value is False])
    if who:
        return Finding("runAsNonRoot != true", f"{who} must not set securityContext.runAsNonRoot=false")
    unset = [name for name, value in chosen if value is None]
    if of_pod or not unset:
        return None
    return Finding("runAsNonRoot != true", f"pod or {names(unset)} must set securityContext.runAsNonRoot=true")


def run_as_user(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers that run as user 0."""
    containers = [one.get("name", "") for one in every_container(spec) if security(one).get("runAsUser") == 0]
    who = setters(security(spec).get("runAsUser") == 0, containers)
    return Finding("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def seccomp_required(metadata: Json, spec: Json) -> Finding | None:
    """Find containers whose seccomp profile is missing or has a type other than RuntimeDefault and Localhost."""
    found = seccomp_1_19(metadata, spec)
    if found is not None or valid_seccomp(spec):
        return found
    unset = [one.get("name", "") for one in every_container(spec) if valid_seccomp(one) is None]
    if not unset:
        return None
    wanted = '"RuntimeDefault" or "Localhost"'
    detail = f"pod or {names(unset)} must set securityContext.seccompProfile.type to {wanted}"
    return Finding("seccompProfile", detail)
