"""Reads the user of a container's first process, for the container's status (`status.containerStatuses[].user`)."""

from __future__ import annotations

import os

from hatchway.kube.api import Object

__all__ = ["container_user", "parse_user"]

# The maximum number of characters to read of a file in /proc. A process may have 65536 supplementary groups.
_MOST_CHARACTERS = 1 << 20
_ROOT = {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}


def container_user(pid: int, wanted: str = "") -> Object:
    """Return a core/v1 ContainerUser with the user and groups that a process has in the kernel.

    wanted: the user with which it was started, `UID`, `UID:GID` or a name, for a process that has already ended.
    """
    try:
        users, groups = "", ""
        if os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino:
            # In a cluster with one user, a container with another user has its own user namespace (`nestedusers.py`).
            users, groups = _read(pid, "uid_map"), _read(pid, "gid_map")
        return parse_user(_read(pid, "status"), users, groups)
    except OSError:
        return _from_spec(wanted)


def _from_spec(wanted: str) -> Object:
    uid, _, gid = wanted.partition(":")
    if not (uid.isascii() and uid.isdigit()):
        return _ROOT
    group = int(gid) if gid.isascii() and gid.isdigit() else 0
    return {"linux": {"uid": int(uid), "gid": group, "supplementalGroups": [group]}}


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read(_MOST_CHARACTERS)


def parse_user(text: str, users: str = "", groups: str = "") -> Object:
    """Return the user of a process from the text of its `/proc/PID/status` (proc_pid_status(5)).

    As in Kubernetes, the supplementary groups begin with the primary group.

    users, groups: `uid_map` and `gid_map` of a process in another user namespace; "" for none.
    """
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    try:
        uid = _inside(users, int(fields["Uid"].split()[0]))
        gid = _inside(groups, int(fields["Gid"].split()[0]))
        all_groups = [gid, *(_inside(groups, int(group)) for group in fields["Groups"].split())]
    except (KeyError, IndexError, ValueError):
        return _ROOT
    return {"linux": {"uid": uid, "gid": gid, "supplementalGroups": list(dict.fromkeys(all_groups))}}


def _inside(numbers: str, outside: int) -> int:
    """Convert a user's or group's number to its number in another user namespace (user_namespaces(7)).

    Without a map, the number stays the same.
    """
    for line in numbers.splitlines():
        first, there, count = map(int, line.split())
        if there <= outside < there + count:
            return first + outside - there
    return outside
