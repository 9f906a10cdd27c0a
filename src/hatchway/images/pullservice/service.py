"""The process that pulls images for the nodes of one cluster.

`python -m hatchway.images.pullservice.service STORE SOCKET` starts it: STORE is the path of the image store, SOCKET the
descriptor of a listening Unix socket. The process runs in this machine's network, because the nodes' network need not
reach any registry. Nodes connect to the socket by its path, and send the messages of `pullmessages.py`.

The process ends when no client has been connected for a minute, or when its standard input ends. The control plane
holds the standard input open, so the process also ends when the control plane is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from hatchway.errors import HatchwayError
from hatchway.images.contents import Image
from hatchway.images.pulling.dockerconfig import find_credentials
from hatchway.images.pulling.pull import Progress, PullError, pull
from hatchway.images.pulling.registries import Registries
from hatchway.images.pullservice import unixsockets
from hatchway.images.pullservice.pullboard import PullBoard
from hatchway.images.pullservice.pullmessages import (
    LONGEST_REQUEST,
    BadPullMessage,
    PullFailure,
    PullRequest,
    encode_answer,
)
from hatchway.images.store.store import ImageStore

__all__ = ["PullService", "explain", "serve_pulls"]

log = logging.getLogger("hatchway.images.pullservice.service")

# The seconds without a connected client after which the process ends. The next request starts it again.
IDLE_SECONDS = 60.0
# The most connections at a time, and the seconds that a client has to send its request.
_MOST_CONNECTIONS = 512
_REQUEST_SECONDS = 10.0
# The most bytes of answers that are buffered for a client that does not read.
_UNREAD_BYTES = 64 << 10


class PullService:
    """Answers requests on a listening socket.

    board: pulls images. idle: the seconds without a connected client after which `run` returns.
    """

    def __init__(self, board: PullBoard, *, idle: float = IDLE_SECONDS) -> None:
        self._board = board
        self._idle = idle
        self._clients = 0
        self._client_left = asyncio.Event()

    async def run(self, sock: socket.socket) -> None:
        """Answer requests until no client has been connected for `idle` seconds. Raises OSError.

        sock: the listening socket. Other processes hold it open, too, so connections that wait in its queue are not
        lost.
        """
        server = await unixsockets.serve(self._answer, sock, LONGEST_REQUEST)
        try:
            while True:
                self._client_left.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._idle):
                        await self._client_left.wait()
                    continue
                if not self._clients:
                    break
        finally:
            # Accepted connections are still served to their end. Others wait in the socket's queue for the next
            # process.
            server.close()
        # Wait until the handlers of connections that were just accepted have started.
        await asyncio.sleep(0.1)
        while self._clients:
            self._client_left.clear()
            await self._client_left.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        writer.transport.set_write_buffer_limits(high=_UNREAD_BYTES)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # The client has disconnected.
            pass
        finally:
            self._clients -= 1
            self._client_left.set()
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._clients > _MOST_CONNECTIONS:
            writer.write(encode_answer(PullFailure("too many images are requested at a time")))
            return
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                request = PullRequest.decode(await reader.readuntil(b"\n"))
        except TimeoutError:
            writer.write(encode_answer(PullFailure(f"no request arrived within {_REQUEST_SECONDS:g} s")))
            return
        except (BadPullMessage, asyncio.LimitOverrunError) as error:
            writer.write(encode_answer(PullFailure(f"the request cannot be read: {error}")))
            return
        sending = asyncio.create_task(self._send(request, writer))
        gone = asyncio.create_task(_wait_until_gone(reader))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
            await asyncio.wait({sending, gone})
        if not sending.cancelled():
            sending.result()

    async def _send(self, request: PullRequest, writer: asyncio.StreamWriter) -> None:
        async with contextlib.aclosing(self._board.answers(request)) as answers:
            async for answer in answers:
                writer.write(encode_answer(answer))
                await writer.drain()


async def _wait_until_gone(reader: asyncio.StreamReader) -> None:
    """Wait until a client that has sent its request disconnects."""
    with contextlib.suppress(OSError):
        while await reader.read(4096):
            pass


async def serve_pulls(store: ImageStore, sock: socket.socket) -> None:
    """Serve pulls on a listening socket, with this user's settings and credentials.

    Settings and credentials are read again for each pull, so that changes take effect at once.
    """

    async def pull_one(request: PullRequest, report: Callable[[int, int], None]) -> Image:
        registries = await asyncio.to_thread(Registries.load)
        own = await find_credentials([request.reference.registry], os.environ)

        blobs: dict[str, Progress] = {}

        def progress(now: Progress) -> None:
            if now.digest:
                blobs[now.digest] = now
                report(sum(one.done for one in blobs.values()), sum(one.total for one in blobs.values()))

        return await pull(
            store,
            request.reference,
            credentials=[*request.credentials, *own.credentials],
            registries=registries,
            progress=progress,
        )

    board = PullBoard(pull_one, explain=explain)
    await PullService(board).run(sock)


def explain(error: Exception) -> str | None:
    """Return why a pull has failed, in one line for Events and statuses of pods; None for an unknown error."""
    if isinstance(error, PullError):
        return "; ".join((str(error), *error.of_mirrors))
    if isinstance(error, HatchwayError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return None


def main(arguments: list[str]) -> int:
    """Run the process. Return its exit code."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    store, descriptor = arguments

    async def work() -> None:
        own = asyncio.ensure_future(serve_pulls(ImageStore(Path(store)), socket.socket(fileno=int(descriptor))))
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), own.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await own

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
