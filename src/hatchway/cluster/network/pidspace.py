"""Makes PID namespaces that several containers share, or that contain other PID namespaces: a node's, a pod's.

    init's namespace: init, the node agent
      └─ a node's: its reaper, containers of pods with hostPID
           └─ a container's, or a pod's with shareProcessNamespace: its reaper and containers

So a pod with hostPID sees only the processes of its node's pods. The first process of a node's or a pod's namespace is
its reaper, which only reaps orphans. The reaper is a fork of init; its memory and files are protected from the whole
cluster. Its file system is empty, so `/proc/1/root` leads nowhere.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from hatchway.cluster.network import linuxnamespaces, processes, rootfs
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.forked import child_exits
from hatchway.cluster.network.linuxnamespaces import Namespaces
from hatchway.cluster.network.roottemplate import Template

_SWEEP_SECONDS = 0.5
# Seconds that the process in between (see `fork_below`) may take to make a PID namespace.
_MAKE_SECONDS = 2.0
_CREDENTIALS = struct.calcsize("3i")


class PidSpace:
    """A PID namespace. pid: its reaper's process id. descriptor: the namespace's descriptor, which `close` closes."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.descriptor = descriptor
        self._name = f"pid:[{os.fstat(descriptor).st_ino}]"

    def close(self) -> None:
        """End all processes in the namespace. The caller must still wait for the reaper's exit status."""
        if self.descriptor >= 0:
            # No other process can have the reaper's id before the reaper is waited for.
            os.kill(self.pid, signal.SIGKILL)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor, because the reaper has ended or is ending. Idempotent."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def sweep(self, mounts: str | None, keep: set[int]) -> None:
        """Kill the processes that are directly in this namespace, except its reaper.

        mounts: kill only the processes that a container has left behind in this mount namespace; None kills all.
        keep: the ids of processes that are not killed.
        """
        deadline = time.monotonic() + _SWEEP_SECONDS
        while time.monotonic() < deadline:
            found = [pid for pid in self._members() if pid not in keep and mounts in (None, _link(pid, "mnt"))]
            if not found:
                return
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def _members(self) -> Iterator[int]:
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.pid and _link(int(name), "pid") == self._name and _alive(name):
                yield int(name)


def _link(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        # The process has ended, or is being created.
        return ""


def _alive(name: str) -> bool:
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def make_node_space(template: Template, own: Namespaces, name: str, own_pids: int, limit: int) -> PidSpace:
    """Make a node's PID namespace. Raises OSError.

    own: the node's other namespaces. name: the reaper's name. own_pids: the caller's PID namespace.
    limit: the maximum number of processes in the new namespace.
    """
    linux.unshare(linux.CLONE_NEWPID)
    try:
        pid = linux.fork_without_arguments()
        if pid == 0:
            _reap_orphans(template, own, name, limit)
        return PidSpace(pid, linuxnamespaces.open_namespace("self", "pid_for_children"))
    finally:
        linux.setns(own_pids, linux.CLONE_NEWPID)


def fork_first(own_pids: int, run: Callable[[], NoReturn]) -> int:
    """Fork a child that is the first process of a new PID namespace directly below the caller's. Raises OSError."""
    linux.unshare(linux.CLONE_NEWPID)
    try:
        pid = linux.fork_without_arguments()
        if pid == 0:
            run()
        return pid
    finally:
        linux.setns(own_pids, linux.CLONE_NEWPID)


def make_pod_space(
    template: Template, own: Namespaces, name: str, above: PidSpace, own_pids: int, limit: int
) -> PidSpace:
    """Make a pod's PID namespace inside its node's. Raises OSError."""
    return PidSpace(*fork_below(above, own_pids, lambda: _reap_orphans(template, own, name, limit)))


def fork_below(above: PidSpace, own_pids: int, run: Callable[[], NoReturn]) -> tuple[int, int]:
    """Fork a child that is the first process of a new PID namespace in `above`, and calls `run`.

    A process in between makes the namespace, because only a process inside a namespace can make a namespace below it.
    The child is a child of this process. Return its id in this process's PID namespace, and a descriptor of its own PID
    namespace. Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            between = fork_into(above, own_pids, lambda: _fork_again(theirs, run))
        try:
            return _receive_made(ours)
        finally:
            # The process in between is not needed any more, and a container of the node may have stopped it (SIGSTOP).
            os.kill(between, signal.SIGKILL)
            os.waitpid(between, 0)


def _receive_made(ours: socket.socket) -> tuple[int, int]:
    """Return the child and the descriptor that `_fork_again` sends. Raises OSError, also after a timeout."""
    pid, descriptor = 0, -1
    deadline = time.monotonic() + _MAKE_SECONDS
    while not pid or descriptor < 0:
        ours.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data, more, _, _ = ours.recvmsg(16, socket.CMSG_SPACE(_CREDENTIALS) + socket.CMSG_SPACE(4))
        except TimeoutError:
            data, more = b"", []
        found = {kind: content for _, kind, content in more}
        if not data:
            if descriptor >= 0:
                os.close(descriptor)
            if pid:
                os.kill(pid, signal.SIGKILL)
            raise OSError(0, "the process could not be made in its PID namespace")
        if socket.SCM_RIGHTS in found:
            descriptor = struct.unpack("i", found[socket.SCM_RIGHTS])[0]
            os.set_inheritable(descriptor, False)
        else:
            pid = struct.unpack("3i", found[socket.SCM_CREDENTIALS])[0]
    return pid, descriptor


def fork_into(space: PidSpace, own_pids: int, run: Callable[[], NoReturn]) -> int:
    """Fork a child in an existing PID namespace. Raises OSError."""
    linux.setns(space.descriptor, linux.CLONE_NEWPID)
    try:
        pid = linux.fork_without_arguments()
        if pid == 0:
            run()
        return pid
    finally:
        linux.setns(own_pids, linux.CLONE_NEWPID)


def _fork_again(theirs: socket.socket, run: Callable[[], NoReturn]) -> NoReturn:
    with child_exits():
        linux.unshare(linux.CLONE_NEWPID)
        if linux.fork_sibling() == 0:
            # The kernel adds this process's id to the message: the id in the receiver's PID namespace.
            theirs.send(b"child")
            theirs.close()
            run()
        descriptor = linuxnamespaces.open_namespace("self", "pid_for_children")
        theirs.sendmsg([b"space"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))])
        os._exit(0)


def _reap_orphans(template: Template, own: Namespaces, name: str, limit: int) -> NoReturn:
    with child_exits():
        linux.keep_memory_private()
        own.enter()
        processes.limit_here(limit)
        linux.set_name(name)
        linux.unshare(linux.CLONE_NEWNS)
        rootfs.enter_nothing(template)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        # With SIG_IGN, the kernel reaps orphans.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.setsid()
        os.closerange(0, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        while True:
            signal.pause()
