"""The common part of copies in both directions: commands in a container whose connection may break and be renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.connection import Connection
from hatchway.kube.streams.remotecommand import RemoteCommand, StreamOptions
from hatchway.printable import printable
from hatchway.remote.podcontainer import PodContainer, explain_refusal
from hatchway.wire.channels import STDERR, CommandResult

# After this many interrupted attempts in a row that have made no progress the copy fails.
_MOST_ATTEMPTS: Final = 5
# How long to try again while the API server cannot be reached (seconds), and the pauses between these attempts.
_AWAY_SECONDS: Final = 120.0
_FIRST_PAUSE, _LAST_PAUSE = 0.2, 3.0
# How many bytes are kept of a command's standard error, and of the output of `Container.ask`.
_LONGEST_ERROR: Final = 4096
_LONGEST_OUTPUT: Final = 64 * 1024


_T = TypeVar("_T")


class Interrupted(Exception):
    """The connection to a command was lost; the next attempt can continue from what is done already."""


@dataclass(slots=True)
class CopyProgress:
    """The progress of a copy. size: bytes of contents. files: those that are done. current: the one under way.

    total: bytes of contents in all; 0 while that is not known. complete: files that were there already.
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
        """Run a command. When the API server cannot be reached, try again for some time.

        Raises:
            HatchwayError: the command is refused, or the API server cannot be reached for that long.
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
                if error.code < 500 or asyncio.get_running_loop().time() > until:
                    where, space = str(self.pod_container), self.pod_container.namespace
                    raise await explain_refusal(error, where, "exec", self._connection.client, space) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    async def ask(self, command: Sequence[str]) -> tuple[CommandResult, bytes]:
        """Run a small command to its end; return how it has ended, and the beginning of its output.

        Raises:
            HatchwayError: the command is refused.
            Interrupted: the connection broke off.
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
    """Return the error of a program in the container that has failed."""
    return HatchwayError(f"{pod_container}: {what}: {errors or result.message or 'it has failed'}")


async def repeat_interrupted(
    container: Container, attempt: Callable[[], Awaitable[_T]], progress: Callable[[], object]
) -> _T:
    """Make an attempt, and another one whenever the connection breaks off; return what it returns.

    Args:
        container: for the error.
        attempt: raises Interrupted when the connection breaks off.
        progress: returns a value that changes when an attempt makes progress.

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
                    f"{container.pod_container}: the connection breaks off again and again: {error}",
                    "the same command with --resume goes on from here",
                ) from error


async def is_directory(container: Container, path: str) -> bool:
    """Return True when a path in a container is a directory; False also when the container has no `test`.

    Raises:
        HatchwayError: the command is refused, or the connection breaks off again and again.
    """
    return await _test(container, "-d", path)


async def is_there(container: Container, path: str) -> bool:
    """Return True when a path in a container exists, as `is_directory`."""
    return await _test(container, "-e", path)


async def _test(container: Container, what: str, path: str) -> bool:
    result, _ = await repeat_interrupted(container, lambda: container.ask(["test", what, path]), lambda: 0)
    return result.exit_code == 0
