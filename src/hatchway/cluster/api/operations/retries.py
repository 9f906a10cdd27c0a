"""Repeats writes whose object was changed by another request meanwhile.

Only interrupted writes are repeated (`verbs.py`). If many writes of one object were repeated at the same time, only one
of them would succeed in each round. So first attempts run at any time, but further attempts run one after the other.
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
# The maximum number of attempts of a write (`handlers/patch.go`).
ATTEMPTS = 5
# The longest time, in seconds, that a repeated write waits while other writes of the same object are repeated.
_PATIENCE = 60.0

_T = TypeVar("_T")
_Key = tuple[str, str, str]


class Retries:
    """Runs writes, and repeats them when necessary."""

    def __init__(self) -> None:
        # For each object with repeated writes: their lock, and the number of writes that hold it or wait for it.
        self._locks: dict[_Key, tuple[asyncio.Lock, int]] = {}

    async def run(self, request: Operation, attempt: Callable[[], Awaitable[_T | None]]) -> _T:
        """Run a write until it succeeds, and return its result. Warnings of failed attempts are dropped.

        attempt: tries the write on the latest object. It returns None when another request has changed the object
        meanwhile.

        Raises ApiError as `attempt` does, and 409 when all attempts fail.
        """
        warned = len(request.warnings)
        found = await attempt()
        if found is not None:
            return found
        row = request.row
        try:
            async with self._locked((row.stored_as, request.namespace, request.name)):
                for _ in range(ATTEMPTS - 1):
                    del request.warnings[warned:]
                    found = await attempt()
                    if found is not None:
                        return found
        except TimeoutError:
            pass
        raise conflict(row.plural, request.name, MODIFIED, row.group)

    @asynccontextmanager
    async def _locked(self, key: _Key) -> AsyncIterator[None]:
        """Hold the lock of an object. Raises TimeoutError."""
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
