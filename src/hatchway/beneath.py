"""Opens and makes files below a directory while a container may change the directory's content.

Each component of a path is opened relative to its parent's descriptor. The kernel is told not to follow symbolic links;
this module reads each link and walks along its target itself. `..` goes back to a descriptor that is still open. So the
walk cannot leave the directory, whatever a container replaces meanwhile. openat2(2) does the same with RESOLVE_BENEATH
or RESOLVE_IN_ROOT, but not on every kernel, and it makes no directories. runc uses `filepath-securejoin`
(MkdirAllHandle) for the same purpose. The walk opens descriptors with O_PATH where the system has it: such a descriptor
names a file, but can neither read nor change it.
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
# The maximum number of links in one path, as in the kernel (MAXSYMLINKS), and the maximum number of components that fit
# into PATH_MAX bytes.
_LINKS, _DEPTH = 40, 2048

Make = Literal["directory", "file"]


class ReadOnlyParent(OSError):
    """A file cannot be made, because its directory is on a read-only mount.

    directory: the directory's descriptor, which the caller closes.
    """

    def __init__(self, directory: int) -> None:
        super().__init__(errno.EROFS, os.strerror(errno.EROFS))
        self.directory = directory


def open_directory(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a directory. The path must be one that no container can change."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_beneath(directory: int, path: str, make: Make | None = None) -> int:
    """Open `path` below `directory`, by the rules for a volume's subPath (`pkg/volume/util/subpath`).

    Relative links that stay below `directory` are followed. An absolute path or link counts as leading out. Raises
    OSError; its code is EXDEV for a path that leads out.

    make: what to make when the path does not exist; None for nothing.
    """
    try:
        return _walk(directory, path, make, confined=False)
    except ReadOnlyParent as error:
        os.close(error.directory)
        raise OSError(error.errno, error.strerror) from error


def open_in_root(root: int, path: str, make: Make | None = None, *, keep_parent: bool = False) -> int:
    """Open `path` as a process with the root directory `root` would: neither absolute links nor `..` lead out of it.

    make: what to make when the path does not exist, with missing parent directories; None for nothing.
    keep_parent: True to raise ReadOnlyParent when the file cannot be made because of a read-only mount. Raises OSError.
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
    """Walk down a path; `opened` holds the descriptors of all directories from the root to the current one."""
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


class _SymbolicLink(NamedTuple):
    target: str


def _components(path: str) -> list[str]:
    """Return the components of a path in reverse order."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _leads_out() -> OSError:
    return OSError(errno.EXDEV, "leads out of the directory")


def _open(parent: int, name: str, make: Make | None) -> int | _SymbolicLink:
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
        # Another process has made the name meanwhile. `_look` opens it like every other name.
        pass
    except OSError as error:
        if error.errno == errno.EROFS:
            raise ReadOnlyParent(os.dup(parent)) from error
        raise
    return _look(parent, name)


def _look(parent: int, name: str) -> int | _SymbolicLink:
    """Open a name; return its descriptor, or the target of the link if the name is a link."""
    try:
        found = os.open(name, _COMPONENT, dir_fd=parent)
    except OSError as error:
        # ELOOP: the name is a link, which cannot be opened without O_PATH.
        if error.errno != errno.ELOOP:
            raise
        return _SymbolicLink(os.readlink(name, dir_fd=parent))
    if not stat.S_ISLNK(os.fstat(found).st_mode):
        return found
    with closing(found):
        return _SymbolicLink(os.readlink("", dir_fd=found))


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
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
