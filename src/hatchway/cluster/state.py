"""The files of a cluster. One directory per cluster, mode 0700, every file in it 0600.

cluster.json     the settings of the cluster (`ClusterConfig`), kept between `down` and `up`
egress.json      whether pods reach other networks, written by the running control plane
run.json         the running cluster's process id, address, start time; absent when it is down
lock             held by the running control plane, which writes its process into it (`Holder`)
store.sqlite3    the API server's objects
pki/             the cluster's CA, certificates and keys (cluster/auth/pki.py)
tokens.json      static bearer tokens; basic.json: argon2 hashes of basic-auth users, when there are any
audit.log        audit events, one JSON object a line
nodes/NAME/      files that pods have written to a node's own file system (hostPath)
memory/          mount point of a file system in memory: in the private network, secrets are kept there, never on disk
logging/, monitoring/  the index and the samples of these add-ons
pods/UID/        a pod's volumes and etc files; logs/NS_POD_UID/CONTAINER/N.log its containers' output
images.sock      the socket of the process that pulls images for the nodes
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

from hatchway.cluster.addonnames import ALL
from hatchway.cluster.process import Process
from hatchway.errors import HatchwayError
from hatchway.files import state_home, write_private

__all__ = ["DEFAULT_NAME", "EGRESS_STARTS", "ClusterConfig", "Holder", "StateDir", "write_private"]

DEFAULT_NAME = "hatchway"
# The reason in the record of `save_egress` until the program has connected, or has failed, for the first time.
EGRESS_STARTS = "it is starting"


@dataclass(slots=True)
class ClusterConfig:
    """The settings with which a cluster was made.

    ephemeral: whether all files of the cluster are deleted when it ends.
    api_port: the port of the cluster since its first start. Before the first start, 0 means any free port, and None
    means the default port or, if that is taken, any free port.
    workers: number of nodes in addition to the control plane. addons: the result of `addonnames.parse_list`.
    network: "auto", "private" or "loopback".
    rewrite: the mode in which the proxy verb rewrites responses: "full", "kubernetes" or "off".
    host_paths: directories of this machine that nodes have in their file systems.
    publish: addresses of this machine, besides 127.0.0.1, on which node ports are published.
    host_programs: whether the command of any image runs with this machine's programs.
    image_store: the directory of the image store; "" for a directory beside the cluster's state.
    egress: how pods of a private network reach other networks: "auto", "none", "pasta" or "slirp4netns".
    egress_to_host: whether these pods may also reach this machine's own addresses (never its loopback).
    """

    name: str = DEFAULT_NAME
    api_port: int | None = None
    workers: int = 2
    addons: list[str] = field(default_factory=lambda: [ALL])
    network: str = "auto"  # auto, private, loopback
    rewrite: str = "full"  # full, kubernetes, off: how the proxy verb rewrites answers
    ephemeral: bool = False
    host_paths: list[str] = field(default_factory=list)  # directories of this machine that nodes also have
    publish: list[str] = field(default_factory=list)
    host_programs: bool = False
    image_store: str = ""
    egress: str = "auto"
    egress_to_host: bool = False


_CONFIG_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "api_port": (int, type(None)),
    "workers": (int,),
    "addons": (list,),
    "network": (str,),
    "rewrite": (str,),
    "ephemeral": (bool,),
    "host_paths": (list,),
    "publish": (list,),
    "host_programs": (bool,),
    "image_store": (str,),
    "egress": (str,),
    "egress_to_host": (bool,),
}


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a cluster's lock. network: the ancestor of all processes of its network.

    stopping: whether it has received a request to end.
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
        self.egress_file = path / "egress.json"
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
        self.samples = path / "monitoring"
        self.server_log = path / "server.log"
        self.node_log = path / "node.log"
        self.image_socket = path / "images.sock"
        # Container images, which all clusters of the user share.
        self.image_store = path.parent / ".images"
        self.lock_file = path / "lock"
        # These files are next to the directory, because it may not exist yet, or may be deleted already.
        self.start_file = path.with_name(f".{path.name}.start")
        self.stop_file = path.with_name(f".{path.name}.stop")
        self.kubeconfig_file = path / "kubeconfig.json"

    @classmethod
    def for_name(cls, name: str, state_dir: str | None = None) -> StateDir:
        """Return the directory of the cluster `name`.

        Args:
            state_dir: where clusters keep their state; None takes $HATCHWAY_STATE_DIR, else $XDG_STATE_HOME/hatchway,
                else ~/.local/state/hatchway.
        """
        return cls(state_home(state_dir) / name)

    def create(self) -> None:
        """Make the directories. Raises HatchwayError when that is not possible, or nothing can be written there."""
        made = (self.path, self.pki, self.pods, self.memory, self.nodes, self.logs, self.log_index, self.samples)
        try:
            for directory in made:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(error, self.path) from error

    def load_config(self) -> ClusterConfig | None:
        """Return the cluster's configuration; None when there is no cluster. Raises HatchwayError."""
        found = self._read(self.config_file)
        if found is None:
            return None
        known = {name: found[name] for name in ClusterConfig.__dataclass_fields__ if name in found}
        if isinstance(known.get("addons"), bool):
            # Earlier releases could only switch all add-ons on or off together.
            known["addons"] = [ALL] if known["addons"] else []
        wrong = [name for name, value in known.items() if type(value) not in _CONFIG_TYPES[name]]
        if wrong:
            raise HatchwayError(
                f"cannot read {self.config_file}: the value of {', '.join(wrong)} has a wrong type",
                "move the file away and try again",
            )
        return ClusterConfig(**known)

    def save_config(self, config: ClusterConfig) -> None:
        """Write the settings of the cluster. Raises HatchwayError."""
        try:
            write_private(self.config_file, json.dumps(asdict(config), indent=1).encode())
        except OSError as error:
            raise _unusable(error, self.path) from error

    def load_run(self) -> dict[str, Any] | None:
        """Return the record that the running control plane wrote; None when it is not ready. Raises HatchwayError."""
        return self._read(self.run_file)

    def save_run(self, run: dict[str, Any]) -> None:
        """Write the record that `load_run` returns. Raises OSError."""
        write_private(self.run_file, json.dumps(run, indent=1).encode())

    def load_egress(self) -> dict[str, Any] | None:
        """Return the record that `save_egress` has written; None without a record. Raises HatchwayError."""
        return self._read(self.egress_file)

    def save_egress(self, *, tool: str, up: bool, why: str) -> None:
        """Write whether pods reach other networks.

        tool: the program that connects them; "" for none. why: the reason if they do not. Raises OSError.
        """
        write_private(self.egress_file, json.dumps({"tool": tool, "up": up, "why": why}).encode())

    def load_kubeconfig(self) -> dict[str, Any] | None:
        """Return where the cluster's context is: the kubeconfig's path, context, before (the former context).

        None when it was not merged. Raises HatchwayError.
        """
        return self._read(self.kubeconfig_file)

    def save_kubeconfig(self, merged: dict[str, Any]) -> None:
        """Write the record that `load_kubeconfig` returns. Raises OSError."""
        write_private(self.kubeconfig_file, json.dumps(merged, indent=1).encode())

    def lock(self) -> int | None:
        """Take the control plane's lock. Return an open descriptor; None while another process holds the lock.

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
        """Return True when a control plane of this cluster runs, however it was started."""
        return _is_locked(self.lock_file)

    def holder(self) -> Holder | None:
        """Return the record of the lock's current or last holder; None when it cannot be read."""
        found = _read_note(self.lock_file)
        process = Process.from_dict(found.get("process"))
        if process is None:
            return None
        return Holder(process, Process.from_dict(found.get("network")), found.get("stopping") is True)

    @staticmethod
    def note(lock: int, holder: Holder) -> None:
        """Write this process's record into the lock file. This process must hold the lock."""
        network = holder.network.as_dict() if holder.network else None
        _write_note(lock, {"process": holder.process.as_dict(), "network": network, "stopping": holder.stopping})

    def starter(self) -> Process | None:
        """Return the process of the `hatchway up` that is starting this cluster, if there is one."""
        if not _is_locked(self.start_file):
            return None
        return Process.from_dict(_read_note(self.start_file))

    @contextlib.contextmanager
    def starting(self) -> Iterator[bool]:
        """Hold the right to start this cluster during a block. Yields False when another command has it.

        Raises:
            HatchwayError: the state directory cannot be used.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _lock_alone(self.start_file)
        except OSError as error:
            raise _unusable(error, self.path) from error
        with _holding(descriptor, self.start_file) as alone:
            yield alone

    @contextlib.contextmanager
    def ending(self) -> Iterator[bool]:
        """Hold the right to end this cluster during a block. Yields False when another command has it.

        If no lock file can be made (on a full or read-only disk), the block runs without a lock.
        """
        descriptor: int | None = -1
        with contextlib.suppress(OSError):
            descriptor = _lock_alone(self.stop_file)
        with _holding(descriptor, self.stop_file) as alone:
            yield alone

    def is_ending(self) -> bool:
        """Return True while another command is ending this cluster, or its control plane is ending."""
        if _is_locked(self.stop_file):
            return True
        holder = self.holder()
        return holder is not None and holder.stopping and self.running()

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


def _lock_alone(path: Path) -> int | None:
    """Make and lock a lock file. Return its descriptor, or None while another process holds the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


@contextlib.contextmanager
def _holding(descriptor: int | None, path: Path) -> Iterator[bool]:
    """Write this process into the lock file, yield whether the lock is held, and release it. -1 means no lock."""
    if descriptor is None or descriptor < 0:
        yield descriptor is not None
        return
    try:
        _write_note(descriptor, Process.of(os.getpid()).as_dict())
        yield True
    finally:
        # The file is removed while it is locked, so that another process that has opened it notices the removal.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unusable(error, path.parent) from error
    try:
        # A shared lock, so that processes that only check do not mistake each other for a running cluster.
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
    """Write the record in one call, padded with blanks, so that readers never see a mixture with the old record.

    On a full disk the record is lost.
    """
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, json.dumps(note).encode().ljust(400), 0)


def _unusable(error: OSError, path: Path) -> HatchwayError:
    """Return the error for a state directory that cannot be used."""
    where = error.filename or path
    hint = "choose another directory with --state-dir"
    why = error.strerror or str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        why = "there is a file in its place"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HatchwayError(f"cannot write {where}: {why}", f"free some space there, or {hint}")
    elif error.errno in (errno.EACCES, errno.EPERM):
        hint = f"`ls -ld {_existing(path)}` shows its owner; or " + hint
    return HatchwayError(f"cannot use the state directory {path}: {where}: {why}", hint)


def _existing(path: Path) -> Path:
    """Return the path, or the closest directory above it that exists."""
    for candidate in (path, *path.parents):
        # Permissions may hide whether the path exists.
        with contextlib.suppress(OSError):
            candidate.lstat()
            return candidate
    return path
