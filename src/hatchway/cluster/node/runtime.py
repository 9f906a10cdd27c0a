"""What runs pods: the kubelet's view of sandboxes and processes (the part that CRI plays in Kubernetes).

Two implementations in `cluster/network/`: private (user, network, mount and PID namespaces) and loopback (where
namespaces cannot be made). The kubelet does not know which one it has, except through `isolation`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory shown at `path` inside a container.

    source: a path that no container can change any part of. inside: a path in it, resolved when it is mounted as if
    `source` were the root directory (hostPath; "": `source` itself). sub_path: a path below that, whose links may not
    lead out of it. read_only: with everything that is mounted below.
    """

    source: str
    path: str
    read_only: bool = False
    inside: str = ""
    sub_path: str = ""


@dataclass(slots=True)
class ContainerConfig:
    """How to start one process in a sandbox.

    argv: already expanded ($(VAR)), argv[0] looked up in the PATH of `env`. env: the complete environment.
    cwd: inside the container; None is "/". stdout, stderr: file descriptors that the process writes to.
    mounts: in addition to the host's programs, /proc, /dev, a private /tmp and /run.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    stdout: int
    stderr: int
    cwd: str | None = None
    mounts: list[Mount] = field(default_factory=list)
    read_only_root: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `code` as a shell gives it (128 + signal when killed); signal 0 when it exited itself."""

    code: int
    signal: int = 0


class StartError(Exception):
    """The process could not be started: the message says what and why (`exec: "foo": executable file not found in $PATH`)."""


class Process(Protocol):
    """A started process (a container's first process, or one of an exec)."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> Exit: ...

    def kill(self, signal: int) -> None:
        """Signal it; nothing happens when it is gone already. SIGKILL takes its descendants along."""
        ...

    def hears(self, signal: int) -> bool:
        """Whether a signal other than SIGKILL would do anything. The first process of a PID namespace gets none that it
        has not asked for (pid_namespaces(7))."""
        ...


class Sandbox(Protocol):
    """A pod's surroundings: an address, host name, /etc/hosts and /etc/resolv.conf, shared by its containers."""

    @property
    def ip(self) -> str: ...

    async def start(self, config: ContainerConfig) -> Process:
        """Start a container. Raises StartError."""
        ...

    async def exec(self, container: Process, config: ContainerConfig) -> Process:
        """Start another process inside a running container (probes; mounts are ignored). Raises StartError."""
        ...

    async def remove(self) -> None:
        """Kill everything in it and give the address back. Idempotent."""
        ...


class NodeFiles(Protocol):
    """The file systems of the nodes, and those that the agent mounts for pods."""

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        """What a hostPath volume means: a root directory, and the path in it. Raises OSError."""
        ...

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        """Mount a file system in memory at `path`, of at most `size` bytes, unless one is mounted there.

        Returns whether there is one: False where this machine allows none. Raises OSError.
        """
        ...

    def unmount(self, path: str) -> None:
        """Take away what `mount_memory` has mounted; nothing happens when there is nothing. Raises OSError."""
        ...


class Runtime(NodeFiles, Protocol):
    """All sandboxes of the cluster's nodes on this machine, and the network they are in."""

    @property
    def isolation(self) -> Literal["private", "loopback"]: ...

    @property
    def limits(self) -> str:
        """One sentence on what does not work on this platform; "" when everything does."""
        ...

    async def create_sandbox(
        self, *, node_index: int, uid: str, namespace: str, name: str, hostname: str, etc: dict[str, str]
    ) -> Sandbox:
        """A new sandbox with an address from the node's pod range. etc: files of /etc by name and content
        (`resolv.conf`; `hosts` gets the pod's own line appended)."""
        ...

    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """A connected, non-blocking TCP socket to an address of the private network. Raises OSError."""
        ...

    async def listen(self, ip: str, port: int) -> socket.socket:
        """A listening, non-blocking TCP socket on a node's or service's address. Raises OSError."""
        ...
