"""One SSH connection to a node, and TCP streams through it (RFC 4254 section 7.2, `direct-tcpip`).

asyncssh implements the protocol. Like OpenSSH's client, it uses `~/.ssh/config` with its jump hosts, the user's keys,
the agent, and `known_hosts`. A node whose key is not in `known_hosts` is refused.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import asyncssh

from hatchway.route.sshdestination import SshDestination

# Seconds for connecting to the node and for logging in.
_CONNECT_SECONDS: Final = 10.0
_LOGIN_SECONDS: Final = 20.0
# A request is sent to the node at this interval (seconds). When this many of them in a row have no answer, the
# connection counts as lost.
_ALIVE_SECONDS: Final = 10.0
_UNANSWERED: Final = 3
# The maximum number of bytes of one stream that the node may send before any of them is read (the window).
_WINDOW: Final = 2 * 1024 * 1024


class SshUnreached(Exception):
    """The node was not reached, or does not let the user in.

    message: what happened, one line.
    hint: what to do next.
    refused: True when the node has answered and has refused the user; False when it was not reached.
    """

    def __init__(self, message: str, hint: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.refused = refused


class SshLink:
    """The connection to one node. It is made when it is needed, and made again after it was lost."""

    def __init__(self, destination: SshDestination) -> None:
        self.destination = destination
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting = asyncio.Lock()

    async def open(self, host: str, port: int) -> SshStream:
        """Open a stream to an address as the node sees it.

        Returns:
            A transport that reads nothing until its protocol is set and `resume_reading` is called.

        Raises:
            SshUnreached: there is no connection to the node.
            ConnectionError: the node could not connect to the address; the message says why.
        """
        connection = await self.connect()
        try:
            _, stream = await connection.create_connection(
                lambda: SshStream((host, port)), host, port, encoding=None, window=_WINDOW
            )
        except asyncssh.ChannelOpenError as error:
            raise ConnectionRefusedError(error.reason.strip().rstrip(".") or "the node refused it") from error
        except (asyncssh.Error, OSError) as error:
            raise ConnectionError(f"the SSH connection was lost: {_reason(error)}") from error
        assert isinstance(stream, SshStream)
        return stream

    async def connect(self) -> asyncssh.SSHClientConnection:
        """Log in unless there is a connection, and return the connection. Raises SshUnreached."""
        async with self._connecting:
            if self._connection is None or self._connection.is_closed():
                self._connection = None
                self._connection = await self._log_in()
            return self._connection

    async def _log_in(self) -> asyncssh.SSHClientConnection:
        node = self.destination
        options: dict[str, Any] = {}
        if node.user:
            options["username"] = node.user
        if node.port:
            options["port"] = node.port
        if node.jump:
            options["tunnel"] = node.jump
        try:
            return await asyncssh.connect(
                node.host,
                **options,
                connect_timeout=_CONNECT_SECONDS,
                login_timeout=_LOGIN_SECONDS,
                keepalive_interval=_ALIVE_SECONDS,
                keepalive_count_max=_UNANSWERED,
                # Methods that ask for a password are excluded: there may be no person at a terminal.
                password_auth=False,
                kbdint_auth=False,
                # Compression would help little: most of the data is small, or compressed already.
                compression_algs=["none"],
            )
        except asyncssh.HostKeyNotVerifiable as error:
            hint = f"run `ssh {node}` once, compare the key it shows, and accept it"
            raise SshUnreached(f"ssh {node}: its host key is not known: {_reason(error)}", hint) from error
        except asyncssh.PermissionDenied as error:
            hint = f"`ssh {node} true` has to work without a question: load your key into the agent (`ssh-add`)"
            raise SshUnreached(f"ssh {node}: {_reason(error)}", hint, refused=True) from error
        except (asyncssh.Error, OSError, ValueError) as error:
            hint = f"does `ssh {node} true` work?"
            raise SshUnreached(f"ssh {node}: {_reason(error)}", hint) from error

    async def aclose(self) -> None:
        """End the connection and all streams in it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await connection.wait_closed()


class SshStream(asyncio.Transport, asyncssh.SSHTCPSession[bytes]):
    """An asyncio transport for a TCP stream through a node, with flow control and half-close in both directions."""

    def __init__(self, peer: tuple[str, int]) -> None:
        super().__init__()
        self._peer = peer
        self._channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._protocol: asyncio.Protocol | None = None
        self._reading = False
        self._closing = False
        self._lost = False
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()

    # Callbacks of asyncssh

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        """Store the channel; it is not read yet."""
        self._channel = chan
        chan.pause_reading()

    def data_received(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        """Pass bytes to the protocol."""
        if self._protocol is not None and not self._lost:
            self._protocol.data_received(data)

    def eof_received(self) -> bool:
        """Tell the protocol that the peer has ended its direction. Return True: the other direction goes on."""
        if self._protocol is None or self._lost:
            return True
        if not self._protocol.eof_received():
            self.close()
        return True

    def pause_writing(self) -> None:
        """Tell the protocol to stop writing, because the peer does not read."""
        if self._protocol is not None and not self._lost:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Tell the protocol to go on writing."""
        if self._protocol is not None and not self._lost:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol that the stream has ended."""
        self._closing = True
        self._report_loss(exc)

    def _report_loss(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._error = error
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    # Methods for the protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that is called from now on."""
        self._protocol = protocol  # type: ignore[assignment]
        if self._lost:
            self._lost = False
            self._loop.call_soon(self._report_loss, self._error)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        assert self._protocol is not None
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write bytes, which are copied."""
        channel = self._channel
        if channel is None or self._closing or not data:
            return
        try:
            channel.write(bytes(data))
        except OSError as error:
            self._fail(error)

    def writelines(self, list_of_data: Any) -> None:
        """Write several pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Return True: in SSH, each direction can end separately."""
        return True

    def write_eof(self) -> None:
        """End this direction, after the bytes that were written."""
        if self._channel is not None and not self._closing:
            self._channel.write_eof()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that wait for the node's window."""
        return self._channel.get_write_buffer_size() if self._channel is not None else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the numbers of waiting bytes at which `pause_writing` and `resume_writing` are called."""
        if self._channel is not None:
            self._channel.set_write_buffer_limits(high, low)

    def is_reading(self) -> bool:
        """Return True while received bytes are given to the protocol."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Pass no bytes to the protocol until `resume_reading`. The node then stops sending when its window is full."""
        self._reading = False
        if self._channel is not None and not self._lost:
            self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Pass the stored bytes, and all later bytes, to the protocol."""
        self._reading = True
        if self._channel is not None and not self._lost:
            # In the loop's next turn, because callers of `resume_reading` do not expect a callback during the call.
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._reading and self._channel is not None and not self._lost:
            self._channel.resume_reading()

    def is_closing(self) -> bool:
        """Return True after the stream was closed or lost."""
        return self._closing

    def close(self) -> None:
        """End the stream after the written bytes were sent."""
        if not self._closing:
            self._closing = True
            if self._channel is not None:
                self._channel.close()

    def abort(self) -> None:
        """End the stream at once."""
        self._fail(None)

    def _fail(self, error: Exception | None) -> None:
        self._closing = True
        if self._channel is not None and not self._lost:
            self._channel.abort()
        # Report the end at once: the node may confirm it much later.
        self._loop.call_soon(self._report_loss, error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the peer's address for `peername`; there is no socket."""
        return self._peer if name == "peername" else default


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, asyncssh.Error):
        return error.reason.strip().splitlines()[0].rstrip(".") if error.reason.strip() else type(error).__name__
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.strip().splitlines()[0]
