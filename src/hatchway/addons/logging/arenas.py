"""Makes glibc return memory to the system: indexing many log lines at once needs tens of megabytes for a moment."""

from __future__ import annotations

import ctypes
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def limit_arenas() -> None:
    """Limit glibc to two arenas; otherwise each of tantivy's threads gets one and keeps its memory.

    Call it before any thread is started.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 2)
