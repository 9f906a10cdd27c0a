"""Writing files that hold secrets or must never be half-written."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

# Errors of a full or read-only disk: they deserve a sentence instead of a traceback.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


def write_private(path: Path, data: bytes) -> None:
    """Write a 0600 file so that readers see either the old or the new content, both whole (write, fsync, rename).

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
