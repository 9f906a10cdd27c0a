"""Reads the user of a container's first process, for the container's status (`status.containerStatuses[].user`)."""

from __future__ import annotations

import os

from hatchway.kube.api import Object

__all__ = ["container_user", "inside", "parse_user"]

_ROOT = {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}
_READ_BYTES = 64 << 10


def container_user(pid: int) -> Object:
    """Return a core/v1 ContainerUser: what the process itself sees; root when it has ended already."""
    try:
        uid_map = gid_map = ""
        if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
            uid_map, gid_map = _read(pid, "uid_map"), _read(pid, "gid_map")
        return parse_user(_read(pid, "status"), uid_map, gid_map)
    except OSError:
        return _ROOT


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read(_READ_BYTES)


def parse_user(status: str, uid_map: str = "", gid_map: str = "") -> Object:
    """Return the user of a process.

    As in Kubernetes, the supplementary groups begin with the primary group.

    Args:
        status: the text of its `/proc/PID/status` (proc_pid_status(5)).
        uid_map, gid_map: its user namespace's maps, if it has one of its own below this process's.
    """
    fields = dict(line.partition(":")[::2] for line in status.splitlines())
    try:
        uid, gid = int(fields["Uid"].split()[0]), int(fields["Gid"].split()[0])
        groups = [gid, *(int(group) for group in fields["Groups"].split())]
        return {
            "linux": {
                "uid": inside(uid, uid_map),
                "gid": inside(gid, gid_map),
                "supplementalGroups": list(dict.fromkeys(inside(group, gid_map) for group in groups)),
            }
        }
    except (KeyError, IndexError, ValueError):
        return _ROOT


def inside(number: int, id_map: str) -> int:
    """Return what a user's or group's number is in a user namespace with this map (user_namespaces(7))."""
    for line in id_map.splitlines():
        first, outside, count = (int(part) for part in line.split())
        if outside <= number < outside + count:
            return first + number - outside
    return number
