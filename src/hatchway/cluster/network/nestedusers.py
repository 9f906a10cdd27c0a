"""Makes user namespaces inside the cluster's user namespace, and other namespaces that belong to them.

There are two kinds of such user namespaces:

- The user namespace of a node has the cluster's users. The containers of images run in it, and the namespaces of the
  node's pods belong to it. Its root has all rights over the pods, but none over the cluster's own processes and mounts.
  Without this namespace, a container that may mount could make its read-only mounts writable. It could also let the
  kernel execute other programs in place of the node agent's own (binfmt_misc, which each user namespace has since Linux
  6.7).
- The user namespace of a container is made in a cluster with one user, if the container's user is not root. It gives
  the one user another number: the number from the image or from runAsUser. So id(1) shows this number, files of the
  container belong to it, and programs that refuse to run as root (postgres) start. The group gets another number in the
  same way. Other users and groups do not exist in the namespace.

The network's first process makes both kinds with the help of a child, whose files in /proc must be accessible for a
moment. No container can see this child, which is in the PID namespace of the first process. A container's process looks
up its user, asks for its user namespace over its report socket (`forked.py`), and then enters the namespace.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hatchway.cluster.network import linuxnamespaces
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.forked import ERROR_BYTES, child_exits
from hatchway.cluster.network.linuxnamespaces import Namespaces
from hatchway.usermaps import UserMap

_MADE = b"\0made"

_Taken = TypeVar("_Taken")


def make_node_users(users: UserMap) -> int:
    """Return a descriptor of a new user namespace with the same users as this process's namespace.

    This process must be the first one of the network, with root's rights in the cluster's user namespace. Raises
    OSError.
    """

    def take(pid: int) -> int:
        for name, extents in (("uid_map", users.users), ("gid_map", users.groups)):
            lines = [f"{extent.inside} {extent.inside} {extent.count}\n" for extent in extents]
            Path(f"/proc/{pid}", name).write_text("".join(lines), encoding="ascii")
        return linuxnamespaces.open_namespace(str(pid), "user")

    return _made_by_child(lambda: linux.unshare(linux.CLONE_NEWUSER), take)


def make_namespaces(users: int, kinds: int) -> Namespaces:
    """Return new namespaces that belong to a user namespace.

    users: a descriptor of that user namespace. kinds: the flags CLONE_NEW... of the new namespaces; the returned
    namespaces of other kinds are this process's own. Raises OSError.
    """

    def make() -> None:
        linux.setns(users, linux.CLONE_NEWUSER)
        linux.unshare(kinds)

    return _made_by_child(make, lambda pid: linuxnamespaces.namespaces_of(str(pid)))


def make_nested_users(uid: int, gid: int, above: int) -> int:
    """Return a descriptor of a new user namespace, in which this process's user is `uid` and its group `gid`.

    above: a descriptor of the parent user namespace; negative for this process's own. This process must be the first
    one of the network, with root's rights in the cluster's user namespace. Raises OSError.
    """

    def make() -> None:
        if above >= 0:
            linux.setns(above, linux.CLONE_NEWUSER)
        linux.unshare(linux.CLONE_NEWUSER)
        for name, content in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{gid} 0 1")):
            Path("/proc/self", name).write_text(content, encoding="ascii")

    return _made_by_child(make, lambda pid: linuxnamespaces.open_namespace(str(pid), "user"))


def _made_by_child(make: Callable[[], None], take: Callable[[int], _Taken]) -> _Taken:
    """Call `make` in a forked child, and return the result of `take` for the child's process id. Raises OSError."""
    made, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        with child_exits(report):
            linux.set_parent_death_signal(signal.SIGKILL)
            linux.keep_memory_private(False)
            make()
            os.write(report, _MADE)
            while True:
                signal.pause()
    os.close(report)
    try:
        with open(made, "rb", buffering=0) as answers:
            answer = answers.read(ERROR_BYTES)
        if answer != _MADE:
            raise OSError(0, f"no namespace can be made: {answer.decode(errors='replace')}")
        return take(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
