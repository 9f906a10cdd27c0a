"""The accept loop of a listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

logger = logging.getLogger("hatchway.proxy")

# The maximum number of connections that are accepted in one iteration of the event loop. Without a limit, a flood of
# connections would stop other work: with TLS, each one takes about a millisecond, most of it in later iterations.
_AT_ONCE: Final = 16
_PAUSE_SECONDS: Final = 1.0
_RESET: Final = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


class AcceptLoop:
    """Accepts connections from a listening socket until `close`.

    sock: a listening, non-blocking socket; `close` closes it.
    on_connection: called for each connection with the two values of `socket.accept`: its socket and the client's
        address. The socket is non-blocking; `on_connection` has to close it.
    label: the listener's name in the log.
    """

    def __init__(self, sock: socket.socket, on_connection: Callable[[socket.socket, Any], None], label: str) -> None:
        self._sock = sock
        self._on_connection = on_connection
        self._label = label
        self._loop = asyncio.get_running_loop()
        self._retry: asyncio.TimerHandle | None = None
        self._resume()

    def _resume(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, address = self._sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                # The process has no descriptors or no memory left (accept(2)). The connections stay in the queue and
                # keep the socket readable. Without a pause, the loop would call this method again at once, in vain.
                logger.error(
                    "%s cannot accept connections (%s); next attempt in %g s", self._label, error, _PAUSE_SECONDS
                )
                self._loop.remove_reader(self._sock.fileno())
                self._retry = self._loop.call_later(_PAUSE_SECONDS, self._resume)
                return
            connection.setblocking(False)
            self._on_connection(connection, address)

    def close(self) -> None:
        """Stop listening and close the socket. Idempotent."""
        if self._sock.fileno() == -1:
            return
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._sock.fileno())
        # Unlike `close`, `shutdown` stops the listening even when another process has a copy of the descriptor.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def refuse(connection: socket.socket) -> None:
    """Close an accepted connection with a reset (RST), which tells the client at once that it is not served."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
