"""Finds the user with which a container starts in a cluster with one user (`network/userchanges.py`). Pure."""

from __future__ import annotations

from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.runtime import Users

__all__ = ["followed_user"]


def followed_user(known: str, state: ContainerState, image_id: str, wanted: str, users: Users) -> str:
    """Return the user (UID:GID) for which the container's start script has asked in an earlier run; "" for none.

    The next run can start with this user. Otherwise, each start of the cluster would start the container twice: first
    as root, then as the user for which the script asks.

    known: the user for which the script has asked since the node agent was started; "" for none.
    state: the status of the last run.
    image_id: the image of the next run.
    wanted: the user of the next run, from the container's spec and the image.
    users: `Runtime.users`.
    """
    if state.image_id != image_id:
        return ""
    if known or users != "one" or wanted.partition(":")[0] not in ("", "0", "root"):
        return known
    found = state.user.get("linux") or {}
    uid, gid = found.get("uid"), found.get("gid")
    return f"{uid}:{gid}" if isinstance(uid, int) and isinstance(gid, int) and uid > 0 else ""
