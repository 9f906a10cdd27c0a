"""Finds the files of an interrupted copy, in a container or on this machine, so that the next copy can continue it.

As in rsync's quick check, a file with the same size and time (in whole seconds) counts as complete, because the time of
a copied file is set last. A large file that is shorter may be the beginning of the whole file; a
digest shows whether it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final
from urllib.parse import quote

from hatchway.remote.copying import Container, Interrupted, repeat_interrupted
from hatchway.wire.channels import STDERR

# The interrupted copy of a file with this many bytes or more is continued, if the copied bytes can be checked.
# Smaller files are copied again.
LARGE: Final = 4 << 20
# The maximum number of files of a tree, bytes of all lines about them, and bytes of one such line.
_MOST_FILES: Final = 1_000_000
_MOST_BYTES: Final = 256 << 20
_LONGEST_LINE: Final = 16 * 1024
# The maximum number of bytes of names in one command, escaped as in the URL that carries them.
_NAMES_BYTES: Final = 6000

_LIST: Final = 'cd "$1" && find "$2" -exec stat -c "%s %Y %f %n" {} +'
_LINE: Final = re.compile(rb"([0-9]{1,18}) (-?[0-9]{1,18}) ([0-9a-f]{1,8}) (.+)\Z", re.DOTALL)
_DIGEST_OF: Final = 'head -c "$2" "$1" | sha256sum'


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a container.

    mtime: its modification time, in POSIX seconds.
    mode: `st_mode`, with the file's type.
    """

    size: int
    mtime: int
    mode: int

    @property
    def is_regular(self) -> bool:
        """Return True for a file with content."""
        return stat.S_ISREG(self.mode)


def names_copy(destination: str) -> bool:
    """Return True when a destination may be the copy's path (`./data`), not only its directory (`data/`, `..`)."""
    return posixpath.basename(destination) not in ("", ".", "..")


async def list_tree(container: Container, directory: str, base: str) -> dict[str, RemoteFile] | None:
    """Return a file, or a directory and everything below it, by path from `base`, in the order of `find`.

    Returns:
        None when this fails: there is no such file, a part of it cannot be read, a name has a newline, there are too
        many files, or the container lacks `sh`, `find` or `stat`.

    Raises:
        HatchwayError: the command is refused, or the connection is lost again and again.
    """
    return await repeat_interrupted(container, lambda: _list_once(container, directory, base), lambda: 0)


async def _list_once(container: Container, directory: str, base: str) -> dict[str, RemoteFile] | None:
    running = await container.open(["sh", "-c", _LIST, "sh", directory, base])
    found: dict[str, RemoteFile] = {}
    rest = b""
    size = 0
    try:
        while (piece := await running.receive()) is not None:
            channel, data = piece
            if channel == STDERR:
                continue
            size += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not _add(line, base, found):
                    return None
            if len(rest) > _LONGEST_LINE or len(found) > _MOST_FILES or size > _MOST_BYTES:
                return None
        result = await running.result()
    except OSError as error:
        raise Interrupted(str(error)) from error
    finally:
        running.close()
    return found if result.exit_code == 0 and not rest else None


def _add(line: bytes, base: str, found: dict[str, RemoteFile]) -> bool:
    """Add the file that a line describes. Return False for other text, such as a part of a name with a newline."""
    match = _LINE.match(line)
    if match is None:
        return False
    path = os.fsdecode(match[4])
    if path in found or not (path == base or path.startswith(f"{base}/")):
        return False
    found[path] = RemoteFile(int(match[1]), int(match[2]), int(match[3], 16))
    return True


def is_complete(remote: RemoteFile | None, local: os.stat_result) -> bool:
    """Return True when a file has the same size and time at both ends, so that it need not be copied."""
    return (
        remote is not None
        and remote.is_regular
        and stat.S_ISREG(local.st_mode)
        and local.st_size == remote.size
        and local.st_mtime_ns // 1_000_000_000 == remote.mtime
    )


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """The part of a download that must still be copied.

    trees: paths that are missing on this machine, to be copied with everything below them.
    single: paths to be copied without everything below them.
    partial: large files whose beginning seems to be on this machine, with their local sizes.
    complete: the number of files that are complete on this machine.
    """

    trees: list[str]
    single: list[str]
    partial: list[tuple[str, RemoteFile]]
    complete: int


def plan_download(there: dict[str, RemoteFile], here: Iterable[tuple[str, os.stat_result | None]]) -> DownloadPlan:
    """Compare the files of a container with the files of this machine.

    here: each path in `there`, parents first, with its local `lstat`; None when there is no local file.
    """
    trees: list[str] = []
    single: list[str] = []
    partial: list[tuple[str, RemoteFile]] = []
    complete = 0
    missing: set[str] = set()
    for path, local in here:
        remote = there[path]
        parent = posixpath.dirname(path)
        if parent in missing:
            missing.add(path)
        elif local is None:
            missing.add(path)
            trees.append(path)
        elif is_complete(remote, local):
            complete += 1
        elif not remote.is_regular or not stat.S_ISREG(local.st_mode):
            single.append(path)
        elif remote.size >= LARGE and 0 < local.st_size <= remote.size:
            partial.append((path, remote))
        else:
            single.append(path)
    return DownloadPlan(trees, single, partial, complete)


def batches(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield names in lists that are short enough for one command."""
    batch: list[str] = []
    left = _NAMES_BYTES
    for name in names:
        size = len(quote(os.fsencode(name))) + len("&command=")
        if batch and size > left:
            yield batch
            batch, left = [], _NAMES_BYTES
        batch.append(name)
        left -= size
    if batch:
        yield batch


async def begins_alike(container: Container, path: str, size: int, open_content: Callable[[], BinaryIO]) -> bool:
    """Return True when the first `size` bytes of a file in a container and of a local file are the same.

    open_content: opens the local file; called in a thread.

    Raises:
        Interrupted: the connection was lost.
        OSError: the local file cannot be read.
    """
    result, output = await container.ask(["sh", "-c", _DIGEST_OF, "sh", path, str(size)])
    known = await asyncio.to_thread(_digest, open_content, size)
    return result.exit_code == 0 and output[:64].decode("ascii", "replace") == known


def _digest(open_content: Callable[[], BinaryIO], size: int) -> str:
    """Return the SHA-256 of the first `size` bytes; "" when there are fewer bytes."""
    found = hashlib.sha256()
    with open_content() as content:
        while size:
            piece = content.read(min(1 << 20, size))
            if not piece:
                return ""
            found.update(piece)
            size -= len(piece)
    return found.hexdigest()
