"""Writes files that hold secrets or must never be half-written; finds the directory of Hatchway's state."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

# Errors of a full or read-only disk, which are reported in a sentence instead of a traceback.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


def state_home(chosen: str | None = None) -> Path:
    """Return the directory in which clusters and images are kept, absolute.

    chosen: the value of --state-dir; None for $HATCHWAY_STATE_DIR, else $XDG_STATE_HOME/hatchway, else
        ~/.local/state/hatchway.
    """
    if found := chosen or os.environ.get("HATCHWAY_STATE_DIR"):
        return Path(found).absolute()
    return (Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "hatchway").absolute()


def write_private(path: Path, data: bytes) -> None:
    """Write a 0600 file so that readers see the whole old content or the whole new content (write, fsync, rename).

    Raises OSError, which names the file.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
