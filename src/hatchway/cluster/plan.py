"""The address plan and the fixed names of an embedded cluster: facts that the API server, the nodes and the CLI share."""

from __future__ import annotations

import ipaddress

CLUSTER_DOMAIN = "cluster.local"
SERVICE_CIDR = ipaddress.IPv4Network("10.96.0.0/16")
POD_CIDR = ipaddress.IPv4Network("10.244.0.0/16")
NODE_CIDR = ipaddress.IPv4Network("172.18.0.0/16")
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
NODE_PORTS = range(30000, 32768)
KUBELET_PORT = 10250
DEFAULT_API_PORT = 6443
CONTROL_PLANE = "control-plane"

# Where nodes have the logs of all pods, and the index of the logging add-on.
NODE_LOGS = "/var/log/pods"
NODE_LOG_INDEX = "/var/lib/hatchway/logging"

# Without namespaces (macOS, locked-down Linux) everything lives on loopback: 127.64.0.x nodes, 127.64+N.0.0/16 pods.
LOOPBACK_NODES = ipaddress.IPv4Network("127.64.0.0/24")


def node_names(workers: int) -> list[str]:
    """`control-plane`, `node-1` ... `node-N`: the order gives each node's index."""
    return [CONTROL_PLANE, *(f"node-{i}" for i in range(1, workers + 1))]


def node_ip(index: int, *, loopback: bool = False) -> str:
    """The InternalIP of the node with this index (0 is the control plane)."""
    return str((LOOPBACK_NODES if loopback else NODE_CIDR)[index + 2])


def pod_cidr(index: int, *, loopback: bool = False) -> ipaddress.IPv4Network:
    """The range from which the node with this index gives its pods their addresses; .0, .1 and the last are not given."""
    if loopback:
        return ipaddress.IPv4Network(f"127.{65 + index}.0.0/24")
    return ipaddress.IPv4Network(f"10.244.{index}.0/24")
