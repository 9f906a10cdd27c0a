"""Holds clients of Services that start on first use until there is an endpoint."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from hatchway.cluster.firstuse import HELD_AT_MOST, HELD_SECONDS

_log = logging.getLogger(__name__)


class HeldClients:
    """The held clients of all frontends: at most `most`, each for at most `seconds`.

    report_use: starts the Deployment with the given name; it is called for each client.
    """

    def __init__(
        self, report_use: Callable[[str], None], *, most: int = HELD_AT_MOST, seconds: float = HELD_SECONDS
    ) -> None:
        self._report_use = report_use
        self._most = most
        self._seconds = seconds
        self._count = 0
        self._waiting: dict[object, set[asyncio.Future[bool]]] = {}

    def __len__(self) -> int:
        """Return the number of held clients."""
        return self._count

    def take(self, deployment: str) -> bool:
        """Start a Deployment, and reserve a place for a client. Return False if there is no free place.

        After True, the caller must call `wait`, which frees the place.
        """
        self._report_use(deployment)
        if self._count >= self._most:
            return False
        self._count += 1
        return True

    def release(self, frontend: object, *, found: bool) -> None:
        """Wake up the clients of a frontend. found: True if there is an endpoint, False if there will be none."""
        for future in self._waiting.pop(frontend, ()):
            if not future.done():
                future.set_result(found)

    async def wait(self, frontend: object, sock: socket.socket) -> bool:
        """Wait until the frontend has an endpoint; return False after a timeout, or when the client disconnects.

        sock: the client's socket; nothing is read from it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting.setdefault(frontend, set()).add(future)
        number: Final = sock.fileno()

        def check_client() -> None:
            try:
                has_gone = not sock.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return
            except OSError:
                has_gone = True
            # If the client has sent data, the data stays in the socket, so a later disconnect cannot be noticed.
            loop.remove_reader(number)
            if has_gone and not future.done():
                future.set_result(False)

        loop.add_reader(number, check_client)
        try:
            async with asyncio.timeout(self._seconds):
                return await future
        except TimeoutError:
            _log.warning("a service that starts on first use is not ready after %.0f s", self._seconds)
            return False
        finally:
            self._count -= 1
            loop.remove_reader(number)
            waiting = self._waiting.get(frontend)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[frontend]
