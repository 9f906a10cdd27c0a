"""Entering the private network's namespaces, and what its first process sets for everything in them."""

from __future__ import annotations

import errno
import os
import resource

from hatchway.cluster.network import container
from hatchway.cluster.network import syscalls as linux


def enter_namespaces() -> int:
    """Make a user namespace in which the current user is root, and the other namespaces in it; then fork.

    Returns as fork does; the child is the first process of the PID namespace, with a /proc of its own. Raises OSError.
    """
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    for name, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(content)
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    return pid


def open_namespace(process: str, kind: str) -> int:
    return os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def own_namespaces() -> container.Namespaces:
    return container.Namespaces(*(open_namespace("self", kind) for kind in ("net", "uts", "ipc")))


def set_sysctl(name: str, value: str) -> None:
    try:
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)
    except FileNotFoundError:
        # A kernel without that feature (IPv6) needs no setting for it.
        return


def leave_keyring() -> None:
    """Keep the user's session keys from pods, which are the same user to the kernel."""
    try:
        linux.join_new_session_keyring()
    except OSError as error:
        # EPERM, ENOSYS: key rings are forbidden here, to pods too. EDQUOT: no reason for having no pods at all.
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EDQUOT):
            raise


def raise_descriptor_limit() -> None:
    """For the agent, which holds a socket for every service and connection, and as container engines do for pods."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
