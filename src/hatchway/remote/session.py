"""Runs a remote command on this process's standard streams and terminal, and returns its result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from hatchway.errors import HatchwayError
from hatchway.kube.streams.remotecommand import RemoteCommand
from hatchway.remote import console
from hatchway.remote.outcome import describe
from hatchway.wire.channels import STDERR, CommandResult

_ENDLESS: Final = (
    b"note: this API server cannot end a command's input (it supports neither v5.channel.k8s.io nor SPDY); end the "
    b"command with Ctrl-C if it waits for more input\n"
)

# Opens the command. Called after the terminal was made ready.
Open = Callable[[], Awaitable[RemoteCommand]]


async def run_session(open_command: Open, *, stdin: bool, tty: bool, first: bytes = b"") -> CommandResult:
    """Run a command on this process's standard streams; return its result.

    The terminal is restored when this returns or raises. Use it inside `console.ending_signals`, which turns signals
    into exceptions.

    Args:
        open_command: opens the command.
        stdin: True to send this process's standard input to the command.
        tty: True when the command has a terminal; the size of the local terminal is sent to it.
        first: input to send before this process's input.

    Raises:
        ApiError: the server refuses the command, or cannot be reached.
        HatchwayError: the connection was lost.
        BrokenPipeError: the reader of this process's output has closed its end.
    """
    command = await open_command()
    try:
        with _terminal(command, stdin=stdin, tty=tty):
            if first:
                await command.write(first)
            return await _relay(command, stdin=stdin)
    finally:
        command.close()


@contextlib.contextmanager
def _terminal(command: RemoteCommand, *, stdin: bool, tty: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if tty:
            if stdin and console.is_terminal(console.STDIN):
                stack.enter_context(console.raw_terminal())
            stack.enter_context(console.size_changes(command.resize))
        yield


async def _relay(command: RemoteCommand, *, stdin: bool) -> CommandResult:
    feeding = asyncio.create_task(_feed(command), name="standard input") if stdin else None
    try:
        while (piece := await command.receive()) is not None:
            channel, data = piece
            await console.write_output(console.STDERR if channel == STDERR else console.STDOUT, data)
        return await command.result()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise HatchwayError(
            f"the connection was lost while the command ran: {error}", "the command may still run"
        ) from error
    finally:
        if feeding is not None:
            feeding.cancel()
            await asyncio.wait([feeding])


async def _feed(command: RemoteCommand) -> None:
    """Send standard input, and its end, to the command."""
    with contextlib.suppress(BrokenPipeError):
        while data := await console.read_input():
            await command.write(data)
        if command.can_end_input:
            command.end_input()
        else:
            # This happens only with v4.channel.k8s.io over a WebSocket, which kubectl never uses.
            await console.write_output(console.STDERR, _ENDLESS)


def exit_code(result: CommandResult, where: str) -> int:
    """Return the exit code of a command. Raises HatchwayError when the command could not be run."""
    code, message = describe(result)
    if message:
        raise HatchwayError(f"{where}: {message}")
    return code
