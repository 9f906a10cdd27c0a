"""Prepares hostPath volumes (`pkg/volume/hostpath`), which are files in the node's own file system.

All paths are resolved below the node's root, so that no link leads to other files of this machine.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from hatchway import beneath

_CHECKS: dict[str, Callable[[int], bool]] = {
    "Directory": stat.S_ISDIR,
    "File": stat.S_ISREG,
    "Socket": stat.S_ISSOCK,
    "CharDevice": stat.S_ISCHR,
    "BlockDevice": stat.S_ISBLK,
}


class HostPathError(Exception):
    """The path does not exist, or does not have the volume's type.

    The message becomes the text of a FailedMount event.
    """


def check(source: Mapping[str, str]) -> str:
    """Return the normalized path of a volume. Raises HostPathError."""
    path = source.get("path") or ""
    if not path.startswith("/") or ".." in path.split("/"):
        raise HostPathError(f"hostPath {path!r} must be absolute and must not contain ..")
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def prepare(root: int, inside: str, source: Mapping[str, str]) -> None:
    """Check that a volume's path has the volume's type. Create it if the type requires that.

    root, inside: the directory descriptor and the path below it (`NodeFiles.locate`).

    Raises HostPathError, OSError.
    """
    path, kind = source.get("path") or "", source.get("type") or ""
    make: beneath.Make | None = None
    # Without a type, container engines create the directory.
    if kind in ("", "DirectoryOrCreate"):
        make = "directory"
    elif kind == "FileOrCreate":
        make = "file"
    try:
        with beneath.closing(beneath.open_in_root(root, inside, make)) as found:
            mode = os.fstat(found).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HostPathError(f"hostPath type check failed: {path} is not a {_noun(kind)}{_ON_NODE}") from error
    except OSError as error:
        raise HostPathError(f"hostPath {path}: {(error.strerror or str(error)).lower()}{_ON_NODE}") from error
    is_kind = _CHECKS.get(kind.removesuffix("OrCreate"))
    if is_kind is not None and not is_kind(mode):
        raise HostPathError(f"hostPath type check failed: {path} is not a {_noun(kind)}{_ON_NODE}")


def find(root: int, inside: str) -> None:
    """Check that the path of a `local` volume exists (`pkg/volume/local`). Raises HostPathError, OSError."""
    try:
        os.close(beneath.open_in_root(root, inside))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HostPathError(f"path {inside} does not exist{_ON_NODE}") from error


# The hint for a directory of this machine that a node does not have.
_ON_NODE = " in the node's own file system (`hatchway up --host-path DIR` opens a directory of this machine)"


def _noun(kind: str) -> str:
    return kind.removesuffix("OrCreate").lower() or "directory"
