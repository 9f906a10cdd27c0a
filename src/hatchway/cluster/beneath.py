"""Opening and making files below a directory while somebody else changes what is in it.

A path is walked one component at a time, each opened relative to its parent's descriptor and without following a
symbolic link; links are expanded here, and `..` goes back to a descriptor that is still held. Whatever is exchanged
meanwhile, the walk cannot leave the directory: that is what openat2(2) with RESOLVE_BENEATH or RESOLVE_IN_ROOT gives,
on every kernel, and it can make directories on its way (which `filepath-securejoin`'s MkdirAllHandle does for runc).
Descriptors are O_PATH where there is such a thing: they name a file, and neither read nor change it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Literal, NamedTuple

_PATH = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
_COMPONENT = _PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As many as the kernel follows in one path (MAXSYMLINKS), and as deep as a path of PATH_MAX bytes can lead.
_LINKS, _DEPTH = 40, 2048
_OPEN_DIRECTORIES = 64

Make = Literal["directory", "file"]


class ReadOnlyParent(OSError):
    """Something cannot be made in a directory on a read-only mount. directory: its descriptor, which the caller closes."""

    def __init__(self, directory: int) -> None:
        super().__init__(errno.EROFS, os.strerror(errno.EROFS))
        self.directory = directory


def open_directory(path: str | os.PathLike[str]) -> int:
    """A descriptor of a directory at a path that nobody else can change."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_beneath(directory: int, path: str, make: Make | None = None) -> int:
    """Open `path` below `directory` (subPath's rules: pkg/volume/util/subpath). make: what is made when it is missing.

    Links are followed while they stay below. Raises OSError, EXDEV for a path that leads out.
    """
    try:
        return _walk(directory, path, make, confined=False)
    except ReadOnlyParent as error:
        os.close(error.directory)
        raise OSError(error.errno, error.strerror) from error


def open_in_root(root: int, path: str, make: Make | None = None, *, keep_parent: bool = False) -> int:
    """Open `path` as a process whose root directory is `root` would: absolute links and `..` end there.

    make: what is made when it is missing, with the directories above. keep_parent: raise ReadOnlyParent when making it
    fails because of a read-only mount. Raises OSError.
    """
    try:
        return _walk(root, path, make, confined=True)
    except ReadOnlyParent as error:
        if keep_parent:
            raise
        os.close(error.directory)
        raise OSError(error.errno, error.strerror) from error


def _walk(root: int, path: str, make: Make | None, *, confined: bool) -> int:
    if "\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    opened = [os.dup(root)]
    try:
        _descend(opened, path, make, confined)
        return opened.pop()
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _descend(opened: list[int], path: str, make: Make | None, confined: bool) -> None:
    """Walk down; `opened` holds the descriptors from the root to where the walk is."""
    if path.startswith("/") and not confined:
        raise _leads_out()
    left = _components(path)
    links = 0
    while left:
        name = left.pop()
        if name == "..":
            if len(opened) > 1:
                os.close(opened.pop())
            elif not confined:
                raise _leads_out()
            continue
        found = _open(opened[-1], name, make if not left else make and "directory")
        if isinstance(found, int):
            opened.append(found)
            if len(opened) > _DEPTH:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if found.target.startswith("/"):
            if not confined:
                raise _leads_out()
            while len(opened) > 1:
                os.close(opened.pop())
        left += _components(found.target)


class _Link(NamedTuple):
    target: str


def _components(path: str) -> list[str]:
    """The components of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _leads_out() -> OSError:
    return OSError(errno.EXDEV, "leads out of the directory")


def _open(parent: int, name: str, make: Make | None) -> int | _Link:
    try:
        return _look(parent, name)
    except FileNotFoundError:
        if make is None:
            raise
    try:
        if make == "directory":
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
    except FileExistsError:
        # Somebody else was faster; whatever it is now, it is looked at like everything else.
        pass
    except OSError as error:
        if error.errno == errno.EROFS:
            raise ReadOnlyParent(os.dup(parent)) from error
        raise
    return _look(parent, name)


def _look(parent: int, name: str) -> int | _Link:
    """What a name is: a descriptor, or a link's target."""
    try:
        found = os.open(name, _COMPONENT, dir_fd=parent)
    except OSError as error:
        # Where there is no O_PATH, a link cannot be opened at all.
        if error.errno != errno.ELOOP:
            raise
        return _Link(os.readlink(name, dir_fd=parent))
    if not stat.S_ISLNK(os.fstat(found).st_mode):
        return found
    with opened(found):
        return _Link(os.readlink("", dir_fd=found))


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close `descriptor` after the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_directory(parent: int, name: str, mode: int = 0o755) -> int:
    """Make a directory unless it is there, and open it for reading. Raises OSError, for a link too."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def remove_tree(parent: int, name: str) -> None:
    """Delete the file, link or directory `name` with all that is in it; nothing happens when it is not there.

    Directories without the right to write in them get it. However deep they are nested, `_OPEN_DIRECTORIES` are open at
    a time: what lies deeper is moved up to `name` before. Raises OSError.
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
    with opened(top):
        os.fchmod(top, 0o700)
        remover = _Remover(top)
        while names := os.listdir(top):
            remover.remove(top, names, 1)
    os.rmdir(name, dir_fd=parent)


class _Remover:
    """Empties directories. top: the directory to which those that lie too deep are moved."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._moved = 0

    def remove(self, parent: int, names: list[str], depth: int) -> None:
        """Delete `names` in the directory `parent`, which is the `depth`-th that is open."""
        for name in names:
            if _unlink(parent, name):
                continue
            with opened(_open_writable(parent, name)) as directory:
                # Above, the right to write is needed to move it, too: its entry `..` changes.
                if depth >= _OPEN_DIRECTORIES:
                    self._move_up(parent, name)
                    continue
                self.remove(directory, os.listdir(directory), depth + 1)
            os.rmdir(name, dir_fd=parent)

    def _move_up(self, parent: int, name: str) -> None:
        while True:
            self._moved += 1
            try:
                os.rename(name, f".removed-{self._moved}", src_dir_fd=parent, dst_dir_fd=self._top)
            except OSError as error:
                # The name is taken by something else.
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
                continue
            return


def _unlink(parent: int, name: str) -> bool:
    """Delete what is no directory; returns False for a directory."""
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
    """Give the owner all rights on a directory that cannot be opened for want of them (no call takes an O_PATH one)."""
    with opened(os.open(name, _COMPONENT | os.O_DIRECTORY, dir_fd=parent)) as directory:
        link = f"/proc/self/fd/{directory}"
        os.chmod(link if os.path.exists(link) else name, 0o700)
