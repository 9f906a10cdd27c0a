"""The nodes' own file systems: what hostPath volumes mean.

Each node has a directory of its own that lasts (`nodes/NAME` of the state directory). Over it lie, read-only, what
containers see of this machine, too: its programs, /etc without secrets, /proc, /sys and /dev; the pods' logs where
Kubernetes has them; and the directories that `hatchway up --host-path` has opened. A root is put together in the mount
namespace of the private network when it is first needed.

What a pod has left in a node's directory may be anything, links included: mount points are found by `beneath`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

from hatchway.cluster import beneath
from hatchway.cluster.network import rootfs
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.nodedirs import NodeDirectories, Part


class NodeRoots:
    """The roots of the nodes in the private network, for a process in its mount namespace."""

    def __init__(self, directories: NodeDirectories) -> None:
        self._directories = directories
        self._prepared = directories.scratch / "nodes"

    def locate(self, index: int, path: str) -> tuple[str, str]:
        """The node's root, and the path in it. Raises OSError."""
        place = self._prepared / str(index)
        if not os.path.ismount(place):
            self._make(index, place)
        return str(place), path

    def _make(self, index: int, place: Path) -> None:
        template = rootfs.load_template(str(self._directories.scratch))
        parts = self._prepare(template)
        own = self._directories.directory(index)
        place.mkdir()
        linux.mount(str(own), str(place), None, linux.MS_BIND)
        try:
            with beneath.opened(beneath.open_directory(place)) as root:
                self._fill(root, template)
                for source, path in parts:
                    with beneath.opened(beneath.open_in_root(root, path, "directory")) as target:
                        linux.mount(source, f"/proc/self/fd/{target}", None, linux.MS_BIND | linux.MS_REC)
        except BaseException:
            linux.umount(str(place), linux.MNT_DETACH)
            place.rmdir()
            raise

    def _fill(self, root: int, template: rootfs.Template) -> None:
        for path in (*rootfs.DIRECTORIES, "/root", "/run", "/tmp", "/var/tmp"):
            os.close(beneath.open_in_root(root, path, "directory"))
        for path, to in (*template.links, ("/var/run", "/run"), ("/var/lock", "/run/lock")):
            above, name = os.path.split(path)
            with (
                beneath.opened(beneath.open_in_root(root, above, "directory")) as parent,
                contextlib.suppress(FileExistsError),
            ):
                os.symlink(to, name, dir_fd=parent)

    def _prepare(self, template: rootfs.Template) -> list[tuple[str, str]]:
        """Mount, once for all nodes, what lies over their directories: (where it is mounted, its path in a node)."""
        found = [(template.programs + tree, tree) for tree in (*template.trees, "/etc")]
        common = self._prepared / "common"
        names = (str(common / str(number)) for number in itertools.count())
        ready = common.is_dir()
        if not ready:
            common.mkdir(parents=True)
            for name in ("dev", "proc", "sys"):
                (common / name).mkdir()
            rootfs.make_devices(str(common))
            linux.mount(f"{common}/dev", f"{common}/dev", None, linux.MS_BIND | linux.MS_REC)
            rootfs.mount_proc_and_sys(str(common), template.empty)
            for name in ("dev", "proc"):
                rootfs.make_read_only(f"{common}/{name}")
        found += [(f"{common}/{name}", f"/{name}") for name in ("dev", "proc", "sys")]
        for part, name in zip(self._directories.parts, names, strict=False):
            if not ready:
                self._mount_part(part, name, template.empty)
            if os.path.isdir(name):
                found.append((name, part.path))
        return found

    def _mount_part(self, part: Part, name: str, empty: str) -> None:
        if not os.path.isdir(part.source):
            # It was there when the cluster was made; a pod that wants it finds an empty directory of the node.
            return
        os.mkdir(name)
        linux.mount(part.source, name, None, linux.MS_BIND | linux.MS_REC)
        for path in self._directories.hidden:
            if path != Path(part.source) and path.is_relative_to(part.source):
                inner = f"{name}/{path.relative_to(part.source)}"
                if os.path.isdir(inner):
                    linux.mount(empty, inner, None, linux.MS_BIND | linux.MS_REC)
        if part.read_only:
            rootfs.make_read_only(name)
