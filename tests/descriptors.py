"""File descriptors of the test process: wait for a descriptor, and find tests that leave descriptors open."""

from __future__ import annotations

import gc
import os
import selectors
from collections import Counter
from pathlib import Path
from typing import IO

_LINKS = Path("/proc/self/fd")


def is_readable(source: int | IO[str] | IO[bytes], seconds: float) -> bool:
    """Wait until `source` has data or has ended; return False after the timeout.

    Unlike `select.select` this works for any descriptor, not only for those below 1,024.

    Args:
        source: a descriptor, or a file that has one.
        seconds: the timeout; 0 or less to check without waiting.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(max(seconds, 0)))


def open_descriptors() -> Counter[str]:
    """Count the open descriptors of this process by kind or file. Return an empty counter if there is no /proc."""
    found: Counter[str] = Counter()
    for entry in os.listdir(_LINKS) if _LINKS.is_dir() else ():
        try:
            target = os.readlink(_LINKS / entry)
        except OSError:
            continue  # The descriptor of this listing itself.
        # Sockets ("socket:[1234]") are counted together, files by their names.
        kind, colon, _ = target.partition(":[")
        found[kind if colon else target] += 1
    return found


def left_open(before: Counter[str], allowed: int) -> Counter[str]:
    """Return the open descriptors that are not in `before`; nothing if there are at most `allowed`.

    A garbage collection runs first, since it may close some.
    """
    if (open_descriptors() - before).total() <= allowed:
        return Counter()
    gc.collect()
    found = open_descriptors() - before
    return found if found.total() > allowed else Counter()
