"""Where a cluster keeps its files. One directory per cluster, mode 0700, every file in it 0600.

cluster.json     what the cluster was made with (`ClusterConfig`); survives down and up
run.json         the running cluster's process id, address, start time; absent when it is down
store.sqlite3    the API server's objects
pki/             the cluster's CA, certificates and keys (cluster/auth/pki.py)
tokens.json      static bearer tokens; basic.json: argon2 hashes of basic-auth users, when there are any
audit.log        audit events, one JSON object a line
nodes/NAME/      what pods have left in a node's own file system (hostPath)
memory/          mount point: in the private network, secrets lie there in memory, and never on the disk
pods/UID/        a pod's volumes and etc files; logs/NS_POD_UID/CONTAINER/N.log its containers' output
server.log, node.log
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hatchway.errors import HatchwayError
from hatchway.files import write_private

__all__ = ["DEFAULT_NAME", "ClusterConfig", "StateDir", "write_private"]

DEFAULT_NAME = "hatchway"


@dataclass(slots=True)
class ClusterConfig:
    """What a cluster was made with. api_port: the port it has kept since its first start; before that 0 asks for any
    free one, None for the default one where it is free."""

    name: str = DEFAULT_NAME
    api_port: int | None = None
    workers: int = 2
    addons: bool = True
    network: str = "auto"  # auto, private, loopback
    rewrite: str = "full"  # full, kubernetes, off: what the proxy verb does to answers
    ephemeral: bool = False
    host_paths: list[str] = field(default_factory=list)  # directories of this machine that nodes have, too


class StateDir:
    """The files of one cluster below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "cluster.json"
        self.run_file = path / "run.json"
        self.store_file = path / "store.sqlite3"
        self.pki = path / "pki"
        self.tokens_file = path / "tokens.json"
        self.basic_file = path / "basic.json"
        self.audit_file = path / "audit.log"
        self.pods = path / "pods"
        self.memory = path / "memory"
        self.nodes = path / "nodes"
        self.logs = path / "logs"
        self.log_index = path / "logging"
        self.server_log = path / "server.log"
        self.node_log = path / "node.log"
        self.lock_file = path / "lock"
        self.kubeconfig_file = path / "kubeconfig.json"

    @classmethod
    def for_name(cls, name: str, state_dir: str | None = None) -> StateDir:
        """The directory of the cluster `name`: below `state_dir`, else $XDG_STATE_HOME/hatchway, else ~/.local/state/hatchway."""
        base = (
            Path(state_dir)
            if state_dir
            else Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hatchway"
        )
        return cls(base.absolute() / name)

    def create(self) -> None:
        """Make the directories. Raises HatchwayError when that is not possible."""
        try:
            for directory in (self.path, self.pki, self.pods, self.memory, self.nodes, self.logs, self.log_index):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HatchwayError(
                f"cannot make the state directory {error.filename}: {error.strerror}",
                "choose another one with --state-dir",
            ) from error

    def load_config(self) -> ClusterConfig | None:
        found = self._read(self.config_file)
        if found is None:
            return None
        known = {name: found[name] for name in ClusterConfig.__dataclass_fields__ if name in found}
        return ClusterConfig(**known)

    def save_config(self, config: ClusterConfig) -> None:
        write_private(self.config_file, json.dumps(asdict(config), indent=1).encode())

    def load_run(self) -> dict[str, Any] | None:
        return self._read(self.run_file)

    def save_run(self, run: dict[str, Any]) -> None:
        write_private(self.run_file, json.dumps(run, indent=1).encode())

    def load_kubeconfig(self) -> dict[str, Any] | None:
        return self._read(self.kubeconfig_file)

    def save_kubeconfig(self, merged: dict[str, Any]) -> None:
        write_private(self.kubeconfig_file, json.dumps(merged, indent=1).encode())

    def lock(self) -> int | None:
        """Take the lock of the running control plane: an open descriptor, or None while another process holds it."""
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def running(self) -> bool:
        """Whether a control plane of this cluster runs, however it was started."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # Shared: those who only look must not take each other for a cluster.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise HatchwayError(f"cannot read {path}: {error}", "move the file away and try again") from error
        if not isinstance(found, dict):
            raise HatchwayError(f"cannot read {path}: it holds no JSON object", "move the file away and try again")
        return found
