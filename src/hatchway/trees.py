"""Removes and measures directory trees that containers may change meanwhile.

Every name is taken relative to the descriptor of its directory, and no symbolic link is followed, so that nothing
outside of the tree is touched. Memory is bounded, however many files there are.
"""

from __future__ import annotations

import errno
import os
import stat

from hatchway.beneath import closing

_PATH = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
_ANY_DIRECTORY = _PATH | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# How many nested directories are open at a time. A removal moves deeper ones up; a measurement ignores them.
_REMOVE_DEPTH, _MEASURE_DEPTH = 64, 256
# How many files with several names (hard links) a measurement remembers.
_MEASURE_LINKED = 100_000
# The unit of st_blocks, whatever the file system's blocks are (stat(2)).
_BLOCK_BYTES = 512


def remove_tree(parent: int, name: str) -> None:
    """Delete the file, link or directory `name` with all its content; do nothing when it does not exist.

    Directories that are not writable are made writable. At most `_REMOVE_DEPTH` directories are open at a time: deeper
    ones are first moved up into `name`. Raises OSError.
    """
    try:
        top = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return
    except PermissionError:
        _make_writable(parent, name)
        top = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=parent)
        return
    with closing(top):
        os.fchmod(top, 0o700)
        remover = _Remover(top)
        # Repeated, because meanwhile deeper directories may have been moved into `top`, and new files made in it.
        while remover.empty(top, 1):
            continue
    os.rmdir(name, dir_fd=parent)


def measure_tree(directory: int) -> int:
    """Return the bytes on disk of everything below an open directory, as du(1) counts them.

    A file with several names counts once. To limit memory, only the first `_MEASURE_LINKED` such files are remembered.
    Each name of a further file counts as the file's size divided by the number of its names. Files that lie more than
    `_MEASURE_DEPTH` directories deep, that cannot be read, or that are on other file systems, are left out.
    """
    total = 0
    linked: set[int] = set()
    device = os.fstat(directory).st_dev
    levels = [_Level(os.dup(directory))]
    try:
        while levels:
            entry = next(levels[-1].entries, None)
            if entry is None:
                levels.pop().close()
                continue
            try:
                found = entry.stat(follow_symlinks=False)
                if found.st_dev != device:
                    continue
                size = found.st_blocks * _BLOCK_BYTES
                if not stat.S_ISDIR(found.st_mode):
                    if found.st_nlink > 1 and found.st_ino in linked:
                        continue
                    if found.st_nlink > 1 and len(linked) >= _MEASURE_LINKED:
                        size //= found.st_nlink
                    elif found.st_nlink > 1:
                        linked.add(found.st_ino)
                    total += size
                    continue
                total += size
                if len(levels) < _MEASURE_DEPTH:
                    levels.append(_Level(os.open(entry.name, _DIRECTORY, dir_fd=levels[-1].descriptor)))
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                # The file has been removed or replaced since its name was read, or a directory has no permissions.
                continue
    finally:
        for level in levels:
            level.close()
    return total


class _Level:
    """An open directory whose names are being read. It owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        try:
            self.entries = os.scandir(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        self.entries.close()
        os.close(self.descriptor)


class _Remover:
    """Empties directories. top: the directory into which directories that are nested too deep are moved."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._moved = 0

    def empty(self, directory: int, depth: int) -> bool:
        """Delete the content of `directory`. Return True unless it was empty.

        depth: the number of directories that are open, including this one.

        Names are deleted while the directory is read, a few at a time as the kernel gives them (getdents64(2)).
        """
        any_found = False
        with os.scandir(directory) as entries:
            for entry in entries:
                any_found = True
                if not _unlink(directory, entry.name):
                    self._remove_directory(directory, entry.name, depth)
        return any_found

    def _remove_directory(self, parent: int, name: str, depth: int) -> None:
        with closing(_open_writable(parent, name)) as directory:
            # `_open_writable` comes first: moving a directory changes its entry `..`, which needs write permission.
            if depth >= _REMOVE_DEPTH:
                self._move_up(parent, name)
                return
            while True:
                any_found = self.empty(directory, depth + 1)
                try:
                    os.rmdir(name, dir_fd=parent)
                    return
                except OSError as error:
                    # Some file systems skip names while others are deleted, and a container may have made a new one.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not any_found:
                        raise

    def _move_up(self, parent: int, name: str) -> None:
        while True:
            self._moved += 1
            try:
                os.rename(name, f".removed-{self._moved}", src_dir_fd=parent, dst_dir_fd=self._top)
            except OSError as error:
                # Another file has this name.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                continue
            return


def _unlink(parent: int, name: str) -> bool:
    """Delete anything but a directory. Return False for a directory."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        # Linux says EISDIR, POSIX EPERM.
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise
        return False
    return True


def _open_writable(parent: int, name: str) -> int:
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _make_writable(parent, name)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    os.fchmod(descriptor, 0o700)
    return descriptor


def _make_writable(parent: int, name: str) -> None:
    """Give the owner all rights on a directory that cannot be opened without them (fchmod takes no O_PATH descriptor).

    Raises:
        OSError: also where there is no /proc: no other call changes the mode of just this directory.
    """
    with closing(os.open(name, _ANY_DIRECTORY, dir_fd=parent)) as directory:
        os.chmod(f"/proc/self/fd/{directory}", 0o700)
