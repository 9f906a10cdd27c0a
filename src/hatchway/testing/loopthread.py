"""An event loop in a thread of its own, for the plugin's connections.

Tests are ordinary functions, or coroutines of another event loop. Both can run coroutines on this loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
# The number of iterations of the loop that closed transports may need to close their sockets.
_TURNS = 10


class LoopThread:
    """Runs coroutines for other threads. Coroutines on this loop must not use `call`, which blocks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hatchway-testing", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. When the wait is interrupted (Ctrl-C), the coroutine is cancelled."""
        __tracebackhide__ = True  # pytest shows the test itself instead
        future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine; return a future of its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel the coroutines that still run, and end the thread."""
        if self._loop.is_closed():
            return
        self.call(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        await self._loop.shutdown_asyncgens()
        # Transports that were aborted close their sockets in one of the next iterations. Tests with `-W error` would
        # fail otherwise.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
