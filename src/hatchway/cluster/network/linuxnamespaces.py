"""Enters the private network's namespaces, and sets kernel parameters in them."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from hatchway import usermaps
from hatchway.cluster.network import syscalls as linux


class Namespaces(NamedTuple):
    """Descriptors of a sandbox's namespaces."""

    net: int
    uts: int
    ipc: int

    def enter(self) -> None:
        """Move this process into these namespaces. Raises OSError."""
        linux.setns(self.net, linux.CLONE_NEWNET)
        linux.setns(self.uts, linux.CLONE_NEWUTS)
        linux.setns(self.ipc, linux.CLONE_NEWIPC)

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in (self.net, self.uts, self.ipc):
            os.close(descriptor)


def enter_namespaces() -> tuple[int, usermaps.UserMap]:
    """Make a user namespace in which the current user is root, make the other namespaces inside it, and fork.

    Return the result of fork(2), and the users of the namespace. The child is the first process of the PID namespace,
    with a /proc of its own. The child is still in this machine's network (`leave_network`). Raises OSError.
    """
    users = usermaps.enter()
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    return pid, users


def leave_network() -> None:
    """Move this process into a new network namespace, without a way back. Raises OSError."""
    linux.unshare(linux.CLONE_NEWNET)


def open_namespace(process: str, kind: str) -> int:
    """Return a descriptor of a process's namespace.

    process: its id, or "self". kind: the file's name in /proc/PID/ns (`net`, `mnt`, `pid` ...). Raises OSError.
    """
    return os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def own_namespaces() -> Namespaces:
    """Return descriptors of the namespaces that this process is in. Raises OSError."""
    return namespaces_of("self")


def namespaces_of(process: str) -> Namespaces:
    """Return descriptors of the namespaces that a process is in. process: its id, or "self". Raises OSError."""
    return Namespaces(*(open_namespace(process, kind) for kind in ("net", "uts", "ipc")))


def set_sysctl(name: str, value: str) -> None:
    """Set a kernel parameter; nothing happens when this kernel does not have it. name: with slashes. Raises OSError."""
    try:
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        # A kernel without the feature (IPv6) needs no setting for it.
        return


def set_wanted_sysctl(name: str, value: str) -> None:
    """Set a kernel parameter for a pod. Raises OSError with the parameter's name when the kernel refuses it."""
    try:
        with open(f"/proc/sys/{name}", "w", encoding="utf-8") as file:
            file.write(value)
    except OSError as error:
        why = f"cannot set sysctl {name.replace('/', '.')} to {value!r}: {(error.strerror or str(error)).lower()}"
        raise OSError(error.errno, why) from error


def leave_keyring() -> None:
    """Keep the user's session keys away from pods, because the kernel sees pods as the same user."""
    try:
        linux.join_new_session_keyring()
    except OSError as error:
        # EPERM, ENOSYS: key rings are forbidden here, also for pods. EDQUOT: running pods matters more than this
        # protection.
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EDQUOT):
            raise
