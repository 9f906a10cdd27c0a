"""The blobs of an image store, as files named by their digests, and the parts of unfinished downloads.

blobs/ALGORITHM/HEX    whole and verified; such a file never changes
partial/HEX-OWNER      the beginning of a blob, left when its download was interrupted; locked while it is written.
                       OWNER is the SHA-256 of the repository that has sent the bytes. Only this repository continues it
partial/HEX            the same without a repository: from an archive
partial/*.RANDOM       the same, while another process has the file above locked; it is never continued
partial/new.RANDOM     a blob whose digest is not known yet
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from hatchway.files import NO_ROOM
from hatchway.images.contents import BadImage
from hatchway.images.reference import is_digest

# Seconds after which the part of an interrupted download is deleted if no download has continued it.
KEPT_SECONDS = 24 * 3600
# Bytes that are read at once.
_CHUNK = 1 << 20
# publish(digest, show): called for a blob that is whole and verified; calls `show`, which makes the blob visible.
Publish = Callable[[str, Callable[[], None]], None]


class BlobFiles:
    """The blobs below a store's directory."""

    def __init__(self, path: Path) -> None:
        self._blobs = path / "blobs"
        self._partial = path / "partial"

    def path(self, digest: str) -> Path:
        """Return the path of a blob's file, which may not exist. Raises BadImage for an invalid digest."""
        if not is_digest(digest):
            raise BadImage(f"{digest[:100]!r} is not a digest")
        algorithm, _, digits = digest.partition(":")
        return self._blobs / algorithm / digits

    def has(self, digest: str) -> bool:
        """Return True when the store has the whole blob."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Return a blob's size in bytes. Raises BadImage when it is not in the store."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise BadImage(f"the blob {digest} is not in the store") from None

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading. Raises BadImage when it is not in the store."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise BadImage(f"the blob {digest} is not in the store") from None

    def read(self, digest: str, limit: int) -> bytes:
        """Read a small blob into memory, and verify its digest.

        limit: the largest accepted size, in bytes.

        Raises:
            BadImage: the blob is not in the store, is larger than `limit`, or its file is damaged.
        """
        with self.open(digest) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise BadImage(f"the blob {digest} is larger than {limit} bytes")
        if hash_of(digest, data) != digest:
            raise BadImage(f"the file of the blob {digest} is damaged; pull or load the image again")
        return data

    def digests(self) -> Iterator[str]:
        """Yield the digests of all whole blobs."""
        for algorithm in ("sha256", "sha512"):
            with contextlib.suppress(FileNotFoundError):
                for entry in os.scandir(self._blobs / algorithm):
                    if is_digest(found := f"{algorithm}:{entry.name}"):
                        yield found

    def delete(self, digest: str) -> int:
        """Delete a blob; return its size in bytes."""
        path = self.path(digest)
        size = path.stat().st_size
        path.unlink()
        return size

    def delete_if_damaged(self, digest: str, limit: int | None = None) -> bool:
        """Delete a blob whose file does not have its digest; see `ImageStore.delete_if_damaged`."""
        path = self.path(digest)
        try:
            with open(path, "rb") as file:
                if limit is not None and os.fstat(file.fileno()).st_size > limit:
                    return False
                if _hash_of_file(file, digest) == digest.partition(":")[2]:
                    return False
        except FileNotFoundError:
            return False
        path.unlink(missing_ok=True)
        return True

    def begin(self, digest: str, size: int, publish: Publish, owner: str = "") -> BlobWriter:
        """Return the writer of a blob; see `ImageStore.begin_blob`.

        digest: "" when it is not known. owner: the repository from which the blob is fetched; "" for none.
        """
        if size < 0:
            raise BadImage(f"the blob {digest} cannot have {size} bytes")
        name = self.path(digest).name if digest else "new"
        if owner:
            name += f"-{hashlib.sha256(owner.encode()).hexdigest()}"
        self._partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._partial / name
        descriptor = _open_locked(path) if digest else None
        while descriptor is None:
            path = self._partial / f"{name}.{secrets.token_hex(4)}"
            descriptor = _open_locked(path)
        try:
            _check_room(descriptor, size, path)
            return BlobWriter(descriptor, path, self.path, digest, size, publish)
        except BaseException:
            os.close(descriptor)
            raise

    def delete_broken_downloads(self, now: float | None = None) -> int:
        """Delete parts that no process writes, if they cannot be continued or are a day old.

        Returns the number of bytes freed.
        """
        freed = 0
        oldest = (time.time() if now is None else now) - KEPT_SECONDS
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._partial):
                with contextlib.suppress(FileNotFoundError):
                    freed += _delete_if_unused(Path(entry.path), float("inf") if "." in entry.name else oldest)
        return freed


class BlobWriter:
    """Writes one blob. Not thread-safe; its methods block on disk I/O.

    offset: the number of bytes written so far. It does not start at 0 when an earlier writer left a part.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path,
        path_of: Callable[[str], Path],
        digest: str,
        size: int,
        publish: Publish,
    ) -> None:
        self._descriptor = descriptor
        self._path = path
        self._path_of = path_of
        self._digest = digest
        self._algorithm = digest.partition(":")[0] or "sha256"
        self._size = size
        self._publish = publish
        self._hash = hashlib.new(self._algorithm)
        self.offset = 0
        if os.fstat(descriptor).st_size > size:
            os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        while data := os.read(descriptor, _CHUNK):
            self._hash.update(data)
            self.offset += len(data)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes.

        Raises:
            BadImage: the blob becomes longer than its size; the part that was written is deleted.
            OSError: the bytes cannot be written. When the disk is full, the part that was written is deleted, to free
                the space again.
        """
        if self._descriptor < 0:
            raise ValueError("the blob is closed")
        if self.offset + len(data) > self._size:
            self.restart()
            raise BadImage(f"the blob {self._digest} is longer than the {self._size} bytes that its manifest says")
        rest = memoryview(data)
        try:
            while rest:
                written = os.write(self._descriptor, rest)
                self._hash.update(rest[:written])
                self.offset += written
                rest = rest[written:]
        except OSError as error:
            raise self._failed(error) from error

    def restart(self) -> None:
        """Discard the bytes that were written, and start again at offset 0."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._algorithm)
        self.offset = 0

    def commit(self) -> str:
        """Verify the blob, and add it to the store, synced to disk. The writer is closed in any case.

        Returns:
            The blob's digest.

        Raises:
            BadImage: its digest or its size is not the expected one. The part is deleted.
            OSError: the blob cannot be written.
        """
        if self._descriptor < 0:
            raise ValueError("the blob is closed")
        found = f"{self._algorithm}:{self._hash.hexdigest()}"
        if self.offset != self._size or found != (self._digest or found):
            self._path.unlink(missing_ok=True)
            self._close()
            if self.offset != self._size:
                raise BadImage(f"the blob {self._digest or found} has {self.offset} bytes instead of {self._size}")
            raise BadImage(f"the blob {self._digest} has another content: its digest is {found}")
        target = self._path_of(found)
        try:
            if not target.parent.is_dir():
                _make_directories(target.parent)
            os.fsync(self._descriptor)
            self._publish(found, lambda: os.replace(self._path, target))
            sync_directory(target.parent)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._close()
        return found

    def abandon(self) -> None:
        """Close the writer, and keep the part for the next writer. Does nothing after `commit`."""
        if self._descriptor < 0:
            return
        if not self.offset or not self._digest:
            self._path.unlink(missing_ok=True)
        self._close()

    def discard(self) -> None:
        """Close the writer, and delete the part. Does nothing after `commit`."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            self._close()

    def _failed(self, error: OSError) -> OSError:
        error.filename = str(self._path)
        if error.errno in NO_ROOM and self._descriptor >= 0:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._close()
        return error

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def hash_of(digest: str, data: bytes) -> str:
    """Return the digest of the data, by the algorithm of `digest`."""
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def _hash_of_file(file: BinaryIO, digest: str) -> str:
    """Return the hexadecimal hash of a file's content, by the algorithm of `digest`."""
    found = hashlib.new(digest.partition(":")[0])
    while data := file.read(_CHUNK):
        found.update(data)
    return found.hexdigest()


def _make_directories(path: Path) -> None:
    """Make a directory and its parents, and sync them to disk."""
    if path.is_dir():
        return
    _make_directories(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Sync a directory's entries to disk (fsync(2)). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int | None:
    """Open or make a file and lock it; return its descriptor, or None while another process has it locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and lock, another process may have committed the file as a blob, or deleted it.
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _check_room(descriptor: int, size: int, path: Path) -> None:
    """Raise OSError (ENOSPC) when the disk has no room for a blob of this size."""
    system = os.fstatvfs(descriptor)
    if size - os.fstat(descriptor).st_size > system.f_bavail * system.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _delete_if_unused(path: Path, oldest: float) -> int:
    status = path.lstat()
    if status.st_mtime > oldest or not stat.S_ISREG(status.st_mode):
        return 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)
    return status.st_size
