"""Validation of the security contexts of pods and containers.

The rules are those of `validatePodSpecSecurityContext` and `ValidateSecurityContext` in
`pkg/apis/core/validation/validation.go`.
"""

from __future__ import annotations

import re
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

Spec = dict[str, Any]

_MAX_ID = 2**31 - 1
_SYSCTL = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_MAX_SYSCTL = 253
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_is_sysctl = re.compile(_SYSCTL).fullmatch
# Kernel parameters of an IPC namespace. A pod with hostIPC may not set them, because it uses the IPC namespace of its
# node (`pkg/kubelet/sysctl/util.go`).
_IPC_SYSCTLS = ("kernel.sem",)
_IPC_PREFIXES = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def validate_pod_security(spec: Spec, at: str, causes: list[Cause]) -> None:
    """Add the errors in a pod's securityContext and sysctls to `causes`. at: the path of the spec."""
    context, here = spec.get("securityContext") or {}, f"{at}.securityContext"
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        _validate_id(context.get(key), f"{here}.{key}", causes)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        _validate_id(group, f"{here}.supplementalGroups[{index}]", causes)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(v.invalid(f"{here}.shareProcessNamespace", True, text))
    _validate_sysctls(spec, context.get("sysctls") or [], f"{here}.sysctls", causes)
    policies = (("fsGroupChangePolicy", ("Always", "OnRootMismatch")),)
    for key, supported in policies:
        if context.get(key) is not None and context[key] not in supported:
            causes.append(v.not_supported(f"{here}.{key}", context[key], supported))
    _validate_seccomp(context.get("seccompProfile"), f"{here}.seccompProfile", causes)
    _validate_apparmor(context.get("appArmorProfile"), f"{here}.appArmorProfile", causes)
    for key, supported in (
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        if context.get(key) is not None and context[key] not in supported:
            causes.append(v.not_supported(f"{here}.{key}", context[key], supported))


def _validate_id(value: int | None, at: str, causes: list[Cause]) -> None:
    if value is not None and not 0 <= value <= _MAX_ID:
        causes.append(v.invalid(at, value, f"must be between 0 and {_MAX_ID}, inclusive"))


def _validate_sysctls(spec: Spec, sysctls: list[Spec], at: str, causes: list[Cause]) -> None:
    seen = set()
    for index, sysctl in enumerate(sysctls):
        name, here = sysctl.get("name", ""), f"{at}[{index}].name"
        if not name:
            causes.append(v.required(here))
        elif len(name) > _MAX_SYSCTL or not _is_sysctl(name):
            text = f"must have at most {_MAX_SYSCTL} characters and match regex ^{_SYSCTL}$"
            causes.append(v.invalid(here, name, text))
        elif name in seen:
            causes.append(v.duplicate(here, name))
        seen.add(name)
        plain = normalize_sysctl(name)
        if spec.get("hostNetwork") and plain.startswith("net."):
            causes.append(v.invalid(here, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and (plain in _IPC_SYSCTLS or plain.startswith(_IPC_PREFIXES)):
            causes.append(v.invalid(here, name, "may not be specified when 'hostIPC' is true"))


def normalize_sysctl(name: str) -> str:
    """Return a sysctl's name with dots as separators.

    If the first separator is a slash, each slash becomes a dot, and each dot becomes a slash (sysctl.d(5)).
    """
    first = re.search("[./]", name)
    if first is None or first[0] == ".":
        return name
    return name.translate({ord("/"): ".", ord("."): "/"})


def _validate_seccomp(profile: Spec | None, at: str, causes: list[Cause]) -> None:
    if profile is None:
        return
    kind, path = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        causes.append(v.required(f"{at}.type", "type is required when seccompProfile is set"))
    elif kind not in _PROFILES:
        causes.append(v.not_supported(f"{at}.type", kind, _PROFILES))
    if kind == "Localhost":
        if path is None:
            causes.append(v.required(f"{at}.localhostProfile", "must be set when seccomp type is Localhost"))
        elif path.startswith("/"):
            causes.append(v.invalid(f"{at}.localhostProfile", path, "must be a relative path"))
        elif ".." in path.split("/"):
            causes.append(v.invalid(f"{at}.localhostProfile", path, "must not contain '..'"))
    elif path is not None:
        shown = {"Type": kind, "LocalhostProfile": path}
        causes.append(v.invalid(f"{at}.localhostProfile", shown, "can only be set when seccomp type is Localhost"))


def _validate_apparmor(profile: Spec | None, at: str, causes: list[Cause]) -> None:
    if profile is None:
        return
    kind, path = profile.get("type", ""), profile.get("localhostProfile")
    at_path = f"{at}.localhostProfile"
    if not kind:
        causes.append(v.required(f"{at}.type", "type is required when appArmorProfile is set"))
    elif kind not in _PROFILES:
        causes.append(v.not_supported(f"{at}.type", kind, _PROFILES))
    elif kind == "Localhost":
        if not (path or "").strip():
            causes.append(v.required(at_path, "must be set when AppArmor type is Localhost"))
        elif path != (path or "").strip():
            causes.append(v.invalid(at_path, path, "must not be padded with whitespace"))
    elif path is not None:
        causes.append(v.invalid(at_path, path, "can only be set when AppArmor type is Localhost"))


def validate_host_users(spec: Spec, at: str, causes: list[Cause]) -> None:
    """Check that a pod with its own user namespace (hostUsers: false) shares no other namespace with its node."""
    if spec.get("hostUsers") is not False:
        return
    # Kubernetes' messages spell two of the fields with a capital letter.
    for key, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(key):
            causes.append(v.forbidden(f"{at}.{shown}", "when `pod.Spec.HostUsers` is false"))


def validate_container_security(context: Spec | None, at: str, spec: Spec, causes: list[Cause]) -> None:
    """Add the errors in a container's securityContext to `causes`. at: its path. spec: the pod's spec."""
    if context is None:
        return
    for key in ("runAsUser", "runAsGroup"):
        _validate_id(context.get(key), f"{at}.{key}", causes)
    mount = context.get("procMount")
    if mount is not None and mount not in ("Default", "Unmasked"):
        causes.append(v.not_supported(f"{at}.procMount", mount, ("Default", "Unmasked")))
    elif mount == "Unmasked" and spec.get("hostUsers") is not False:
        causes.append(v.invalid(f"{at}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    _validate_seccomp(context.get("seccompProfile"), f"{at}.seccompProfile", causes)
    if context.get("allowPrivilegeEscalation") is False:
        why = "cannot set `allowPrivilegeEscalation` to false and {}"
        if context.get("privileged"):
            causes.append(v.invalid(at, _shown(context), why.format("`privileged` to true")))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            causes.append(v.invalid(at, _shown(context), why.format("`capabilities.Add` CAP_SYS_ADMIN")))
    _validate_apparmor(context.get("appArmorProfile"), f"{at}.appArmorProfile", causes)


def _shown(context: Spec) -> Spec:
    """Return a context for an error message, in which Kubernetes shows all fields of the internal Go structure."""
    capabilities = context.get("capabilities")
    if capabilities is not None:
        capabilities = {"Add": capabilities.get("add"), "Drop": capabilities.get("drop")}
    names = (
        "seLinuxOptions", "windowsOptions", "runAsUser", "runAsGroup", "runAsNonRoot", "readOnlyRootFilesystem",
        "allowPrivilegeEscalation", "procMount", "seccompProfile", "appArmorProfile",
    )  # fmt: skip
    rest = {f"{name[0].upper()}{name[1:]}": context.get(name) for name in names}
    if "SeLinuxOptions" in rest:
        rest = {"SELinuxOptions": rest.pop("SeLinuxOptions"), **rest}
    return {"Capabilities": capabilities, "Privileged": context.get("privileged"), **rest}
