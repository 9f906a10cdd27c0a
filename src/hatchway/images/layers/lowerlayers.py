"""Looks up paths in the merged lower layers of the layer that is being unpacked, as an overlay would show them.

Unpacked layers never change. Symbolic links are not followed: a lookup returns the link itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from hatchway.images.layers.confinedopen import open_real_directory
from hatchway.images.layers.layererrors import BadLayer

# Marks of overlay file systems (Documentation/filesystems/overlayfs.rst): `user.` in file systems that are
# mounted with `userxattr`, `trusted.` in others.
OPAQUE_NAMES: Final = (b"user.overlay.opaque", b"trusted.overlay.opaque")
_OPAQUE_VALUE: Final = b"y"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# The maximum number of directories that are cached.
_MOST_CACHED: Final = 4096
# The maximum number of lookups while one layer is unpacked; looking up a path in several layers counts once for each
# layer.
_MOST_LOOKUPS: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class LowerEntry:
    """The lower layers' entry at a path.

    layer: the descriptor of the topmost layer that has it. path: relative to that layer. status: of the entry itself.
    """

    layer: int
    path: bytes
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Return True for a directory."""
        return stat.S_ISDIR(self.status.st_mode)


class LowerLayers:
    """The lower layers, as one merged tree. Use it as a context manager."""

    def __init__(self, directories: Sequence[str | os.PathLike[str]]) -> None:
        """Open the layers' directories, the topmost first."""
        self._layers: list[int] = []
        self._lookups = 0
        # For a directory's path: the indices of the layers whose directories are merged there.
        self._merged: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        try:
            for directory in directories:
                self._layers.append(os.open(directory, _DIRECTORY))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> LowerLayers:
        """Return the layers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the layers."""
        self.close()

    def __bool__(self) -> bool:
        """Return False when there is no lower layer."""
        return bool(self._layers)

    def close(self) -> None:
        """Close the descriptors."""
        while self._layers:
            os.close(self._layers.pop())

    def find(self, path: bytes) -> LowerEntry | None:
        """Return the entry at a path without `..`; None when there is no entry, or when a parent is not a directory.

        Raises OSError; BadLayer after too many lookups.
        """
        if not self._layers:
            return None
        above, _, name = path.rpartition(b"/")
        for place in self._places(above):
            found = self._look(place, above, name)
            if found is not None:
                return None if is_whiteout(found) else LowerEntry(self._layers[place], path, found)
        return None

    def _places(self, path: bytes) -> tuple[int, ...]:
        """Return the indices of the layers whose directories are merged at a path; () without a directory.

        The topmost layer is first.
        """
        if not path:
            return tuple(range(len(self._layers)))
        known = self._merged.get(path)
        if known is not None:
            self._merged.move_to_end(path)
            return known
        above, _, name = path.rpartition(b"/")
        places: list[int] = []
        for place in self._places(above):
            found = self._look(place, above, name)
            if found is None:
                continue
            if not stat.S_ISDIR(found.st_mode):
                break
            places.append(place)
            if self._is_opaque(place, path):
                break
        self._merged[path] = tuple(places)
        if len(self._merged) > _MOST_CACHED:
            self._merged.popitem(last=False)
        return tuple(places)

    def _look(self, place: int, above: bytes, name: bytes) -> os.stat_result | None:
        self._lookups += 1
        if self._lookups > _MOST_LOOKUPS:
            raise BadLayer("its names take too long to look up in the layers below it")
        with contextlib.suppress(FileNotFoundError), self._opened(place, above) as directory:
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        return None

    def _is_opaque(self, place: int, path: bytes) -> bool:
        with self._opened(place, path) as directory:
            return is_opaque(directory)

    @contextlib.contextmanager
    def _opened(self, place: int, path: bytes) -> Iterator[int]:
        directory = open_real_directory(self._layers[place], path)
        try:
            yield directory
        finally:
            os.close(directory)


def is_whiteout(status: os.stat_result) -> bool:
    """Return True for overlay's whiteout, a mark for a deleted name: the character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: int) -> bool:
    """Return True when an open directory is marked as hiding its content in lower layers."""
    for name in OPAQUE_NAMES:
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == _OPAQUE_VALUE:
                return True
    return False


def make_opaque(directory: int) -> None:
    """Mark an open directory as hiding its content in lower layers. Raises OSError.

    Both marks are set if this process may set them, so that the overlay may be mounted with or without `userxattr`.
    """
    try:
        os.setxattr(directory, OPAQUE_NAMES[0], _OPAQUE_VALUE)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        reason = "the image store's file system keeps no extended attributes, which opaque directories need"
        raise OSError(errno.ENOTSUP, reason) from error
    with contextlib.suppress(PermissionError):
        os.setxattr(directory, OPAQUE_NAMES[1], _OPAQUE_VALUE)
