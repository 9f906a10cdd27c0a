"""Keeps glibc from holding on to memory: a burst of logs is indexed in tens of megabytes that nobody needs afterwards."""

from __future__ import annotations

import ctypes
from typing import Any

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def _libc() -> Any:
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None


def few_arenas() -> None:
    """At most two arenas: each of tantivy's threads would get one. To be called before there are threads."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 2)


def give_back() -> None:
    """Return free memory to the system; where the C library cannot, nothing happens."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)
