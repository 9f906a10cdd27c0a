"""The contract between the session of a remote command and the client's connection, for every protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from hatchway.wire import channels

# A function that starts a coroutine as a task. The function's owner cancels the task when the owner is closed.
Spawn = Callable[[Coroutine[Any, Any, None]], object]

# When more than INPUT_HIGH bytes of input wait for a process, nothing is read from its client until fewer than
# INPUT_LOW bytes wait.
INPUT_HIGH, INPUT_LOW = 256 * 1024, 64 * 1024


@dataclass(frozen=True, slots=True)
class WantedStreams:
    """The streams that a client has requested. tty: True when they are a terminal."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """The end of a command.

    exit_code: its exit code; None when it could not be run.
    message: why it could not be run.
    """

    exit_code: int | None
    message: str = ""

    def status(self) -> bytes:
        """Return the message for the channel ERROR in protocols since v4: a Status."""
        if self.exit_code is None:
            return channels.failure_status(self.message)
        return channels.exit_status(self.exit_code) if self.exit_code else channels.success_status()

    def text(self) -> bytes:
        """Return the message for the channel ERROR in older protocols: empty, or why the command failed."""
        if self.exit_code is None:
            return self.message.encode()
        code = self.exit_code
        if not code:
            return b""
        return f"command terminated with non-zero exit code: command terminated with exit code {code}".encode()


class CommandSession(Protocol):
    """A session of exec or attach, as the client's connection uses it."""

    def begin(self, client: CommandClient) -> None:
        """Begin the session: the client's streams are open now."""
        ...

    def receive_input(self, data: bytes) -> None:
        """Take a piece of standard input. `CommandClient.consume_input` is called when the process has taken it."""
        ...

    def end_input(self) -> None:
        """Close the process's standard input, because the client has ended its input."""
        ...

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size in characters."""
        ...

    def resume_output(self, channel: int) -> None:
        """Continue to send output on a channel: the client takes bytes again."""
        ...

    def lose_client(self) -> None:
        """End the session, because the client has disconnected. No other method is called after this."""
        ...


def take_size(session: CommandSession, data: bytes) -> None:
    """Set the size of a session's terminal from the data of the channel RESIZE. Malformed data is ignored."""
    with contextlib.suppress(channels.ChannelError):
        session.resize(*channels.decode_size(data))


class CommandClient(Protocol):
    """The client of a session."""

    def send(self, channel: int, data: bytes) -> bool:
        """Send output. channel: STDOUT or STDERR. Return False to get no more until `resume_output`."""
        ...

    def consume_input(self, count: int) -> None:
        """Record that the process has taken `count` bytes of input."""
        ...

    def finish(self, end: CommandEnd) -> None:
        """Send the command's result, and end the connection. The session is not called after this."""
        ...
