"""The directories that make up the nodes' file systems, and the lookup of nodes' paths on loopback."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# On loopback, these directories are this machine's own, because pods are ordinary processes.
_MACHINE = ("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/nix", "/opt", "/proc", "/sbin", "/sys", "/usr")


@dataclass(frozen=True, slots=True)
class SharedDirectory:
    """A directory of this machine that nodes have at `path`."""

    source: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class NodeDirectories:
    """The directories that make up the nodes' file systems.

    base: the parent of the nodes' own directories. names: the nodes' names, by index. scratch: the private network's
    directory. parts: directories of this machine that are mounted in the nodes. hidden: paths of this machine that are
    never shown.
    """

    base: Path
    names: Sequence[str]
    scratch: Path
    parts: Sequence[SharedDirectory] = ()
    hidden: Sequence[Path] = ()

    def directory(self, index: int) -> Path:
        """Return the node's own directory; make it when it is missing. Raises OSError."""
        path = self.base / self.names[index]
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return path


def locate_on_loopback(directories: NodeDirectories, index: int, path: str) -> tuple[str, str]:
    """Do the same as `NodeRoots.locate`, on loopback, where nothing can be mounted."""

    def inside(tree: str) -> bool:
        return path == tree or path.startswith(tree.rstrip("/") + "/")

    for part in sorted(directories.parts, key=lambda part: -len(part.path)):
        if inside(part.path):
            return part.source, path[len(part.path.rstrip("/")) :]
    if any(inside(tree) for tree in _MACHINE) and os.path.lexists(path):
        return "/", path
    return str(directories.directory(index)), path
