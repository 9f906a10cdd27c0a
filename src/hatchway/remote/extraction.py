"""Writes the members of a pod's archive below one local directory, and nowhere else.

The pod controls the archive, which may contain any path, and links to any path. So each directory is opened from its
parent without following links; no existing file is written to, except to continue an interrupted copy; and no symbolic
link is made that leads out of the copied tree.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from hatchway.errors import HatchwayError
from hatchway.printable import printable
from hatchway.remote.tarstream import Kind, Member

# The maximum number of members of an archive. `_MOST_DIRECTORIES`: the maximum number of directories, and the maximum
# number of files to which hard links may lead.
MOST_MEMBERS: Final = 10_000_000
_MOST_DIRECTORIES: Final = 1_000_000
# The maximum number of names in a path, and the maximum number of bytes in one name.
_DEEPEST: Final = 512
_LONGEST_NAME: Final = 255
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Warn = Callable[[str], None]


class UnsafeMember(HatchwayError):
    """A member that would be written outside of the destination."""


class Extraction:
    """Writes the members of one archive to this machine's disk.

    files, size: the number of files and bytes that were written.
    current: the path that is being written.
    root_link: the target of the source, if the source itself is a link that was not copied; else "".
    warn: called with a sentence about each member that is left out.
    """

    def __init__(self, parent: str, name: str, source: str, warn: Warn) -> None:
        """Open the directory.

        Args:
            parent: a directory that exists.
            name: the name of the copy in the parent.
            source: the source's name in the archive; "." when the members' paths do not begin with a name.
            warn: called with a sentence about each member that is left out.

        Raises:
            OSError: the directory cannot be opened.
        """
        self.files = 0
        self.size = 0
        self.current = ""
        self.root_link = ""
        self._name = name
        self._source = source
        self.warn = warn
        self._root = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._members = 0
        self._file = -1
        self._member: Member | None = None
        self._directories: dict[tuple[str, ...], Member] = {}
        # The files that this archive has made and not replaced, with the device and inode number of each.
        self._made: dict[tuple[str, ...], tuple[int, int]] = {}

    def close(self) -> None:
        """Close the open file; an incomplete file is kept."""
        self.break_off()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def begin(self, member: Member) -> None:
        """Create a member. The content of a file follows by `write`.

        Raises:
            UnsafeMember: the path would be outside of the destination.
            OSError: the member cannot be made.
        """
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise UnsafeMember(f"the archive has more than {MOST_MEMBERS} members")
        path = self._path(member.path)
        self.current = "/".join(path)
        self._member = member
        # If an earlier member of the archive had this path, its file counts as replaced from now on.
        self._made.pop(path, None)
        match member.kind:
            case Kind.DIRECTORY:
                self._make_directory(path, member)
            case Kind.FILE:
                with self._parent(path) as parent:
                    _remove(parent, path[-1])
                    self._file = os.open(path[-1], _NEW_FILE, 0o600, dir_fd=parent)
                if len(self._made) < _MOST_DIRECTORIES:
                    self._made[path] = _identity(os.fstat(self._file))
            case Kind.SYMLINK:
                self._make_symlink(path, member)
            case Kind.LINK:
                self._make_link(path, member)
            case Kind.OTHER:
                self.warn(f"{self.current} was left out: it is a {member.kind.value}")

    def find(self, path: str) -> os.stat_result | None:
        """Return the `lstat` of a member's path on this machine, without following links; None when it does not exist.

        Raises:
            UnsafeMember: the path would be outside of the destination. OSError: the file cannot be read.
        """
        parts = self._path(path)
        try:
            with self._opened(parts[:-1]) as parent:
                return _lstat(parent, parts[-1])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None  # there is a link in place of one of the archive's directories
            raise

    def open_existing(self, path: str) -> BinaryIO:
        """Open a file that exists on this machine. Raises UnsafeMember; OSError when there is no such file."""
        parts = self._path(path)
        with self._opened(parts[:-1]) as parent:
            return os.fdopen(os.open(parts[-1], _OLD_FILE | os.O_RDONLY, dir_fd=parent), "rb")

    def append(self, member: Member) -> int:
        """Open an existing file for the rest of its content (`write`). Return its size.

        Raises:
            UnsafeMember: the path would be outside of the destination. OSError: the file cannot be written.
        """
        path = self._path(member.path)
        self.current = "/".join(path)
        with self._opened(path[:-1]) as parent:
            self._file = os.open(path[-1], _OLD_FILE | os.O_WRONLY | os.O_APPEND, dir_fd=parent)
        self._member = member
        return os.fstat(self._file).st_size

    def break_off(self) -> None:
        """Close the file that is being written, and keep it incomplete."""
        self._member = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def write(self, data: memoryview) -> None:
        """Write a piece of the file's content. Raises OSError."""
        self.size += len(data)
        if self._file < 0:
            return
        while len(data):
            data = data[os.write(self._file, data) :]

    def end(self) -> None:
        """Give the file its mode and time, and close it. Raises OSError."""
        member, self._member = self._member, None
        if self._file >= 0 and member is not None:
            os.fchmod(self._file, _mode(member))
            os.utime(self._file, ns=(member.mtime, member.mtime))
            os.close(self._file)
            self._file = -1
            self.files += 1

    def finish(self) -> None:
        """Give directories their modes and times, the deepest first. Raises OSError."""
        for path, member in sorted(self._directories.items(), reverse=True):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._opened(path) as directory:
                os.fchmod(directory, _mode(member))
                os.utime(directory, ns=(member.mtime, member.mtime))
        self._directories.clear()

    def _path(self, text: str) -> tuple[str, ...]:
        """Return a member's path below the parent; the copy's name replaces the first name. Raises UnsafeMember."""
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if text.startswith("/") or ".." in parts:
            raise UnsafeMember(f'the archive contains "{printable(text, 200)}", which is outside the requested path')
        if self._source != ".":
            if not parts or parts[0] != self._source:
                raise UnsafeMember(f'the archive contains "{printable(text, 200)}", but {self._source} was requested')
            parts = parts[1:]
        if len(parts) > _DEEPEST or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
            raise UnsafeMember(f'the archive names "{printable(text, 200)}", which is too long')
        return (self._name, *parts)

    @contextlib.contextmanager
    def _opened(self, path: tuple[str, ...]) -> Iterator[int]:
        """Yield a descriptor of a directory below the parent. No part of its path may be a link."""
        at = os.dup(self._root)
        try:
            for part in path:
                deeper = os.open(part, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = deeper
            yield at
        finally:
            os.close(at)

    @contextlib.contextmanager
    def _parent(self, path: tuple[str, ...]) -> Iterator[int]:
        """Yield a descriptor of the directory that contains a path. Missing directories are created."""
        at = os.dup(self._root)
        try:
            for part in path[:-1]:
                try:
                    deeper = os.open(part, _DIRECTORY, dir_fd=at)
                except FileNotFoundError:
                    os.mkdir(part, 0o777, dir_fd=at)
                    deeper = os.open(part, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = deeper
            yield at
        finally:
            os.close(at)

    def _make_directory(self, path: tuple[str, ...], member: Member) -> None:
        with self._parent(path) as parent:
            try:
                os.mkdir(path[-1], 0o700, dir_fd=parent)
            except FileExistsError:
                # A file or a link with this name is replaced by the directory.
                if not stat.S_ISDIR(os.stat(path[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                    os.unlink(path[-1], dir_fd=parent)
                    os.mkdir(path[-1], 0o700, dir_fd=parent)
        if len(self._directories) >= _MOST_DIRECTORIES:
            raise UnsafeMember(f"the archive has more than {_MOST_DIRECTORIES} directories")
        self._directories[path] = member

    def _make_symlink(self, path: tuple[str, ...], member: Member) -> None:
        if not stays_inside(member.link, len(path) - 2):
            where = printable(member.link, 200)
            if len(path) == 1:
                self.root_link = where or "nothing"
                return
            self.warn(f"{self.current} was left out: it is a link to {where}, outside of the copied tree")
            return
        with self._parent(path) as parent:
            _remove(parent, path[-1])
            os.symlink(member.link, path[-1], dir_fd=parent)
            os.utime(path[-1], ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
        self.files += 1

    def _make_link(self, path: tuple[str, ...], member: Member) -> None:
        target = self._path(member.link)
        made = self._made.get(target)
        if made is None:
            self.warn(f"{self.current} was left out: it is a hard link to a file that was not copied")
            return
        with self._parent(target) as there, self._parent(path) as here:
            # The path may now be another file. On a file system that ignores case, `a` and `A` are one name: a
            # symbolic link `A` may have replaced the file `a`, and a hard link to it would lead out of the copy.
            found = _lstat(there, target[-1])
            if found is None or not stat.S_ISREG(found.st_mode) or _identity(found) != made:
                self.warn(f"{self.current} was left out: the file of this hard link was replaced")
                return
            known = _lstat(here, path[-1])
            if known is None or _identity(known) != made:
                _remove(here, path[-1])
                os.link(target[-1], path[-1], src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        if len(self._made) < _MOST_DIRECTORIES:
            self._made[path] = made
        self.files += 1


def stays_inside(link: str, depth: int) -> bool:
    """Return True when a symbolic link leads into the copied tree, wherever other links in the tree lead.

    ".." is allowed only at the beginning: after the name of another link, ".." would begin at that link's target.

    depth: the number of directories of the tree that contain the link.
    """
    if not link or link.startswith("/"):
        return False
    parts = [part for part in link.split("/") if part not in ("", ".")]
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return ups <= depth and ".." not in parts[ups:]


def _remove(parent: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _lstat(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _mode(member: Member) -> int:
    # set-user-ID, set-group-ID and the sticky bit are dropped: they are meant for users of the container.
    return member.mode & 0o777
