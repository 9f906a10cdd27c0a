"""Make layers of files reproducibly: the same files always give the same bytes.

Entries are sorted by name, and have the same owner and modification time. The group's right to write is removed,
because it depends on the umask of the user who made the file.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from hatchway.images.contents import BadImage
from hatchway.images.store.store import ImageStore

# The first moment that ZIP archives can express: 1980-01-01T00:00:00Z.
MADE = 315_532_800
MADE_TEXT = "1980-01-01T00:00:00Z"
_CHUNK = 1 << 20
_WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class LayerSource:
    """One entry of a layer to be made.

    name: its path in the image, without a slash at its beginning. kind: tarfile's type flag. link: a link's target.
    size: of the content, in bytes. mtime: seconds since 1970. open: opens the content.
    """

    name: str
    kind: bytes
    mode: int
    link: str = ""
    size: int = 0
    mtime: int = MADE
    open: Callable[[], BinaryIO] = io.BytesIO


def text_source(name: str, text: str, mode: int = 0o644) -> LayerSource:
    """Return an entry for a file with this text."""
    data = text.encode()
    return LayerSource(name, tarfile.REGTYPE, mode, size=len(data), open=lambda: io.BytesIO(data))


def directory_sources(root: Path, ignore: Sequence[str] = (), *, exact: bool = False) -> Iterator[LayerSource]:
    """Yield the entries of a directory tree. Symbolic links and hard links stay links.

    ignore: patterns (`*.pyc`, `.git`) of names, or of paths below the directory. A matching directory is left out with
    its content.
    exact: True for a root file system: modes and times are kept, devices and sockets are left out.

    Raises:
        BadImage: an entry cannot be in an image: a socket, a device, a name that is not UTF-8.
        OSError: a file cannot be read.
    """
    inodes: dict[tuple[int, int], str] = {}

    def below(folder: Path, prefix: str) -> Iterator[LayerSource]:
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            name = prefix + entry.name
            if any(fnmatch(entry.name, pattern) or fnmatch(name, pattern) for pattern in ignore):
                continue
            status = entry.stat(follow_symlinks=False)
            if exact and stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                continue
            source = _source(Path(entry.path), name, status, inodes)
            if exact:
                mode = source.mode if source.kind == tarfile.SYMTYPE else stat.S_IMODE(status.st_mode)
                source = replace(source, mode=mode, mtime=int(status.st_mtime))
            yield source
            if source.kind == tarfile.DIRTYPE:
                yield from below(Path(entry.path), f"{name}/")

    if not root.is_dir():
        raise BadImage(f"there is no directory {root}")
    yield from below(root, "")


def _source(path: Path, name: str, status: os.stat_result, inodes: dict[tuple[int, int], str]) -> LayerSource:
    _check_name(path, name)
    mode = stat.S_IMODE(status.st_mode)
    if not mode & stat.S_ISVTX:
        mode &= ~0o022
    if stat.S_ISDIR(status.st_mode):
        return LayerSource(name, tarfile.DIRTYPE, mode)
    if stat.S_ISLNK(status.st_mode):
        return LayerSource(name, tarfile.SYMTYPE, 0o777, os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        raise BadImage(f"{path} is neither a file nor a directory nor a link; an image cannot have it")
    first = inodes.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
    if first != name:
        return LayerSource(name, tarfile.LNKTYPE, mode, first)
    return LayerSource(name, tarfile.REGTYPE, mode, size=status.st_size, open=lambda: _open_file(path))


def _check_name(path: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BadImage(f"the name of {str(path)!a} is not UTF-8") from None
    if path.name.startswith(_WHITEOUT):
        raise BadImage(f"{path}: a name that begins with {_WHITEOUT} means a deleted file in an image")


def _open_file(path: Path) -> BinaryIO:
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def moved(sources: Iterable[LayerSource], place: str) -> Iterator[LayerSource]:
    """Yield the directories that lead to `place`, a path in the image; then the entries, moved below `place`."""
    parts = PurePosixPath("/", place).parts[1:]
    if ".." in parts:
        raise BadImage(f'"{place}" is not a path in an image')
    for count in range(1, len(parts) + 1):
        yield LayerSource("/".join(parts[:count]), tarfile.DIRTYPE, 0o755)
    prefix = "".join(f"{part}/" for part in parts)
    for source in sources:
        link = prefix + source.link if source.kind == tarfile.LNKTYPE else source.link
        yield replace(source, name=prefix + source.name, link=link)


def write_layer(store: ImageStore, sources: Iterable[LayerSource], owner: tuple[int, int] = (0, 0)) -> tuple[str, int]:
    """Write an uncompressed layer into the store; return its digest, which is also its diff id, and its size in bytes.

    owner: the numbers of the user and the group that own all files.

    Raises:
        BadImage: a file changed while it was read.
        OSError: a file cannot be read, or the layer cannot be written.
    """
    entries = [(_header(source, owner), source) for source in sources]
    size = sum(len(header) + source.size + _padding(source.size) for header, source in entries) + 1024
    writer = store.begin_new_blob(size)
    try:
        for header, source in entries:
            writer.write(header)
            if source.kind == tarfile.REGTYPE:
                _copy(source, writer.write)
                writer.write(bytes(_padding(source.size)))
        writer.write(bytes(1024))
        return writer.commit(), size
    finally:
        writer.discard()


def _header(source: LayerSource, owner: tuple[int, int]) -> bytes:
    header = tarfile.TarInfo(source.name)
    header.type, header.mode, header.linkname = source.kind, source.mode, source.link
    header.size = source.size
    header.mtime = source.mtime
    header.uid, header.gid = owner
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _copy(source: LayerSource, write: Callable[[bytes], None]) -> None:
    left = source.size
    with source.open() as file:
        while data := file.read(min(left, _CHUNK) or 1):
            left -= len(data)
            if left < 0:
                break
            write(data)
    if left:
        raise BadImage(f"{source.name} changed while it was read")


def _padding(size: int) -> int:
    return -size % 512
