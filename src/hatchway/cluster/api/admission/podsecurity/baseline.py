"""The checks of the level `baseline`: known privilege escalations. Pure.

Source: pod-security-admission `policy/check_*.go`.
"""

from __future__ import annotations

from functools import partial

from hatchway.cluster.api.admission.podsecurity.findings import (
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
    "app_armor",
    "capabilities",
    "host_namespaces",
    "host_path_volumes",
    "host_ports",
    "host_probes",
    "host_process",
    "in_user_namespace",
    "privileged",
    "proc_mount",
    "proc_mount_1_35",
    "se_linux_1_0",
    "se_linux_1_31",
    "seccomp_1_0",
    "seccomp_1_19",
    "sysctls_1_0",
    "sysctls_1_27",
    "sysctls_1_29",
    "sysctls_1_32",
    "sysctls_1_37",
    "valid_seccomp",
]

_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_SE_LINUX = frozenset(("", "container_t", "container_init_t", "container_kvm_t"))
_SYSCTLS_1_0 = frozenset(
    (
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    )
)  # fmt: skip
_SYSCTLS_1_27 = _SYSCTLS_1_0 | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_1_29 = _SYSCTLS_1_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
_SYSCTLS_1_32 = _SYSCTLS_1_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
_SYSCTLS_1_37 = _SYSCTLS_1_32 | {"net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat"}


def in_user_namespace(spec: Json) -> bool:
    """Return True for a pod in a user namespace (`hostUsers: false`), for which some checks are relaxed."""
    return spec.get("hostUsers") is False


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def app_armor(metadata: Json, spec: Json) -> Finding | None:
    """Find AppArmor profiles that are neither the runtime's default nor profiles of the node."""

    def bad(part: Json) -> str | None:
        profile = security(part).get("appArmorProfile")
        kind = (profile or {}).get("type", "")
        return kind if profile is not None and kind not in ("RuntimeDefault", "Localhost") else None

    containers = [one.get("name", "") for one in every_container(spec) if bad(one) is not None]
    values = sorted({kind for one in (spec, *every_container(spec)) if (kind := bad(one)) is not None})
    annotations = sorted(
        f"{key}={_quote(value)}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APP_ARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")
    )
    who = setters(bad(spec) is not None, containers)
    if annotations:
        who = " and ".join(filter(None, (who, plural(len(annotations), "annotation"))))
    if not who:
        return None
    values += annotations
    reason = plural(len(values), "forbidden AppArmor profile")
    return Finding(reason, f"{who} must not set AppArmor profile type to {quoted(values)}")


def capabilities(_metadata: Json, spec: Json) -> Finding | None:
    """Find added capabilities that containers do not have by default."""
    bad, found = [], set()
    for container in every_container(spec):
        extra = set((security(container).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        if extra:
            bad.append(container.get("name", ""))
            found |= extra
    if not bad:
        return None
    detail = f"{names(bad)} must not include {quoted(sorted(found))} in securityContext.capabilities.add"
    return Finding("non-default capabilities", detail)


def host_namespaces(_metadata: Json, spec: Json) -> Finding | None:
    """Find namespaces that the pod shares with its node."""
    found = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return Finding("host namespaces", ", ".join(found)) if found else None


def host_path_volumes(_metadata: Json, spec: Json) -> Finding | None:
    """Find volumes that are directories of the node."""
    found = [one.get("name", "") for one in spec.get("volumes") or () if one.get("hostPath") is not None]
    return Finding("hostPath volumes", f"{plural(len(found), 'volume')} {quoted(found)}") if found else None


def host_ports(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers that use ports of the node."""
    bad, found = [], set()
    for container in every_container(spec):
        ports = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        if ports:
            bad.append(container.get("name", ""))
            found |= ports
    if not bad:
        return None
    verb, noun = plural(len(bad), "uses", "use"), plural(len(found), "hostPort")
    return Finding("hostPort", f"{names(bad)} {verb} {noun} {', '.join(sorted(found))}")


def host_probes(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers whose probes or lifecycle hooks name a host. The kubelet would connect to this host."""
    bad, found = set(), set()
    for container in every_container(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(key) for key in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        hosts = {
            host
            for handler in handlers
            for action in ("httpGet", "tcpSocket")
            if (host := ((handler or {}).get(action) or {}).get("host"))
        }
        if hosts:
            bad.add(container.get("name", ""))
            found |= hosts
    if not bad:
        return None
    verb, noun = plural(len(bad), "uses", "use"), plural(len(found), "probe or lifecycle host")
    return Finding("probe or lifecycle host", f"{names(sorted(bad))} {verb} {noun} {quoted(sorted(found))}")


def privileged(_metadata: Json, spec: Json) -> Finding | None:
    """Find privileged containers."""
    bad = [one.get("name", "") for one in every_container(spec) if security(one).get("privileged")]
    return Finding("privileged", f"{names(bad)} must not set securityContext.privileged=true") if bad else None


def proc_mount(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers with an unmasked /proc."""
    kinds = {one.get("name", ""): security(one).get("procMount") for one in every_container(spec)}
    bad = [name for name, kind in kinds.items() if kind not in (None, "Default")]
    if not bad:
        return None
    found = quoted(sorted({str(kinds[name]) for name in bad}))
    return Finding("procMount", f"{names(bad)} must not set securityContext.procMount to {found}")


def proc_mount_1_35(metadata: Json, spec: Json) -> Finding | None:
    """Find containers with an unmasked /proc, unless the pod is in a user namespace."""
    return None if in_user_namespace(spec) else proc_mount(metadata, spec)


def _se_linux(types: frozenset[str], _metadata: Json, spec: Json) -> Finding | None:
    wrong: set[str] = set()
    keys: set[str] = set()

    def bad(part: Json) -> bool:
        options = security(part).get("seLinuxOptions")
        if options is None:
            return False
        kind = options.get("type") or ""
        found = {key for key in ("user", "role") if options.get(key)}
        keys.update(found)
        if kind not in types:
            wrong.add(kind)
        return kind not in types or bool(found)

    of_pod = bad(spec)
    who = setters(of_pod, [one.get("name", "") for one in every_container(spec) if bad(one)])
    if not who:
        return None
    what = [f"{plural(len(wrong), 'type')} {quoted(sorted(wrong))}"] if wrong else []
    what += [f"{key} may not be set" for key in ("user", "role") if key in keys]
    return Finding("seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(what)}")


se_linux_1_0 = partial(_se_linux, _SE_LINUX)
se_linux_1_31 = partial(_se_linux, _SE_LINUX | {"container_engine_t"})


def seccomp_1_0(metadata: Json, spec: Json) -> Finding | None:
    """Find annotations with seccomp profiles that are neither the runtime's default nor profiles of the node."""
    annotations = metadata.get("annotations") or {}
    keys = {_SECCOMP_POD, *(f"{_SECCOMP_CONTAINER}{one['name']}" for one in every_container(spec))}
    found = sorted(
        f"{key}={_quote(annotations[key])}"
        for key in keys
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    if not found:
        return None
    return Finding("seccompProfile", f"forbidden {plural(len(found), 'annotation')} {', '.join(found)}")


def valid_seccomp(part: Json) -> bool | None:
    """Return True if the seccomp profile of a pod or a container is allowed; None when no profile is set."""
    profile = security(part).get("seccompProfile")
    return None if profile is None else profile.get("type") in ("Localhost", "RuntimeDefault")


def seccomp_1_19(_metadata: Json, spec: Json) -> Finding | None:
    """Find seccomp profiles that are neither the runtime's default nor profiles of the node."""
    containers = [one.get("name", "") for one in every_container(spec) if valid_seccomp(one) is False]
    who = setters(valid_seccomp(spec) is False, containers)
    if not who:
        return None
    kinds = {
        security(one)["seccompProfile"].get("type", "")
        for one in (spec, *every_container(spec))
        if valid_seccomp(one) is False
    }
    detail = f"{who} must not set securityContext.seccompProfile.type to {quoted(sorted(kinds))}"
    return Finding("seccompProfile", detail)


def _sysctls(allowed: frozenset[str], _metadata: Json, spec: Json) -> Finding | None:
    found = [one.get("name", "") for one in security(spec).get("sysctls") or () if one.get("name") not in allowed]
    return Finding("forbidden sysctls", ", ".join(found)) if found else None


sysctls_1_0 = partial(_sysctls, _SYSCTLS_1_0)
sysctls_1_27 = partial(_sysctls, _SYSCTLS_1_27)
sysctls_1_29 = partial(_sysctls, _SYSCTLS_1_29)
sysctls_1_32 = partial(_sysctls, _SYSCTLS_1_32)
sysctls_1_37 = partial(_sysctls, _SYSCTLS_1_37)


def host_process(_metadata: Json, spec: Json) -> Finding | None:
    """Find containers that would run as processes of a Windows node (HostProcess)."""

    def bad(part: Json) -> bool:
        return bool((security(part).get("windowsOptions") or {}).get("hostProcess"))

    who = setters(bad(spec), [one.get("name", "") for one in every_container(spec) if bad(one)])
    if not who:
        return None
    return Finding("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true")
