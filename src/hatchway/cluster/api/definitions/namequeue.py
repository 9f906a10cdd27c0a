"""A queue of the names of objects that a controller handles, with retries after failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hatchway.errors import ApiError

__all__ = ["NameQueue"]

_log = logging.getLogger(__name__)
# Defaults, in seconds: the pause after a first failure, and the longest pause.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0


class NameQueue:
    """Names that wait to be handled, without duplicates. No name is handled twice at the same time.

    A name whose handling fails is tried again, after a pause that doubles with each failure. Failures are logged,
    except conflicts (409) and missing objects (404), which mean that the object has changed or is gone.

    kind: the plural of the named objects' type, for logs.
    reconcile: handles a name; returns the seconds until the name must be handled again, None if that is not necessary.
    at_once: the maximum number of names that are handled at the same time.
    first_pause: the pause after a first failure, in seconds.
    longest_pause: the longest pause after a failure, in seconds.
    """

    def __init__(
        self,
        kind: str,
        reconcile: Callable[[str], Awaitable[float | None]],
        *,
        at_once: int = 1,
        first_pause: float = _FIRST_PAUSE,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> None:
        self._kind = kind
        self._reconcile = reconcile
        self._at_once = at_once
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        # The names that must be handled: the names in `_ready`, and names in `_running` that were added again.
        self._waiting: set[str] = set()
        self._running: set[str] = set()
        self._pauses: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to handle names. Names that were added earlier come first."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(), name=self._kind) for _ in range(self._at_once)]

    async def aclose(self) -> None:
        """Stop. Handling that is under way is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def add(self, name: str) -> None:
        """Handle a name as soon as possible, after the names that wait already.

        If the name is being handled now, it is handled again after that.
        """
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if name not in self._waiting:
            self._waiting.add(name)
            if name not in self._running:
                self._ready.put_nowait(name)

    async def _run(self) -> None:
        while True:
            name = await self._ready.get()
            self._waiting.discard(name)
            self._running.add(name)
            try:
                wait = await self._attempt(name)
            finally:
                self._running.discard(name)
            if name in self._waiting:
                self._ready.put_nowait(name)
            elif wait is not None:
                self._timers[name] = asyncio.get_running_loop().call_later(wait, self.add, name)
            # The queue and `reconcile` may have nothing to wait for, so other tasks get their turn here.
            await asyncio.sleep(0)

    async def _attempt(self, name: str) -> float | None:
        """Handle a name. Return the seconds until it must be handled again, or None."""
        try:
            wait = await self._reconcile(name)
        except ApiError as error:
            if error.code not in (404, 409):
                _log.warning("%s %s: %s", self._kind, name, error.message)
        except asyncio.CancelledError:
            # End the worker only if it was cancelled itself, not if a task that it awaits was cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _log.warning("%s %s: cancelled", self._kind, name)
        except Exception:  # noqa: BLE001  a name that cannot be handled must not stop the others
            _log.exception("%s %s", self._kind, name)
        else:
            self._pauses.pop(name, None)
            return wait
        pause = self._pauses.get(name, self._first_pause)
        self._pauses[name] = min(pause * 2, self._longest_pause)
        return pause
