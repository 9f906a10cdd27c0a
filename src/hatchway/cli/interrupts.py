"""Handles Ctrl-C while a command is still being imported.

Python raises KeyboardInterrupt in whatever code runs. During an import this code may be a callback, whose exceptions
Python only prints. The command has not begun at that time, so the process can end at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

# 128 + SIGINT, as in shells.
EXIT_CODE = 130


def _quit(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_CODE)


@contextlib.contextmanager
def quitting() -> Iterator[None]:
    """Let Ctrl-C end the process at once while the block runs, unless Ctrl-C is ignored (in a background job)."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _quit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_quietly() -> None:
    """Make another Ctrl-C end the process silently, for a command that has finished its work."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
