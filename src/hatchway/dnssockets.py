"""Serves DNS on a UDP and a TCP socket (RFC 1035 section 4.2, RFC 7766), with a limit on TCP connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

# Seconds in which a client must send its next query by TCP, and in which it must read an answer.
_IDLE_SECONDS = 10.0


class DnsSockets:
    """The sockets of a name server. Call `listen` or `use`, and `close` at the end.

    Args:
        on_datagram: called with each UDP datagram and its sender's address; it answers by `send`, now or later.
        answer_tcp: returns the answer to a message that came by TCP; None closes the connection.
        connections: the most TCP connections; each one beyond this number closes the oldest.
    """

    def __init__(
        self,
        on_datagram: Callable[[bytes, Any], None],
        answer_tcp: Callable[[bytes], Awaitable[bytes | None]],
        connections: int,
    ) -> None:
        self._on_datagram = on_datagram
        self._answer_tcp = answer_tcp
        self._most_connections = connections
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # The tasks of TCP connections, the oldest first.
        self._connections: dict[asyncio.Task[None], None] = {}

    async def listen(self, host: str, port: int) -> int:
        """Listen on an address, and return the port. port: 0 for any free port.

        Raises OSError when the address cannot be bound.
        """
        self._tcp = await asyncio.start_server(self._connected, host, port)
        bound: int = self._tcp.sockets[0].getsockname()[1]
        try:
            await self._open_udp(local_addr=(host, bound))
        except OSError:
            await self.close()
            raise
        return bound

    async def use(self, queries: socket.socket, connections: socket.socket) -> None:
        """Serve on a bound UDP socket and a listening TCP socket. They are closed with this object."""
        for sock in (queries, connections):
            sock.setblocking(False)
        await self._open_udp(sock=queries)
        self._tcp = await asyncio.start_server(self._connected, sock=connections)

    async def close(self) -> None:
        """Stop listening, and end connections and tasks."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task, which `close` cancels."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def send(self, message: bytes, address: Any) -> None:
        """Send a message by UDP. It is dropped when the socket is closed."""
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(message, address)

    async def _open_udp(self, **where: Any) -> None:
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._on_datagram), **where)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if len(self._connections) >= self._most_connections:
            # The oldest connection is probably an idle one that its client keeps open. Other connections end soon.
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()
        self._connections[task] = None
        try:
            await self._answer_queries(reader, writer)
            await _flush(writer)
        except (OSError, TimeoutError) as error:
            log.debug("a connection has ended: %s", error)
        except asyncio.CancelledError:
            # The server is closing, or has too many connections. asyncio would log a cancelled handler as an error.
            log.debug("a connection is closed by the server")
        finally:
            # `close` would keep the socket open until the client has read all answers, and nothing would count it.
            writer.transport.abort()
            self._connections.pop(task, None)
            self._tasks.discard(task)

    async def _answer_queries(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    message = await reader.readexactly(length)
            except (EOFError, TimeoutError):
                # The client has no more queries, but it may still read answers.
                return
            answer = await self._answer_tcp(message)
            if answer is None:
                return
            writer.write(len(answer).to_bytes(2, "big") + answer)
            async with asyncio.timeout(_IDLE_SECONDS):
                await writer.drain()


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Send what is buffered, and end the connection. Raises OSError, TimeoutError."""
    writer.close()
    async with asyncio.timeout(_IDLE_SECONDS):
        await writer.wait_closed()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Any], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)
