"""Gives the process of a container its user, in each of the three ways of users (`usermaps.py`).

    real, mapped   the kernel's own: setgroups, setresgid, setresuid
    one            root is the one user, and changes of users are answered by a filter (`ownerchanges.py`); any other
                   number gets a user namespace of its own (`nestedusers.py`)

Containers of this machine's programs have one user, called root, in all three. Where there are others, they may not
become one of these: the capabilities for that are taken away, and a user namespace that they make themselves has no
other number than their own.
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
    """Become a user, with a group and supplementary groups, before the program of an image's container.

    In the way "one", a process that is not root has no supplementary groups, and root has no other group than 0.
    Afterwards the process has root's capabilities only if `uid` is 0, or, in the way "one", until execve(2): take them
    away after this call. Raises OSError.

    report: the child's end of `report_pair`.
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
    """Let changes of users and owners that the container cannot make succeed without an effect. Raises OSError.

    Call it after `set_no_new_privileges`, or with CAP_SYS_ADMIN. uid: as for `take_user`. is_image: False for a
    container of this machine's programs. report: the child's end of `report_pair`, when the network's first process
    shall follow the changes of users (`userchanges.py`), for the first process of a container.
    """
    if not is_image:
        ignore_owner_changes()
    elif way == "one" and uid == 0:
        try:
            listener = -1 if report is None else follow_user_changes()
        except OSError:
            # A kernel that cannot ask.
            listener = -1
        if listener < 0 or report is None:
            ignore_user_changes()
        else:
            report_listener(report, listener)
            os.close(listener)
