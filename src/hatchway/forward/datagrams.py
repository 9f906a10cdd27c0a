"""A local UDP port that leads to a target: each client has a flow, which ends after a time without datagrams."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Protocol, cast

from hatchway.route.contract import ByteRoute, DatagramLink, TargetUnreached
from hatchway.target import Target

# The maximum number of clients of one port; a further client replaces the client that was silent for longest.
MOST_FLOWS: Final = 256
# A flow without datagrams ends after this many seconds, as in the address translation of routers (RFC 4787
# requires two minutes). `_SWEEP_SECONDS`: the time between two searches for silent flows.
IDLE_SECONDS: Final = 120.0
_SWEEP_SECONDS: Final = 10.0
# The maximum number of datagrams of a client, and the maximum number of bytes, that are buffered while its link to the
# target is opened.
_MOST_KEPT, _MOST_BYTES = 16, 64 * 1024


class FlowOwner(Protocol):
    """The part of a forward that its flows use."""

    def spawn(self, coroutine: object) -> asyncio.Task[None]:
        """Start a task; it is cancelled when the forward ends."""
        ...

    def begun(self, flow: Flow) -> None:
        """Count a flow."""
        ...

    def ended(self, flow: Flow) -> None:
        """Remove a flow that has ended, and add its bytes to the totals."""
        ...

    def reached(self) -> None:
        """Record that the target has answered."""
        ...

    def failed(self, error: TargetUnreached) -> None:
        """Record that the target could not be reached, or that the link to it was lost."""
        ...


class Flow:
    """The datagrams of one client.

    sent, received: the number of bytes to and from the target.
    """

    def __init__(self, port: DatagramPort, client: tuple[Any, ...]) -> None:
        self.sent = 0
        self.received = 0
        self.used_at = time.monotonic()
        self._port = port
        self._client = client
        self._link: DatagramLink | None = None
        self._kept: list[bytes] = []
        self._opening: asyncio.Task[None] | None = None

    def send(self, data: bytes) -> None:
        """Send a datagram of the client."""
        self.used_at = time.monotonic()
        self.sent += len(data)
        if self._link is not None:
            self._link.send(data)
            return
        if len(self._kept) < _MOST_KEPT and sum(map(len, self._kept)) + len(data) <= _MOST_BYTES:
            self._kept.append(data)
        if self._opening is None:
            self._opening = self._port.owner.spawn(self._open())

    async def _open(self) -> None:
        try:
            self._link = await self._port.route.connect_datagrams(self._port.target, self._receive, self._ended)
        except TargetUnreached as error:
            self._port.lost(self, error)
            return
        kept, self._kept = self._kept, []
        for data in kept:
            self._link.send(data)

    def _receive(self, data: bytes) -> None:
        self.used_at = time.monotonic()
        self.received += len(data)
        self._port.owner.reached()
        self._port.send_to(self._client, data)

    def _ended(self, error: TargetUnreached | None) -> None:
        self._port.lost(self, error)

    def abort(self) -> None:
        """End the flow: stop opening its link, or close it."""
        if self._opening is not None:
            self._opening.cancel()
        if self._link is not None:
            self._link.close()


class DatagramPort(asyncio.DatagramProtocol):
    """The protocol of a local UDP socket."""

    def __init__(self, route: ByteRoute, target: Target, owner: FlowOwner) -> None:
        """Make the protocol of one socket.

        route: carries the datagrams. target: receives them. owner: is notified of the flows' events.
        """
        self.route = route
        self.target = target
        self.owner = owner
        self._transport: asyncio.DatagramTransport | None = None
        # The flows by client; the flow that was silent for longest comes first.
        self._flows: dict[tuple[Any, ...], Flow] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the socket's transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._sweep()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Send a datagram by the flow of its client; a new client gets a new flow."""
        flow = self._flows.pop(addr, None)
        if flow is None:
            if len(self._flows) >= MOST_FLOWS:
                self._end(next(iter(self._flows)))
            flow = Flow(self, addr)
            self.owner.begun(flow)
        self._flows[addr] = flow
        flow.send(data)

    def error_received(self, exc: Exception) -> None:
        """Do nothing: one client is gone, and the other clients remain."""

    def send_to(self, client: tuple[Any, ...], data: bytes) -> None:
        """Send a datagram to a client."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, client)

    def lost(self, flow: Flow, error: TargetUnreached | None) -> None:
        """Remove a flow whose link could not be opened or was lost. The client's next datagram begins another flow."""
        for client, known in list(self._flows.items()):
            if known is flow:
                del self._flows[client]
                self.owner.ended(flow)
        if error is not None:
            self.owner.failed(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """End all flows."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for client in list(self._flows):
            self._end(client)

    def _end(self, client: tuple[Any, ...]) -> None:
        flow = self._flows.pop(client)
        flow.abort()
        self.owner.ended(flow)

    def _sweep(self) -> None:
        limit = time.monotonic() - IDLE_SECONDS
        for client, flow in list(self._flows.items()):
            if flow.used_at < limit:
                self._end(client)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
