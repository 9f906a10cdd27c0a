"""Runs a transform on a response's body in small slices, so that it does not block the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from hatchway.proxy.routing import Transform

# The maximum number of bytes that a transform gets in one iteration of the event loop. The slowest input, a dense
# script, takes 20 ms.
_SLICE: Final = 64 * 1024


class TransformedBody:
    """Feeds a transform with slices of at most 64 KiB, one in each iteration of the event loop."""

    __slots__ = ("_emit", "_failed", "_handle", "_held", "_loop", "_pieces", "_ready", "_then", "_transform")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transform: Transform,
        emit: Callable[[bytes], None],
        ready: Callable[[], None],
        failed: Callable[[], None],
    ) -> None:
        """Begin with an empty body.

        Args:
            loop: the event loop.
            transform: the transform; it may raise any exception.
            emit: called with the transform's output, in order.
            ready: called when all waiting slices were fed.
            failed: called inside an `except` block when the transform has raised an exception. No callback is called
                after that.
        """
        self._loop = loop
        self._transform = transform
        self._emit = emit
        self._ready = ready
        self._failed = failed
        self._pieces: deque[bytes] = deque()
        self._handle: asyncio.Handle | None = None
        self._held = False
        self._then: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Return True while slices wait. The upstream should not be read until `ready` is called."""
        return bool(self._pieces)

    def feed(self, data: bytes) -> None:
        """Take a piece of the body, of any size."""
        if self._pieces or self._held or len(data) > _SLICE:
            self._pieces.extend(data[at : at + _SLICE] for at in range(0, len(data), _SLICE))
            if self._handle is None and not self._held:
                self._take_slice()
        else:
            self._pass(data)

    def end(self, then: Callable[[], None]) -> None:
        """Call `then` when no more slices wait; at once if none waits now."""
        if self._pieces:
            self._then = then
        else:
            then()

    def finish(self) -> bool:
        """Emit the transform's last output. Return False when the transform has failed."""
        return self._run(self._transform.finish)

    def hold(self) -> None:
        """Feed no slice until `release`."""
        self._held = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def release(self) -> None:
        """Undo `hold`."""
        self._held = False
        if self._pieces and self._handle is None:
            self._handle = self._loop.call_soon(self._take_slice)

    def cancel(self) -> None:
        """Drop the waiting slices. No callback is called after that."""
        self.hold()
        self._pieces.clear()
        self._then = None

    def _take_slice(self) -> None:
        self._handle = None
        if not self._pass(self._pieces.popleft()):
            return
        if self._pieces:
            if not self._held:
                self._handle = self._loop.call_soon(self._take_slice)
            return
        then, self._then = self._then, None
        if then is not None:
            then()
        else:
            self._ready()

    def _pass(self, data: bytes) -> bool:
        transform = self._transform
        return self._run(lambda: transform.feed(data))

    def _run(self, step: Callable[[], bytes]) -> bool:
        try:
            made = step()
        except Exception:  # noqa: BLE001  an error of the routing function's code; `failed` logs it
            self.cancel()
            self._failed()
            return False
        if made:
            self._emit(made)
        return True
