"""Linux's newer system calls for mounts: fsopen(2), fsconfig(2), fsmount(2) and move_mount(2), Linux 5.2.

The calls create a mount as a descriptor: no path leads to it until it is moved into a tree. All functions raise
OSError; ENOSYS on older kernels.
"""

from __future__ import annotations

import ctypes
import os

# The calls have the same numbers on all architectures.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_FROM_EMPTY_PATH, _TO_EMPTY_PATH = 0x4, 0x40
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def new_file_system(kind: str, options: list[tuple[str, str | None]]) -> int:
    """Create a file system; return a descriptor of its mount, which is not attached to any path yet.

    kind: its name in /proc/filesystems. options: names and values in order; None is a flag.
    """
    context = _call(_FSOPEN, ctypes.c_char_p(kind.encode()), ctypes.c_uint(_CLOEXEC))
    try:
        for name, value in options:
            _configure(context, _SET_FLAG if value is None else _SET_STRING, name, value)
        _configure(context, _CREATE, None, None)
        return _call(_FSMOUNT, ctypes.c_int(context), ctypes.c_uint(_CLOEXEC), ctypes.c_uint(0))
    finally:
        os.close(context)


def _configure(context: int, command: int, name: str | None, value: str | None) -> None:
    _call(
        _FSCONFIG,
        ctypes.c_int(context),
        ctypes.c_uint(command),
        ctypes.c_char_p(None if name is None else name.encode()),
        ctypes.c_char_p(None if value is None else os.fsencode(value)),
        ctypes.c_int(0),
    )


def attach(mount: int, target: str | int) -> None:
    """Attach the mount of a descriptor to a path, or to the directory or file of another descriptor."""
    to = ctypes.c_int(target if isinstance(target, int) else _AT_FDCWD)
    path = ctypes.c_char_p(b"" if isinstance(target, int) else os.fsencode(target))
    flags = _FROM_EMPTY_PATH | (_TO_EMPTY_PATH if isinstance(target, int) else 0)
    _call(_MOVE_MOUNT, ctypes.c_int(mount), ctypes.c_char_p(b""), to, path, ctypes.c_uint(flags))
