"""Records which images and blobs of a store are in use by processes of this user.

uses/RANDOM    one use: a JSON object, in a file that its process has locked. When the process ends, even by kill -9,
               the kernel releases the lock; the use is then over, and the next garbage collection deletes the file.

A process makes or changes a use while it holds the store's lock in shared mode, and reads uses while it holds the lock
exclusively.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

_Lock = Callable[[], AbstractContextManager[None]]
# The maximum number of users that a message names.
_SHOWN = 3


@dataclass(slots=True)
class FoundUse:
    """A use by some process.

    manifest: the digest of an image's manifest, or "". blobs: digests. users: descriptions for messages.
    """

    manifest: str
    blobs: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(slots=True)
class Use:
    """A use by this process, until `close`."""

    path: Path
    descriptor: int
    lock: _Lock
    manifest: str = ""
    blobs: dict[str, None] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, directory: Path, lock: _Lock, manifest: str = "", blobs: tuple[str, ...] = ()) -> Use:
        """Make a use, and record it in `directory`. lock: takes the store's lock in shared mode. Raises OSError."""
        with lock():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = directory / secrets.token_hex(8)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            use = cls(path, descriptor, lock, manifest, dict.fromkeys(blobs))
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                use._write(use.blobs, use.users)
            except BaseException:
                use.close()
                raise
        return use

    def pin(self, digest: str) -> None:
        """Record that a blob is used, too. The caller holds the store's lock. Raises OSError."""
        if digest not in self.blobs:
            self._write({**self.blobs, digest: None}, self.users)

    def add_user(self, user: str) -> None:
        """Record one more user. Raises OSError."""
        with self.lock():
            self._write(self.blobs, [*self.users, user])

    def remove_user(self, user: str) -> None:
        """Remove a user. The caller must close a use that has no users left."""
        users = list(self.users)
        users.remove(user)
        with self.lock():
            # The new state is shorter than the old one, so this succeeds on a full disk.
            self._write(self.blobs, users)

    def close(self) -> None:
        """End the use."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(descriptor)

    def _write(self, blobs: dict[str, None], users: list[str]) -> None:
        """Write a new state to the file, then to this object. When writing fails, the file keeps the old state."""
        text = json.dumps({"manifest": self.manifest, "blobs": list(blobs), "users": users}).encode()
        size = os.fstat(self.descriptor).st_size
        try:
            # Make the file longer first: only this can fail on a full disk.
            if len(text) > size:
                os.pwrite(self.descriptor, b" " * (len(text) - size), size)
            if os.fstat(self.descriptor).st_size < len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.pwrite(self.descriptor, text, 0)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, size)
            raise
        os.ftruncate(self.descriptor, len(text))
        self.blobs, self.users = blobs, users


def read_live_uses(directory: Path) -> list[FoundUse]:
    """Return the uses by running processes, and delete all other uses. The caller holds the store's lock.

    Raises OSError or ValueError when a use cannot be read. In that case, nothing in the store may be deleted.
    """
    return list(_find_live_uses(directory))


def _find_live_uses(directory: Path) -> Iterator[FoundUse]:
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            with open(os.dup(descriptor), "rb") as file:
                text = file.read()
            found = json.loads(text)
            yield FoundUse(found["manifest"], tuple(found["blobs"]), tuple(found["users"]))
        finally:
            os.close(descriptor)


def described(users: list[str]) -> str:
    """Return users for a message: the first few, and the number of the others."""
    shown = ", ".join(users[:_SHOWN])
    return f"{shown} and {len(users) - _SHOWN} more" if len(users) > _SHOWN else shown


class ImageUse:
    """A use of an image: its blobs and unpacked layers are not deleted until `close`, or until the process ends.

    end: ends the use.
    """

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def close(self) -> None:
        """End the use. Idempotent."""
        end, self._end = self._end, None
        if end is not None:
            end()

    def __enter__(self) -> ImageUse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
