"""Detects code that blocks the event loop, logs its stack, and interrupts the code if that is safe.

The whole control plane runs on one event loop, so code that never returns blocks the API server, too. A thread
schedules callbacks on the loop. When a callback does not run in time, the stack of the code that blocks the loop is
logged. If this code is a step of guarded work (a controller's reconcile, a cache's subscriber), the step is ended by
the exception `HeldLoop`. The exception is raised by a handler of SIGURG. This signal was chosen because it is ignored
by default. (Go ends a goroutine's time slice by the same signal.)
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import traceback
from collections.abc import Coroutine, Generator
from time import thread_time
from types import FrameType, coroutine
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds.
_TICK: Final = 0.1
# Modules whose code must not be interrupted, because it changes shared state. Interruptions wait until it has ended.
_UNINTERRUPTIBLE: Final = (
    "hatchway.cluster.api.storage.store",
    "hatchway.cluster.api.storage.history",
    "hatchway.cluster.controllers.controller",
    "hatchway.cluster.controllers.objectcache",
    "hatchway.cluster.controllers.workqueue",
    "hatchway.kube.informer",
    "asyncio",
    "logging",
    "threading",
    "uvloop",
)


class HeldLoop(Exception):
    """A guarded step has blocked the event loop for too long. The exception is raised inside the step."""


class _Guard:
    """The guarded work that now runs on the loop's thread.

    what: its name; "" while none runs. step: the number of steps that have begun.
    """

    __slots__ = ("frame", "step", "what")

    def __init__(self) -> None:
        self.what = ""
        self.step = 0
        self.frame: FrameType | None = None


_guard = _Guard()


class section:
    """Mark a block without an await as guarded: `with section("a subscriber to pods"):`."""

    __slots__ = ("_outer", "_what")

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        self._outer = _guard.what, _guard.frame
        _guard.what, _guard.frame = self._what, sys._getframe(1)
        _guard.step += 1

    def __exit__(self, *_: object) -> None:
        _guard.what, _guard.frame = self._outer


class WorkTime:
    """The time that guarded work has used. seconds: processor time on the loop's thread."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0


@coroutine
def guarded(work: Coroutine[Any, Any, T], what: str, spent: WorkTime | None = None) -> Generator[Any, Any, T]:
    """Await `work`, and guard each of its steps. what: its name for the log. spent: gets the time of all steps."""
    error: BaseException | None = None
    while True:
        # No local variable holds the frame: that would be a reference cycle.
        _guard.what, _guard.frame = what, sys._getframe()
        _guard.step += 1
        began = thread_time()
        try:
            waits_for = work.send(None) if error is None else work.throw(error)
        except StopIteration as done:
            found: T = done.value
            return found
        finally:
            _guard.what, _guard.frame = "", None
            if spent is not None:
                spent.seconds += thread_time() - began
        error = None
        try:
            yield waits_for
        except BaseException as caught:  # noqa: BLE001  the work must get cancellations, too
            error = caught


class Watchdog:
    """Watches one event loop, which runs in the main thread, from `start` to `stop`.

    Args: log_after: seconds after which a blocked loop is logged. cut_after: seconds after which a step is ended.

    Time during which the whole process did not run (SIGSTOP, a sleeping machine) is not counted.
    """

    def __init__(self, log_after: float = 1.0, cut_after: float = 3.0) -> None:
        self._log_after = log_after
        self._cut_after = cut_after
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alive = threading.Event()
        self._ended = threading.Event()
        self._cut = 0  # the step to be ended
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._former: Any = None

    def start(self) -> None:
        """Start watching. Call it on the loop, in the main thread."""
        self._loop = asyncio.get_running_loop()
        self._former = signal.signal(signal.SIGURG, self._interrupt)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; waits for the thread. Call it in the main thread."""
        self._ended.set()
        self._thread.join()
        signal.signal(signal.SIGURG, self._former or signal.SIG_DFL)

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert self._loop is not None and main is not None
        while not self._ended.is_set():
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:
                return  # the loop is closed
            self._wait_for_loop(main)
            # Checking once a second is enough to find code that never returns.
            self._ended.wait(min(1.0, self._log_after))

    def _wait_for_loop(self, main: int) -> None:
        """Wait until the loop has run once; log when that takes too long, and interrupt work that allows it."""
        held, logged = 0.0, False
        # The time is counted in short ticks, because a pause of the whole process then counts as only one tick.
        while not self._alive.wait(_TICK) and not self._ended.is_set():
            held += _TICK
            what, step = _guard.what, _guard.step
            if held >= self._log_after and not logged:
                logged = True
                stack = "".join(traceback.format_stack(sys._current_frames().get(main)))
                log.error("the event loop has been held for %.1f s by %s:\n%s", held, what or "this", stack)
            if held >= self._cut_after and what:
                self._cut = step
                signal.pthread_kill(main, signal.SIGURG)
        if logged:
            log.error("the event loop was held for %.1f s", held)

    def _interrupt(self, _number: int, frame: FrameType | None) -> None:
        if not _guard.what or _guard.step != self._cut or not _may_interrupt(frame):
            return
        self._cut = 0
        raise HeldLoop(f"{_guard.what} has held the event loop for {self._cut_after:.1f} s and was cut off")


def _may_interrupt(frame: FrameType | None) -> bool:
    """Return True when no code between the guard and `frame` is in a module that must not be interrupted."""
    while frame is not None and frame is not _guard.frame:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(_UNINTERRUPTIBLE):
            return False
        frame = frame.f_back
    return frame is not None
