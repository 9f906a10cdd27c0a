"""Sets the user of a container's process, for each of the three kinds of user maps (`usermaps.py`).

    real, mapped   setgroups, setresgid, setresuid
    one            root stays the one user, and a seccomp filter answers changes of users (`ownerchanges.py`);
                   for any other user number, a user namespace is made (`nestedusers.py`)

Containers of this machine's programs always have one user, called root. They cannot become another user of the map:
they lose the capabilities for that, and a user namespace that they make can only map their own number.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.forked import ask_for_users, report_listener
from hatchway.cluster.network.ownerchanges import follow_user_changes, ignore_owner_changes, ignore_user_changes
from hatchway.usermaps import Way

# CAP_CHOWN, CAP_SETGID and CAP_SETUID.
OTHER_USERS = frozenset({0, 6, 7})


def take_user(report: socket.socket, way: Way, uid: int, gid: int, groups: Sequence[int]) -> None:
    """Change to a user, a group and supplementary groups, before the program of an image's container is executed.

    With the map "one", a process that is not root gets no supplementary groups, and root gets only group 0.
    The process keeps all capabilities if `uid` is 0; with the map "one", every user keeps them until execve(2). So drop
    capabilities after this call.
    report: the child's end of `report_pair`. Raises OSError.
    """
    if way != "one":
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    elif uid:
        users = ask_for_users(report, uid, gid)
        try:
            linux.setns(users, linux.CLONE_NEWUSER)
        finally:
            os.close(users)


def filter_changes(way: Way, uid: int, *, is_image: bool, report: socket.socket | None = None) -> None:
    """Let changes of users and owners that are impossible here succeed without an effect. Raises OSError.

    Call it after `set_no_new_privileges`, or with CAP_SYS_ADMIN. uid: see `take_user`. is_image: False for a
    container of this machine's programs. report: the child's end of `report_pair`, if the network's first process
    should answer the changes of users (`userchanges.py`); used for the first process of a container.
    """
    if not is_image:
        ignore_owner_changes()
    elif way == "one" and uid == 0:
        try:
            listener = -1 if report is None else follow_user_changes()
        except OSError:
            # The kernel does not support user notification (before Linux 5.0).
            listener = -1
        if listener < 0 or report is None:
            ignore_user_changes()
        else:
            report_listener(report, listener)
            os.close(listener)
