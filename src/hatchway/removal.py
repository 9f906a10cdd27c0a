"""Deletes files of a cluster, including files that belong to containers' users.

When images' users are a range of /etc/subuid (`usermaps.py`), this user may not delete their files. Then a child
process deletes them, as root of a namespace with these users: `python -m hatchway.removal DIRECTORY NAME`, where
DIRECTORY is the descriptor of the directory that has NAME.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from hatchway import trees, usermaps
from hatchway.beneath import closing, open_directory

# Seconds that the child may take: a volume may hold millions of files.
_SECONDS = 600.0


def remove_path(path: Path) -> None:
    """Delete a file, or a directory with its content; do nothing when it does not exist. Blocks. Raises OSError.

    path: containers must not be able to change any of its parent directories.
    """
    try:
        parent = open_directory(path.parent)
    except FileNotFoundError:
        return
    with closing(parent):
        remove_owned(parent, path.name)


def remove_owned(parent: int, name: str) -> None:
    """Delete `name` in the directory `parent` with all its content, including files of containers' users. Blocks.

    Raises OSError.
    """
    try:
        trees.remove_tree(parent, name)
    except PermissionError as error:
        if os.geteuid() == 0:
            raise
        argv = [sys.executable, "-m", __name__, str(parent), name]
        try:
            done = usermaps.run(argv, descriptors=(parent,), timeout=_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), name) from late
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [os.strerror(errno.EACCES)]
            raise PermissionError(errno.EACCES, lines[-1], name) from error


def main(parent: int, name: str) -> int:
    """Delete `name` in the directory with the descriptor `parent`. Return the exit code."""
    try:
        trees.remove_tree(parent, name)
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
