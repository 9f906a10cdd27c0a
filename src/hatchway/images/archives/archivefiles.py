"""The files of an image archive or of a directory with an image layout. Both are untrusted input.

An archive is read once, from its beginning to its end, because it may come from a pipe. Its files become blobs of the
store. The archive's names and links are only keys of a dictionary, never paths of this machine.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from hatchway.images.contents import BadImage
from hatchway.images.layers.confinedopen import open_real_directory
from hatchway.images.layers.layererrors import BadLayer, UnpackLimits
from hatchway.images.layers.layerstream import decompress
from hatchway.images.layers.layertar import EntryKind, LayerEntry, LayerTar
from hatchway.images.reference import is_digest
from hatchway.images.store.store import BlobWriter, ImageStore

# The maximum number of entries of an archive: enough for a hundred images of a hundred layers, with ten entries for
# each layer.
_MOST_ENTRIES = 100_000
# Files up to `_SMALL` bytes are held in memory until loading ends; all of them together may have `_MOST_IN_MEMORY`
# bytes.
_SMALL = 64 << 10
_MOST_IN_MEMORY = 16 << 20
# The longest chain of links.
_MOST_LINKS = 8
# The maximum number of bytes of all names together.
_MOST_NAMES = 16 << 20
# Files of `docker save` that only repeat the configuration.
_IGNORED = ("/json", "/VERSION")
_CHUNK = 1 << 20
# The maximum number of pieces (of half a MiB) that are read after the archive's end.
_MOST_PADDING = 8


class ImageFiles(Protocol):
    """The files from which an image is loaded."""

    def has(self, name: str) -> bool:
        """Return True when there is a file with this name."""

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content. limit: the maximum number of bytes. Raises BadImage."""

    def store_file(self, name: str) -> tuple[str, int]:
        """Add a file to the store as a blob; return its digest and size in bytes. Raises BadImage, OSError."""

    def store_blob(self, digest: str, size: int) -> None:
        """Make sure that the store has the blob. Raises BadImage, OSError."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of an archive. content: None when the file was written to the store as the blob `digest`."""

    content: bytes | None
    digest: str = ""
    size: int = 0


class ArchiveFiles:
    """The files of a tar archive, read to its end."""

    def __init__(self, store: ImageStore, archive: BinaryIO) -> None:
        """Read an archive: plain, or compressed with gzip or zstd. Call it within the store's `keep`.

        Raises:
            BadImage: the archive is malformed, too large, or names files outside itself.
            OSError: the archive cannot be read, or the store cannot be written.
        """
        self._store = store
        self._files: dict[str, _File] = {}
        self._links: dict[str, str] = {}
        self._in_memory = 0
        self._names = 0
        pieces = decompress(archive)
        empty = True

        def next_piece() -> bytes:
            nonlocal empty
            piece = next(pieces, b"")
            empty = empty and not piece
            return piece

        self._tar = LayerTar(next_piece, UnpackLimits(entries=_MOST_ENTRIES))
        entry = self._first_entry()
        if empty:
            raise BadImage("it is empty")
        while entry is not None:
            self._add(entry)
            entry = self._tar.next_entry()
        # Read the padding, too: otherwise the program at the other end of a pipe fails (SIGPIPE).
        for _, piece in zip(range(_MOST_PADDING), pieces, strict=False):
            del piece

    def has(self, name: str) -> bool:
        """Return True when there is a file with this name."""
        return self._follow(name) in self._files

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content. limit: the maximum number of bytes. Raises BadImage."""
        found = self._find(name)
        if found.content is None:
            return self._store.read_blob(found.digest, limit)
        if len(found.content) > limit:
            raise BadImage(f"the archive's file {name} is larger than {limit} bytes")
        return found.content

    def store_file(self, name: str) -> tuple[str, int]:
        """Add a file to the store as a blob; return its digest and size in bytes. Raises BadImage, OSError."""
        found = self._find(name)
        if found.content is None:
            return found.digest, found.size
        return self._store.put_blob(found.content), len(found.content)

    def store_blob(self, digest: str, size: int) -> None:
        """Make sure that the store has the blob. Raises BadImage when neither the store nor the archive has it."""
        is_here = f"blobs/{digest.replace(':', '/')}" in self._files
        if not (self._store.has_blob(digest) if is_here else self._store.has_blob_for(digest, "")):
            raise BadImage(f"the archive has no blob {digest}")

    def _first_entry(self) -> LayerEntry | None:
        try:
            return self._tar.next_entry()
        except BadLayer as error:
            raise BadImage(f"it cannot be read as a tar archive, plain or compressed: {error}") from error

    def _add(self, entry: LayerEntry) -> None:
        if entry.kind is EntryKind.DIRECTORY:
            return
        name = _normal(entry.name)
        self._names += len(name) + len(entry.link)
        if self._names > _MOST_NAMES:
            raise BadImage("the archive's names are too long")
        digest = _digest_of_path(name)
        if (name in self._files or name in self._links) and not digest:
            raise BadImage(f"the archive has two files {name!a}")
        if entry.kind is EntryKind.SYMLINK:
            self._links[name] = _normal(os.path.join(os.path.dirname(name).encode(), entry.link), resolve=True)
        elif entry.kind is EntryKind.HARD_LINK:
            self._links[name] = _normal(entry.link)
        elif entry.kind is not EntryKind.FILE:
            raise BadImage(f"the archive has a {entry.kind.value}: {name!a}")
        elif entry.pieces is not None:
            raise BadImage(f"the archive has a file with holes: {name!a}")
        elif digest:
            self._write(digest, entry.size)
            self._files[name] = _File(None, digest, entry.size)
        elif not name.endswith(_IGNORED):
            self._files[name] = self._take(entry.size)

    def _take(self, size: int) -> _File:
        """Return the current entry's content: in memory if it is small, else as a blob."""
        if size <= _SMALL and self._in_memory + size <= _MOST_IN_MEMORY:
            self._in_memory += size
            parts = []
            while piece := self._tar.read_piece():
                parts.append(bytes(piece))
            return _File(b"".join(parts), size=size)
        writer = self._store.begin_new_blob(size)
        return _File(None, _write_whole(writer, iter(self._tar.read_piece, b"")), size)

    def _write(self, digest: str, size: int) -> None:
        """Write the current entry's content as the blob that its name (blobs/ALGORITHM/HEX) denotes."""
        if self._store.has_blob_for(digest, ""):
            # The store's blob was verified, so the entry's content is not needed.
            return
        _write_whole(self._store.begin_blob(digest, size), iter(self._tar.read_piece, b""))

    def _find(self, name: str) -> _File:
        found = self._files.get(self._follow(name))
        if found is None:
            raise BadImage(f"the archive has no file {name!a}")
        return found

    def _follow(self, name: str) -> str:
        name = _normal(name.encode("utf-8", "surrogatepass"))
        for _ in range(_MOST_LINKS):
            if name not in self._links:
                return name
            name = self._links[name]
        raise BadImage(f"the archive has too many links from {name!a}")


class DirectoryFiles:
    """The files of a directory with an OCI image layout. Only regular files are used."""

    def __init__(self, store: ImageStore, path: Path) -> None:
        """path: the directory. Call this within the store's `keep`."""
        self._store = store
        self._path = path

    def has(self, name: str) -> bool:
        """Return True when there is a file with this name."""
        return (self._path / name).is_file()

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content. limit: the maximum number of bytes. Raises BadImage, OSError."""
        with self._open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise BadImage(f"{self._path / name} is larger than {limit} bytes")
        return data

    def store_file(self, name: str) -> tuple[str, int]:
        """Add a file to the store as a blob; return its digest and size in bytes. Raises BadImage, OSError."""
        with self._open(name) as file:
            size = os.fstat(file.fileno()).st_size
            return _write_whole(self._store.begin_new_blob(size), iter(lambda: file.read(_CHUNK), b"")), size

    def store_blob(self, digest: str, size: int) -> None:
        """Copy a blob into the store, unless the store has it already. Raises BadImage, OSError."""
        if self._store.has_blob_for(digest, ""):
            return
        path = f"blobs/{digest.replace(':', '/')}"
        with self._open(path) as file:
            _write_whole(self._store.begin_blob(digest, size), iter(lambda: file.read(_CHUNK), b""))

    def _open(self, name: str) -> BinaryIO:
        """Open a regular file of the directory. Links and FIFOs are refused: opening a FIFO would block."""
        folder, _, last = _normal(name.encode("utf-8", "surrogatepass")).rpartition("/")
        path = self._path / folder / last
        root = parent = -1
        try:
            root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            parent = open_real_directory(root, folder.encode())
            descriptor = os.open(last, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=parent)
        except FileNotFoundError:
            raise BadImage(f"there is no file {path}") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BadImage(f"{path} is, or is behind, a symbolic link") from None
            error.filename = str(path)
            raise
        finally:
            for one in (root, parent):
                if one >= 0:
                    os.close(one)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadImage(f"{path} is not a regular file")
        return open(descriptor, "rb")


def _write_whole(writer: BlobWriter, pieces: Iterator[bytes | memoryview]) -> str:
    """Write a whole blob; return its digest. A part that an earlier download has left is not used."""
    try:
        writer.restart()
        for piece in pieces:
            writer.write(piece)
        return writer.commit()
    finally:
        writer.discard()


def _normal(name: bytes, *, resolve: bool = False) -> str:
    """Return a name without "." and repeated slashes.

    resolve: True to allow "..", as long as the name stays within the archive.

    Raises:
        BadImage: the name leads out of the archive, or is not UTF-8.
    """
    try:
        parts = name.decode().split("/")
    except UnicodeDecodeError:
        raise BadImage(f"the archive has a name that is not UTF-8: {name[:200]!a}") from None
    out: list[str] = []
    for part in parts:
        if part == ".." and (not resolve or not out):
            break
        if part == "..":
            out.pop()
        elif part not in ("", "."):
            out.append(part)
    else:
        if out and not name.startswith(b"/") and b"\0" not in name:
            return "/".join(out)
    raise BadImage(f"the archive names a file outside itself: {name[:200].decode(errors='replace')!a}")


def _digest_of_path(name: str) -> str:
    """Return the digest that a file below blobs/ must have; "" for other files."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "blobs":
        return ""
    digest = f"{parts[1]}:{parts[2]}"
    return digest if is_digest(digest) else ""
