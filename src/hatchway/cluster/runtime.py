"""The contract between the packages that manage pods (`node/`, `services/`) and `network/`, which runs the pods.

It corresponds to the CRI in Kubernetes. `network/` has two implementations: private (user, network, mount and PID
namespaces) and loopback (for machines where namespaces cannot be made). Only `isolation` tells the kubelet which
implementation it uses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hatchway.cluster.packetrules import PacketFilter


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory shown at `path` inside a container.

    source: a path on this machine. No container can change any part of this path.
    path: absolute, in the container.
    read_only: whether the mount, and everything mounted below it, is read-only.
    inside: a path in `source` (hostPath); "" is `source` itself. The path is resolved at the time of mounting, as if
    `source` were the root directory.
    sub_path: a path below `inside`; its links may not lead out of `inside`. "" is `inside` itself.
    """

    source: str
    path: str
    read_only: bool = False
    inside: str = ""
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Sharing:
    """The namespaces that a sandbox shares with its node (hostNetwork, hostIPC, hostPID, shareProcessNamespace).

    network: whether it shares the node's network namespace and host name.
    ipc: whether it shares the node's IPC namespace.
    processes: which processes a container sees: its own, its pod's, or those of all pods of the node.
    """

    network: bool = False
    ipc: bool = False
    processes: Literal["container", "pod", "node"] = "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """The settings of a pod's sandbox.

    node_index: the node's index in the address plan. The sandbox's address is from that node's pod range, or is the
    node's own address.
    uid: the pod's uid, used in names of files. hostname: the host name that the kernel reports, up to 64 characters.
    etc: a function that takes the sandbox's address and returns files of /etc: their content by their path in /etc.
    sysctls: parameters of the sandbox's namespaces by name, with dots. sharing: ignored where isolation is off.
    """

    node_index: int
    uid: str
    hostname: str
    etc: Callable[[str], Mapping[str, str]]
    sysctls: Mapping[str, str] = field(default_factory=dict)
    sharing: Sharing = field(default_factory=Sharing)


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """A container's root file system, made of an image.

    layers: directories of unpacked layers, the topmost first. No container can change them.
    changes: an empty directory on disk, for files that the container writes. The caller deletes it after the
    container's end.
    volumes: paths that the container may write even when its root is read-only (VOLUME in the image).
    """

    layers: tuple[str, ...]
    changes: str
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """The user and the rights of a container's processes (USER in the image, `securityContext`).

    user: a name or number, with `:` and a group's name or number; names are looked up in the container's /etc/passwd
    and /etc/group. "" is root.
    groups: numbers of supplementary groups (supplementalGroups, fsGroup), besides those of /etc/group.
    merge_groups: whether the groups that /etc/group lists for the user are added (supplementalGroupsPolicy).
    capabilities: names without `CAP_`; None for the default capabilities of container engines.
    no_new_privileges: whether programs with setuid bits or file capabilities gain nothing.
    seccomp: the profile: "default" forbids the system calls that container engines forbid; "" forbids nothing.
    unmasked_proc: whether all of /proc is visible and writable, as far as the user namespace allows (procMount).
    """

    user: str = ""
    groups: tuple[int, ...] = ()
    merge_groups: bool = True
    capabilities: tuple[str, ...] | None = None
    no_new_privileges: bool = False
    seccomp: str = "default"
    unmasked_proc: bool = False


@dataclass(slots=True)
class ContainerConfig:
    """The settings of one process in a sandbox.

    name: the container's name.
    argv: the program and its arguments, in which $(VAR) is expanded; argv[0] is looked up in the PATH of `env`.
    env: the complete environment.
    stdout, stderr: file descriptors that the process writes to; ignored when it has a terminal.
    stdin: the file descriptor that it reads from; -1 is /dev/null.
    terminal: whether its three streams are a new terminal, which becomes its controlling terminal
    (`ContainerProcess.terminal`).
    size: the terminal's width and height in characters at the start; None when they are not known.
    cwd: the working directory, as a path inside the container; None is "/".
    mounts: in addition to this machine's programs, /proc, /dev, a private /tmp and /run.
    read_only_root: whether the root file system (without volumes) is read-only.
    oom_score: oom_score_adj, 0 to 1000: when memory is short, the kernel first ends processes with the highest number.
    processes_of: a running container whose process namespace it shares, and with which it ends; None to use
    `Sharing.processes`.
    root: the image's file system; None: this machine's programs are its root, read-only.
    privileges: its user and rights. Without an image, there is one user, called root, with the usual capabilities.
    group: the control group of its processes (`ControlGroups.make_container`); "" for none.
    """

    name: str
    argv: list[str]
    env: dict[str, str]
    stdout: int
    stderr: int
    stdin: int = -1
    terminal: bool = False
    size: tuple[int, int] | None = None
    cwd: str | None = None
    mounts: list[Mount] = field(default_factory=list)
    read_only_root: bool = False
    oom_score: int = 1000
    processes_of: ContainerProcess | None = None
    root: ImageRoot | None = None
    privileges: Privileges = field(default_factory=Privileges)
    group: str = ""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The limits of the processes of a container, or of all containers of a pod.

    shares: their part of the processor when it is busy, 2 to 262144; a whole core has 1024. cpu_quota: microseconds of
    processor time in 100 milliseconds; None for no limit. memory: bytes; None for no limit.
    """

    shares: int = 2
    cpu_quota: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """The usage of a container's processes.

    cpu: processor time so far, in seconds.
    system: the part of `cpu` that was spent in the kernel.
    memory: bytes now, without file pages that were not used recently (the kubelet's working set).
    anonymous: the part of the memory that is not from files, in bytes now.
    """

    cpu: float
    system: float
    memory: int
    anonymous: int


QosClass = Literal["Guaranteed", "Burstable", "BestEffort"]


class ControlGroups(Protocol):
    """Enforces limits of CPU and memory. Its methods read and write files of the kernel, and raise OSError."""

    def make_pod(self, uid: str, qos: QosClass, resources: GroupLimits) -> None:
        """Make the group of a pod, or change the limits that its containers have together."""
        ...

    def make_container(self, uid: str, name: str, resources: GroupLimits) -> str:
        """Make the group of a container inside its pod's group; return its directory, for `ContainerConfig.group`.

        name: unique in the pod.
        """
        ...

    def update_container(self, group: str, resources: GroupLimits) -> None:
        """Change the limits of a container. Raises OSError: EBUSY if it uses more memory than the new limit."""
        ...

    def was_out_of_memory(self, group: str) -> bool:
        """Return True when the kernel has ended a process of a container because of its limit of memory."""
        ...

    def usage(self, group: str) -> GroupUsage | None:
        """Return the usage of a container; None when it has ended."""
        ...

    def remove_container(self, group: str) -> None:
        """End the remaining processes of a container, and remove its group. Blocks, up to a second."""
        ...

    def remove_pod(self, uid: str) -> None:
        """Remove the group of a pod, if it has one, and the groups of its containers. Blocks."""
        ...


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a process.

    code: its exit code as a shell shows it (128 + signal when it was killed).
    signal: the signal that killed it; 0 when it exited itself.
    """

    code: int
    signal: int = 0


class StartError(Exception):
    """The process could not be started; the message says why: `exec: "foo": executable file not found in $PATH`."""


class ContainerProcess(Protocol):
    """A started process: a container's first process, or the process of an exec."""

    @property
    def pid(self) -> int:
        """Return its process id as the calling process sees it."""
        ...

    @property
    def terminal(self) -> int:
        """Return the descriptor of its terminal's other end, non-blocking; -1 without a terminal. The caller closes it.

        Closing it hangs up the terminal: the process gets SIGHUP (tty_ioctl(4)).
        """
        ...

    @property
    def new_user(self) -> asyncio.Future[str]:
        """Return a future for the user (`UID:GID`) to which the container has tried to change, without effect.

        This happens only if `Runtime.users` is "one". The future is done when the container's start script has tried
        this, and has executed the next program, still as the old user. The container must then be started again as the
        new user.
        """
        ...

    async def wait(self) -> Exit:
        """Wait until the process has ended. May be called any number of times."""
        ...

    def kill(self, signal: int) -> None:
        """Send a signal to the process, if it still runs. SIGKILL also kills its descendants."""
        ...

    def handles_signal(self, signal: int) -> bool:
        """Return True when a signal other than SIGKILL has an effect on the process.

        The first process of a PID namespace gets no signal that it neither catches nor blocks (pid_namespaces(7)).
        """
        ...

    def written_bytes(self) -> int:
        """Return the bytes that a container has written outside of its volumes; 0 when it has ended.

        This method reads files, so do not call it on the event loop.
        """
        ...


class Sandbox(Protocol):
    """The things that a pod's containers share: address, host name, namespaces, /etc/hosts and /etc/resolv.conf."""

    @property
    def ip(self) -> str:
        """Return its address: from the node's pod range, or the node's own address (`Sharing.network`)."""
        ...

    async def start(self, config: ContainerConfig) -> ContainerProcess:
        """Start a container. Raises StartError."""
        ...

    async def exec(self, container: ContainerProcess, config: ContainerConfig) -> ContainerProcess:
        """Start another process inside a running container. The configured mounts are ignored. Raises StartError.

        The process ends with the container at the latest.
        """
        ...

    async def dial(self, port: int, timeout: float = 10.0) -> socket.socket:
        """Return a connected, non-blocking TCP socket to a port of the sandbox's own loopback. Raises OSError.

        Where isolation is off, pods share this machine's loopback. Then the socket connects to the sandbox's address.
        """
        ...

    async def remove(self) -> None:
        """Kill all processes of the sandbox, and release its address. Idempotent."""
        ...


class NodeFiles(Protocol):
    """The file systems of the nodes, and those that the agent mounts for pods."""

    def locate(self, node_index: int, path: str) -> tuple[str, str]:
        """Return where a hostPath volume is: a root directory, and the path in it. Raises OSError."""
        ...

    def mount_memory(self, path: str, size: int | None = None) -> bool:
        """Mount a file system in memory at `path`, of at most `size` bytes, unless one is mounted there.

        Return False where this machine does not allow that. Raises OSError.
        """
        ...

    def unmount(self, path: str) -> None:
        """Unmount the file system at `path`, if there is one. Raises OSError."""
        ...


class Sockets(Protocol):
    """Sockets on addresses of nodes and services.

    node_ip: the node whose loopback interface has the address; "" for addresses that only one node or service has.
    """

    def listen(self, ip: str, port: int, node_ip: str = "") -> socket.socket:
        """Return a listening, non-blocking TCP socket. Raises OSError (EADDRINUSE, EADDRNOTAVAIL)."""
        ...

    def datagram(self, ip: str, port: int, node_ip: str = "") -> socket.socket:
        """Return a bound, non-blocking UDP socket. Raises OSError."""
        ...


class ServiceSockets(Sockets, Protocol):
    """Sockets for the addresses of Services: inside the cluster's network, and on this machine outside of it."""

    async def publish(self, protocol: str, ip: str, port: int) -> socket.socket:
        """Return a socket on an address of this machine: listening for "TCP", bound for "UDP"; it does not block.

        Raises OSError: EACCES also for an address or port that this cluster may not open.
        """
        ...

    def add_address(self, ip: str) -> None:
        """Make an address local to the network that all nodes share, so that sockets can listen on it.

        Each call needs a call of `remove_address`. Raises OSError: EPERM for an address of the cluster's own network.
        """
        ...

    def remove_address(self, ip: str) -> None:
        """Undo `add_address`."""
        ...


Users = Literal["real", "mapped", "one"]
"""The users that containers of images have: "real": root of this machine has mapped its own numbers; "mapped": the
numbers of /etc/subuid, by newuidmap(1); "one": all numbers stand for one user, and changes of users do nothing."""


class Runtime(NodeFiles, Protocol):
    """The sandboxes of the cluster's nodes on this machine, and the network they are in."""

    @property
    def users(self) -> Users:
        """Return which users containers of images have."""
        ...

    @property
    def control_groups(self) -> ControlGroups | None:
        """Return the object that enforces limits of processor and memory; None where limits are not enforced."""
        ...

    @property
    def isolation(self) -> Literal["private", "loopback"]:
        """Return the name of the implementation."""
        ...

    @property
    def limits(self) -> str:
        """Return one sentence about what does not work on this platform; "" when everything works."""
        ...

    @property
    def packets(self) -> PacketFilter | None:
        """Return the filter of packets between pods; None where packets cannot be filtered."""
        ...

    @property
    def sockets(self) -> ServiceSockets:
        """Return the object that opens sockets on addresses of nodes and services."""
        ...

    async def show_image(self, root: ImageRoot, path: str) -> str:
        """Make the files of an image visible, for volumes; return the directory that has them.

        path: an empty directory, which may become a mount point. If it is a mount point already, nothing is done.
        Raises OSError and StartError.
        """
        ...

    async def create_sandbox(self, config: SandboxConfig) -> Sandbox:
        """Return a new sandbox. Raises OSError, for example when no address is left."""
        ...

    def make_pod_sockets(self, uid: str, count: int, family: socket.AddressFamily) -> list[socket.socket]:
        """Return unconnected TCP sockets in the network of the pod with this uid; the caller closes them.

        They are for the control plane, which connects them to the pod's loopback. Raises OSError: ENETDOWN when the pod
        has no network.
        """
        ...

    async def dial(self, ip: str, port: int, timeout: float = 10.0) -> socket.socket:
        """Return a connected, non-blocking TCP socket to an address of the private network. Raises OSError."""
        ...

    async def listen(self, ip: str, port: int) -> socket.socket:
        """Return a listening, non-blocking TCP socket on a node's or service's address. Raises OSError."""
        ...
