"""Code that uploads and downloads share: commands in a container over a connection that may break and be renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.connection import Connection
from hatchway.kube.streams.remotecommand import RemoteCommand, StreamOptions
from hatchway.printable import printable
from hatchway.remote.podcontainer import PodContainer, explain_refusal, is_not_running
from hatchway.wire.channels import STDERR, CommandResult

# A copy fails after this many interrupted attempts in a row without progress.
_MOST_ATTEMPTS: Final = 5
# Seconds for which connecting is retried while the API server cannot be reached; the first and the longest pause.
_AWAY_SECONDS: Final = 120.0
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 3.0
# The maximum number of bytes that are stored of a command's standard error, and of the output of `Container.ask`.
_LONGEST_ERROR: Final = 4096
_LONGEST_OUTPUT: Final = 64 * 1024


_T = TypeVar("_T")


class Interrupted(Exception):
    """The connection to a command was lost. The next attempt can continue the work."""


@dataclass(slots=True)
class CopyProgress:
    """The progress of a copy.

    size: the number of content bytes that were copied.
    files: the number of files that were copied.
    current: the path that is being copied.
    total: the content bytes of the whole copy; 0 while that is not known.
    complete: the number of files that were complete before this copy began.
    """

    size: int = 0
    files: int = 0
    current: str = ""
    total: int = 0
    complete: int = 0


ReportProgress = Callable[[CopyProgress], None]
Warn = Callable[[str], None]


class Container:
    """One container, and commands in it."""

    def __init__(self, connection: Connection, pod_container: PodContainer) -> None:
        self._connection = connection
        self.pod_container = pod_container

    async def open(self, command: Sequence[str], *, stdin: bool = False) -> RemoteCommand:
        """Start a command. When the API server cannot be reached, try again for `_AWAY_SECONDS`.

        Raises:
            HatchwayError: the command is refused, or the API server cannot be reached in that time.
        """
        options = StreamOptions(self.pod_container.container, stdin=stdin)
        pause = _FIRST_PAUSE
        until = asyncio.get_running_loop().time() + _AWAY_SECONDS
        while True:
            try:
                return await RemoteCommand.exec(
                    self._connection, self.pod_container.namespace, self.pod_container.name, command, options
                )
            except ApiError as error:
                if error.code < 500 or is_not_running(error) or asyncio.get_running_loop().time() > until:
                    where, space = str(self.pod_container), self.pod_container.namespace
                    raise await explain_refusal(error, where, "exec", self._connection.client, space) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    async def ask(self, command: Sequence[str]) -> tuple[CommandResult, bytes]:
        """Run a short command to its end; return its result and the beginning of its output.

        Raises:
            HatchwayError: the command is refused.
            Interrupted: the connection was lost.
        """
        running = await self.open(command)
        output = bytearray()
        try:
            while (piece := await running.receive()) is not None:
                channel, data = piece
                if channel != STDERR and len(output) < _LONGEST_OUTPUT:
                    output += data
            return await running.result(), bytes(output)
        except OSError as error:
            raise Interrupted(str(error)) from error
        finally:
            running.close()


class ErrorText:
    """The first bytes that a command has written to its standard error."""

    def __init__(self) -> None:
        self._text = bytearray()

    def add(self, data: bytes) -> None:
        """Append the next bytes."""
        self._text += data[: _LONGEST_ERROR - len(self._text)]

    def __str__(self) -> str:
        text = bytes(self._text).decode("utf-8", "replace").strip()
        lines = [line for line in text.splitlines() if line.strip()]
        return printable("; ".join(lines[:3]))


def failure(pod_container: PodContainer, what: str, result: CommandResult, errors: ErrorText) -> HatchwayError:
    """Return the error for a program that has failed in the container."""
    return HatchwayError(f"{pod_container}: {what}: {errors or result.message or 'it has failed'}")


async def repeat_interrupted(
    container: Container, attempt: Callable[[], Awaitable[_T]], progress: Callable[[], object]
) -> _T:
    """Call `attempt`, and call it again whenever the connection was lost; return the result.

    Args:
        container: the container, for error messages.
        attempt: a function that raises Interrupted when the connection is lost.
        progress: a function whose result changes when an attempt makes progress.

    Raises:
        HatchwayError: several attempts in a row were interrupted and made no progress.
    """
    attempts = 0
    while True:
        before = progress()
        try:
            return await attempt()
        except Interrupted as error:
            attempts = 0 if progress() != before else attempts + 1
            if attempts >= _MOST_ATTEMPTS:
                raise HatchwayError(
                    f"{container.pod_container}: the connection is lost again and again: {error}",
                    "the same command with --resume continues the copy",
                ) from error


async def is_directory(container: Container, path: str) -> bool:
    """Return True when a path in a container is a directory. Without the program `test` the result is False.

    Raises:
        HatchwayError: the command is refused, or the connection is lost again and again.
    """
    return await _test(container, "-d", path)


async def is_there(container: Container, path: str) -> bool:
    """Return True when a path in a container exists. Errors are as in `is_directory`."""
    return await _test(container, "-e", path)


async def _test(container: Container, what: str, path: str) -> bool:
    result, _ = await repeat_interrupted(container, lambda: container.ask(["test", what, path]), lambda: 0)
    return result.exit_code == 0
