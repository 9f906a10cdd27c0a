"""Connections through a relay pod: the request and its answer, then the bytes or the datagrams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from hatchway.wire.podrelay import (
    AnswerReader,
    DatagramReader,
    RelayAnswer,
    RelayProtocolError,
    format_datagram,
)

# When this many bytes wait to be sent, datagrams are dropped.
_MOST_WAITING: Final = 256 * 1024


class RelayLost(Exception):
    """The relay ended the connection before it answered, or does not speak the protocol. The message says which."""


class _Handshake(asyncio.Protocol):
    """Waits for the relay's answer, and stores the bytes after it.

    answer: a future of the answer.
    early: the bytes after the answer.
    eof: True when the relay sends no more.
    lost: (error,) when the connection was lost; None until then.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.answer: asyncio.Future[RelayAnswer] = asyncio.get_running_loop().create_future()
        self.early = b""
        self.eof = False
        self.lost: tuple[Exception | None] | None = None
        self._transport = transport
        self._reader = AnswerReader()

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            self.early += data
            return
        try:
            found = self._reader.receive_data(data)
        except RelayProtocolError as error:
            self._fail(str(error))
            return
        if found is not None:
            self._transport.pause_reading()
            self.early = found.rest
            self.answer.set_result(found)

    def eof_received(self) -> bool:
        self.eof = True
        self._fail("the relay ended the connection")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = (exc,)
        self._fail(f"the connection to the relay was lost{f': {exc}' if exc is not None else ''}")

    def _fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(RelayLost(why))


async def ask(transport: asyncio.Transport, request: bytes, seconds: float) -> tuple[RelayAnswer, RelayStream]:
    """Send a request on a new connection to the relay, and wait for the answer.

    Returns:
        The answer, and a transport for the bytes after it. The transport reads nothing before `resume_reading`.

    Raises:
        RelayLost: there was no answer; the connection was aborted.
    """
    handshake = _Handshake(transport)
    transport.set_protocol(handshake)
    transport.resume_reading()
    transport.write(request)
    try:
        async with asyncio.timeout(seconds):
            answer = await handshake.answer
    except TimeoutError as error:
        raise RelayLost(f"no answer of the relay in {seconds:g} s") from error
    except BaseException:
        transport.abort()
        raise
    finally:
        if not handshake.answer.done() or handshake.answer.cancelled():
            transport.abort()
    return answer, RelayStream(transport, handshake)


class RelayStream(asyncio.Transport):
    """A TCP connection through a relay: uses the connection to the relay after the relay's answer."""

    __slots__ = ("_handshake", "_inner", "_protocol", "_wants")

    def __init__(self, inner: asyncio.Transport, handshake: _Handshake) -> None:
        super().__init__()
        self._inner = inner
        # The bytes after the relay's answer; None after they were given to the protocol.
        self._handshake: _Handshake | None = handshake
        self._protocol: asyncio.BaseProtocol | None = None
        self._wants = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol that gets the bytes from now on."""
        self._protocol = protocol
        kept = self._handshake
        if kept is not None and kept.lost is not None:
            # The connection has ended before a protocol was set, so it has not got `connection_lost`.
            self._wants = True
            asyncio.get_running_loop().call_soon(self._hand_over)
        else:
            self._inner.set_protocol(protocol)

    def resume_reading(self) -> None:
        """Pass bytes to the protocol again."""
        kept = self._handshake
        self._wants = True
        if kept is None:
            self._inner.resume_reading()
        elif kept.lost is None:
            # In the loop's next turn, because callers of `resume_reading` do not expect a callback during the call.
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Give the protocol the bytes after the answer, if it is reading; then go on reading."""
        kept, protocol = self._handshake, self._protocol
        if kept is None or protocol is None or not self._wants:
            return
        self._handshake = None
        if kept.lost is None and self._inner.is_closing():
            return
        if kept.early:
            protocol.data_received(kept.early)  # type: ignore[attr-defined]
        if kept.eof and not protocol.eof_received():  # type: ignore[attr-defined]
            self.close()
        if kept.lost is not None:
            protocol.connection_lost(kept.lost[0])
        elif self._wants:
            self._inner.resume_reading()

    def pause_reading(self) -> None:
        """Pass no bytes to the protocol until `resume_reading`."""
        self._wants = False
        if self._handshake is None:
            self._inner.pause_reading()

    def is_reading(self) -> bool:
        """Return True while received bytes are given to the protocol."""
        return self._wants

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        assert self._protocol is not None
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        self._inner.write(data)

    def writelines(self, list_of_data: Any) -> None:
        """Send bytes that come in pieces."""
        self._inner.writelines(list_of_data)

    def write_eof(self) -> None:
        """Send no more, and go on reading."""
        self._inner.write_eof()

    def can_write_eof(self) -> bool:
        """Return True: through the relay, each direction can end separately."""
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set how many bytes may wait before `pause_writing` is called."""
        self._inner.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return self._inner.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that wait to be written."""
        return self._inner.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Return True after the stream was closed."""
        return self._inner.is_closing()

    def close(self) -> None:
        """Close the connection after the buffered bytes were sent."""
        self._inner.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._inner.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a property of the connection to the relay (asyncio's names)."""
        return self._inner.get_extra_info(name, default)


class DatagramStream(asyncio.Protocol):
    """Datagrams to and from one address, over a connection to the relay (`contract.DatagramLink`)."""

    def __init__(
        self,
        transport: asyncio.Transport,
        request: bytes,
        receive: Callable[[bytes], None],
        ended: Callable[[RelayAnswer | None], None],
    ) -> None:
        """Send the request; datagrams may follow at once.

        Args:
            transport: a new connection to the relay.
            request: the request for a link to the address, as it is sent to the relay.
            receive: called with each datagram that comes.
            ended: called once at the end, with the relay's answer when it has refused.
        """
        self._transport = transport
        self._receive = receive
        self._tell_end: Callable[[RelayAnswer | None], None] | None = ended
        self._answer: AnswerReader | None = AnswerReader()
        self._datagrams = DatagramReader()
        transport.set_protocol(self)
        transport.resume_reading()
        transport.write(request)

    def send(self, data: bytes) -> None:
        """Send a datagram; it is dropped while too many wait."""
        if not self._transport.is_closing() and self._transport.get_write_buffer_size() <= _MOST_WAITING:
            self._transport.write(format_datagram(data))

    def close(self) -> None:
        """Close the link. Its callbacks are not called any more."""
        self._tell_end = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Handle the relay's answer, then datagrams."""
        if self._answer is not None:
            try:
                found = self._answer.receive_data(data)
            except RelayProtocolError:
                self._end(None)
                return
            if found is None:
                return
            self._answer = None
            if found.kind:
                self._end(found)
                return
            data = found.rest
        for datagram in self._datagrams.receive_data(data):
            if self._tell_end is not None:
                self._receive(datagram)

    def eof_received(self) -> bool:
        """End the link: the relay sends no more."""
        self._end(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End the link: the connection to the relay is lost."""
        self._end(None)

    def _end(self, answer: RelayAnswer | None) -> None:
        tell, self._tell_end = self._tell_end, None
        self._transport.abort()
        if tell is not None:
            tell(answer)
