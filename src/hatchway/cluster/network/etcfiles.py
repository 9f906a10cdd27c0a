"""The files of /etc that every pod has of its own."""

from __future__ import annotations

# The host's could send look-ups past /etc/resolv.conf: to nscd, systemd-resolved, mDNS, a directory service.
_NSSWITCH = """\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""

# What the kubelet writes (pkg/kubelet/kubelet_pods.go, nodeHostsFileContent and managedHostsFileContent), without IPv6
# multicast names.
_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""


def etc_files(given: dict[str, str], hostname: str, ip: str) -> dict[str, str]:
    """All own files of a pod's /etc by name; `given` wins, and `hosts` gets the pod's own line at its end."""
    files = {"hostname": f"{hostname}\n", "nsswitch.conf": _NSSWITCH, "hosts": _HOSTS, "resolv.conf": "", **given}
    hosts = files["hosts"]
    if hosts and not hosts.endswith("\n"):
        hosts += "\n"
    return {**files, "hosts": f"{hosts}{ip}\t{hostname}\n"}
