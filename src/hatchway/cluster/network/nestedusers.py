"""Makes user namespaces for containers whose user is not root, where the cluster has one user.

Such a namespace gives the one user another number: that of the image's user or of runAsUser. So id(1) shows this
number, the container's files belong to it, and programs that refuse to run as root (postgres) start. Its group gets its
number in the same way; other users and groups do not exist there.

The network's first process makes the namespace. A process that maps a user namespace must be dumpable (inspectable by
ptrace) for a moment, and no container can see the processes in the first one's PID namespace. When a container's
process has looked up its user, it requests the namespace over its report socket (`forked.py`), and enters it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from hatchway.cluster.network import linuxnamespaces
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.forked import ERROR_BYTES, child_exits

_MADE = b"\0made"


def make_nested_users(uid: int, gid: int) -> int:
    """Return a descriptor of a new user namespace, in which this process's user is `uid` and its group `gid`.

    This process must be the first one of the network, with root's rights in the cluster's user namespace. Raises
    OSError.
    """
    made, report = os.pipe()
    pid = os.fork()
    if pid == 0:
        with child_exits(report):
            linux.set_parent_death_signal(signal.SIGKILL)
            linux.keep_memory_private(False)
            linux.unshare(linux.CLONE_NEWUSER)
            for name, content in (("setgroups", "deny"), ("uid_map", f"{uid} 0 1"), ("gid_map", f"{gid} 0 1")):
                Path("/proc/self", name).write_text(content, encoding="ascii")
            os.write(report, _MADE)
            while True:
                signal.pause()
    os.close(report)
    try:
        with open(made, "rb", buffering=0) as answers:
            answer = answers.read(ERROR_BYTES)
        if answer != _MADE:
            raise OSError(0, f"no user namespace can be made: {answer.decode(errors='replace')}")
        return linuxnamespaces.open_namespace(str(pid), "user")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
