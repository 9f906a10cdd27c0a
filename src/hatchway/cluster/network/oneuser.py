"""Gives a process of a container another user's number where the cluster has only one user.

The cluster's user namespace then has no number but 0. A namespace of the process's own gives this one user another
number: getuid(2) answers it, and the container's files belong to it. The process has no right over anything outside of
its own namespace any more.
"""

from __future__ import annotations

import errno
import os

from hatchway.cluster.network import syscalls as linux


def enter_user_namespace(uid: int, gid: int) -> None:
    """Make the only user and group of the cluster `uid` and `gid` for this process. Raises OSError.

    Call it inside the container, after all that needs rights outside of the new namespace.
    """
    linux.unshare(linux.CLONE_NEWUSER)
    # While a process's memory is private, its files in /proc belong to this machine's root, and it cannot write them.
    linux.keep_memory_private(False)
    try:
        for name, content in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{gid} 0 1")):
            # A container that may mount can have anything there, which then stays without an effect (see below).
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(f"/proc/self/{name}", flags)
            try:
                os.write(descriptor, content.encode())
            finally:
                os.close(descriptor)
    finally:
        linux.keep_memory_private()
    if (os.getuid(), os.getgid()) != (uid, gid):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
