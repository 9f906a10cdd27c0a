"""The gRPC health check of a probe (`pkg/probe/grpc`): one call of `grpc.health.v1.Health/Check` over plain HTTP/2.

Sources: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md. The package h2
implements HTTP/2. The two protobuf messages are encoded and decoded in this file, because each has only one field.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import socket
from typing import Any
from urllib.parse import unquote

from hatchway.cluster.node.checkhttp import USER_AGENT, Dial
from hatchway.cluster.node.probes import Result

_SERVING = 1
_STATUS = {0: "UNKNOWN", _SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_OK, _UNKNOWN, _DEADLINE, _UNIMPLEMENTED, _INTERNAL, _UNAVAILABLE = 0, 2, 4, 12, 13, 14
_CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal",
    "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
# gRPC status codes for HTTP statuses of servers that speak HTTP/2 but not gRPC (http-grpc-status-mapping.md).
_OF_HTTP = {400: _INTERNAL, 401: 16, 403: 7, 404: _UNIMPLEMENTED, 429: _UNAVAILABLE, 502: 14, 503: 14, 504: 14}
_RETRY_SECONDS = 1.0
# The maximum number of bytes of an answer. A valid answer has a few hundred bytes; a long answer in small frames would
# delay other probes.
_READ_LIMIT = 32 << 10
_PIECE = 1024


class CallError(Exception):
    """The call has failed with a status other than OK."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        name = _CODES[self.code] if 0 <= self.code < len(_CODES) else f"Code({self.code})"
        return f"rpc error: code = {name} desc = {self.args[0]}"


async def check_health(dial: Dial, host: str, port: int, service: str, timeout: float) -> Result:
    """Check that `service` ("": the whole server) is SERVING, within `timeout` seconds."""
    # The first import takes a tenth of a second. It is done on a thread, so that other probes are not delayed.
    await asyncio.to_thread(importlib.import_module, "h2.connection")
    address = f"{host}:{port}"
    deadline = asyncio.get_running_loop().time() + timeout
    connection: _GrpcConnection | None = None
    try:
        async with asyncio.timeout_at(deadline):
            connection = await _connect(dial, host, port, timeout)
            status = await connection.check(address, service, timeout)
    except TimeoutError:
        if connection is None:
            why = f'failed to connect service "{address}" within {_seconds(timeout)}: context deadline exceeded'
            return Result(False, f"timeout: {why}")
        return Result(False, f"timeout: health rpc did not complete within {_seconds(timeout)}")
    except CallError as error:
        if error.code == _UNIMPLEMENTED:
            why = f"this server does not implement the grpc health protocol (grpc.health.v1.Health): {error.args[0]}"
            return Result(False, f"error: {why}")
        if error.code == _DEADLINE:
            return Result(False, f"timeout: health rpc did not complete within {_seconds(timeout)}")
        return Result(False, f"error: health rpc probe failed: {error}")
    finally:
        if connection is not None:
            connection.close()
    if status != _SERVING:
        return Result(False, f'service unhealthy (responded with "{_STATUS.get(status, status)}")')
    return Result(True)


def _seconds(timeout: float) -> str:
    """Format a time of less than an hour as Go formats a Duration."""
    minutes, seconds = divmod(timeout, 60)
    return f"{int(minutes)}m{seconds:g}s" if minutes else f"{seconds:g}s"


async def _connect(dial: Dial, host: str, port: int, timeout: float) -> _GrpcConnection:
    """Return a connection to a server that speaks HTTP/2.

    Try again until the caller's timeout, like grpc.WithBlock.
    """
    while True:
        try:
            connection = await _GrpcConnection.open(await dial(host, port, timeout))
        except OSError:
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        try:
            await connection.wait_until_ready()
            return connection
        except CallError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        await asyncio.sleep(_RETRY_SECONDS)


class _GrpcConnection:
    """The client's side of one HTTP/2 connection, for one call."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._h2.initiate_connection()
        self._read = 0
        self._events: list[Any] = []

    @classmethod
    async def open(cls, sock: socket.socket) -> _GrpcConnection:
        """Take over a connected socket."""
        try:
            reader, writer = await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise
        return cls(reader, writer)

    def close(self) -> None:
        self._writer.close()

    async def wait_until_ready(self) -> None:
        """Wait until the server's connection preface has arrived. Raises CallError."""
        from h2.events import RemoteSettingsChanged

        while not isinstance(await self._next(), RemoteSettingsChanged):
            pass

    async def check(self, authority: str, service: str, timeout: float) -> int:
        """Return the server's health status (grpc.health.v1). Raises CallError."""
        from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

        stream = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
            ("te", "trailers"),
            ("grpc-timeout", f"{max(1, int(timeout * 1000))}m"),
        ]
        self._h2.send_headers(stream, headers)
        self._h2.send_data(stream, _frame(encode_request(service)), end_stream=True)
        fields: dict[str, str] = {}
        body = bytearray()
        while True:
            event = await self._next()
            if isinstance(event, (ResponseReceived, TrailersReceived)):
                fields |= {_text(name): _text(value) for name, value in event.headers}
            elif isinstance(event, DataReceived):
                body += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, StreamReset):
                raise CallError(_INTERNAL, f"stream terminated by RST_STREAM with error code: {event.error_code}")
            elif isinstance(event, StreamEnded):
                return _status(fields, bytes(body))

    async def _next(self) -> Any:
        """Wait for the next event and return it. Raises CallError when the connection ends or violates the protocol."""
        from h2.events import ConnectionTerminated
        from h2.exceptions import ProtocolError

        while not self._events:
            self._writer.write(self._h2.data_to_send())
            try:
                data = await self._reader.read(_PIECE)
                self._read += len(data)
                if not data:
                    raise CallError(_UNAVAILABLE, "error reading from server: EOF")
                if self._read > _READ_LIMIT:
                    raise CallError(8, f"the server has sent more than {_READ_LIMIT} bytes")
                self._events = list(self._h2.receive_data(data))
                await asyncio.sleep(0)
            except ProtocolError as error:
                raise CallError(_UNAVAILABLE, f"connection error: {error}") from error
            except OSError as error:
                raise CallError(_UNAVAILABLE, f"error reading from server: {error.strerror or error}") from error
        event = self._events.pop(0)
        if isinstance(event, ConnectionTerminated):
            raise CallError(_UNAVAILABLE, f"the server has sent GOAWAY with error code {event.error_code}")
        with contextlib.suppress(OSError):
            self._writer.write(self._h2.data_to_send())
        return event


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _status(fields: dict[str, str], body: bytes) -> int:
    status = fields.get(":status", "")
    code_text = fields.get("grpc-status")
    if code_text is None:
        if status == "200":
            raise CallError(_INTERNAL, "server closed the stream without sending trailers")
        code = _OF_HTTP.get(int(status) if status.isdecimal() else 0, _UNKNOWN)
        why = f"unexpected HTTP status code received from server: {status}"
        raise CallError(code, f'{why}; transport: received unexpected content-type "{fields.get("content-type", "")}"')
    code = int(code_text) if code_text.isdecimal() and len(code_text) < 10 else _UNKNOWN
    if code != _OK:
        raise CallError(code, unquote(fields.get("grpc-message", "")))
    if len(body) < 5 or body[0] or int.from_bytes(body[1:5], "big") != len(body) - 5:
        raise CallError(_INTERNAL, "the answer is not one uncompressed message")
    return decode_response(body[5:])


def _frame(message: bytes) -> bytes:
    """Return a length-prefixed message without compression."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def encode_request(service: str) -> bytes:
    """Encode `HealthCheckRequest{service = 1}` as protobuf."""
    text = service.encode("utf-8", "surrogatepass")
    return b"\x0a" + _varint(len(text)) + text if text else b""


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_response(data: bytes) -> int:
    """Return the status of `HealthCheckResponse{status = 1}`; 0 when there is none. Raises CallError."""
    found, at = 0, 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _read_varint(data, at)
            if key >> 3 == 1:
                found = value
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _read_varint(data, at)
            at += length
        else:
            at = len(data) + 1
        if at > len(data):
            raise CallError(_INTERNAL, "grpc: failed to unmarshal the received message")
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise CallError(_INTERNAL, "grpc: failed to unmarshal the received message")
