"""Finds a container's command in its PATH, with the error messages of runc and Go's os/exec."""

from __future__ import annotations

import errno
import os
import stat

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StartFailure(Exception):
    """The process cannot be started; the message says why."""


def reason(error: OSError) -> str:
    """Return the system's message for an error number, in Go's spelling."""
    return os.strerror(error.errno or errno.EIO).lower()


def look_up(name: str, path: str) -> str:
    """Return the path of the program `name` (exec.LookPath). path: the value of PATH. Raises StartFailure."""
    if "\0" in name:
        raise StartFailure("exec: invalid argument: the command holds a null character")
    if "/" in name:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            raise StartFailure(f'exec: "{name}": stat {name}: {reason(error)}') from error
        if stat.S_ISDIR(mode):
            raise StartFailure(f'exec: "{name}": is a directory')
        if not os.access(name, os.X_OK):
            raise StartFailure(f'exec: "{name}": permission denied')
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    raise StartFailure(f'exec: "{name}": executable file not found in $PATH')
