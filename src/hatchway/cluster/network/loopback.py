"""The `Runtime` where namespaces cannot be made: pods are ordinary processes, told apart by loopback addresses.

A pod binds to HATCHWAY_POD_IP. Its volumes cannot appear at their mountPath: they are below HATCHWAY_ROOT, a
directory of the container's own that is also where it starts (`$HATCHWAY_ROOT/var/run/secrets/...`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal as signals
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hatchway.cluster import plan
from hatchway.cluster.network import sockets
from hatchway.cluster.network.addresses import Pool, Pools
from hatchway.cluster.network.dialer import LoopbackDialer
from hatchway.cluster.network.nodedirs import NodeDirectories, locate_on_loopback
from hatchway.cluster.network.programs import DEFAULT_PATH, StartFailure, look_up, reason
from hatchway.cluster.node.runtime import ContainerConfig, Exit, Process, StartError

POD_IP = "HATCHWAY_POD_IP"
ROOT = "HATCHWAY_ROOT"

_CLAIM_PORT = 65535

_LIMITS = (
    "isolation is off: pods are ordinary processes that see this machine's files and network, must listen on "
    "$HATCHWAY_POD_IP, find their volumes below $HATCHWAY_ROOT instead of at their mountPath, and have neither "
    "cluster DNS nor service addresses"
)


class LoopbackProcess:
    """A child process that leads a session. When it ends, what is left of its process group is killed."""

    def __init__(self, process: asyncio.subprocess.Process, root: Path) -> None:
        self._process = process
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        self.root = root
        self.pid = process.pid

    @property
    def running(self) -> bool:
        return not self._watcher.done()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._watcher)

    def kill(self, signal: int) -> None:
        if self.running and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                send = os.killpg if signal == signals.SIGKILL else os.kill
                send(self.pid, signal)

    def hears(self, signal: int) -> bool:
        return True

    async def _watch(self) -> Exit:
        code = await self._process.wait()
        # PermissionError: macOS says so of a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signals.SIGKILL)
        return Exit(code) if code >= 0 else Exit(128 - code, -code)


class LoopbackSandbox:
    """A pod's address and the directory with its containers' roots."""

    def __init__(self, ip: str, directory: Path, release: Callable[[], None]) -> None:
        self.ip = ip
        self._directory = directory
        self._release = release
        self._processes: list[LoopbackProcess] = []
        self._removed = False

    async def start(self, config: ContainerConfig) -> Process:
        if self._removed:
            raise StartError("the sandbox is gone")
        root = self._directory / config.name
        if root.is_symlink() or root.exists():
            shutil.rmtree(root)
        try:
            _make_root(root, config)
        except OSError as error:
            raise StartError(f"cannot make the container's directory: {reason(error)}") from error
        return await self._spawn(config, root)

    async def exec(self, container: Process, config: ContainerConfig) -> Process:
        if not isinstance(container, LoopbackProcess):
            raise StartError("the container belongs to another runtime")
        return await self._spawn(config, container.root)

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
        try:
            process = await asyncio.create_subprocess_exec(
                *config.argv,
                executable=program,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=config.stdout,
                stderr=config.stderr,
                env=env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise StartError(f"exec {program}: {reason(error)}") from error
        except ValueError as error:
            raise StartError(f'exec: "{config.argv[0]}": {error}') from error
        started = LoopbackProcess(process, root)
        self._processes = [known for known in self._processes if known.running]
        self._processes.append(started)
        return started

    async def remove(self) -> None:
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
    """All pods of the cluster as children of this process. directory: for the containers' roots. directories: for the
    nodes' files."""

    isolation: Literal["loopback"] = "loopback"

    def __init__(self, directory: Path, directories: NodeDirectories | None = None) -> None:
        self._directory = directory
        self._directories = directories
        self._pools = Pools(loopback=True)
        self._dialer = LoopbackDialer()
        self._sandboxes: list[LoopbackSandbox] = []
        self.limits = limits()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """Kill every pod."""
        for sandbox in list(self._sandboxes):
            await sandbox.remove()

    async def create_sandbox(
        self, *, node_index: int, uid: str, namespace: str, name: str, hostname: str, etc: dict[str, str]
    ) -> LoopbackSandbox:
        """Raises OSError when it cannot be made (no address is left)."""
        pool = self._pools.of(node_index)
        ip, claim = _claim_address(pool)
        directory = self._directory / f"{uid}-{ip}"
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
        if self._directories is None:
            raise OSError(errno.ENOENT, "nodes have no file systems here")
        return locate_on_loopback(self._directories, node_index, path)

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        return False

    def unmount(self, path: str) -> None:
        """Nothing is mounted."""

    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        return await self._dialer.connect(ip, port, timeout)

    async def listen(self, ip: str, port: int) -> socket.socket:
        return await self._dialer.listen(ip, port)


def _claim_address(pool: Pool) -> tuple[str, socket.socket]:
    """An address that no other cluster on this machine uses: whoever has it keeps one of its ports bound."""
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
                # An address that is not there (macOS) is nobody's; `limits` says what to do about it.
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
                    f'error mounting "{mount.source}" at "{mount.path}": no volume in a volume on loopback'
                )
            place.mkdir(exist_ok=True)
        (place / parts[-1]).symlink_to("/".join(part for part in (mount.source, mount.inside, mount.sub_path) if part))


def _working_directory(root: Path, cwd: str | None) -> str:
    """In the container's own root where it is there, else the machine's, else made in the root."""
    if not cwd:
        return str(root)
    own = root / cwd.lstrip("/")
    if own.exists() or not os.path.exists(cwd):
        own.mkdir(parents=True, exist_ok=True)
        return str(own)
    return cwd


def _die_with_parent() -> None:
    from hatchway.cluster.network import syscalls

    syscalls.set_parent_death_signal(signals.SIGKILL)


def limits() -> str:
    """One sentence on what does not work on loopback, on this machine."""
    return _LIMITS + _missing_addresses()


def _missing_addresses() -> str:
    """macOS has only 127.0.0.1 unless told otherwise."""
    address = plan.node_ip(0, loopback=True)
    try:
        sockets.listen(address, 0).close()
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return f"; and this machine lacks the addresses: each needs `sudo ifconfig lo0 alias {address}`"
    return ""
