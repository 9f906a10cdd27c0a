"""Gives a volume's files to the pod's fsGroup (`pkg/volume/volume_linux.go`), and finds the owner of token files.

The kubelet does this for emptyDir, ConfigMap, Secret, downward API, projected and `local` volumes, not for hostPath.
Where the cluster has one user and one group (`usermaps.py`), only the permission bits change: every process of the pod
is in that group.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from hatchway.beneath import opened
from hatchway.kube.api import Object

_READ_WRITE, _READ, _ENTER = 0o660, 0o440, 0o110
_PATH = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC
# The most nested directories that are open at a time; files below deeper directories keep their group.
_DEPTH = 256


@dataclass(frozen=True, slots=True)
class VolumeOwnership:
    """The owners of a pod's volumes.

    group: fsGroup; None when files keep their owners.
    user: the owner of service-account tokens (`find_user`).
    on_mismatch: True to leave a volume unchanged if its own directory already has the right group and mode
        (fsGroupChangePolicy OnRootMismatch).
    has_groups: False if the cluster has only one user and one group.
    """

    group: int | None = None
    user: int | None = None
    on_mismatch: bool = False
    has_groups: bool = True

    @classmethod
    def of(cls, pod: Object, *, has_groups: bool) -> VolumeOwnership:
        """Return the owners that a pod's spec asks for."""
        context = pod["spec"].get("securityContext") or {}
        policy = context.get("fsGroupChangePolicy")
        return cls(context.get("fsGroup"), find_user(pod), policy == "OnRootMismatch", has_groups)

    @property
    def payload_group(self) -> int | None:
        """Return the group of files that the node agent creates; None for the agent's own group."""
        return self.group if self.has_groups else None

    def file_mode(self, mode: int) -> int:
        """Return the permission bits of a file that the node agent creates. mode: the bits in the pod's spec."""
        return mode if self.group is None else mode | _READ

    def directory_mode(self, mode: int) -> int:
        """Return the permission bits of a directory in a volume that the node agent fills."""
        return mode if self.group is None else mode | _READ | _ENTER | stat.S_ISGID

    def apply(self, top: int) -> None:
        """Give all files below the directory `top`, and then `top` itself, to the group, which may read and write them.

        Links are not followed, and other file systems below are not changed. Blocks. Raises OSError.

        top: a descriptor of a directory or a file; O_PATH is enough.
        """
        found = os.fstat(top)
        if self.group is None or (self.on_mismatch and self._is_right(found)):
            return
        if not stat.S_ISDIR(found.st_mode):
            self._change(top, found)
            return
        device = found.st_dev
        levels = [_OwnedLevel(_read(top))]
        try:
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is None:
                    self._change(level.directory, os.fstat(level.directory))
                    levels.pop().close()
                    continue
                try:
                    inner = self._enter(level.directory, name, device, deep=len(levels) >= _DEPTH)
                except FileNotFoundError:
                    # Another container with this volume has removed or renamed the file meanwhile.
                    continue
                if inner is not None:
                    levels.append(inner)
        finally:
            for level in levels:
                level.close()

    def _is_right(self, found: os.stat_result) -> bool:
        """Return True when a volume's directory needs no change (requiresPermissionChange)."""
        wanted = _READ_WRITE | _ENTER | stat.S_ISGID
        return (
            stat.S_ISDIR(found.st_mode)
            and (found.st_gid == self.group or not self.has_groups)
            and found.st_mode & wanted == wanted
        )

    def _enter(self, parent: int, name: str, device: int, *, deep: bool) -> _OwnedLevel | None:
        """Change a file. For a directory, return its level instead: the directory is changed after its content."""
        with opened(os.open(name, _PATH, dir_fd=parent)) as file:
            found = os.fstat(file)
            if found.st_dev != device:
                return None
            if stat.S_ISDIR(found.st_mode) and not deep:
                return _OwnedLevel(_read(file))
            if not stat.S_ISLNK(found.st_mode):
                self._change(file, found)
            elif self.has_groups:
                os.chown(name, -1, self.group or 0, dir_fd=parent, follow_symlinks=False)
        return None

    def _change(self, file: int, found: os.stat_result) -> None:
        """Change the group and the mode of a file (changeFilePermission). file: a descriptor; O_PATH is enough."""
        path = f"/proc/self/fd/{file}"
        if self.has_groups and found.st_gid != self.group:
            os.chown(path, -1, self.group or 0)
        more = _READ_WRITE | (_ENTER | stat.S_ISGID if stat.S_ISDIR(found.st_mode) else 0)
        mode = stat.S_IMODE(found.st_mode)
        # Set the mode last: changing the group removes setuid and setgid bits.
        if mode | more != stat.S_IMODE(os.fstat(file).st_mode):
            os.chmod(path, mode | more)


def _read(file: int) -> int:
    """Open a directory for reading its names. file: its descriptor; O_PATH is enough."""
    return os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class _OwnedLevel:
    """A directory whose names are being read. It owns the descriptor."""

    def __init__(self, directory: int) -> None:
        self.directory = directory
        self._entries = os.scandir(directory)
        self.names: Iterator[str] = (entry.name for entry in self._entries)

    def close(self) -> None:
        self._entries.close()
        os.close(self.directory)


def find_user(pod: Object) -> int | None:
    """Return the user of all containers of a pod (runAsUser); None when the users differ, or a container has none.

    Service-account tokens belong to this user (`FsUserFrom`).
    """
    spec = pod["spec"]
    common = (spec.get("securityContext") or {}).get("runAsUser")
    users = {
        common if (own := (container.get("securityContext") or {}).get("runAsUser")) is None else own
        for kind in ("initContainers", "containers")
        for container in spec.get(kind) or ()
    }
    return users.pop() if len(users) == 1 else None
