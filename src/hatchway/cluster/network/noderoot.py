"""Builds the nodes' own file systems, to which hostPath volumes lead.

Each node has a lasting directory of its own (`nodes/NAME` in the state directory). Several parts are mounted read-only
over this directory: the parts of this machine that containers see (programs, /etc without secrets, /sys, /dev), a /proc
without processes, and the pods' logs at Kubernetes' path. The directories of `hatchway up --host-path` are mounted,
too. A root is built in the mount namespace of the private network when it is first needed.

A pod may have left any files in a node's directory, also links. So the mount points are opened by `beneath`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from hatchway import beneath
from hatchway.cluster.network import rootfs
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.kernelfiles import make_devices, mount_sys
from hatchway.cluster.network.mounts import make_read_only
from hatchway.cluster.network.nodedirs import NodeDirectories, SharedDirectory
from hatchway.cluster.network.roottemplate import Template, load_template


class NodeRoots:
    """The roots of the nodes in the private network, for a process in its mount namespace."""

    def __init__(self, directories: NodeDirectories) -> None:
        self._directories = directories
        self._prepared = directories.scratch / "nodes"

    def locate(self, index: int, path: str) -> tuple[str, str]:
        """Return the node's root directory, and `path` unchanged: the path below that directory. Raises OSError."""
        place = self._prepared / str(index)
        if not os.path.ismount(place):
            self._make(index, place)
        return str(place), path

    def _make(self, index: int, place: Path) -> None:
        template = load_template(str(self._directories.scratch))
        parts = self._prepare(template)
        own = self._directories.directory(index)
        place.mkdir()
        linux.mount(str(own), str(place), None, linux.MS_BIND)
        try:
            with beneath.closing(beneath.open_directory(place)) as root:
                self._fill(root, template)
                for source, path in parts:
                    with beneath.closing(beneath.open_in_root(root, path, "directory")) as target:
                        linux.mount(source, f"/proc/self/fd/{target}", None, linux.MS_BIND | linux.MS_REC)
        except BaseException:
            linux.umount(str(place), linux.MNT_DETACH)
            place.rmdir()
            raise

    def _fill(self, root: int, template: Template) -> None:
        for path in (*rootfs.DIRECTORIES, "/root", "/run", "/tmp", "/var/tmp"):
            os.close(beneath.open_in_root(root, path, "directory"))
        for path, to in (*template.links, ("/var/run", "/run"), ("/var/lock", "/run/lock")):
            above, name = os.path.split(path)
            with (
                beneath.closing(beneath.open_in_root(root, above, "directory")) as parent,
                contextlib.suppress(FileExistsError),
            ):
                os.symlink(to, name, dir_fd=parent)

    def _prepare(self, template: Template) -> list[tuple[str, str]]:
        """Make the mounts that all nodes share, at the first call. Return (mount point, path in a node) of each."""
        link = self._prepared / "common"
        if not link.is_symlink():
            self._mount_common(link, template)
        common = os.readlink(link)
        found = [(template.programs + tree, tree) for tree in (*template.trees, "/etc")]
        found += [(f"{common}/{name}", f"/{name}") for name in ("dev", "sys")]
        found.append((f"{template.machine}/proc", "/proc"))
        for number, part in enumerate(self._directories.parts):
            if os.path.isdir(name := f"{common}/{number}"):
                found.append((name, part.path))
        return found

    def _mount_common(self, link: Path, template: Template) -> None:
        """Make the mounts below a new directory, and at last `link` to it. After an error, the next call starts anew.

        Incomplete mounts must not be used: in a part of `--host-path`, hidden directories could be visible.
        """
        self._prepared.mkdir(exist_ok=True)
        common = tempfile.mkdtemp(prefix="common-", dir=self._prepared)
        linux.mount("tmpfs", common, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=64k")
        try:
            for name in ("dev", "sys"):
                os.mkdir(f"{common}/{name}")
            make_devices(f"{common}/dev")
            linux.mount(f"{common}/dev", f"{common}/dev", None, linux.MS_BIND | linux.MS_REC)
            mount_sys(f"{common}/sys", template.empty)
            make_read_only(f"{common}/dev")
            for number, part in enumerate(self._directories.parts):
                self._mount_part(part, f"{common}/{number}", template.empty)
            link.symlink_to(common)
        except BaseException:
            linux.umount(common, linux.MNT_DETACH)  # with all mounts below it
            os.rmdir(common)
            raise

    def _mount_part(self, part: SharedDirectory, name: str, empty: str) -> None:
        if not os.path.isdir(part.source):
            # The directory was deleted after the cluster was made, so nothing is mounted for it.
            return
        os.mkdir(name)
        linux.mount(part.source, name, None, linux.MS_BIND | linux.MS_REC)
        for path in self._directories.hidden:
            if path != Path(part.source) and path.is_relative_to(part.source):
                inner = f"{name}/{path.relative_to(part.source)}"
                if os.path.isdir(inner):
                    linux.mount(empty, inner, None, linux.MS_BIND | linux.MS_REC)
        if part.read_only:
            make_read_only(name)
