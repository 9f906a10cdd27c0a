"""Mounts a pod's volumes into a container's root.

Paths in the volume and in the new root are resolved only by `beneath`, which cannot leave the volume or the root. So
changes that another container makes in a shared volume meanwhile do no harm.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from hatchway import beneath
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.mounts import make_empty, make_read_only
from hatchway.cluster.network.roottemplate import Template

# The maximum number of bytes that a container may write to a directory that `_mirror` has made. The directory's entries
# do not count.
_MIRROR_BYTES = 16 << 20


class RootError(Exception):
    """The file system cannot be made according to the pod's spec. The message is for the pod's author."""


def mount_volume(template: Template, root: int, mount: dict[str, Any], *, forbidden: int = -1) -> None:
    """Mount one volume in a container's root, which is not yet this process's root.

    root: a descriptor of the new root. mount: a `Mount` of `cluster/runtime.py`, as a dictionary.
    forbidden: the device number of the root's /proc, in which nothing may be mounted; -1 while the root has none.
    Raises RootError.
    """
    path = mount["path"]
    wish = f'error mounting "{_shown_source(mount)}" to rootfs at "{path}"'
    if not path.startswith("/") or os.path.normpath(path) in ("/", "//"):
        raise RootError(f"{wish}: it must be an absolute path other than /")
    try:
        with beneath.closing(open_source(mount)) as source:
            directory = stat.S_ISDIR(os.fstat(source).st_mode)
            with beneath.closing(_open_mount_point(template, root, path, directory)) as target:
                if os.path.samestat(os.fstat(target), os.fstat(root)):
                    raise RootError(f"{wish}: it leads to /")
                if os.fstat(target).st_dev == forbidden:
                    raise RootError(f'{wish}: "{path}" cannot be mounted because it is inside /proc')
                _attach(template, source, target, directory=directory, read_only=bool(mount.get("read_only")))
    except OSError as error:
        raise RootError(f"{wish}: {os.strerror(error.errno or errno.EIO).lower()}") from error


def _shown_source(mount: dict[str, Any]) -> str:
    """Return the name of a mount's source for errors: if possible, the name in the pod's spec."""
    return "/".join(part for part in (mount.get("inside") or mount["source"], mount.get("sub_path")) if part)


def open_source(mount: dict[str, Any]) -> int:
    """Return a descriptor of a mount's source; see `Mount` in `cluster/runtime.py`. Raises OSError."""
    found = os.open(mount["source"], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    if mount.get("inside"):
        with beneath.closing(found) as root:
            found = beneath.open_in_root(root, mount["inside"])
    if mount.get("sub_path"):
        with beneath.closing(found) as volume:
            found = beneath.open_beneath(volume, mount["sub_path"])
    return found


def _attach(template: Template, source: int, target: int, *, directory: bool, read_only: bool) -> None:
    """Mount `source` at a hidden path, make it read-only if necessary, and then move it to `target`."""
    stage = template.stage(directory=directory)
    linux.mount(f"/proc/self/fd/{source}", stage, None, linux.MS_BIND | linux.MS_REC)
    if read_only:
        make_read_only(stage)
    linux.mount(stage, f"/proc/self/fd/{target}", None, linux.MS_MOVE)


def _open_mount_point(template: Template, root: int, path: str, directory: bool) -> int:
    kind: beneath.Make = "directory" if directory else "file"
    while True:
        try:
            target = beneath.open_in_root(root, path, kind, keep_parent=True)
            break
        except beneath.ReadOnlyParent as error:
            with beneath.closing(error.directory) as place:
                _mirror(template, place)
    if stat.S_ISDIR(os.fstat(target).st_mode) != directory:
        os.close(target)
        number = errno.ENOTDIR if directory else errno.EISDIR
        raise OSError(number, os.strerror(number))
    return target


def _mirror(template: Template, place: int) -> None:
    """Replace the directory `place` on a read-only mount by a writable one with the same entries.

    A mount point below a read-only tree (`/usr/share/nginx/html`) needs a new directory there. An overlay would be an
    alternative, but not every kernel allows overlays in a user namespace.
    """
    stage = template.stage(directory=True)
    linux.mount("tmpfs", stage, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=755,size={_MIRROR_BYTES}")
    with beneath.closing(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)) as listed:
        names = os.listdir(listed)
    for name in names:
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
        with beneath.closing(entry):
            mode = os.fstat(entry).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink("", dir_fd=entry), f"{stage}/{name}")
                continue
            make_empty(f"{stage}/{name}", directory=stat.S_ISDIR(mode))
            linux.mount(f"/proc/self/fd/{entry}", f"{stage}/{name}", None, linux.MS_BIND | linux.MS_REC)
    linux.mount(stage, f"/proc/self/fd/{place}", None, linux.MS_MOVE)
