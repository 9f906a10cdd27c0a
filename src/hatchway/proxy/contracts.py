"""The contracts between the parts of the engine. The contract with routing functions is `routing.py`.

    ClientConnection  →  Dispatcher  →  an exchange  →  UpstreamConnection

Each part calls the part on its right directly, but knows exchanges only as `Exchange`. It calls the part on its left
through an interface: ClientConnection as `ConnectionControl`, Dispatcher as `ExchangeClient`, an exchange as
`Consumer`. Because of these interfaces, no two files import each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from hatchway.proxy.heads import Response
from hatchway.proxy.routing import Headers, ProxyError, Respond


class Exchange(Protocol):
    """An exchange under way, as the client's connection sees it."""

    @property
    def takes_bulk(self) -> bool:
        """Return True if `body_now` may be called in place of `body` and `flush`."""

    def body(self, data: bytes) -> None:
        """Take a piece of the request's body."""

    def body_now(self, data: memoryview) -> None:
        """Take a piece of a body of known length. `data` is valid only during the call."""

    def body_end(self, trailers: Headers) -> None:
        """Take the end of the request's body."""

    def flush(self) -> None:
        """Send on the pieces that `body` has collected. Called when no more bytes have arrived."""

    def client_full(self) -> None:
        """Stop writing: the write buffer is full, because the client reads too slowly."""

    def client_ready(self) -> None:
        """Continue to write: the write buffer has drained."""

    def client_lost(self) -> None:
        """End the exchange, and write nothing more: the client has disconnected, or the connection will be closed."""


class Writer(Protocol):
    """The writer of an exchange's response (`writer.py`).

    Attributes:
        status: the status of the response; 0 before its head is written.
    """

    status: int

    @property
    def begun(self) -> bool:
        """Return True if the head of the current exchange's response was written."""

    def send_interim(self, status: int, fields: bytes) -> None:
        """Send an interim response (1xx) at once."""

    def begin(self, status: int, start: bytes, fields: bytes, framed: bool) -> None:
        """Write a response's head.

        Args:
            status: the status code.
            start: the status line.
            fields: the end-to-end field lines.
            framed: True if `fields` has the body's length, or there is no body.
        """

    def send(self, data: bytes) -> None:
        """Add a piece of the body to the bytes that `push` writes."""

    def send_now(self, data: memoryview) -> None:
        """Write a piece of a body of known length at once."""

    def push(self) -> None:
        """Write the bytes that `begin` and `send` have collected."""


class ConnectionControl(Protocol):
    """A client's connection, as the dispatcher controls it (`clientconnection.py`)."""

    def hold(self, pause: bool = False) -> None:
        """Stop passing the request's body to the exchange until `release`. pause: stop reading from the client, too."""

    def release(self) -> None:
        """Undo `hold`."""

    def allow(self) -> None:
        """Undo `hold`, but do nothing else until `resume` is called."""

    def resume(self) -> None:
        """Continue with waiting requests and bodies."""

    def is_full(self) -> bool:
        """Return True while the write buffer is full, because the client reads too slowly."""

    def answered(self) -> None:
        """Continue after the response was written: read the next request, or close the connection."""

    def answered_at_once(self) -> bool:
        """Do what `answered` does if the connection is idle now; otherwise do nothing and return False."""

    def hand_over(self) -> bytes:
        """Give up the transport after a 101. Return the bytes that the client sent after its request."""

    def close(self) -> None:
        """Close the connection once all written bytes were sent."""

    def abort(self) -> None:
        """Close the connection at once, and end the current exchange."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the transport."""


class ExchangeClient(Protocol):
    """The client of an exchange, as the exchange sees it (`dispatch.py`).

    Attributes:
        transport: the client's transport.
        body_begun: True once the exchange was given a piece of the request's body.
    """

    transport: asyncio.Transport
    body_begun: bool

    @property
    def writer(self) -> Writer:
        """Return the writer of the response."""

    @property
    def body_pending(self) -> bool:
        """Return True if a part of the request's body was not read yet."""

    def hold(self, pause: bool = False) -> None:
        """Stop passing the request's body to the exchange until `release`. pause: stop reading from the client, too."""

    def release(self) -> None:
        """Undo `hold`."""

    def hold_head(self, head: bytes) -> bool:
        """Reserve memory for a response's head until the exchange ends. Return False when the budget is used up."""

    def release_heads(self) -> None:
        """Give back the memory that was reserved for heads. Call this when none of the heads is in memory any more."""

    def send_whole(self, status: int, head: bytes, body: bytes) -> None:
        """Send a complete response, and end a forwarded exchange. The `Exchange` object may then be used again.

        Args:
            status: the status code.
            head: the status line, the field lines (with Content-Length) and the empty line.
            body: the body.
        """

    def complete(self, trailers: Headers | None = None) -> None:
        """End the exchange, whose response was written except for its trailers."""

    def answer(self, respond: Respond, close: bool = False) -> None:
        """Send a complete response, and end the exchange. close: True to close the connection afterwards."""

    def fail(self, status: int, message: str, close: bool = False) -> None:
        """Answer with an error that the engine itself has found. If a response has begun, do what `cut` does."""

    def cut(self) -> None:
        """Close the connection in such a way that the client sees that the response is incomplete."""

    def abort(self) -> None:
        """Close the connection at once, and end the current exchange."""

    def hand_over(self, fields: bytes, rest: bytes) -> bytes:
        """Send a 101, and give up the transport.

        Args:
            fields: the field lines of the 101, with `Connection` and `Upgrade`.
            rest: bytes that the upstream sent after its 101.

        Returns:
            The bytes that the client sent after its request.
        """

    def handed_back(self, bytes_in: int, bytes_out: int) -> None:
        """Report the end of the transport that `hand_over` gave up.

        bytes_in: the number of bytes that came from the client after the 101.
        bytes_out: the number of bytes that were sent to the client after the 101.
        """


class Consumer(Protocol):
    """The exchange that uses an upstream's connection, as that connection sees it.

    For a complete response, the connection calls `upstream_whole`. Otherwise it calls `upstream_head`; `upstream_body`
    and `upstream_flush` for each piece; and `upstream_end`. Calls of `upstream_interim` may come before. The sequence
    may end early with `upstream_lost` or `upstream_switched`.
    """

    def upstream_whole(self, response: Response, body: bytes) -> None:
        """Take a complete response. The connection already belongs to the pool again."""

    def upstream_interim(self, response: Response) -> None:
        """Take an interim response (1xx, not 101)."""

    def upstream_head(self, response: Response) -> None:
        """Take the final response's head."""

    def upstream_body(self, data: bytes) -> None:
        """Take a piece of the response's body."""

    def upstream_bulk(self) -> Callable[[memoryview], None] | None:
        """Return a function that takes the rest of a long body in place of `upstream_body`; None to decline."""

    def upstream_flush(self) -> None:
        """Send on the pieces that `upstream_body` has collected. Called when no more bytes have arrived."""

    def upstream_end(self, trailers: Headers) -> None:
        """Take the end of the response. The connection already belongs to the pool again."""

    def upstream_switched(self, response: Response, rest: bytes) -> None:
        """Take over the transport after a 101. rest: the bytes after the head."""

    def upstream_lost(self, error: ProxyError) -> None:
        """Handle the loss of the connection."""

    def upstream_full(self) -> None:
        """Stop writing: the write buffer is full."""

    def upstream_ready(self) -> None:
        """Continue to write: the write buffer has drained."""


class OpenConnection(Protocol):
    """A client's connection, as its listener's context sees it.

    Attributes:
        deadline: the time at which `deadline_passed` is called, by the coarse clock; infinite for never.
    """

    deadline: float

    def deadline_passed(self) -> None:
        """End the connection, because its deadline has passed."""

    def shut_down(self) -> None:
        """Close after the current exchange; at once when there is none."""

    def abort(self) -> None:
        """Close the connection at once, and end the current exchange."""


class BulkConnection(Protocol):
    """A protocol whose long bodies a `BulkReader` (`bulk.py`) can read."""

    transport: asyncio.Transport

    @property
    def bulk_left(self) -> int:
        """Return how many bytes of the body are still to come, at least 1."""

    def bulk_received(self, data: memoryview) -> bool:
        """Take a piece of the body, without any byte after the body. `data` is valid only during the call.

        Returns:
            False when it was the last piece.
        """

    def data_received(self, data: bytes) -> None:
        """Take bytes. This method and those below are the methods of `asyncio.Protocol`."""

    def eof_received(self) -> bool | None:
        """Handle the end of the peer's bytes: it has shut its sending side."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the transport."""

    def pause_writing(self) -> None:
        """Stop writing: the write buffer is full."""

    def resume_writing(self) -> None:
        """Continue to write: the write buffer has drained."""


class ProtocolWithTransport(Protocol):
    """A protocol to which `transports.py` gives a socket's transport; its `connection_made` sets `transport`."""

    transport: asyncio.Transport
