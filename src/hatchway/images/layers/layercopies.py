"""Makes one writable tree of an image's layers, where no overlay file system can be mounted.

Where the file system supports it (FICLONE on btrfs and XFS), files share their blocks with the layers' files; elsewhere
they are copied. Whiteouts and opaque directories are applied, so the tree has the content of an overlay of the layers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence
from typing import Final

from hatchway.images.layers.confinedopen import open_real_directory
from hatchway.images.layers.lowerlayers import OPAQUE_NAMES, is_opaque, is_whiteout

# From <linux/fs.h>: _IOW(0x94, 9, int).
_FICLONE: Final = 0x40049409
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP: Final = 1 << 30
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM})


def copy_layers(layers: Sequence[str], target: str) -> None:
    """Copy the merged content of `layers` into the new directory `target`. Blocks.

    layers: directories, the topmost first, as `LayerStore.directories` returns them. target: must not exist, in a
    directory that no container can change. The caller removes it after an error.

    Raises OSError.
    """
    os.mkdir(target, 0o700)
    with contextlib.ExitStack() as opened:

        def open_directory(path: str) -> int:
            directory = os.open(path, _DIRECTORY)
            opened.callback(os.close, directory)
            return directory

        sources = [open_directory(layer) for layer in layers]
        _LayerCopier(sources, open_directory(target)).copy()


class _LayerCopier:
    """Copies merged layers. Paths are relative to each layer, and to the target."""

    def __init__(self, layers: list[int], target: int) -> None:
        self._layers = layers
        self._target = target
        # Files with several hard links: the path of the first copy, by inode number.
        self._linked: dict[tuple[int, int], bytes] = {}
        self._can_clone = True

    def copy(self) -> None:
        """Copy everything."""
        # Directories get their attributes after their content, because copying needs write permission and changes
        # times.
        waiting: list[tuple[bytes, list[int], bool]] = [(b"", list(range(len(self._layers))), False)]
        while waiting:
            path, places, is_filled = waiting.pop()
            if is_filled:
                self._copy_directory_attributes(path, places[0])
                continue
            waiting.append((path, places, True))
            waiting += [(inner, where, False) for inner, where in self._copy_directory(path, places)]

    def _copy_directory(self, path: bytes, places: list[int]) -> list[tuple[bytes, list[int]]]:
        """Copy the entries of one merged directory; return its subdirectories, each with the layers that have it."""
        seen: set[bytes] = set()
        # Subdirectories to which lower layers may still add entries.
        merging: dict[bytes, list[int]] = {}
        found: dict[bytes, list[int]] = {}
        with contextlib.ExitStack() as opened:
            target = open_real_directory(self._target, path)
            opened.callback(os.close, target)
            for place in places:
                source = open_real_directory(self._layers[place], path)
                opened.callback(os.close, source)
                for name in map(os.fsencode, os.listdir(source)):
                    if name in seen and name not in merging:
                        continue
                    status = os.stat(name, dir_fd=source, follow_symlinks=False)
                    if not stat.S_ISDIR(status.st_mode):
                        merging.pop(name, None)
                        if name not in seen and not is_whiteout(status):
                            self._copy_entry(source, target, name, path + b"/" + name if path else name, status)
                    else:
                        if name not in seen:
                            os.mkdir(name, 0o700, dir_fd=target)
                            found[name] = merging[name] = []
                        merging[name].append(place)
                        if _is_opaque(source, name):
                            merging.pop(name)
                    seen.add(name)
        return [(path + b"/" + name if path else name, where) for name, where in found.items()]

    def _copy_entry(self, source: int, target: int, name: bytes, path: bytes, status: os.stat_result) -> None:
        """Copy an entry that is not a directory."""
        number = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and number in self._linked:
            first = self._linked[number]
            above, _, first_name = first.rpartition(b"/")
            directory = open_real_directory(self._target, above)
            try:
                os.link(first_name, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
            finally:
                os.close(directory)
            return
        if stat.S_ISREG(status.st_mode):
            self._copy_file(source, target, name)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            _copy_owner_and_times(target, name, status)
        elif stat.S_ISFIFO(status.st_mode):
            os.mkfifo(name, 0o600, dir_fd=target)
            _copy_owner_and_times(target, name, status)
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        if status.st_nlink > 1:
            self._linked[number] = path

    def _copy_file(self, source: int, target: int, name: bytes) -> None:
        original = os.open(name, _READ, dir_fd=source)
        try:
            copy = os.open(name, _NEW_FILE, 0o600, dir_fd=target)
            try:
                self._copy_content(original, copy)
                _copy_attributes(original, copy)
            finally:
                os.close(copy)
        finally:
            os.close(original)

    def _copy_content(self, original: int, copy: int) -> None:
        if self._can_clone:
            try:
                fcntl.ioctl(copy, _FICLONE, original)
                return
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._can_clone = False
        size = os.fstat(original).st_size
        os.ftruncate(copy, size)
        at = 0
        while at < size:
            try:
                begin = os.lseek(original, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            at = os.lseek(original, begin, os.SEEK_HOLE)
            while begin < at:
                copied = _copy_range(original, copy, begin, min(at - begin, _STEP))
                if not copied:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                begin += copied

    def _copy_directory_attributes(self, path: bytes, place: int) -> None:
        source = open_real_directory(self._layers[place], path)
        try:
            copy = open_real_directory(self._target, path)
            try:
                _copy_attributes(source, copy)
            finally:
                os.close(copy)
        finally:
            os.close(source)


def _copy_range(original: int, copy: int, begin: int, count: int) -> int:
    """Copy bytes of a file to the same offset of another file; return the number of bytes. Raises OSError."""
    try:
        return os.copy_file_range(original, copy, count, begin, begin)
    except OSError as error:
        # Between different types of file systems only sendfile(2) works.
        if error.errno not in _UNSUPPORTED:
            raise
        os.lseek(copy, begin, os.SEEK_SET)
        return os.sendfile(copy, original, begin, count)


def _is_opaque(parent: int, name: bytes) -> bool:
    directory = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        return is_opaque(directory)
    finally:
        os.close(directory)


def _copy_attributes(original: int, copy: int) -> None:
    """Copy owner, extended attributes, mode and times between open files or directories."""
    status = os.fstat(original)
    mine = os.fstat(copy)
    # The owner comes first: changing it takes away setuid bits and capabilities.
    if (status.st_uid, status.st_gid) != (mine.st_uid, mine.st_gid):
        os.chown(copy, status.st_uid, status.st_gid)
    with contextlib.suppress(OSError):
        for name in map(os.fsencode, os.listxattr(original)):
            if name not in OPAQUE_NAMES:
                with contextlib.suppress(OSError):
                    os.setxattr(copy, name, os.getxattr(original, name))
    os.fchmod(copy, stat.S_IMODE(status.st_mode))
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_owner_and_times(target: int, name: bytes, status: os.stat_result) -> None:
    mine = os.stat(name, dir_fd=target, follow_symlinks=False)
    if (status.st_uid, status.st_gid) != (mine.st_uid, mine.st_gid):
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
