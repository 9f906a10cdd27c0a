"""The `Runtime` where namespaces cannot be made: pods are ordinary processes with different loopback addresses.

A pod's program must bind to HATCHWAY_POD_IP. Volumes cannot be at their mountPath: they are below HATCHWAY_ROOT, a
directory of the container, which is also its working directory (`$HATCHWAY_ROOT/var/run/secrets/...`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import signal as signals
import socket
import sys
import termios
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from hatchway import beneath, trees
from hatchway.cluster import plan, sockets
from hatchway.cluster.network.commandlookup import DEFAULT_PATH, StartFailure, look_up, reason
from hatchway.cluster.network.dialer import LoopbackDialer
from hatchway.cluster.network.loopbacksockets import LoopbackSockets
from hatchway.cluster.network.nodedirs import NodeDirectories, locate_on_loopback
from hatchway.cluster.network.podaddresses import AddressPool, AddressPools
from hatchway.cluster.runtime import (
    ContainerConfig,
    ContainerProcess,
    ControlGroups,
    Exit,
    ImageRoot,
    SandboxConfig,
    StartError,
    Users,
)
from hatchway.cluster.terminalsize import set_terminal_size

POD_IP = "HATCHWAY_POD_IP"
ROOT = "HATCHWAY_ROOT"

_CLAIM_PORT = 65535

_LIMITS = (
    "isolation is off: pods are ordinary processes that see this machine's files and network, must listen on "
    "$HATCHWAY_POD_IP, find their volumes below $HATCHWAY_ROOT instead of at their mountPath, and have neither "
    "cluster DNS nor service addresses"
)


_NO_IMAGES = (
    "containers of images need user namespaces, which this machine does not allow: "
    "the image hatchway/host runs this machine's programs"
)


class LoopbackProcess:
    """A child process that leads a session.

    When it ends, the rest of its process group is killed, and so are the processes that exec has started in it.
    """

    def __init__(self, process: asyncio.subprocess.Process, root: Path, terminal: int) -> None:
        self._process = process
        self._execs: list[LoopbackProcess] = []
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        self.new_user: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.root = root
        self.pid = process.pid
        self.terminal = terminal

    @property
    def running(self) -> bool:
        """Return True until the process has ended."""
        return not self._watcher.done()

    async def wait(self) -> Exit:
        """Wait until the process has ended."""
        return await asyncio.shield(self._watcher)

    def kill(self, signal: int) -> None:
        """Send the process a signal; SIGKILL goes to its whole process group."""
        if self.running and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                send = os.killpg if signal == signals.SIGKILL else os.kill
                send(self.pid, signal)

    def add_exec(self, process: LoopbackProcess) -> None:
        """Kill `process` when this process ends."""
        self._execs = [known for known in self._execs if known.running]
        self._execs.append(process)
        if not self.running:
            process.kill(signals.SIGKILL)

    def handles_signal(self, signal: int) -> bool:
        """Return True: a signal ends an ordinary process that does not handle it."""
        return True

    def written_bytes(self) -> int:
        """Return the bytes in the process's root directory; volumes there are only links.

        Files that the process writes elsewhere do not count.
        """
        try:
            with beneath.closing(beneath.open_directory(self.root)) as root:
                return trees.measure_tree(root)
        except OSError:
            # The directory was removed with its sandbox.
            return 0

    async def _watch(self) -> Exit:
        code = await self._process.wait()
        # macOS raises PermissionError for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signals.SIGKILL)
        for process in self._execs:
            process.kill(signals.SIGKILL)
        return Exit(code) if code >= 0 else Exit(128 - code, -code)


class LoopbackSandbox:
    """A pod's address and the directory with its containers' roots."""

    def __init__(self, ip: str, directory: Path, release: Callable[[], None]) -> None:
        self.ip = ip
        self._directory = directory
        self._release = release
        self._processes: list[LoopbackProcess] = []
        self._removed = False

    async def start(self, config: ContainerConfig) -> ContainerProcess:
        """Start a container as a child process of the agent. Raises StartError."""
        if self._removed:
            raise StartError("the sandbox is gone")
        if config.root is not None:
            raise StartError(_NO_IMAGES)
        root = self._directory / config.name
        if root.is_symlink() or root.exists():
            shutil.rmtree(root)
        try:
            _make_root(root, config)
        except OSError as error:
            raise StartError(f"cannot make the container's directory: {reason(error)}") from error
        return await self._spawn(config, root)

    async def exec(self, container: ContainerProcess, config: ContainerConfig) -> ContainerProcess:
        """Start another process in the container's root directory. Raises StartError."""
        if not isinstance(container, LoopbackProcess):
            raise StartError("the container belongs to another runtime")
        if not container.running:
            raise StartError("the container is not running")
        started = await self._spawn(config, container.root)
        container.add_exec(started)
        return started

    async def dial(self, port: int, timeout: float = 10.0) -> socket.socket:
        """Connect to a port of the pod's address. Raises OSError."""
        if self._removed:
            raise OSError(errno.ENETDOWN, "the pod's network is gone")
        return await sockets.connect(self.ip, port, timeout)

    async def _spawn(self, config: ContainerConfig, root: Path) -> LoopbackProcess:
        if self._removed:
            raise StartError("the sandbox is gone")
        env = {"PATH": DEFAULT_PATH, "HOME": str(root), **config.env, POD_IP: self.ip, ROOT: str(root)}
        if not config.argv or not config.argv[0]:
            raise StartError("no command specified")
        try:
            cwd = _working_directory(root, config.cwd)
            os.stat(cwd + "/")
            program = look_up(config.argv[0], env["PATH"])
        except StartFailure as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(f'chdir to cwd ("{config.cwd}") set in config.json failed: {reason(error)}') from error
        shown, own = -1, -1
        try:
            if config.terminal:
                shown, own = os.openpty()
                os.set_blocking(shown, False)
                if config.size is not None:
                    set_terminal_size(shown, *config.size)
                streams = [own] * 3
            else:
                streams = [config.stdin if config.stdin >= 0 else asyncio.subprocess.DEVNULL, config.stdout]
                streams.append(config.stderr)
            process = await asyncio.create_subprocess_exec(
                *config.argv,
                executable=program,
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                env=env,
                cwd=cwd,
                # A process with a terminal already leads a session.
                start_new_session=not config.terminal,
                preexec_fn=partial(_prepare, own),
            )
        except BaseException as error:
            if shown >= 0:
                os.close(shown)
            if isinstance(error, OSError):
                raise StartError(f"exec {program}: {reason(error)}") from error
            if isinstance(error, ValueError):
                raise StartError(f'exec: "{config.argv[0]}": {error}') from error
            raise
        finally:
            if own >= 0:
                os.close(own)
        started = LoopbackProcess(process, root, shown)
        self._processes = [known for known in self._processes if known.running]
        self._processes.append(started)
        return started

    async def remove(self) -> None:
        """Kill the sandbox's processes, delete their directories, release the address. Idempotent."""
        if self._removed:
            return
        self._removed = True
        for process in self._processes:
            process.kill(signals.SIGKILL)
        for process in self._processes:
            await process.wait()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)
        self._release()


class LoopbackRuntime:
    """The sandboxes of all pods, as children of this process.

    directory: the parent of the containers' roots. directories: the directories that make up the nodes' file systems;
    None when nodes have none.
    """

    isolation: Literal["loopback"] = "loopback"
    users: Users = "one"
    packets = None
    control_groups: ControlGroups | None = None

    def __init__(
        self, directory: Path, directories: NodeDirectories | None = None, published: Sequence[str] = ()
    ) -> None:
        self.sockets = LoopbackSockets(published)
        self._directory = directory
        self._directories = directories
        self._pools = AddressPools(loopback=True)
        self._dialer = LoopbackDialer()
        self._sandboxes: list[LoopbackSandbox] = []
        self.limits = limits()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """Kill every pod."""
        for sandbox in list(self._sandboxes):
            await sandbox.remove()

    async def create_sandbox(self, config: SandboxConfig) -> LoopbackSandbox:
        """Create a sandbox; of `config`, only node_index and uid are used. Raises OSError: no address is left."""
        pool = self._pools.of(config.node_index)
        ip, claim = _claim_address(pool)
        directory = self._directory / f"{config.uid}-{ip}"
        try:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700, parents=True)
        except OSError:
            claim.close()
            pool.give_back(ip)
            raise

        def release() -> None:
            claim.close()
            pool.give_back(ip)
            self._sandboxes.remove(sandbox)

        sandbox = LoopbackSandbox(ip, directory, release)
        self._sandboxes.append(sandbox)
        return sandbox

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        """Find the file with this path on a node. Return a directory, and the file's path below it. Raises OSError."""
        if self._directories is None:
            raise OSError(errno.ENOENT, "nodes have no file systems here")
        return locate_on_loopback(self._directories, node_index, path)

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        """Return False: nothing can be mounted without a mount namespace."""
        return False

    async def show_image(self, root: ImageRoot, path: str) -> str:
        """Refuse: images need namespaces."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def unmount(self, path: str) -> None:
        """Do nothing: nothing is mounted."""

    def make_pod_sockets(self, uid: str, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        """Refuse: pods have no network of their own here, and the control plane connects by itself."""
        raise OSError(errno.ENETDOWN, "pods have no networks here")

    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Connect to an address of the cluster's plan. Raises OSError."""
        return await self._dialer.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        """Listen on an address of the cluster's plan. Raises OSError."""
        return await self._dialer.listen(ip, port)


def _claim_address(pool: AddressPool) -> tuple[str, socket.socket]:
    """Return an address that no other cluster uses, and a socket that claims the address: it is bound to a port."""
    passed_over: list[str] = []
    try:
        while True:
            ip = pool.take()
            claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                claim.bind((ip, _CLAIM_PORT))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    claim.close()
                    passed_over.append(ip)
                    continue
                # An address that this machine does not have (macOS) cannot be bound; `limits` explains how to add it.
            return ip, claim
    finally:
        for ip in passed_over:
            pool.give_back(ip)


def _make_root(root: Path, config: ContainerConfig) -> None:
    root.mkdir(mode=0o700)
    for mount in sorted(config.mounts, key=lambda mount: mount.path.rstrip("/").count("/")):
        parts = Path(os.path.normpath(mount.path)).parts[1:]
        if not mount.path.startswith("/") or not parts:
            raise StartError(f'error mounting "{mount.source}" at "{mount.path}": it must be an absolute path')
        place = root
        for part in parts[:-1]:
            place /= part
            if place.is_symlink():
                raise StartError(
                    f'error mounting "{mount.source}" at "{mount.path}": on loopback, no volume can be inside another'
                )
            place.mkdir(exist_ok=True)
        (place / parts[-1]).symlink_to("/".join(part for part in (mount.source, mount.inside, mount.sub_path) if part))


def _working_directory(root: Path, cwd: str | None) -> str:
    """Return where `cwd` is: in the container's root, else on the machine.

    Make it in the root when neither place has it.
    """
    if not cwd:
        return str(root)
    own = root / cwd.lstrip("/")
    if own.exists() or not os.path.exists(cwd):
        own.mkdir(parents=True, exist_ok=True)
        return str(own)
    return cwd


def _prepare(terminal: int) -> None:
    """Prepare the new process. terminal: the descriptor of its session's controlling terminal; -1 for none."""
    if terminal >= 0:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    if sys.platform == "linux":
        from hatchway.cluster.network import syscalls

        syscalls.set_parent_death_signal(signals.SIGKILL)


def limits() -> str:
    """Return one sentence about the limits of loopback on this machine."""
    return _LIMITS + _missing_addresses()


def _missing_addresses() -> str:
    """Return a clause about addresses that must be added first; "" for none (macOS has only 127.0.0.1)."""
    address = plan.node_ip(0, loopback=True)
    try:
        sockets.listen(address, 0).close()
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return f"; and this machine lacks the addresses: each needs `sudo ifconfig lo0 alias {address}`"
    return ""
