"""Where a cluster keeps its files. One directory per cluster, mode 0700, every file in it 0600.

cluster.json     what the cluster was made with (`ClusterConfig`); survives down and up
run.json         the running cluster's process id, address, start time; absent when it is down
lock             held by the running control plane, which writes into it who it is (`Holder`)
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

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hatchway.cluster.process import Process
from hatchway.errors import HatchwayError
from hatchway.files import write_private

__all__ = ["DEFAULT_NAME", "ClusterConfig", "Holder", "StateDir", "write_private"]

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


_CONFIG_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "api_port": (int, type(None)),
    "workers": (int,),
    "addons": (bool,),
    "network": (str,),
    "rewrite": (str,),
    "ephemeral": (bool,),
    "host_paths": (list,),
}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a cluster's lock. network: the process that all others of its network descend from.

    stopping: it has been asked to end, and has heard it.
    """

    process: Process
    network: Process | None = None
    stopping: bool = False


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
        # Beside the directory, which may not be there yet.
        self.start_file = path.with_name(f".{path.name}.start")
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
        """Make the directories. Raises HatchwayError when that is not possible, or when nothing can be written there."""
        try:
            for directory in (self.path, self.pki, self.pods, self.memory, self.nodes, self.logs, self.log_index):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(error, self.path) from error

    def load_config(self) -> ClusterConfig | None:
        found = self._read(self.config_file)
        if found is None:
            return None
        known = {name: found[name] for name in ClusterConfig.__dataclass_fields__ if name in found}
        wrong = [name for name, value in known.items() if type(value) not in _CONFIG_TYPES[name]]
        if wrong:
            raise HatchwayError(
                f"cannot read {self.config_file}: {', '.join(wrong)} is not what it should be",
                "move the file away and try again",
            )
        return ClusterConfig(**known)

    def save_config(self, config: ClusterConfig) -> None:
        """Raises HatchwayError."""
        try:
            write_private(self.config_file, json.dumps(asdict(config), indent=1).encode())
        except OSError as error:
            raise _unusable(error, self.path) from error

    def load_run(self) -> dict[str, Any] | None:
        return self._read(self.run_file)

    def save_run(self, run: dict[str, Any]) -> None:
        write_private(self.run_file, json.dumps(run, indent=1).encode())

    def load_kubeconfig(self) -> dict[str, Any] | None:
        return self._read(self.kubeconfig_file)

    def save_kubeconfig(self, merged: dict[str, Any]) -> None:
        write_private(self.kubeconfig_file, json.dumps(merged, indent=1).encode())

    def lock(self) -> int | None:
        """Take the lock of the running control plane: an open descriptor, or None while another process holds it.

        Raises HatchwayError.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(error, self.path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def running(self) -> bool:
        """Whether a control plane of this cluster runs, however it was started."""
        return _is_locked(self.lock_file)

    def holder(self) -> Holder | None:
        """What whoever holds the lock, or held it last, has written into it; None when that cannot be read."""
        found = _read_note(self.lock_file)
        process = Process.from_dict(found.get("process"))
        if process is None:
            return None
        return Holder(process, Process.from_dict(found.get("network")), found.get("stopping") is True)

    @staticmethod
    def note(lock: int, holder: Holder) -> None:
        """Write into the lock, which this process holds, who it is."""
        network = holder.network.as_dict() if holder.network else None
        _write_note(lock, {"process": holder.process.as_dict(), "network": network, "stopping": holder.stopping})

    def starter(self) -> Process | None:
        """The `hatchway up` that is at work on this cluster, if there is one."""
        if not _is_locked(self.start_file):
            return None
        return Process.from_dict(_read_note(self.start_file))

    @contextlib.contextmanager
    def starting(self) -> Iterator[bool]:
        """Be the only one that starts this cluster for the length of a block; gives False when another one does.

        Raises HatchwayError.
        """
        descriptor = None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = self._lock_start()
        except OSError as error:
            raise _unusable(error, self.path) from error
        if descriptor is None:
            yield False
            return
        try:
            _write_note(descriptor, Process.of(os.getpid()).as_dict())
            yield True
        finally:
            # Removed while it is held: whoever waits for it sees that it has another one.
            with contextlib.suppress(OSError):
                self.start_file.unlink()
            os.close(descriptor)

    def _lock_start(self) -> int | None:
        while True:
            descriptor = os.open(self.start_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_ino == os.stat(self.start_file).st_ino:
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            os.close(descriptor)

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


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise HatchwayError(f"cannot read {path}: {error.strerror}", "is the cluster another user's?") from error
    try:
        # Shared: those who only look must not take each other for a cluster.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read_note(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_note(descriptor: int, note: dict[str, Any]) -> None:
    """In one write, blanks at its end: a reader sees the former note or this one. A full disk costs the note only."""
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, json.dumps(note).encode().ljust(400), 0)


def _unusable(error: OSError, path: Path) -> HatchwayError:
    """What to say when the state directory cannot be used."""
    where = error.filename or path
    hint = "choose another directory with --state-dir"
    why = error.strerror or str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        why = "there is a file in its place"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HatchwayError(f"cannot write {where}: {why}")
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = f"`ls -ld {path}` tells whose it is; or " + hint
    return HatchwayError(f"cannot use the state directory {path}: {where}: {why}", hint)
