"""What a node agent is told when it starts: one JSON file, written by the control plane."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.errors import HatchwayError
from hatchway.files import write_private

ENVIRONMENT = "HATCHWAY_NODE_CONFIG"
# The service proxy's certificate.
PROXY = "kube-proxy"

# How long pods may take to end when the cluster goes down, whatever grace they were promised (seconds): what the
# kubelet calls shutdownGracePeriod.
SHUT_DOWN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node. index: its place in the address plan (0 is the control plane). ip: its InternalIP."""

    name: str
    index: int
    ip: str


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything the agent of all nodes needs to know.

    state_dir: the cluster's (`StateDir`): `pods/` and `logs/` are the agent's to write, `pki/` holds `ca.crt` and each
        node's `kubelet-NODE.crt` and `.key`, which are its client's and its server's certificate, and the service
        proxy's `kube-proxy.crt` and `.key`.
    api_server: the API server's URL as the agent reaches it; pod_api_server: as pods reach it.
    isolation: "private" or "loopback", as the runtime has it.
    cluster_dns: the nameserver of pods; "" when there is none. images: shipped images beside those of `images.py`,
        by name without tag, each with its command.
    host_paths: directories of this machine that nodes have in their own file systems.
    """

    state_dir: str
    nodes: list[NodeSpec]
    api_server: str
    pod_api_server: str = f"https://{plan.API_SERVICE_IP}:443"
    isolation: str = "private"
    cluster_dns: str = plan.DNS_SERVICE_IP
    cluster_domain: str = plan.CLUSTER_DOMAIN
    images: dict[str, list[str]] = field(default_factory=dict)
    host_paths: list[str] = field(default_factory=list)

    @property
    def pki(self) -> Path:
        return Path(self.state_dir) / "pki"

    @property
    def ca_file(self) -> Path:
        return self.pki / "ca.crt"

    @property
    def loopback(self) -> bool:
        return self.isolation == "loopback"

    def certificate(self, name: str) -> tuple[str, str]:
        """The files of the certificate and key called `name` (`kubelet-NODE`, PROXY)."""
        return str(self.pki / f"{name}.crt"), str(self.pki / f"{name}.key")

    def save(self, path: Path) -> None:
        """Write it, 0600."""
        write_private(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> AgentConfig:
        """Read what `save` has written. Raises HatchwayError."""
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
            nodes = [NodeSpec(**node) for node in found.pop("nodes")]
            return cls(nodes=nodes, **found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HatchwayError(f"cannot read the node agent's configuration {path}: {error}") from error
