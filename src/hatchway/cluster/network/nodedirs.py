"""What the nodes' file systems are made of, and what a path means where none can be put together (loopback)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# What is this machine's on loopback, too, where pods are its ordinary processes.
_MACHINE = ("/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/nix", "/opt", "/proc", "/sbin", "/sys", "/usr")


@dataclass(frozen=True, slots=True)
class Part:
    """A directory of this machine that nodes have at `path`."""

    source: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class NodeDirectories:
    """What nodes' file systems are made of.

    base: where each node has a directory of its own. names: the nodes', by index. scratch: the private network's
    directory. parts: what nodes have of this machine. hidden: paths of this machine that are never shown.
    """

    base: Path
    names: Sequence[str]
    scratch: Path
    parts: Sequence[Part] = ()
    hidden: Sequence[Path] = ()

    def directory(self, index: int) -> Path:
        """The node's own directory, made when it is missing. Raises OSError."""
        path = self.base / self.names[index]
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return path


def locate_on_loopback(directories: NodeDirectories, index: int, path: str) -> tuple[str, str]:
    """`NodeRoots.locate` where nothing can be mounted: the directory that takes the root's place for this path."""

    def inside(tree: str) -> bool:
        return path == tree or path.startswith(tree.rstrip("/") + "/")

    for part in sorted(directories.parts, key=lambda part: -len(part.path)):
        if inside(part.path):
            return part.source, path[len(part.path.rstrip("/")) :]
    if any(inside(tree) for tree in _MACHINE) and os.path.lexists(path):
        return "/", path
    return str(directories.directory(index)), path
