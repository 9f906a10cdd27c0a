"""Starts the process that pulls images (`hatchway/images/pullservice/service.py`) when a node requests an image.

The control plane listens on a Unix socket, and waits for a connection. Then it starts the process, which inherits the
socket. When the idle process has ended, the control plane waits for the next connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from hatchway.images.pullservice import unixsockets

__all__ = ["ImageService"]

log = logging.getLogger(__name__)

# The seconds between two starts of a process that fails.
_RETRY_SECONDS = 2.0
_STOP_SECONDS = 5.0


class ImageService:
    """Listens for requests for images until `close`.

    path: the socket's path. store: the directory of the image store. log: the file that the process writes to.
    program: the process's argv, to which the store and the socket's descriptor are added.
    """

    def __init__(
        self,
        path: Path,
        store: Path,
        log_file: Path,
        program: Sequence[str] = (sys.executable, "-m", "hatchway.images.pullservice.service"),
    ) -> None:
        self._path = path
        self._store = store
        self._log_file = log_file
        self._program = program
        self._sock: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Begin to listen. Raises OSError."""
        self._sock = unixsockets.listen(self._path)
        self._serving = asyncio.get_running_loop().create_task(self._serve(self._sock), name="image service")

    async def close(self) -> None:
        """End the process and stop listening. Idempotent."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.wait({serving})
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._path.unlink(missing_ok=True)

    async def _serve(self, sock: socket.socket) -> None:
        while True:
            await _wait_readable(sock)
            try:
                code = await self._run(sock)
            except Exception:
                # After any error, try again later: the error may be temporary.
                log.exception("the process that pulls images cannot be started")
                code = -1
            if code:
                log.error("the process that pulls images has ended (exit code %s)", code)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _run(self, sock: socket.socket) -> int:
        """Run the process to its end; return its exit code. Raises OSError when it cannot be started."""
        # The process ends when its standard input ends, so it also ends when this process is killed.
        lifeline, inner = socket.socketpair()
        with lifeline:
            with inner, self._log_file.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *self._program,
                    str(self._store),
                    str(sock.fileno()),
                    stdin=inner.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=output,
                    pass_fds=(sock.fileno(),),
                    start_new_session=True,
                    cwd="/",
                )
            try:
                return await process.wait()
            except asyncio.CancelledError:
                lifeline.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await process.wait()
                raise
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()


async def _wait_readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
