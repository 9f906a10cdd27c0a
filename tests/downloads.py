"""Directories for tests' downloads. All checkouts of a user share them, below $XDG_CACHE_HOME/hatchway-tests."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Installations that no test has used for this many seconds are deleted.
_UNUSED = 30 * 86400


def downloads(name: str = "") -> Path:
    """Return the directory for downloads of one kind; "" for the parent of all. Make it if it is missing."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = base / "hatchway-tests" / name
    found.mkdir(parents=True, exist_ok=True)
    return found


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock during a block. Test processes of all checkouts wait for each other. file: the lock file."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installation(name: str, contents: str, install: Callable[[Path], None]) -> Path:
    """Return a directory with an installation. The installation is made once for all test processes.

    Installations of the same name that were not used for 30 days are deleted.

    Args:
        name: the name of the installation.
        contents: a text that lists the installed packages. Each text has a directory of its own.
        install: fills the empty directory. If it raises an exception, this function raises it, too, and the next call
        calls `install` again.
    """
    base = downloads("installations")
    root = base / f"{name}-{hashlib.sha256(contents.encode()).hexdigest()[:16]}"
    stamp = root / "installed"
    with locked(base / f"{root.name}.lock"):
        if not stamp.exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            install(root)
            _delete_unused(base, name)
        stamp.touch()
    return root


def _delete_unused(base: Path, name: str) -> None:
    for stamp in base.glob(f"{name}-{'[0-9a-f]' * 16}/installed"):
        if time.time() - stamp.stat().st_mtime > _UNUSED:
            shutil.rmtree(stamp.parent, ignore_errors=True)
