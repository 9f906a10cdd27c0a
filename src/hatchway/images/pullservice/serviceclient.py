"""The client of the service that pulls images (`service.py`)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hatchway.images.contents import BadImage
from hatchway.images.pullservice import unixsockets
from hatchway.images.pullservice.pullmessages import (
    LONGEST_ANSWER,
    LONGEST_REQUEST,
    BadPullMessage,
    Pulled,
    PullFailure,
    PullRequest,
    decode_answer,
)

__all__ = ["PullClient"]

# Seconds without a report after which a pull fails. They include the service's start before the first report.
_PATIENCE = 60.0


class PullClient:
    """Requests images from the service at a Unix socket. path: the socket's path."""

    def __init__(self, path: Path, *, patience: float = _PATIENCE) -> None:
        self._path = path
        self._patience = patience

    async def pull(self, request: PullRequest) -> Pulled:
        """Pull an image. A cancelled call also cancels the pull, unless another client waits for it.

        Raises:
            BadImage: the image cannot be pulled; the message is the registry's reason, or why the service does not
            answer.
        """
        line = request.encode()
        if len(line) > LONGEST_REQUEST:
            raise BadImage(f"{request.reference}: the credentials for its registry are too long")
        try:
            sock = await asyncio.to_thread(unixsockets.connect, self._path)
            reader, writer = await asyncio.open_unix_connection(sock=sock, limit=LONGEST_ANSWER)
        except OSError as error:
            raise BadImage(f"the service that pulls images cannot be reached: {error.strerror or error}") from error
        try:
            writer.write(line)
            while True:
                async with asyncio.timeout(self._patience):
                    answer = decode_answer(await reader.readuntil(b"\n"))
                if isinstance(answer, Pulled):
                    return answer
                if isinstance(answer, PullFailure):
                    raise BadImage(answer.message)
        except TimeoutError:
            raise BadImage(f"the service that pulls images has not answered for {self._patience:g} s") from None
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, BadPullMessage) as error:
            raise BadImage("the service that pulls images has ended; see server.log") from error
        finally:
            writer.close()
