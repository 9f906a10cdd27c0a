"""The address plan and the fixed names of an embedded cluster, which the API server, the nodes and the CLI share."""

from __future__ import annotations

import ipaddress

CLUSTER_DOMAIN = "cluster.local"
SERVICE_CIDR = ipaddress.IPv4Network("10.96.0.0/16")
POD_CIDR = ipaddress.IPv4Network("10.244.0.0/16")
NODE_CIDR = ipaddress.IPv4Network("172.18.0.0/16")
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
# Addresses for connections to other networks: the address at which pods reach the host's name servers, the cluster's
# address on the interface to the outside, and the next hop. They are in a part of NODE_CIDR that no node has.
EGRESS_CIDR = ipaddress.IPv4Network("172.18.255.0/24")
HOST_NAMESERVER = "172.18.255.53"
EGRESS_IP, EGRESS_NEXT_HOP = "172.18.255.100", "172.18.255.2"
NODE_PORTS = range(30000, 32768)
# The address on which node ports are published on this machine, and the addresses of load balancers. This range does
# not overlap with the ranges of clusters without namespaces (below) and of forwards (127.32.0.0/11).
HOST_IP = "127.0.0.1"
BALANCER_CIDR = ipaddress.IPv4Network("127.16.0.0/16")
KUBELET_PORT = 10250
DEFAULT_API_PORT = 6443
CONTROL_PLANE = "control-plane"

# Directories of each node: the logs of pods, the logging add-on's index, and the monitoring add-on's samples.
NODE_LOGS = "/var/log/pods"
NODE_LOG_INDEX = "/var/lib/hatchway/logging"
NODE_SAMPLES = "/var/lib/hatchway/monitoring"

# Without namespaces (macOS, locked-down Linux), all addresses are loopback addresses: 127.64.0.x for nodes,
# 127.64+N.0.0/16 for pods.
LOOPBACK_NODES = ipaddress.IPv4Network("127.64.0.0/24")


# Ranges that no Service can have: the ranges of the cluster's own network, and special-purpose ranges (RFC 6890).
_NOT_FOR_SERVICES = (
    POD_CIDR,
    NODE_CIDR,
    *(ipaddress.IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
)


def why_not_for_services(cidr: str) -> str:
    """Return why the private network cannot route a range of addresses for Services; "" when it can."""
    network = ipaddress.ip_network(cidr)
    if isinstance(network, ipaddress.IPv6Network):
        return f"{cidr} cannot be used: this cluster's network has no IPv6"
    for other in _NOT_FOR_SERVICES:
        if network.overlaps(other):
            owner = "the cluster's own network" if other in (POD_CIDR, NODE_CIDR) else "a reserved range"
            return f"{cidr} cannot be used: it overlaps with {other}, {owner}"
    return ""


def node_names(workers: int) -> list[str]:
    """Return `control-plane`, `node-1` ... `node-N`; a name's position is its node's index."""
    return [CONTROL_PLANE, *(f"node-{i}" for i in range(1, workers + 1))]


def node_ip(index: int, *, loopback: bool = False) -> str:
    """Return the InternalIP of the node with this index (0 is the control plane)."""
    return str((LOOPBACK_NODES if loopback else NODE_CIDR)[index + 2])


def gateway(index: int) -> str:
    """Return the gateway of a node and its pods, by which they reach all other addresses in the private network."""
    return str(pod_cidr(index)[1])


def pod_cidr(index: int, *, loopback: bool = False) -> ipaddress.IPv4Network:
    """Return the range of a node's pod addresses. The first two (.0, .1) and the last one are not given to pods."""
    if loopback:
        return ipaddress.IPv4Network(f"127.{65 + index}.0.0/24")
    return ipaddress.IPv4Network(f"10.244.{index}.0/24")
