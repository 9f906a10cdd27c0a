"""Limits glibc's memory pools (arenas), so that memory which indexing needs for a moment returns to the system."""

from __future__ import annotations

import ctypes
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def limit_arenas() -> None:
    """Limit glibc to two arenas; otherwise each of tantivy's threads gets an arena of its own, which keeps its memory.

    Call it before any thread is started.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 2)
