"""Opens directories below a root directory. The kernel refuses paths that lead out (openat2(2), Linux 5.6).

Where openat2 is missing or forbidden, each component of the path is opened without following links. This is as safe,
but a little slower.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

# The system call has this number on every architecture (asm-generic/unistd.h) except alpha, which is not supported.
_SYS_OPENAT2: Final = 437
_RESOLVE_NO_XDEV: Final = 0x01
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08

_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_HOW: Final = struct.pack(
    "=QQQ", _FLAGS, 0, _RESOLVE_NO_XDEV | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
)

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


def open_real_directory(root: int, path: bytes) -> int:
    """Open the directory at a relative path below `root`; return its descriptor. No component may be a link.

    path: b"" is the root itself. Raises OSError.
    """
    if b"\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if not HAS_OPENAT2:
        return _walk(root, path)
    return _openat2(root, path or b".")


def _openat2(root: int, path: bytes) -> int:
    found = int(_syscall(_SYS_OPENAT2, root, path, _HOW, len(_HOW)))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found


def _walk(root: int, path: bytes) -> int:
    found = os.open(".", _FLAGS, dir_fd=root)
    device = os.fstat(found).st_dev
    try:
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            if name == b"..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            inner = os.open(name, _FLAGS, dir_fd=found)
            os.close(found)
            found = inner
            if os.fstat(found).st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    except OSError:
        os.close(found)
        raise
    return found


def _has_openat2() -> bool:
    if sys.platform != "linux" or platform.machine() == "alpha":
        return False
    root = os.open("/", _FLAGS)
    try:
        os.close(_openat2(root, b"."))
    except OSError:
        # ENOSYS: an old kernel. EPERM: a container engine's seccomp filter.
        return False
    finally:
        os.close(root)
    return True


HAS_OPENAT2: Final = _has_openat2()
