"""Sockets become transports here: aiofastnet's, on whatever loop runs.

They differ from asyncio's own in what the data path relies on: TLS without a Python call for each record, and a write
that copies what it cannot send at once, so that the caller's buffer is free again when it returns.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import Any

import aiofastnet

from hatchway.proxy.limits import Limits

logger = logging.getLogger("hatchway.proxy")
Factory = Callable[[], asyncio.BaseProtocol]


async def connect(
    protocol: asyncio.BaseProtocol,
    sock: socket.socket,
    limits: Limits,
    *,
    tls: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
) -> None:
    """Give a connected socket to `protocol`, after a TLS handshake as its client with `tls`. Raises OSError."""
    loop = asyncio.get_running_loop()
    _watch(loop)
    if tls is None:
        await aiofastnet.create_connection(loop, lambda: protocol, sock=sock)
    else:
        await aiofastnet.create_connection(
            loop,
            lambda: protocol,
            sock=sock,
            # asyncio insists on a name; an address is never sent as SNI (RFC 6066 section 3).
            server_hostname=server_hostname or "0.0.0.0",
            **_tls(tls, limits, limits.upstream_tls_timeout),
        )


async def accept(
    factory: Factory, sock: socket.socket, limits: Limits, tls: ssl_module.SSLContext | None = None
) -> None:
    """Give an accepted socket to a protocol, after a TLS handshake as its server with `tls`. Raises OSError."""
    loop = asyncio.get_running_loop()
    _watch(loop)
    await aiofastnet.connect_accepted_socket(loop, factory, sock, **_tls(tls, limits, limits.head_timeout))


def _tls(context: ssl_module.SSLContext | None, limits: Limits, timeout: float) -> dict[str, Any]:
    if context is None:
        return {}
    return {
        "ssl": context,
        "ssl_handshake_timeout": timeout,
        "ssl_incoming_bio_size": limits.tls_buffer,
        "ssl_outgoing_bio_size": limits.tls_buffer,
    }


def _watch(loop: asyncio.AbstractEventLoop) -> None:
    """Keep a peer that hangs up during a TLS handshake from being reported as an error of ours.

    aiofastnet gives the loop's exception handler the class of that error instead of an instance, which no handler can
    print. Whoever dials is told by an exception as well, and of who dialed us there is nothing to say.
    """
    before = loop.get_exception_handler()
    if isinstance(before, _Handler):
        return
    loop.set_exception_handler(_Handler(before))


class _Handler:
    def __init__(self, before: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None) -> None:
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), type):
            logger.debug("a peer hung up during a TLS handshake")
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)
