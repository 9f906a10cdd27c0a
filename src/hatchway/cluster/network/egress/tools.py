"""The programs that connect a network namespace to this machine's network without root: pasta and slirp4netns.

Each creates a TAP interface in the namespace, and opens ordinary sockets on this machine for the connections that
arrive there. The options of both programs forbid connections to this machine's loopback, and disable the programs' name
servers, because `hostnames.py` answers DNS queries.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hatchway.cluster import plan
from hatchway.errors import HatchwayError

AUTO: Final = "auto"
NONE: Final = "none"
# In the order of preference: pasta is faster, and better maintained.
TOOLS: Final = ("pasta", "slirp4netns")
CHOICES: Final = (AUTO, NONE, *TOOLS)
_PACKAGES: Final = {"pasta": "passt", "slirp4netns": "slirp4netns"}
_DEVICE: Final = "/dev/net/tun"
MISSING: Final = "pasta (`apt install passt`) connects them at the next start; slirp4netns does, too"
REMEDY: Final = f"root gives access to it with `chmod 0666 {_DEVICE}` (after `modprobe tun`, if there is no such file)"
# Networks that pods never reach: link-local addresses, where most clouds have their metadata services; the other
# addresses of metadata services (Azure, Alibaba, Oracle); addresses that no host has.
REFUSED: Final = (
    ("169.254.0.0", 16),
    ("168.63.129.16", 32),
    ("100.100.100.200", 32),
    ("192.0.0.192", 32),
    ("0.0.0.0", 8),
    ("224.0.0.0", 3),
)
# The interface in the namespace, and its MTU in bytes (the largest that the programs accept).
INTERFACE: Final = "uplink"
MTU: Final = 65520


@dataclass(frozen=True, slots=True)
class EgressTool:
    """An installed egress program. name: one of TOOLS. path: the path of its file."""

    name: str
    path: str

    def command(self, namespace: str) -> list[str]:
        """Return the command line for the network namespace that is mounted at the path `namespace`."""
        return [self.path, *(_pasta(namespace) if self.name == "pasta" else _slirp4netns(namespace))]

    def settings(self, *, to_host: bool) -> dict[str, Any]:
        """Return the settings for the private network's processes, as a JSON object.

        to_host: whether pods may reach this machine's own addresses.
        """
        # AppArmor's profile of pasta allows namespaces in this directory.
        namespace = f"/run/user/{os.geteuid()}/netns/hatchway"
        return {
            "namespace": namespace,
            "argv": self.command(namespace),
            "interface": INTERFACE,
            "mtu": MTU,
            "ip": plan.EGRESS_IP,
            "next_hop": plan.EGRESS_NEXT_HOP,
            "nameserver": plan.HOST_NAMESERVER,
            "router": plan.gateway(0),
            "inside": [[str(cidr.network_address), cidr.prefixlen] for cidr in (plan.POD_CIDR, plan.NODE_CIDR)],
            "refused": [[network, prefix] for network, prefix in REFUSED],
            "to_host": to_host,
        }


def _pasta(namespace: str) -> list[str]:
    return [
        *("--foreground", "--quiet", "--ipv4-only", "--runas", "0:0"),
        *("--netns", namespace, "--netns-only", "--no-netns-quit"),
        *("--ns-ifname", INTERFACE, "--address", plan.EGRESS_IP, "--netmask", str(plan.EGRESS_CIDR.prefixlen)),
        *("--gateway", plan.EGRESS_NEXT_HOP, "--no-map-gw"),
        *("--dns", "none", "--search", "none"),
        *("--no-dhcp", "--no-dhcpv6", "--no-ndp", "--no-ra"),
        # Forward no ports in either direction.
        *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
    ]


def _slirp4netns(namespace: str) -> list[str]:
    return [
        *("--netns-type=path", "--disable-host-loopback", "--disable-dns", "--enable-sandbox", "--enable-seccomp"),
        *(f"--cidr={plan.EGRESS_CIDR}", f"--mtu={MTU}"),
        *(namespace, INTERFACE),
    ]


def choose(mode: str, which: Callable[[str], str | None] = shutil.which) -> EgressTool | None:
    """Return the program to use; None when pods get no access to other networks.

    mode: one of CHOICES. which: finds the path of a program, like shutil.which.

    Raises HatchwayError when the requested program is not installed, and for an unknown mode.
    """
    if mode not in CHOICES:
        raise HatchwayError(f"--egress {mode}: there is no such program", f"choose one of {', '.join(CHOICES)}")
    if mode == NONE:
        return None
    for name in TOOLS if mode == AUTO else (mode,):
        path = which(name)
        if path is not None:
            return EgressTool(name, path)
    if mode == AUTO:
        return None
    package = _PACKAGES[mode]
    raise HatchwayError(
        f"--egress {mode}: {mode} is not installed", f"`apt install {package}` (or your system's package {package})"
    )


def check(mode: str, device: str = _DEVICE) -> None:
    """Raise HatchwayError when the program that is named with --egress cannot work on this machine.

    mode: one of CHOICES; AUTO and NONE name no program. device: the device with which the program creates its
    interface.
    """
    choose(mode)
    if mode in TOOLS and (why := obstacle(device)):
        raise HatchwayError(f"--egress {mode}: {why}", f"{REMEDY}; `--egress none` keeps pods inside the cluster")


def obstacle(device: str = _DEVICE) -> str:
    """Return why no program can create its interface on this machine; "" when it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device} cannot be opened: {(error.strerror or str(error)).lower()}"
    return ""
