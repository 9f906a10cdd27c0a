"""File descriptors of the test process: wait for one, and find tests that leave them open."""

from __future__ import annotations

import gc
import os
import selectors
from collections import Counter
from pathlib import Path
from typing import IO

_LINKS = Path("/proc/self/fd")


def is_readable(source: int | IO[str] | IO[bytes], seconds: float) -> bool:
    """Wait until `source` has data or has ended; return False when neither comes.

    Unlike `select.select` this works for any descriptor, not only for those below 1,024.

    Args:
        source: a descriptor, or a file that has one.
        seconds: how long to wait; 0 or less only looks.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(max(seconds, 0)))


def open_descriptors() -> Counter[str]:
    """Count the open descriptors of this process by what they lead to; empty where there is no /proc."""
    found: Counter[str] = Counter()
    for entry in os.listdir(_LINKS) if _LINKS.is_dir() else ():
        try:
            target = os.readlink(_LINKS / entry)
        except OSError:
            continue  # the descriptor of this listing
        # "socket:[1234]" is one of many sockets; a file is named.
        kind, colon, _ = target.partition(":[")
        found[kind if colon else target] += 1
    return found


def left_open(before: Counter[str], allowed: int) -> Counter[str]:
    """Return what has been opened since `before` and is still open; empty when that is at most `allowed` descriptors.

    What the garbage collector would close is closed first.
    """
    if (open_descriptors() - before).total() <= allowed:
        return Counter()
    gc.collect()
    found = open_descriptors() - before
    return found if found.total() > allowed else Counter()
