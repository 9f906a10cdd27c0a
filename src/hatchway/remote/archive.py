"""Makes a tar archive of local files while it is sent. The format is that of GNU tar; BusyBox's tar reads it, too."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from hatchway.errors import HatchwayError

_PIECE: Final = 256 * 1024
_END: Final = bytes(2 * tarfile.BLOCKSIZE)

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or link of a tree.

    path: its path on this machine.
    name: its name in the archive.
    info: the result of `lstat` when the tree was walked.
    """

    path: str
    name: str
    info: os.stat_result

    @property
    def size(self) -> int:
        """Return the number of bytes of content."""
        return self.info.st_size if stat.S_ISREG(self.info.st_mode) else 0


def walk(path: str, name: str, warn: Warn) -> Iterator[Entry]:
    """Yield a file, or a directory and everything below it, parents before their contents.

    Args:
        path: a path on this machine. If it is a link, the link is followed; links below it are not.
        name: its name in the archive.
        warn: called with a message about each file that is left out.
    Raises:
        HatchwayError: a file or directory cannot be read.
    """
    try:
        info = os.stat(path)
    except OSError as error:
        raise HatchwayError(f"cannot read {path}: {error.strerror}") from error
    waiting = [Entry(path, name, info)]
    while waiting:
        entry = waiting.pop()
        mode = entry.info.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            warn(f"{entry.path} was left out: it is neither a file nor a directory nor a link")
            continue
        yield entry
        if not stat.S_ISDIR(mode):
            continue
        try:
            with os.scandir(entry.path) as found:
                below = [
                    Entry(one.path, f"{entry.name}/{one.name}", one.stat(follow_symlinks=False))
                    for one in sorted(found, key=lambda one: one.name, reverse=True)
                ]
        except OSError as error:
            raise HatchwayError(f"cannot read {entry.path}: {error.strerror}") from error
        waiting += below


def header(entry: Entry) -> bytes:
    """Return an entry's header. The header names no owner, because the container's tar extracts as its own user.

    Raises:
        HatchwayError: a link cannot be read.
    """
    info = tarfile.TarInfo(entry.name)
    mode = entry.info.st_mode
    info.mode = stat.S_IMODE(mode)
    info.mtime = int(entry.info.st_mtime)
    info.size = entry.size
    if stat.S_ISDIR(mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(mode):
        info.type = tarfile.SYMTYPE
        try:
            info.linkname = os.readlink(entry.path)
        except OSError as error:
            raise HatchwayError(f"cannot read {entry.path}: {error.strerror}") from error
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def content(entry: Entry, start: int = 0) -> Iterator[bytes]:
    """Yield a file's content from the offset `start` to the size in its header.

    Raises:
        HatchwayError: the file cannot be read, or has become shorter.
    """
    left = entry.size - start
    if left <= 0:
        return
    try:
        with open(entry.path, "rb", buffering=0) as file:
            file.seek(start)
            while left:
                piece = file.read(min(_PIECE, left))
                if not piece:
                    raise HatchwayError(f"{entry.path} has become shorter while it was copied")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise HatchwayError(f"cannot read {entry.path}: {error.strerror}") from error


def padding(entry: Entry) -> bytes:
    """Return the padding after an entry's content."""
    return bytes(-entry.size % tarfile.BLOCKSIZE)


def end() -> bytes:
    """Return the end marker of an archive."""
    return _END
