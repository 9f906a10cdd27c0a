"""The directories of the default StorageClass: one for each volume, in the file system of a node.

A node's file system is the directory `nodes/NAME` in the state directory. Pods with a hostPath can change everything in
it. So every path below it is opened by descriptors (`beneath.py`), and nothing outside of it is made or deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from hatchway import beneath, removal

__all__ = ["ROOT", "LocalVolumes"]

# The same directory as in kind.
ROOT = "/var/local-path-provisioner"
_NODE = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?").fullmatch
_NAME = re.compile(r"[A-Za-z0-9][-_.A-Za-z0-9]{0,254}").fullmatch


class LocalVolumes:
    """Makes and deletes the directories of volumes.

    base: the parent of the nodes' directories. shared: directories of this machine that pods see in place of the nodes'
    directories with the same path.
    """

    def __init__(self, base: Path, shared: Sequence[str] = ()) -> None:
        self._base = base
        self._covering = next((path for path in shared if f"{ROOT}/".startswith(path.rstrip("/") + "/")), "")

    def problem(self) -> str:
        """Return why no volumes can be made or deleted; "" when they can."""
        if not self._covering:
            return ""
        return f"`--host-path {self._covering}` shows a directory of this machine in place of the nodes' {ROOT}"

    def make(self, node: str, name: str) -> None:
        """Make the directory `name` on a node, unless it exists. Blocks. Raises OSError, ValueError.

        Every user of a container may write to it, as with kind's provisioner: hostPath volumes have no fsGroup.
        """
        with (
            self._opened(node, name, create=True) as root,
            beneath.opened(beneath.open_in_root(root, ROOT, "directory")) as found,
        ):
            is_new = True
            try:
                os.mkdir(name, 0o700, dir_fd=found)
            except FileExistsError:
                is_new = False
            with beneath.opened(beneath.make_directory(found, name)) as made:
                if is_new:
                    os.fchmod(made, 0o777)

    def remove(self, node: str, name: str) -> None:
        """Delete the directory `name` on a node, with its contents. Blocks. Raises OSError, ValueError."""
        try:
            with (
                self._opened(node, name, create=False) as root,
                beneath.opened(beneath.open_in_root(root, ROOT)) as found,
            ):
                removal.remove_owned(found, name)
        except FileNotFoundError:
            # The directory was never made, or is deleted already.
            return

    def _opened(self, node: str, name: str, *, create: bool) -> AbstractContextManager[int]:
        if not _NODE(node) or not _NAME(name):
            raise ValueError(f"{node}/{name} is not a volume's directory")
        if self._covering:
            raise ValueError(self.problem())
        path = self._base / node
        if create:
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return beneath.opened(beneath.open_directory(path))
