"""Runs commands in containers (exec), or attaches to a container's process, through any API server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from hatchway.kube.client import ApiConnection
from hatchway.kube.streams import upgrade
from hatchway.kube.streams.commandlinks import ChannelLink, CommandLink, StreamsLink
from hatchway.kube.streams.knownprotocols import KnownProtocols
from hatchway.kube.streams.spdyconnection import SpdyConnection
from hatchway.wire import channels
from hatchway.wire.channels import STDERR, STDOUT, CommandResult

# The maximum number of bytes of output that are buffered until `receive` returns them.
_UNREAD: Final = 1024 * 1024

# The protocols that servers have accepted: for commands with input (True) and without (False).
_known = {True: KnownProtocols(), False: KnownProtocols()}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams of a command are opened.

    container: the container's name; "" for the pod's only or default container.
    stdin: True to send input.
    stdout, stderr: True to receive the command's standard output and its standard error.
    tty: True to run the command on a terminal. Its standard error is then part of `stdout`, so `stderr` is ignored.
    """

    container: str = ""
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False

    def query(self, command: Sequence[str]) -> str:
        """Return the URL's query as kubectl writes it, with sorted parameters."""
        pairs = [("command", word) for word in command]
        if self.container:
            pairs.append(("container", self.container))
        wanted = {
            "stderr": self.stderr and not self.tty,
            "stdin": self.stdin,
            "stdout": self.stdout,
            "tty": self.tty,
        }
        return urlencode([*pairs, *((name, "true") for name, value in wanted.items() if value)])

    @property
    def outputs(self) -> list[int]:
        """Return the channels of the command's output."""
        return [STDOUT] * self.stdout + [STDERR] * (self.stderr and not self.tty)


class RemoteCommand:
    """A command in a container (exec), or the container's own process (attach).

    Call `receive` until it returns None; then `result` returns how the command has ended. If the caller does not call
    `receive`, output is buffered up to about 1 MiB (WebSocket) or 16 MiB (SPDY); then the command's writes block.
    """

    def __init__(self) -> None:
        """Make a command without a connection. Callers use `exec` or `attach` instead."""
        self._link: CommandLink | None = None
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._outcome: CommandResult | Exception | None = None
        self._input_ended = False

    @classmethod
    async def exec(
        cls,
        connection: ApiConnection,
        namespace: str,
        pod: str,
        command: Sequence[str],
        options: StreamOptions,
    ) -> RemoteCommand:
        """Run a command. Raises ApiError: the server's error, or 503 when the server cannot be reached."""
        return await cls._open(connection, _path(namespace, pod, "exec", options.query(command)), options)

    @classmethod
    async def attach(cls, connection: ApiConnection, namespace: str, pod: str, options: StreamOptions) -> RemoteCommand:
        """Attach to a container's process. Raises ApiError as `exec` does."""
        return await cls._open(connection, _path(namespace, pod, "attach", options.query(())), options)

    @classmethod
    async def _open(cls, connection: ApiConnection, path: str, options: StreamOptions) -> RemoteCommand:
        """Open the command with the first protocol that the server accepts.

        v4.channel.k8s.io over a WebSocket cannot report the end of the input. So for commands with input this
        protocol is tried only after plain SPDY. (kubectl never offers it over a WebSocket.)
        """
        command = cls()

        def over_websocket(*protocols: channels.ChannelProtocol) -> Callable[[], Awaitable[CommandLink]]:
            async def way() -> CommandLink:
                upgraded = await upgrade.open_websocket(connection, path, [protocol.name for protocol in protocols])
                chosen = next(protocol for protocol in protocols if protocol.name == upgraded.protocol)
                link = ChannelLink(command, chosen, _UNREAD)
                upgraded.hand_over(link)
                return link

            return way

        async def over_spdy() -> CommandLink:
            upgraded = await upgrade.open_spdy(connection, path, [channels.V4.name])
            carrier = SpdyConnection(server=False, tunnel=False)
            upgraded.hand_over(carrier)
            return StreamsLink(command, carrier, options.outputs, has_input=options.stdin, has_size=options.tty)

        if options.stdin:
            ways = {
                "v5": over_websocket(channels.V5),
                "spdy": over_spdy,
                "v4": over_websocket(channels.V4),
            }
        else:
            ways = {"websocket": over_websocket(channels.V5, channels.V4), "spdy": over_spdy}
        command._link = await _known[options.stdin].try_in_order(connection, ways)
        return command

    @property
    def can_end_input(self) -> bool:
        """Return False when the protocol that the server has chosen cannot report the end of the input."""
        assert self._link is not None
        return self._link.can_end_input

    async def write(self, data: bytes) -> None:
        """Send input; wait while the connection is full. Raises BrokenPipeError after the end of command or input."""
        assert self._link is not None
        if self._outcome is not None or self._input_ended:
            raise BrokenPipeError("the command has ended" if not self._input_ended else "the input was ended")
        self._link.write(data)
        if self._link.is_full:
            self._room.clear()
            await self._room.wait()

    def end_input(self) -> None:
        """End the command's input. Allowed only when `can_end_input` is True."""
        assert self._link is not None
        if not self._input_ended:
            self._input_ended = True
            if self._outcome is None:
                self._link.end_input()

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal, in characters."""
        assert self._link is not None
        if self._outcome is None:
            self._link.resize(width, height)

    async def receive(self) -> tuple[int, bytes] | None:
        """Wait for output, and return it as (STDOUT or STDERR, bytes); None when the output has ended."""
        while not self._pieces:
            if self._outcome is not None:
                return None
            self._changed.clear()
            await self._changed.wait()
        channel, data = self._pieces.popleft()
        if self._link is not None and self._outcome is None:
            self._link.read(channel, len(data))
        return channel, data

    async def result(self) -> CommandResult:
        """Wait for the command's end, and return its result. Output that was not received is discarded.

        Raises ConnectionError, or another OSError, when the connection ended before the server reported the end.
        """
        while await self.receive() is not None:
            pass
        assert self._outcome is not None
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def close(self) -> None:
        """Close the connection at once. Whether the command continues to run depends on the server."""
        if self._link is not None:
            self._link.cut()
        self.ended(ConnectionError("the connection to the command was closed"))

    def abort(self) -> None:
        """Close the connection without a message to the server, when the command has ended or is no longer needed.

        Unlike `close`, it does not leave a TLS socket open until the server has closed its side.
        """
        if self._link is not None:
            self._link.abort()
        self.ended(ConnectionError("the connection to the command was aborted"))

    # Called by the link (`commandlinks.CommandUser`)

    def received(self, channel: int, data: bytes) -> None:
        """Buffer output for `receive`."""
        self._pieces.append((channel, data))
        self._changed.set()

    def has_room(self) -> None:
        """Wake up the writer."""
        self._room.set()

    def ended(self, outcome: CommandResult | Exception) -> None:
        """Record how the command has ended."""
        if self._outcome is None:
            self._outcome = outcome
            self._changed.set()
            self._room.set()


def _path(namespace: str, pod: str, subresource: str, query: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/{subresource}?{query}"
