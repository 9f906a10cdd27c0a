"""The node agent's configuration: one JSON file, written by the control plane."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.errors import HatchwayError
from hatchway.files import write_private

ENVIRONMENT = "HATCHWAY_NODE_CONFIG"
# The name of the service proxy's certificate (`AgentConfig.certificate`).
PROXY = "kube-proxy"

# When the cluster goes down, pods get at most this many seconds to end, even if their grace period is longer (the
# kubelet's shutdownGracePeriod).
SHUT_DOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node.

    index: the node's number in the address plan; 0 is the control plane.
    ip: the node's InternalIP.
    """

    name: str
    index: int
    ip: str


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The settings of the node agent, which serves all nodes.

    state_dir: the cluster's state directory (`StateDir`). The agent writes to `pods/` and `logs/`. `pki/` contains
        `ca.crt`, each node's `kubelet-NODE.crt` and `.key` (for its client and its server), and the service proxy's
        `kube-proxy.crt` and `.key`.
    api_server: the API server's URL for the agent.
    pod_api_server: the API server's URL for pods.
    isolation: "private" or "loopback"; see `Runtime.isolation`.
    cluster_dns: the nameserver of pods; "" when there is none.
    host_nameserver: the address at which pods reach this machine's nameservers; "" when pods cannot reach them.
    images: the commands of images that `hostprograms.py` does not list, by the image's name without a tag.
    image_store: the directory of the image store; "" when there is none.
    host_programs: whether the command of an image that Hatchway does not ship runs with this machine's programs.
    host_paths: directories of this machine that are mounted in the nodes' file systems.
    published: addresses of this machine on which node ports are published.
    control_groups: the directory of the cluster's control group; "" where limits are not enforced.
    """

    state_dir: str
    nodes: list[NodeSpec]
    api_server: str
    pod_api_server: str = f"https://{plan.API_SERVICE_IP}:443"
    isolation: str = "private"
    cluster_dns: str = plan.DNS_SERVICE_IP
    cluster_domain: str = plan.CLUSTER_DOMAIN
    host_nameserver: str = ""
    images: dict[str, list[str]] = field(default_factory=dict)
    image_store: str = ""
    host_programs: bool = False
    host_paths: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=lambda: [plan.HOST_IP])
    control_groups: str = ""

    @property
    def pki(self) -> Path:
        """Return the directory of certificates and keys."""
        return Path(self.state_dir) / "pki"

    @property
    def ca_file(self) -> Path:
        """Return the path of the certificate of the cluster's CA."""
        return self.pki / "ca.crt"

    @property
    def loopback(self) -> bool:
        """Return True when pods run on loopback addresses, without a private network."""
        return self.isolation == "loopback"

    def certificate(self, name: str) -> tuple[str, str]:
        """Return the paths of the certificate and key called `name` (`kubelet-NODE`, PROXY)."""
        return str(self.pki / f"{name}.crt"), str(self.pki / f"{name}.key")

    def save(self, path: Path) -> None:
        """Write the configuration to a file of mode 0600. Raises OSError."""
        write_private(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> AgentConfig:
        """Read a configuration that `save` has written. Raises HatchwayError."""
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
            nodes = [NodeSpec(**node) for node in found.pop("nodes")]
            return cls(nodes=nodes, **found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HatchwayError(f"cannot read the node agent's configuration {path}: {error}") from error
