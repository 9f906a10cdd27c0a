"""Makes glibc's heap keep freed memory while the process works, and return it to the kernel when it is idle."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import Final

# Parameters of mallopt(3). The numbers are part of glibc's interface.
_M_MXFAST = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MIB = 1024 * 1024

# Seconds between two observations.
_INTERVAL: Final = 0.5
# The process counts as idle when it uses less than this share of one core.
_LITTLE: Final = 0.1
# Seconds of processor time after which there may be enough freed memory to return.
_WORK: Final = 0.5
# Memory is returned a second time after this many seconds, when the timeouts of idle connections have passed.
_LATER: Final = 45.0

_told = False


def keep_freed() -> None:
    """Make glibc keep up to 16 MiB of freed memory for later allocations. Later calls do nothing.

    Each read of a transport allocates 256 KiB for a short time. By default glibc returns such blocks to the kernel when
    they are freed, and half of the time of a bulk transfer is spent on page faults. Fastbins are switched off, because
    glibc merges all blocks in them before it searches for such a large block. Without glibc this does nothing.
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


class IdleTrim:
    """Decides when freed memory is returned to the kernel: when the process becomes idle after work, and once later.

    Under load the heap grows and becomes fragmented. glibc by itself returns few of the freed blocks, because they lie
    between blocks in use. (After a flood of resets, 27 of 42 MB were free.)

    Args:
        now: the time of a monotonic clock, in seconds.
        used: processor time of the process so far, in seconds.

    Attributes:
        is_due: True if the last observation has shown that memory should be returned now.
    """

    def __init__(self, now: float, used: float) -> None:
        self.is_due = False
        self._seen_at = now
        self._used = used
        self._used_then = 0.0  # the value of `used` when memory was last returned after work
        self._again_at = math.inf

    def observe(self, now: float, used: float) -> None:
        """Update `is_due` from the work since the last observation. Several listeners may call this.

        Args:
            now: as for the constructor.
            used: as for the constructor.
        """
        passed = now - self._seen_at
        if passed < _INTERVAL:
            self.is_due = False
            return
        idle = used - self._used < _LITTLE * passed
        self._seen_at, self._used = now, used
        if not idle:
            self.is_due = False
        elif used - self._used_then >= _WORK:
            self.is_due = True
            self._used_then = used
            self._again_at = now + _LATER
        else:
            self.is_due = now >= self._again_at
            if self.is_due:
                self._again_at = math.inf


_trim = IdleTrim(time.monotonic(), time.process_time())


def tend() -> None:
    """Return freed memory to the kernel if that is due. Listeners call this about once a second.

    The work is done on a new thread. Threads of an event loop's executor would remain, and keep the loop alive.
    """
    _trim.observe(time.monotonic(), time.process_time())
    if _trim.is_due:
        threading.Thread(target=give_back, name="give memory back", daemon=True).start()


def give_back() -> None:
    """Return freed memory to the kernel. This takes some milliseconds, during which other threads run."""
    if sys.platform != "linux":
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
