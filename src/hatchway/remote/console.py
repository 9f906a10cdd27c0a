"""This process's standard streams for a remote command: a terminal in raw mode, input and output without threads."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Final

STDIN, STDOUT, STDERR = 0, 1, 2
_PIECE: Final = 64 * 1024
# The bytes that a ready pipe takes without blocking (POSIX PIPE_BUF: 4096 on Linux, at least 512 everywhere).
_READY: Final = min(select.PIPE_BUF, 4096)


def is_terminal(descriptor: int) -> bool:
    """Return True when a descriptor is a terminal."""
    return os.isatty(descriptor)


def terminal_size() -> tuple[int, int] | None:
    """Return (width, height) of the terminal in characters; None without a terminal, or when its size is not known."""
    for descriptor in (STDOUT, STDIN, STDERR):
        with contextlib.suppress(OSError):
            width, height = os.get_terminal_size(descriptor)
            if width and height:
                return width, height
    return None


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Put the terminal in raw mode while the block runs, so that every key is sent to the remote command.

    A signal must not end the process inside the block: use `ending_signals` around it.
    """
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)


@contextlib.contextmanager
def ending_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP cancel the current task while the block runs, so that the task can clean up.

    Raises SystemExit with 128 + the signal's number after such a signal.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise SystemExit(128 + received[0]) from None
        raise
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def size_changes(changed: Callable[[int, int], None]) -> Iterator[None]:
    """Call `changed` with the terminal's (width, height), at once and after each change while the block runs."""

    def report() -> None:
        size = terminal_size()
        if size is not None:
            changed(*size)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, report)
    try:
        report()
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


async def read_input() -> bytes:
    """Wait for bytes of standard input, and return them; b"" at its end."""
    loop = asyncio.get_running_loop()
    if await _ready(lambda wake: loop.add_reader(STDIN, wake), lambda: loop.remove_reader(STDIN)):
        with contextlib.suppress(BlockingIOError):
            return os.read(STDIN, _PIECE)
        return await read_input()
    # Standard input is a regular file, for which the event loop cannot wait, and which is always ready.
    return os.read(STDIN, _PIECE)


async def write_output(descriptor: int, data: bytes) -> None:
    """Write all of `data`; wait while the reader is slow. Raises BrokenPipeError when the reader has closed its end."""
    rest = memoryview(data)
    loop = asyncio.get_running_loop()
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while rest:
        if not poll.poll(0):
            await _ready(lambda wake: loop.add_writer(descriptor, wake), lambda: loop.remove_writer(descriptor))
        try:
            rest = rest[os.write(descriptor, rest[:_READY]) :]
        except BlockingIOError:
            continue


async def _ready(add: Callable[[Callable[[], None]], None], remove: Callable[[], object]) -> bool:
    """Wait until a descriptor is ready; return False when the event loop cannot wait for this kind of file."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        add(wake)
    except PermissionError:
        return False
    try:
        await ready
    finally:
        remove()
    return True
