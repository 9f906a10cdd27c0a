"""A pod's /etc/hosts and /etc/resolv.conf (`pkg/kubelet/network/dns/dns.go`, `kubelet_pods.go`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchway.kube.api import Object

_HOSTS = """# Kubernetes-managed hosts file (Hatchway).
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
fe00::\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
_HOST_FILE = Path("/etc/resolv.conf")
# What glibc and Kubernetes' validation take (MaxDNSNameservers, MaxDNSSearchPaths).
_NAMESERVERS, _SEARCHES = 3, 32


def hosts(pod: Object) -> str:
    """/etc/hosts without the pod's own line, which the runtime adds when it knows the address."""
    lines = [
        f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}\n"
        for alias in pod["spec"].get("hostAliases") or ()
    ]
    if lines:
        lines.insert(0, "\n# Entries added by HostAliases.\n")
    return _HOSTS + "".join(lines)


def hostname(pod: Object) -> str:
    """The pod's host name: at most 63 characters (truncatePodHostnameIfNeeded)."""
    name: str = pod["spec"].get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-.")


def resolv_conf(pod: Object, *, cluster_dns: str, cluster_domain: str, host_file: Path = _HOST_FILE) -> str:
    """/etc/resolv.conf as dnsPolicy and dnsConfig ask for it. host_file: this machine's, for the policy Default."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    namespace = pod["metadata"].get("namespace", "default")
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy == "Default" or (policy != "None" and not cluster_dns):
        servers, searches, options = _read(host_file)
    elif policy != "None":
        servers = [cluster_dns]
        searches = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        options = {"ndots": "5"}
    more: dict[str, Any] = pod["spec"].get("dnsConfig") or {}
    servers = _unique([*servers, *(more.get("nameservers") or ())])[:_NAMESERVERS]
    searches = _unique([*searches, *(more.get("searches") or ())])[:_SEARCHES]
    for option in more.get("options") or ():
        options[option["name"]] = option.get("value")
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        lines.append(
            "options " + " ".join(name if value is None else f"{name}:{value}" for name, value in options.items())
        )
    return "\n".join(lines) + "\n"


def _read(path: Path) -> tuple[list[str], list[str], dict[str, str | None]]:
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # A machine without the file has no resolver to hand on.
        return servers, searches, options
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "nameserver" and rest.split():
            servers.append(rest.split()[0])
        elif key in ("search", "domain"):
            searches = rest.split()
        elif key == "options":
            for option in rest.split():
                name, colon, value = option.partition(":")
                options[name] = value if colon else None
    return servers, searches, options


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))
