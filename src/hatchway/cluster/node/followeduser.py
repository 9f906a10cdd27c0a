"""The user with which a container goes on, where the cluster has one user (`network/userchanges.py`). Pure."""

from __future__ import annotations

from hatchway.cluster.runtime import Users
from hatchway.kube.api import Object

__all__ = ["followed_user"]


def followed_user(user: Object, wanted: str, users: Users) -> str:
    """Return the user, as UID:GID, that the container's start script has already asked for; "" for none.

    Without it, each start of the cluster would start the container twice: as root, and again as the user for which its
    script asks then.

    user: the ContainerUser in the status of the container's former run, of the same image. wanted: the user of its spec
    and its image. users: `Runtime.users`.
    """
    if users != "one" or wanted.partition(":")[0] not in ("", "0", "root"):
        return ""
    found = user.get("linux") or {}
    uid, gid = found.get("uid"), found.get("gid")
    return f"{uid}:{gid}" if isinstance(uid, int) and isinstance(gid, int) and uid > 0 else ""
