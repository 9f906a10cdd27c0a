"""Builds the root file system of an image's container: the image's layers, and above them the container's changes.

An image is untrusted: its `/etc` or `/dev` may be a link to anywhere, a file, or missing. Until this process has
changed into the new root, it opens every path in the root by `beneath`, which cannot leave the root. /dev, /proc and
/sys are first mounted where no container sees them, and then moved. Layers never change: missing mount points are
created in the container's own directory.

The order, the refusals and their messages come from runc (libcontainer's rootfs_linux.go).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hatchway import beneath
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.imagechanges import COPY
from hatchway.cluster.network.kernelfiles import make_devices, mount_message_queues, mount_proc, mount_sys
from hatchway.cluster.network.mounts import make_read_only
from hatchway.cluster.network.overlay import mount_overlay
from hatchway.cluster.network.roottemplate import Template
from hatchway.cluster.network.volumemounts import RootError, mount_volume

# Files of the sandbox that are mounted over the image's files.
_ETC = ("hostname", "hosts", "resolv.conf")
# The bytes that a container may add to these files.
_ETC_BYTES = 1 << 20
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


class ImageRootConfig(NamedTuple):
    """An image's root in the form of messages; see `ImageRoot` in `cluster/runtime.py`.

    copied: whether the directory `COPY` below `changes` has a copy of all layers, in place of an overlay.
    """

    layers: list[str]
    changes: str
    volumes: list[str]
    copied: bool = False


def build_image_root(
    template: Template,
    image: ImageRootConfig,
    *,
    etc: Mapping[str, str],
    mounts: Sequence[dict[str, Any]],
    read_only_root: bool,
    masked: bool,
    control_groups: bool,
) -> None:
    """Make a container's root and change into it. Call it in new mount and PID namespaces.

    Afterwards the root is still writable: `seal` makes it read-only.

    etc: the sandbox's files of /etc, content by name. mounts: the pod's mounts, each with the fields of `Mount` in
    `cluster/runtime.py`.
    read_only_root: whether the root will be read-only. masked: whether parts of /proc and /sys are hidden or read-only.
    control_groups: whether the container gets a cgroup namespace, and sees its own control group.

    Raises:
        RootError: the image or the pod's spec makes it impossible to build the root.
        OSError: a system call failed; the error names the path.
    """
    root = template.path + "/root"
    if image.copied:
        linux.mount(f"{image.changes}/{COPY}", root, None, linux.MS_BIND | linux.MS_REC)
    else:
        mount_overlay(image.layers, image.changes, root)
    with beneath.closing(beneath.open_directory(root)) as top:
        made = _Builder(template, top)
        made.place("proc", "/proc", lambda stage: mount_proc(stage, template.empty, masked=masked), ordinary=True)
        made.forbidden = os.stat("proc", dir_fd=top).st_dev
        made.place("sysfs", "/sys", lambda stage: _fill_sys(stage, template, masked, control_groups), ordinary=True)
        made.place("tmpfs", "/dev", _fill_devices)
        made.mount_etc(etc, {os.path.normpath(mount["path"]) for mount in mounts}, read_only=read_only_root)
        made.mount_all(mounts, image.volumes, read_only_root=read_only_root)
        os.fchdir(top)
    # The old root is now mounted on top of the new one; unmount it (pivot_root(2)).
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")


class _Builder:
    """Mounts file systems in a root that is not this process's root yet.

    top: the new root's descriptor. forbidden: the device number of the root's /proc, below which nothing may be
    mounted; -1 while it is not mounted.
    """

    def __init__(self, template: Template, top: int) -> None:
        self._template = template
        self._top = top
        self.forbidden = -1

    def place(self, kind: str, path: str, fill: Callable[[str], object], *, ordinary: bool = False) -> None:
        """Let `fill` mount a file system at a hidden directory, and move it to `path` in the new root.

        kind: the file system's name, for errors. ordinary: True to refuse a path that is a link, as runc does.
        """
        wish = f'error mounting "{kind}" to rootfs at "{path}"'
        try:
            if ordinary and not self._is_directory_or_missing(path):
                raise RootError(f'{wish}: filesystem "{kind}" must be mounted on ordinary directory')
            with beneath.closing(self._open(path, wish, "directory")) as target:
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                stage = self._template.stage(directory=True)
                # Where the kernel refuses the mount (/sys in some user namespaces), the directory stays empty.
                linux.mount("tmpfs", stage, "tmpfs", _QUIET, "mode=755,size=64k")
                fill(stage)
                linux.mount(stage, f"/proc/self/fd/{target}", None, linux.MS_MOVE)
        except OSError as error:
            raise RootError(f"{wish}: {os.strerror(error.errno or errno.EIO).lower()}") from error

    def mount_etc(self, etc: Mapping[str, str], others: set[str], *, read_only: bool) -> None:
        """Mount the sandbox's files over the image's files.

        others: paths of the pod's own mounts, which are skipped.
        """
        stage = self._template.stage(directory=True)
        names = [name for name in _ETC if name in etc and f"/etc/{name}" not in others]
        # The container may write to these files, so their file system must not hold much more than their content.
        size = _ETC_BYTES + sum(len(etc[name].encode()) for name in names)
        linux.mount("tmpfs", stage, "tmpfs", _QUIET, f"mode=755,size={size}")
        for name in names:
            with open(f"{stage}/{name}", "x", encoding="utf-8") as file:
                file.write(etc[name])
        if read_only:
            make_read_only(stage)
        for name in names:
            path = f"/etc/{name}"
            wish = f'error mounting "{name}" to rootfs at "{path}"'
            try:
                with beneath.closing(self._open(path, wish, "file")) as target:
                    linux.mount(f"{stage}/{name}", f"/proc/self/fd/{target}", None, linux.MS_BIND)
            except OSError as error:
                raise RootError(f"{wish}: {os.strerror(error.errno or errno.EIO).lower()}") from error
        linux.umount(stage, linux.MNT_DETACH)

    def mount_all(self, mounts: Sequence[dict[str, Any]], volumes: Sequence[str], *, read_only_root: bool) -> None:
        """Mount the pod's volumes, and create the image's volumes; parent directories come first."""
        given = [os.path.normpath(mount["path"]) for mount in mounts]
        own = [path for path in map(os.path.normpath, volumes) if not any(_is_at_or_below(path, at) for at in given)]
        steps: list[tuple[str, Callable[[], None]]] = [
            *(
                (path, lambda path=path: self._make_volume(path, writable=read_only_root))
                for path in dict.fromkeys(own)
            ),
            *(
                (
                    mount["path"],
                    lambda mount=mount: mount_volume(self._template, self._top, mount, forbidden=self.forbidden),
                )
                for mount in mounts
            ),
        ]
        for _, step in sorted(steps, key=lambda found: found[0].rstrip("/").count("/")):
            step()

    def _make_volume(self, path: str, *, writable: bool) -> None:
        """Make the directory of a VOLUME. Copy the image's files at this path to it, like for a new volume in Docker.

        writable: True to make the directory a mount of its own, which stays writable below a read-only root.
        """
        wish = f'error mounting a volume of the image to rootfs at "{path}"'
        try:
            with beneath.closing(self._open(path, wish, "directory")) as target:
                if not stat.S_ISDIR(os.fstat(target).st_mode):
                    raise RootError(f"{wish}: cannot mount volume over existing file, file exists")
                if writable:
                    at = f"/proc/self/fd/{target}"
                    linux.mount(at, at, None, linux.MS_BIND)
        except OSError as error:
            raise RootError(f"{wish}: {os.strerror(error.errno or errno.EIO).lower()}") from error

    def _open(self, path: str, wish: str, make: beneath.Make) -> int:
        target = beneath.open_in_root(self._top, path, make)
        try:
            found = os.fstat(target)
            if os.path.samestat(found, os.fstat(self._top)):
                raise RootError(f"{wish}: it leads to /")
            if found.st_dev == self.forbidden:
                raise RootError(f'{wish}: "{path}" cannot be mounted because it is inside /proc')
            return target
        except BaseException:
            os.close(target)
            raise

    def _is_directory_or_missing(self, path: str) -> bool:
        try:
            found = os.stat(path.lstrip("/"), dir_fd=self._top, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return stat.S_ISDIR(found.st_mode)


def _fill_devices(stage: str) -> None:
    linux.umount(stage)
    linux.mount("tmpfs", stage, "tmpfs", linux.MS_NOSUID, "mode=755,size=64m")
    make_devices(stage)
    mount_message_queues(stage)


def _fill_sys(stage: str, template: Template, masked: bool, control_groups: bool) -> None:
    if not mount_sys(stage, template.empty, writable=not masked) or not control_groups:
        return
    try:
        linux.unshare(linux.CLONE_NEWCGROUP)
        linux.mount("cgroup", f"{stage}/fs/cgroup", "cgroup2", _QUIET | linux.MS_RDONLY)
    except OSError:
        # Without control groups of version 2, the directory stays empty.
        return


def _is_at_or_below(path: str, tree: str) -> bool:
    return path == tree or path.startswith(tree.rstrip("/") + "/")
