"""Finds volumes with files of users that the cluster does not have.

A claim keeps its files when the cluster starts with other users (`usermaps.py`). Without the range of /etc/subuid, the
files of its users can be neither read nor changed, and programs fail with "Permission denied".
"""

from __future__ import annotations

import functools
import os
from collections import deque
from pathlib import Path

from hatchway.beneath import closing

__all__ = ["MESSAGE", "has_unknown_owner"]

MESSAGE = (
    "files in it belong to users that this cluster does not have, so containers may not read them: a cluster "
    "with other users has used the volume. Give your user its former range in /etc/subuid and /etc/subgid again (with "
    "newuidmap), and restart the cluster; `hatchway status` shows its users, and docs/users.md explains what to do"
)
# The maximum number of files, and levels of directories, to examine. A database's files are at the top of a volume, or
# in a subPath.
_MOST_FILES, _DEEPEST = 1000, 2
_FIND = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC


def has_unknown_owner(top: int) -> bool:
    """Return True when files at the top of a volume belong to a user that this process's user namespace does not have.

    top: a descriptor of the volume. Links are not followed. Blocks. Raises OSError.
    """
    unknown = _unknown_user()
    if unknown < 0:
        return False
    if os.fstat(top).st_uid == unknown:
        return True
    left = _MOST_FILES
    waiting: deque[tuple[int, int]] = deque([(os.dup(top), 0)])
    try:
        while waiting:
            directory, depth = waiting.popleft()
            with closing(directory):
                try:
                    listed = os.open(f"/proc/self/fd/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except (PermissionError, NotADirectoryError):
                    continue
                with closing(listed), os.scandir(listed) as entries:
                    for entry in entries:
                        left -= 1
                        if left < 0:
                            return False
                        try:
                            if entry.stat(follow_symlinks=False).st_uid == unknown:
                                return True
                            if depth + 1 < _DEEPEST and entry.is_dir(follow_symlinks=False):
                                waiting.append((os.open(entry.name, _FIND, dir_fd=listed), depth + 1))
                        except FileNotFoundError:
                            # A container has removed the file meanwhile.
                            continue
    finally:
        for directory, _ in waiting:
            os.close(directory)
    return False


@functools.cache
def _unknown_user() -> int:
    """Return the number that the kernel shows for all users outside this user namespace (overflowuid).

    Return -1 if a user inside may have this number.
    """
    try:
        number = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
        for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines():
            first, _, count = map(int, line.split())
            if first <= number < first + count:
                return -1
    except (OSError, ValueError):
        return -1
    return number
