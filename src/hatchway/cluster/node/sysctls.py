"""Decides which sysctls a pod may set (`pkg/kubelet/sysctl`). Pure."""

from __future__ import annotations

from hatchway.kube.api import Object

# The sysctls of safe_sysctls.go, which do not affect other pods. There is no option --allowed-unsafe-sysctls.
SAFE = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def wanted(pod: Object) -> dict[str, str]:
    """Return the sysctls that a pod sets, by their names with dots."""
    sysctls = (pod["spec"].get("securityContext") or {}).get("sysctls") or ()
    return {_dotted(item["name"]): str(item.get("value", "")) for item in sysctls}


def refusal(pod: Object) -> str:
    """Return why a pod is refused because of its sysctls; "" when it is not."""
    return next((f'forbidden sysctl: "{name}" not allowlisted' for name in wanted(pod) if name not in SAFE), "")


def _dotted(name: str) -> str:
    """Return a parameter's name with dots as separators, if its first separator is a slash (sysctl.d(5)).

    `net/ipv4/conf/eth0.1/x` is `net.ipv4.conf.eth0/1.x`.
    """
    separator = next((character for character in name if character in "./"), ".")
    return name if separator == "." else name.translate({ord("/"): ".", ord("."): "/"})
