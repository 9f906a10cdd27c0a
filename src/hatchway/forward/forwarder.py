"""The forwards of one command: their listeners, their connections, and their state."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hatchway.errors import HatchwayError
from hatchway.forward.datagrams import DatagramPort, Flow
from hatchway.forward.localports import PlannedForward
from hatchway.forward.localsockets import listen_tcp, listen_udp, listen_unix
from hatchway.proxy.join import EarlyReceiver, JoinEnd, join, reset
from hatchway.route.contract import ByteRoute, TargetUnreached
from hatchway.route.podport import ReadyPods

# Seconds for which a connection waits for a ready pod and for the API server.
_PATIENCE = 15.0
# The same error of a forward is reported at most once in this many seconds.
_TOLD_SECONDS = 10.0
# The maximum number of bytes that one side has not read yet. Beyond this, reading from the other side is paused.
_BUFFER = 256 * 1024


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address at which a forward listens: an IP address and a port, or the path of a Unix socket."""

    address: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return self.path or f"{host}:{self.port}"


class Carried(Protocol):
    """A client's connection, or its flow of datagrams."""

    @property
    def sent(self) -> int:
        """Return the number of bytes received from the client."""
        ...

    @property
    def received(self) -> int:
        """Return the number of bytes received from the target."""
        ...

    def abort(self) -> None:
        """Close the connection or flow at once."""
        ...


class LocalForward:
    """A forward that listens.

    planned: the port that is forwarded.
    listen: the address at which it listens.
    connections: the connections that are open now; for UDP, the flows of clients.
    total: the number of connections since the start. failed: the number of connections that reached no pod.
    problem: why the last connection reached no pod; "" when it reached a pod.
    """

    def __init__(self, planned: PlannedForward, listen: ListenAddress) -> None:
        self.planned = planned
        self.listen = listen
        self.connections: set[Carried] = set()
        self.total = 0
        self.failed = 0
        self.problem = ""
        self._sent = 0
        self._received = 0
        self._told: dict[str, float] = {}

    @property
    def sent(self) -> int:
        """Return the number of bytes sent to the target."""
        return self._sent + sum(one.sent for one in self.connections)

    @property
    def received(self) -> int:
        """Return the number of bytes received from the target."""
        return self._received + sum(one.received for one in self.connections)

    def begun(self, connection: Carried) -> None:
        """Count a connection of a client."""
        self.connections.add(connection)
        self.total += 1

    def ended(self, connection: Carried) -> None:
        """Remove an ended connection, and add its bytes to the totals."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._sent += connection.sent
            self._received += connection.received

    def is_news(self, message: str) -> bool:
        """Return True if a message should be reported, and record it; False if it was reported a short while ago."""
        now = time.monotonic()
        self._told = {text: since for text, since in self._told.items() if now - since < _TOLD_SECONDS}
        if message in self._told:
            return False
        self._told[message] = now
        return True


# A function that is called with each error: the forward, a message of one line, and a hint ("" for none).
Tell = Callable[[LocalForward, str, str], None]


class LocalConnection(EarlyReceiver):
    """A client's connection, from its acceptance until it is joined with a connection to a pod."""

    def __init__(self, forwarder: Forwarder, forward: LocalForward) -> None:
        super().__init__()
        self._forwarder = forwarder
        self._forward = forward
        self._task: asyncio.Task[None] | None = None
        self._ends: tuple[JoinEnd, JoinEnd] | None = None

    @property
    def sent(self) -> int:
        """Return the number of bytes received from the client."""
        return self._ends[0].received if self._ends is not None else 0

    @property
    def received(self) -> int:
        """Return the number of bytes received from the pod."""
        return self._ends[1].received if self._ends is not None else 0

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open a connection to a pod."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_BUFFER)
        self._forward.begun(self)
        # By the next turn of the loop, the client's first bytes have often arrived, and are sent together with the
        # request to open the connection to the pod.
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        if self.transport.is_closing():
            return
        far = self._forwarder.route.connect_now(self._forward.planned.target)
        if far is not None:
            self._join(far)
        else:
            self._task = self._forwarder.spawn(self._connect())

    async def _connect(self) -> None:
        forward = self._forward
        try:
            far = await self._forwarder.route.connect(forward.planned.target, _PATIENCE)
        except TargetUnreached as error:
            self._forwarder.failed(forward, error)
            reset(self.transport)
            return
        finally:
            self._task = None
        self._join(far)

    def _join(self, far: asyncio.Transport) -> None:
        self._forward.problem = ""
        if self.transport.is_closing():
            far.abort()
            return
        far.set_write_buffer_limits(high=_BUFFER)
        self._ends = join(self, far, self._joined_ended)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop connecting: the client has disconnected before it was joined with a pod."""
        if self._task is not None:
            self._task.cancel()
        self._forward.ended(self)

    def _joined_ended(self, error: Exception | None) -> None:
        self._forward.ended(self)
        if isinstance(error, TargetUnreached):
            self._forwarder.failed(self._forward, error)


class _Flows:
    """Counts the flows of a UDP forward like connections (`datagrams.FlowOwner`)."""

    def __init__(self, forwarder: Forwarder, forward: LocalForward) -> None:
        self._forwarder = forwarder
        self._forward = forward

    def spawn(self, coroutine: object) -> asyncio.Task[None]:
        return self._forwarder.spawn(coroutine)

    def begun(self, flow: Flow) -> None:
        self._forward.begun(flow)

    def ended(self, flow: Flow) -> None:
        self._forward.ended(flow)

    def reached(self) -> None:
        self._forward.problem = ""

    def failed(self, error: TargetUnreached) -> None:
        self._forwarder.failed(self._forward, error)


class Forwarder:
    """Listens, and carries connections to the targets."""

    def __init__(self, route: ByteRoute, tell: Tell) -> None:
        """Make a forwarder. tell: called with errors, but only once in `_TOLD_SECONDS` with the same message."""
        self.route = route
        self.forwards: list[LocalForward] = []
        self._tell = tell
        self._address_of: Callable[[PlannedForward], str] = lambda planned: "127.0.0.1"
        self._unix: Callable[[PlannedForward], str] | None = None
        # For each forward, the function that closes its listener.
        self._listeners: dict[LocalForward, Callable[[], None]] = {}
        # Forwards that no longer listen; their connections may still be open.
        self._closed: list[LocalForward] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(
        self,
        planned: list[PlannedForward],
        address_of: Callable[[PlannedForward], str],
        unix: Callable[[PlannedForward], str] | None = None,
    ) -> AsyncIterator[list[LocalForward]]:
        """Return a context manager that listens while its block runs.

        The block gets the list of forwards, which `open` and `close` change.

        Args:
            planned: the ports to forward.
            address_of: returns the local address of each forward.
            unix: returns the path of a Unix socket for each forward, in place of an address.

        Raises:
            HatchwayError: a forward cannot listen.
        """
        self._address_of, self._unix = address_of, unix
        try:
            for one in planned:
                await self.open(one)
            yield self.forwards
        finally:
            for forward in list(self.forwards):
                self.close(forward)
            for forward in self._closed:
                for connection in list(forward.connections):
                    connection.abort()
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def open(self, planned: PlannedForward) -> LocalForward:
        """Listen for one more forward. Call it only in the block of `listening`.

        Raises:
            HatchwayError: the forward cannot listen.
        """
        path = self._unix(planned) if self._unix is not None else ""
        if planned.protocol == "UDP":
            if path:
                raise HatchwayError(f"{planned.label}: a Unix socket carries TCP only", "leave --unix-socket out")
            sock = listen_udp(self._address_of(planned), planned.local, planned.label, exact=planned.exact)
        elif path:
            sock = listen_unix(path, planned.label)
        else:
            sock = listen_tcp(self._address_of(planned), planned.local, planned.label, exact=planned.exact)
        place = ListenAddress(path=path) if path else ListenAddress(*sock.getsockname()[:2])
        forward = LocalForward(planned, place)
        try:
            self._listeners[forward] = await self._serve(forward, sock)
        except BaseException:
            sock.close()
            raise
        self.forwards.append(forward)
        return forward

    async def _serve(self, forward: LocalForward, sock: socket.socket) -> Callable[[], None]:
        """Serve a listening socket. Return a function that stops serving and closes the socket."""
        loop = asyncio.get_running_loop()
        if forward.planned.protocol == "UDP":
            owner = _Flows(self, forward)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: DatagramPort(self.route, forward.planned.target, owner), sock=sock
            )
            return transport.abort
        make = _connection_maker(self, forward)
        create = (
            loop.create_unix_server(make, sock=sock) if forward.listen.path else loop.create_server(make, sock=sock)
        )
        server = await create

        def end() -> None:
            server.close()
            sock.close()

        return end

    def close(self, forward: LocalForward) -> None:
        """Stop listening for a forward. Open TCP connections continue until they end by themselves; UDP flows end."""
        self._listeners.pop(forward)()
        if forward.listen.path:
            Path(forward.listen.path).unlink(missing_ok=True)
        self.forwards.remove(forward)
        self._closed = [one for one in self._closed if one.connections]
        self._closed.append(forward)

    def spawn(self, coroutine: object) -> asyncio.Task[None]:
        """Start a task of a connection, which ends with the forwarder."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine, name="forward")  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a forwarded connection failed", "exception": error, "task": task}
            )

    def failed(self, forward: LocalForward, error: TargetUnreached) -> None:
        """Count and report a connection that has reached no pod."""
        forward.failed += 1
        forward.problem = error.message
        if forward.is_news(error.message):
            self._tell(forward, error.message, error.hint)

    async def ready_pods(self, forward: LocalForward) -> ReadyPods:
        """Return the ready pods behind a forward; when they cannot be read, no pods and the reason."""
        try:
            return await self.route.ready_pods(forward.planned.target)
        except TargetUnreached as error:
            return ReadyPods((), error.message)


def _connection_maker(forwarder: Forwarder, forward: LocalForward) -> Callable[[], LocalConnection]:
    return lambda: LocalConnection(forwarder, forward)
