"""The C library's heap, told to keep what large reads need again and again."""

from __future__ import annotations

import sys

# mallopt(3): the numbers are part of glibc's interface.
_M_MXFAST = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024

_told = False


def keep_freed() -> None:
    """Once for the process: let freed memory be used again instead of giving it back to the kernel at once.

    Each read of a transport takes 256 KiB for a moment. By default glibc returns such blocks to the kernel when they are
    freed, and half of a bulk transfer's time goes into page faults; up to 16 MiB stay with the process instead. And
    before it looks for such a block it merges all small ones that it has put aside (fastbins), so it puts none aside.
    Elsewhere than on Linux with glibc nothing happens.
    """
    global _told
    if _told:
        return
    _told = True
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 16 * _MIB)
        mallopt(_M_MXFAST, 0)
