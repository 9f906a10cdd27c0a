"""Mounts files and directories of this machine, and makes mounts read-only, in the process's own mount namespace."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable

from hatchway.cluster.network import syscalls as linux

_KEPT_FLAGS = (
    (os.ST_NOSUID, linux.MS_NOSUID),
    (os.ST_NODEV, linux.MS_NODEV),
    (os.ST_NOEXEC, linux.MS_NOEXEC),
    (os.ST_NOATIME, linux.MS_NOATIME),
    (os.ST_NODIRATIME, linux.MS_NODIRATIME),
    (os.ST_RELATIME, linux.MS_RELATIME),
)


def bind(source: str, target: str) -> None:
    """Bind a file or directory, or copy a link, to a name that does not exist yet."""
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
        return
    make_empty(target, directory=stat.S_ISDIR(mode))
    try:
        linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
    except FileNotFoundError:
        # The host has replaced the file since the cluster started (a new package has changed /etc/group). The old file
        # can still be read, but the kernel does not bind a file that was deleted.
        if stat.S_ISDIR(mode):
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def make_empty(path: str, *, directory: bool) -> None:
    """Make an empty file or directory. Raises FileExistsError."""
    if directory:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def make_read_only(target: str) -> None:
    """Make the mount at `target` and all mounts below it read-only. Other flags, which user namespaces lock, stay."""
    try:
        linux.mount_read_only(target)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        remount_read_only(target)


def remount_read_only(target: str) -> None:
    """Do the same as `make_read_only`, one mount at a time, for kernels before 5.12."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[4] for line in file]
    for escaped in points:
        point = escaped
        for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(code, character)
        if is_inside(point, target):
            remount_one_read_only(point)


def remount_one_read_only(point: str) -> None:
    """Make the mount at `point` read-only, without the mounts below it. Its other flags stay."""
    kept = os.statvfs(point).f_flag
    flags = sum(flag for there, flag in _KEPT_FLAGS if kept & there)
    linux.mount(None, point, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | flags)


def mask(root: str, paths: Iterable[str], empty: str) -> None:
    """Hide files and directories below `root`. empty: an empty directory."""
    for path in paths:
        try:
            mode = os.stat(root + path).st_mode
        except FileNotFoundError:
            continue
        source = empty if stat.S_ISDIR(mode) else "/dev/null"
        linux.mount(source, root + path, None, linux.MS_BIND | linux.MS_REC)


def is_inside(path: str, tree: str) -> bool:
    """Return True when `path` is `tree` or below it. Both are absolute, normalized paths."""
    return path == tree or path.startswith(tree.rstrip("/") + "/")
