"""Makes a pod's /etc/hosts and /etc/resolv.conf (`pkg/kubelet/network/dns/dns.go`, `kubelet_pods.go`)."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from hatchway.kube.api import Object

_HOSTS = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
# The maximum number of characters of a host name in the kernel; and the length to which longer pod names are cut
# (truncatePodHostnameIfNeeded).
_KERNEL_NAME, _HOSTNAME = 64, 63
_HOST_FILE = Path("/etc/resolv.conf")
# Limits of glibc and of Kubernetes' validation (MaxDNSNameservers, MaxDNSSearchPaths).
_NAMESERVERS, _SEARCHES = 3, 32


def hosts(pod: Object, ip: str, cluster_domain: str, node: str = "") -> str:
    """Return the /etc/hosts of a pod with this address (managedHostsFileContent, nodeHostsFileContent).

    node: the name of its node if it uses the node's network; else "".
    """
    name, domain = (node, "") if node else (hostname(pod), subdomain(pod, cluster_domain))
    start = _HOSTS.replace("file.", "file (host network).", 1) if node else _HOSTS
    names = f"{name}.{domain}\t{name}" if domain else name
    aliases = [
        f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}\n"
        for alias in pod["spec"].get("hostAliases") or ()
    ]
    if aliases:
        aliases.insert(0, "\n# Entries added by HostAliases.\n")
    return f"{start}{ip}\t{names}\n" + "".join(aliases)


def hostname(pod: Object) -> str:
    """Return the pod's host name without its domain (GeneratePodHostNameAndDomain)."""
    spec = pod["spec"]
    if spec.get("hostnameOverride"):
        return str(spec["hostnameOverride"])
    name: str = spec.get("hostname") or pod["metadata"]["name"]
    return name[:_HOSTNAME].rstrip("-.")


def subdomain(pod: Object, cluster_domain: str) -> str:
    """Return the DNS domain of a pod with `spec.subdomain`; "" for other pods."""
    spec = pod["spec"]
    if not spec.get("subdomain") or spec.get("hostnameOverride"):
        return ""
    return f"{spec['subdomain']}.{pod['metadata'].get('namespace', 'default')}.svc.{cluster_domain}"


def kernel_hostname(pod: Object, cluster_domain: str) -> str:
    """Return the host name that the command `hostname` prints in the pod (GetNodenameForKernel).

    With setHostnameAsFQDN it is the fully qualified domain name. Raises OSError when the name is too long.
    """
    name, domain = hostname(pod), subdomain(pod, cluster_domain)
    if domain and pod["spec"].get("setHostnameAsFQDN"):
        name = f"{name}.{domain}"
        if len(name) > _KERNEL_NAME:
            why = (
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
                f"({_KERNEL_NAME} characters is the max, {len(name)} characters requested)"
            )
            raise OSError(errno.ENAMETOOLONG, why)
    return name


def resolv_conf(
    pod: Object, *, cluster_dns: str, cluster_domain: str, host_nameserver: str = "", host_file: Path = _HOST_FILE
) -> str:
    """Return the /etc/resolv.conf for the pod's dnsPolicy and dnsConfig.

    cluster_dns: the address of the cluster's nameserver; "" for none.
    host_nameserver: the address at which pods reach this machine's nameservers; "" when they cannot. Then the search
        domains of this machine are of no use, and would make look-ups slower.
    host_file: this machine's resolv.conf.
    """
    policy = _policy(pod)
    namespace = pod["metadata"].get("namespace", "default")
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy == "Default" or (policy != "None" and not cluster_dns):
        servers, searches, options = _read(host_file)
        if host_nameserver and servers:
            servers = [host_nameserver]
    elif policy != "None":
        servers = [cluster_dns]
        searches = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain]
        if host_nameserver:
            # As in Kubernetes' `generateSearchesForDNSClusterFirst`.
            searches += _read(host_file)[1]
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


def missing_dns(pod: Object, cluster_dns: str) -> str:
    """Return the event's message for a pod that needs the cluster's nameserver when there is none; else ""."""
    if cluster_dns or _policy(pod) in ("Default", "None"):
        return ""
    metadata = pod["metadata"]
    return (
        f'pod: "{metadata["name"]}_{metadata.get("namespace", "default")}({metadata.get("uid", "")})". kubelet does not'
        ' have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default"'
        " policy."
    )


def _policy(pod: Object) -> str:
    """Return the effective policy of a pod (getPodDNSType)."""
    policy = str(pod["spec"].get("dnsPolicy") or "ClusterFirst")
    # For pods in the node's network, only ClusterFirstWithHostNet uses the cluster's nameserver.
    return "Default" if policy == "ClusterFirst" and pod["spec"].get("hostNetwork") else policy


def _read(path: Path) -> tuple[list[str], list[str], dict[str, str | None]]:
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        # This machine has no such file, and so no nameserver for pods.
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
