"""The layer writer's record of directories and links, and the checks of names in an archive. Pure.

The writer creates everything in the layer's tree itself. So the writer knows which component of a path is a directory,
and which is a link, without a system call. The kernel checks each path again when it is opened (`confinedopen.py`).
"""

from __future__ import annotations

import enum
from typing import Final

from hatchway.images.layers.layererrors import BadLayer

LONGEST_NAME: Final = 255
# PATH_MAX without its NUL: a longer path cannot be opened.
LONGEST_PATH: Final = 4095
WHITEOUT_PREFIX: Final = b".wh."
OPAQUE_MARKER: Final = b".wh..wh..opq"
# Names that AUFS used for itself; they are no whiteouts (Moby, `WhiteoutMetaPrefix`).
AUFS_PREFIX: Final = b".wh..wh."


class KnownName(enum.Enum):
    """The writer's record of a name that is neither a directory nor a file."""

    LINK = "a symbolic link"
    WHITEOUT = "a whiteout"


class Folder:
    """A directory of the layer.

    owner: the numbers of user and group; None for this process's user and group. mtime: nanoseconds since 1970; None
    when the time is not set.
    """

    __slots__ = ("children", "depth", "mode", "mtime", "name", "owner", "parent")

    def __init__(self, name: bytes, parent: Folder | None) -> None:
        self.name = name
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[bytes, Folder | KnownName] = {}
        self.mode = 0o755
        self.owner: tuple[int, int] | None = None
        self.mtime: int | None = None

    @property
    def path(self) -> bytes:
        """Return the directory's path relative to the layer's root; b"" is the root."""
        parts: list[bytes] = []
        folder = self
        while folder.parent is not None:
            parts.append(folder.name)
            folder = folder.parent
        return b"/".join(reversed(parts))

    def path_of(self, name: bytes) -> bytes:
        """Return the path of a name in this directory."""
        above = self.path
        return above + b"/" + name if above else name


def clean_name(name: bytes) -> tuple[bytes, ...]:
    """Return the components of a name in an archive; () is the root. An absolute name starts at the layer's root.

    Each `..` is removed together with the component before it, as by Go's `filepath.Clean`. Raises BadLayer for a name
    that leads out of the root (as Docker's "breakout" error), or is too long for a file system.
    """
    if len(name) > LONGEST_PATH:
        raise BadLayer(f"{shown(name)}: the name is longer than {LONGEST_PATH} bytes")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise BadLayer(f"{shown(name)}: the name leads out of the root directory")
            parts.pop()
            continue
        if len(part) > LONGEST_NAME:
            raise BadLayer(f"{shown(name)}: a component of the name is longer than {LONGEST_NAME} bytes")
        parts.append(part)
    return tuple(parts)


def split_link(target: bytes) -> list[bytes]:
    """Return the components of a symbolic link's target in reverse order, with `..`."""
    return [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]


def hidden_name(name: bytes) -> bytes:
    """Return the name that a whiteout hides. name: the whiteout's own name. Raises BadLayer."""
    hidden = name[len(WHITEOUT_PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise BadLayer(f"{shown(name)}: this is no whiteout's name")
    return hidden


def shown(name: bytes) -> str:
    """Return a name for an error message: quoted, shortened, without control characters."""
    text = name.decode("utf-8", "backslashreplace")
    text = text if len(text) <= 200 else text[:100] + "..." + text[-80:]
    return '"' + "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text) + '"'
