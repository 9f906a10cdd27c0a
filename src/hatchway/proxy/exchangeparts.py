"""Parts of a forwarded exchange (`exchange.py`): states, edited response heads, responses that are held back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from enum import Enum
from typing import Final, NamedTuple

from hatchway.proxy import heads
from hatchway.proxy.cache import CachedHead, RelayedHead
from hatchway.proxy.fields import end_to_end, field_line
from hatchway.proxy.heads import Request, Response
from hatchway.proxy.routing import Forward, ProxyError, Reconsider, Respond, Transform

logger = logging.getLogger("hatchway.proxy")


class ExchangeState(Enum):
    """The state of a forwarded exchange."""

    DIALING = "a connection is being opened"
    REDIALING = "a connection is being opened in place of an idle one that the upstream has closed"
    WAITING = "the request is sent, and the head of the final response has not arrived"
    HOLDING = "the routing function may replace the response: its body is collected"
    DECIDING = "the routing function reconsiders, or explains an error"
    RELAYING = "the response's head was relayed"
    OVER = "ended: nothing more is sent to the client or to an upstream"


class HeldBack:
    """A response that is held back while the routing function may replace it.

    Attributes:
        response: the response's head.
        decide: the function that `Forward.reconsider` has returned.
        size: the number of body bytes that have arrived.
    """

    LIMIT: Final = 64 * 1024

    __slots__ = ("_pieces", "decide", "response", "size")

    def __init__(self, response: Response, decide: Reconsider) -> None:
        """Hold back a response, whose body `add` collects."""
        self.response = response
        self.decide = decide
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Add a piece of the body."""
        self.size += len(data)
        self._pieces.append(data)

    @property
    def is_too_long(self) -> bool:
        """Return True if the body is too long to be held back."""
        return self.size > self.LIMIT

    def body(self) -> bytes:
        """Return the part of the body that has arrived."""
        return b"".join(self._pieces)

    async def decision(self) -> Respond | Forward | None:
        """Ask the routing function for its decision. After an exception return None: the response is relayed."""
        try:
            return await self.decide(self.body())
        except Exception:  # an error of the routing function's code
            logger.exception("reconsidering a response failed")
            return None


class EditedHead(NamedTuple):
    """The head of a response as it is sent to the client.

    Attributes:
        status: the status code.
        lines: the status line and field lines, including Content-Length if it is known.
        added: the field line that differs for each request (`RequestHead.answer_field`); b"" for none.
        framed: True if `lines` has the body's length, or there is no body.
        transform: changes the body; None to relay it unchanged.
    """

    status: int
    lines: bytes
    added: bytes
    framed: bool
    transform: Transform | None


async def explain(explained: Awaitable[Respond | Forward], forward: Forward, error: ProxyError) -> Respond | Forward:
    """Await the routing function's explanation of an error; after an exception, use `forward.error_response(error)`."""
    try:
        return await explained
    except Exception:  # an error of the routing function's code
        logger.exception("explaining an error failed")
        return forward.error_response(error)


class EditFailed(Exception):
    """`Forward.edit_response` has raised an exception, which is the `__cause__`."""


def edit_head(
    request: Request,
    forward: Forward,
    response: Response,
    added: tuple[bytes, bytes] | None,
    cached: CachedHead | None,
) -> EditedHead:
    """Return the head of `response` for the client. Store it in `cached` if it may be relayed again unchanged.

    Args:
        request: the client's request.
        forward: the decision by which the request was sent.
        response: the upstream's response.
        added: a field that replaces the response's fields with the same name; None for none.
        cached: the cached decision about the request's head; None when it is not cached.

    Raises:
        EditFailed: the routing function has raised an exception.
        BadMessage: a field contains a line break.
    """
    head, start = response.head, response.start
    status = head.status
    transform = None
    if forward.edit_response is not None:
        head = response.copy_head()
        try:
            transform = forward.edit_response(head)
        except Exception as error:
            raise EditFailed from error
        if head.status != status or head.reason != response.head.reason:
            start = heads.status_line(head.status)
    headers = head.headers
    name = line = b""
    if added is not None:
        name = added[0]
        lower = name.lower()
        headers = [field for field in headers if field[0].lower() != lower]
        line = field_line(*added)
    lines = start + end_to_end(headers)
    known = response.body >= 0 and transform is None
    bodiless = heads.bodiless(request.method, head.status)
    if known and head.status != 204:
        lines += b"Content-Length: %d\r\n" % response.body
    watched = transform is not None or (status >= 400 and forward.reconsider is not None)
    if cached is not None and response.final and not watched and request.upgrade is None:
        whole = b"" if name else lines + b"\r\n"
        cached.relayed = RelayedHead(forward, response.block, name, head.status, lines, whole)
    return EditedHead(head.status, lines, line, known or bodiless, None if bodiless else transform)
