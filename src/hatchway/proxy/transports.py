"""Makes transports for sockets, with or without TLS. They are aiofastnet's transports, on any event loop.

They have two advantages over asyncio's own transports: TLS needs no Python call for each record, and `write` copies the
bytes that it cannot send at once, so that the caller's buffer is free when `write` returns. On uvloop, aiofastnet's
transports do not notice a reset right after data; `proxy/resets.py` does. A protocol that gets a transport from this
module must call `note_lost` in its `connection_lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl as ssl_module
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiofastnet

from hatchway.proxy.contracts import ProtocolWithTransport
from hatchway.proxy.handshaketimers import HandshakeTimers
from hatchway.proxy.limits import Limits
from hatchway.proxy.resets import ResetWatch

logger = logging.getLogger("hatchway.proxy")


Factory = Callable[[], ProtocolWithTransport]


async def connect(
    protocol: ProtocolWithTransport,
    opened: socket.socket | asyncio.Transport,
    limits: Limits,
    *,
    tls: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
) -> None:
    """Connect a protocol to a connected socket, or to a transport of any kind; with `tls`, do a TLS handshake first.

    Args:
        protocol: the protocol; its `connection_made` gets the transport.
        opened: the socket or the transport. A transport must not read yet; it is aborted when the handshake fails.
        limits: the listener's limits.
        tls: the context of a TLS client; None for no TLS.
        server_hostname: the name for SNI and for verifying the certificate; None for neither.

    Raises:
        OSError: the handshake has failed, or the peer has closed the connection.
    """
    if not isinstance(opened, socket.socket):
        await _adopt(protocol, opened, limits, tls, server_hostname)
        return
    sock = opened
    sock.setblocking(False)
    _send_at_once(sock)
    loop = asyncio.get_running_loop()
    _watch(loop)
    options = _tls(tls, limits, limits.upstream_tls_timeout)
    if tls is not None:
        # asyncio requires a name. An address serves as "no name", because it is never sent as SNI (RFC 6066 section 3).
        options["server_hostname"] = server_hostname or "0.0.0.0"
    owner = _Owner(lambda: protocol)
    timers = HandshakeTimers(loop)
    making = aiofastnet.create_connection(cast(Any, timers), owner, sock=sock, **options)
    try:
        await _make(making, owner, sock, patient=True)
    finally:
        timers.end()


async def accept(
    factory: Factory, sock: socket.socket, limits: Limits, tls: ssl_module.SSLContext | None = None
) -> None:
    """Connect a protocol to an accepted socket; with `tls`, do a TLS handshake as server first. Raises OSError."""
    _send_at_once(sock)
    loop = asyncio.get_running_loop()
    _watch(loop)
    owner = _Owner(factory)
    timers = HandshakeTimers(loop)
    making = aiofastnet.connect_accepted_socket(
        cast(Any, timers), owner, sock, **_tls(tls, limits, limits.head_timeout)
    )
    try:
        await _make(making, owner, sock, patient=False)
    finally:
        timers.end()


def _send_at_once(sock: socket.socket) -> None:
    """Switch off Nagle's algorithm: it delays a small write until the ACK of the previous one, often for 40 ms.

    aiofastnet does this only for sockets with a protocol number (`socket.proto`); most accepted sockets have none.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # if the connection is already closed, the first write will fail
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _adopt(
    protocol: ProtocolWithTransport,
    transport: asyncio.Transport,
    limits: Limits,
    tls: ssl_module.SSLContext | None,
    server_hostname: str | None,
) -> None:
    if tls is None:
        transport.set_protocol(cast(asyncio.Protocol, protocol))
        cast(asyncio.Protocol, protocol).connection_made(transport)
        transport.resume_reading()
        return
    protocol.transport = transport  # `connection_lost` uses the attribute, also after a failed handshake
    timers = HandshakeTimers(asyncio.get_running_loop())
    options = _tls(tls, limits, limits.upstream_tls_timeout)
    context = options.pop("ssl")
    try:
        made = await aiofastnet.start_tls(
            cast(Any, timers),
            cast(Any, _Carrier(transport)),
            cast(asyncio.Protocol, protocol),
            context,
            server_hostname=server_hostname or "0.0.0.0",
            **options,
        )
    except BaseException as error:
        transport.abort()
        traceback.clear_frames(error.__traceback__)  # see `_make`
        raise
    finally:
        timers.end()
    cast(asyncio.Protocol, protocol).connection_made(made)


def note_lost(transport: asyncio.BaseTransport) -> None:
    """Report that a transport from `connect` or `accept` is closed. Call this in `connection_lost`."""
    ResetWatch.of(asyncio.get_running_loop()).forget(cast(asyncio.Transport, transport))


class _Carrier:
    """Wraps a transport of any kind, and adds the non-standard methods that aiofastnet's TLS needs."""

    def __init__(self, below: asyncio.Transport) -> None:
        self._below = below

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def get_extra_info(self, name: str, default: object = None) -> object:
        # aiofastnet reads the socket's descriptor, but only for debug output.
        return self if name == "socket" else self._below.get_extra_info(name, default)

    def fileno(self) -> int:
        return -1

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        # aiofastnet's TLS protocol is a BufferedProtocol; other transports may only support `data_received`.
        fed = _Feeder(protocol) if isinstance(protocol, asyncio.BufferedProtocol) else protocol
        self._below.set_protocol(fed)

    def _force_close(self, _error: BaseException | None) -> None:
        self._below.abort()


class _Feeder(asyncio.Protocol):
    """Copies received bytes into the buffers of a BufferedProtocol."""

    def __init__(self, fed: asyncio.BufferedProtocol) -> None:
        self._fed = fed

    def data_received(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            buffer = memoryview(self._fed.get_buffer(len(left)))
            size = min(len(buffer), len(left))
            buffer[:size] = left[:size]
            self._fed.buffer_updated(size)
            left = left[size:]

    def eof_received(self) -> bool | None:
        return self._fed.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fed.connection_lost(exc)

    def pause_writing(self) -> None:
        self._fed.pause_writing()

    def resume_writing(self) -> None:
        self._fed.resume_writing()


class _Owner:
    """A protocol factory that remembers the protocol that it has made."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._protocol: ProtocolWithTransport | None = None

    def __call__(self) -> asyncio.Protocol:
        self._protocol = self._factory()
        return cast(asyncio.Protocol, self._protocol)

    def abort(self) -> None:
        """Abort the protocol's transport, if it has one."""
        transport: asyncio.Transport | None = getattr(self._protocol, "transport", None)
        if transport is not None:
            transport.abort()


async def _make(making: Awaitable[tuple[Any, Any]], owner: _Owner, sock: socket.socket, *, patient: bool) -> None:
    """Await the transport for `sock`, and watch the socket for a reset by the peer from now on.

    After an error the caller may close `sock` at once.

    patient: see `ResetWatch.begin`.
    """
    watch = ResetWatch.of(asyncio.get_running_loop())
    fd = sock.fileno()
    peer = None
    try:
        async with asyncio.timeout(None) as opening:
            peer = watch.begin(fd, opening, patient=patient)
            transport, _ = await making
    except BaseException as error:
        if peer is not None:
            watch.end(peer)
        # If the task is cancelled in the same iteration of the loop in which the handshake ended, the transport would
        # close later than the caller closes the socket. A new socket may then get the same descriptor, and a loop with
        # selectors would treat it as already registered and never read it.
        owner.abort()
        # Break a reference cycle: the transport refers to the error, and the error's traceback to the transport's
        # frame.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, TimeoutError) and opening.expired():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
        raise
    if sock.fileno() == fd:
        watch.set_transport(peer, transport)
    else:
        watch.end(peer)  # the transport was closed before this task continued


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
    """Set a loop exception handler that ignores disconnections during a TLS handshake.

    aiofastnet reports them to the loop's exception handler, with the exception's class in place of an instance, which
    other handlers cannot print. The report is not needed: the caller of `connect` gets an exception, too, and a failed
    handshake of a client is no error of this process.
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
            logger.debug("a peer disconnected during its TLS handshake")
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)
