"""Removes layers that were unpacked for user maps that clusters no longer use (`usermaps.py`).

After a range was added to /etc/subuid or removed from it, new clusters have another kind of user map. Images are then
unpacked again for this kind, and the former layers only take space. A process that uses layers holds a lock on the
directory of its kind of user map (flock(2)), so the layers of a running cluster are not removed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hatchway.images.store.layerplaces import USERS_WAYS, LayerPlaces, UsersWay
from hatchway.usermaps import MapError, choose

__all__ = ["present_users", "remove_former_layers"]


def present_users() -> UsersWay:
    """Return the kind of user map that a new cluster of this user would have now."""
    try:
        return choose().way
    except MapError:
        return "one"


def remove_former_layers(store: Path, users: UsersWay) -> tuple[int, tuple[str, ...]]:
    """Remove the layers for other kinds of user maps than `users` that no running cluster uses. Blocks.

    store: the directory of the image store. Returns the number of removed layers, and sentences that
    say why other layers remain.
    """
    removed, problems = 0, []
    for former in USERS_WAYS:
        if former != users:
            places = LayerPlaces(store, former)
            try:
                removed += _remove_all(places)
            except OSError as error:
                why = error.strerror or str(error)
                problems.append(f"unpacked layers of former users below {places.path} remain: {why}")
    return removed, tuple(problems)


def _remove_all(places: LayerPlaces) -> int:
    try:
        top = os.open(places.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    removed = 0
    try:
        fcntl.flock(top, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in sorted(os.listdir(top)):
            place = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                places.empty(place)
            finally:
                os.close(place)
            os.rmdir(name, dir_fd=top)
            removed += 1
    except BlockingIOError:
        # A running cluster uses these layers.
        pass
    finally:
        os.close(top)
    return removed
