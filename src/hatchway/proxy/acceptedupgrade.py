"""Upgrades that are not forwarded: a protocol from the routing function takes over the client's transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hatchway.proxy.context import Context

logger = logging.getLogger("hatchway.proxy")


class _Accepted(asyncio.Protocol):
    """Wraps the protocol of an accepted upgrade: counts the received bytes, and reports the end of the connection."""

    __slots__ = ("_context", "_done", "_protocol", "_transport", "received")

    def __init__(
        self,
        context: Context,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        done: Callable[[int, int], None],
    ) -> None:
        self._context = context
        self._transport = transport
        self._protocol = protocol
        self._done = done
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.transport_lost(self._transport)
        try:
            self._protocol.connection_lost(exc)
        except Exception:  # an error of the routing function's code; the connection has ended anyway
            logger.exception("the protocol of an upgraded connection failed in connection_lost")
        self._done(self.received, 0)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def take_over(
    context: Context,
    done: Callable[[int, int], None],
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    early: bytes,
) -> None:
    """Give a transport to `protocol`, after a 101.

    Args:
        context: the listener's context.
        done: called when the transport is closed, with the number of bytes that the client has sent, and with 0 for the
            bytes to the client, which are not counted.
        transport: the client's transport.
        protocol: the protocol. Its methods are called in the way in which an event loop calls them.
        early: bytes that the client sent right after its request; `data_received` gets them first.
    """
    accepted = _Accepted(context, transport, protocol, done)
    transport.set_protocol(accepted)
    try:
        protocol.connection_made(transport)
        if transport.get_write_buffer_size() > context.limits.buffer:
            protocol.pause_writing()
        if early and not transport.is_closing():
            accepted.data_received(early)
    except Exception:  # an error of the routing function's code
        logger.exception("the protocol of an upgraded connection failed")
        transport.abort()
