"""The directory of an image store, and the lock by which several processes may use it at a time.

lock    a file that is locked exclusively while names change or garbage is deleted, and shared while a use is recorded
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from hatchway.images.store.storenames import StoreError


class StoreLock:
    """The lock of a store (flock(2)): the kernel releases it when the process ends."""

    def __init__(self, path: Path) -> None:
        """path: the store's directory, which may not exist."""
        self._path = path

    def create_store(self) -> None:
        """Make the store's directory, unless it exists. Raises StoreError."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(error, self._path) from error

    @contextlib.contextmanager
    def held(self, *, shared: bool) -> Iterator[None]:
        """Hold the lock within the block; wait while another process holds it in a conflicting mode.

        shared: True to share the lock with other holders that share it; False to hold it exclusively.

        Raises:
            StoreError: the lock's file cannot be used.
        """
        self.create_store()
        try:
            descriptor = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(error, self._path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def unusable(error: OSError, path: Path) -> StoreError:
    """Return the error for a store that cannot be used. error: why. path: the store's directory."""
    where = error.filename or path
    return StoreError(
        f"cannot use the image store {path}: {where}: {error.strerror or error}",
        "free some space there, or choose another directory with --state-dir",
    )
