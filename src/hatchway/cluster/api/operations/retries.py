"""Writes that start again, because another request has changed their object meanwhile.

Only interrupted writes start again (`verbs.py`). If many writes of one object did so at the same time, each round would
let one of them through. So the first attempts of all writes run freely, and further attempts one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from hatchway.cluster.api.operations.operation import Operation
from hatchway.errors import conflict

__all__ = ["ATTEMPTS", "MODIFIED", "Retries"]

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
# How often a write is tried (`handlers/patch.go`).
ATTEMPTS = 5
# Seconds that a further attempt waits for its turn.
_PATIENCE = 60.0

_T = TypeVar("_T")
_Key = tuple[str, str, str]


class Retries:
    """Runs writes, and runs them again."""

    def __init__(self) -> None:
        # The lock of each object for which writes wait, and the number of writes that have it or wait for it.
        self._locks: dict[_Key, tuple[asyncio.Lock, int]] = {}

    async def run(self, request: Operation, attempt: Callable[[], Awaitable[_T | None]]) -> _T:
        """Return the result of a write.

        attempt: tries the write on the latest object; it returns None when another request has changed the object
        meanwhile. Warnings of failed attempts are dropped.

        Raises ApiError as `attempt` does, and 409 when other requests are always quicker.
        """
        warned = len(request.warnings)
        found = await attempt()
        if found is not None:
            return found
        row = request.row
        try:
            async with self._turn((row.stored_as, request.namespace, request.name)):
                for _ in range(ATTEMPTS - 1):
                    del request.warnings[warned:]
                    found = await attempt()
                    if found is not None:
                        return found
        except TimeoutError:
            pass
        raise conflict(row.plural, request.name, MODIFIED, row.group)

    @asynccontextmanager
    async def _turn(self, key: _Key) -> AsyncIterator[None]:
        """Let one write at a time through. Raises TimeoutError."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = lock, users + 1
        try:
            await asyncio.wait_for(lock.acquire(), _PATIENCE)
            try:
                yield
            finally:
                lock.release()
        finally:
            users = self._locks[key][1]
            if users > 1:
                self._locks[key] = lock, users - 1
            else:
                del self._locks[key]
