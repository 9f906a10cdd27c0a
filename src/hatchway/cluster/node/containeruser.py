"""Reads the user of a container's first process, for the container's status (`status.containerStatuses[].user`)."""

from __future__ import annotations

from hatchway.kube.api import Object

__all__ = ["container_user", "parse_user"]

_ROOT = {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}}


def container_user(pid: int) -> Object:
    """Return a core/v1 ContainerUser: what the kernel says of the process; root when it has ended already."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return parse_user(file.read())
    except OSError:
        return _ROOT


def parse_user(text: str) -> Object:
    """Return the user of a process from the text of its `/proc/PID/status` (proc_pid_status(5)).

    As in Kubernetes, the supplementary groups begin with the primary group.
    """
    fields = dict(line.partition(":")[::2] for line in text.splitlines())
    try:
        uid, gid = (int(fields[name].split()[0]) for name in ("Uid", "Gid"))
        groups = [gid, *(int(group) for group in fields["Groups"].split())]
    except (KeyError, IndexError, ValueError):
        return _ROOT
    return {"linux": {"uid": uid, "gid": gid, "supplementalGroups": list(dict.fromkeys(groups))}}
