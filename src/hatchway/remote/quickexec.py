"""`hatchway exec POD -- COMMAND` without a terminal and without standard input, as quickly as Python allows.

Scripts run many such commands, and most of the time would be spent on imports: asyncio, click and a YAML library take
three times as long as the exchange with the cluster. So this module handles the plain case with one connection, one
request and no event loop, and imports few modules. In all other cases `run` returns None before any command has
started, and `session.py` runs the command. This is called "the long way" below.

`_ssl` and `_socket` are CPython's internal modules on which `ssl` and `socket` are built; importing `ssl` and
`socket` takes as long as the whole start of kubectl. The internal modules are the same in all supported versions of
Python (`tests/unit/remote/test_quickexec.py` runs with each). If a later version lacks one of their functions, commands
are run the long way.
"""

from __future__ import annotations

import binascii
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hatchway.remote.quickconfig import QuickContext

# Maps each spelling of an option with a value to the option's name.
_VALUES = {
    "-n": "namespace",
    "--namespace": "namespace",
    "-c": "container",
    "--container": "container",
    "--context": "context",
    "--kubeconfig": "kubeconfig",
}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
_PROTOCOLS = "v5.channel.k8s.io, v4.channel.k8s.io"
# In seconds: timeout for connecting, timeout for an answer, time between two pings, and the longest silence of a server
# that gets pings.
_CONNECT_SECONDS, _ANSWER_SECONDS, _PING_SECONDS, _SILENT_SECONDS = 10.0, 60.0, 5.0, 60.0
_LARGEST_HEAD = 64 * 1024
# The maximum number of bytes of a frame. API servers send at most one copy buffer (32 KiB) in a frame.
_LARGEST_FRAME = 16 << 20
_LARGEST_STATUS = 1 << 20
_STDOUT, _STDERR, _ERROR = 1, 2, 3
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10


class _Broken(Exception):
    """The connection ended before the command."""


def run(arguments: list[str]) -> int | None:
    """Run the command of a command line (without `hatchway exec`); return its exit code.

    Returns None when nothing was run, because the command line needs the long way.
    """
    parsed = _parse(arguments)
    if parsed is None:
        return None
    given, name, command = parsed
    from hatchway.remote import quickconfig

    context = quickconfig.load(given.get("kubeconfig", ""), given.get("context", ""))
    if context is None:
        return None
    try:
        stream = _connect(context)
    except (OSError, ValueError, AttributeError, TypeError, ImportError):
        return None
    space = given.get("namespace") or context.namespace
    pod = f"{context.path}/api/v1/namespaces/{_quoted(space)}/pods/{name}"
    answer = _ask(stream, context, pod, command, given.get("container", ""))
    if isinstance(answer, _RefusedResponse) and answer.status == 400 and not given.get("container"):
        found = _find_container(stream, context, pod, answer)
        if found is None:
            return None
        stream, container = found
        answer = _ask(stream, context, pod, command, container)
    if isinstance(answer, (_RefusedResponse, int)):
        return answer if isinstance(answer, int) else None
    return _carry(stream, answer)


def _ask(
    stream: _TlsStream, context: QuickContext, pod: str, command: list[str], container: str
) -> bytes | _RefusedResponse | int:
    """Request the command. Return the bytes after the server's answer 101, the server's refusal, or an exit code."""
    query = [("command", one) for one in command]
    if container:
        query.append(("container", container))
    query += [("stderr", "true"), ("stdout", "true")]
    text = "&".join(f"{key}={_quoted(value)}" for key, value in query)
    key = binascii.b2a_base64(os.urandom(16), newline=False).decode()
    try:
        stream.write(_request(context, f"{pod}/exec?{text}", _upgrade_fields(key)))
    except OSError:
        return _RefusedResponse(0, {}, b"")
    stream.set_timeout(_ANSWER_SECONDS)
    try:
        status, fields, rest = _answer(stream)
    except (OSError, _Broken) as error:
        # The command may already run. Another request (the long way) could run it a second time.
        _complain(f"no answer from the API server, so whether the command runs is not known: {error}")
        return 1
    chosen = fields.get("sec-websocket-protocol") in _PROTOCOLS.split(", ")
    if status == 101 and chosen and fields.get("sec-websocket-accept") == _accept(key):
        return rest
    return _RefusedResponse(status, fields, rest)


class _RefusedResponse:
    """A response that starts no command. status: 0 for none. rest: the part of its body that has arrived."""

    def __init__(self, status: int, fields: dict[str, str], rest: bytes) -> None:
        self.status = status
        self.fields = fields
        self.rest = rest


def _find_container(
    stream: _TlsStream, context: QuickContext, pod: str, refusal: _RefusedResponse
) -> tuple[_TlsStream, str] | None:
    """Return a connection and the pod's default container, after a request without a container was refused.

    Returns None when the command must be run the long way.
    """
    from hatchway.remote import quickpod

    try:
        stream = _after(stream, context, refusal)
        stream.write(_request(context, pod, ["Accept: application/json"]))
        answer = _RefusedResponse(*_answer(stream))
        if answer.status != 200:
            return None
        body = quickpod.read_body(stream.read, answer.fields, answer.rest)
        container = quickpod.default_container(body)
        if container is None:
            return None
        closes = answer.fields.get("connection", "").lower() == "close"
        return (_connect(context) if closes else stream), container
    except (OSError, ValueError, AttributeError, TypeError, ImportError, _Broken, quickpod.Incomplete):
        return None


def _after(stream: _TlsStream, context: QuickContext, refusal: _RefusedResponse) -> _TlsStream:
    """Return the connection for the next request: a new connection if the server closes the present one."""
    from hatchway.remote import quickpod

    if refusal.fields.get("connection", "").lower() != "close":
        try:
            quickpod.read_body(stream.read, refusal.fields, refusal.rest)
        except quickpod.Incomplete:
            return _connect(context)
        return stream
    return _connect(context)


def _parse(arguments: list[str]) -> tuple[dict[str, str], str, list[str]] | None:
    """Return (options, pod, command) of a plain command line."""
    given: dict[str, str] = {}
    name = ""
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if argument == "--":
            break
        option, equals, value = argument.partition("=")
        if option in _VALUES and ((equals and option.startswith("--")) or not equals):
            if not equals:
                if at == len(arguments):
                    return None
                value = arguments[at]
                at += 1
            given[_VALUES[option]] = value
        elif argument.startswith("-") or name:
            return None
        else:
            name = argument.removeprefix("pod/")
    command = arguments[at:]
    # A name that begins or ends with a dot is not valid, and could mean another path.
    if not command or not name or not _NAME.issuperset(name) or name.strip(".-") != name:
        return None
    return given, name, command


def _connect(context: QuickContext) -> _TlsStream:
    """Open a TLS connection to the API server. Raises OSError, and other errors where Python lacks a function."""
    import _socket
    import _ssl

    class Socket(_socket.socket):
        """A socket that can be referred to weakly, as `_ssl` does."""

    stream_kind = _socket.SOCK_STREAM
    failed: OSError | None = None
    # The name is passed as bytes, because for a string Python imports the codec for international names.
    for family, kind, protocol, _, address in _socket.getaddrinfo(context.host.encode(), context.port, 0, stream_kind):
        sock = Socket(family, kind, protocol)
        sock.settimeout(_CONNECT_SECONDS)
        try:
            sock.connect(address)
            break
        except OSError as error:
            failed = error
            sock.close()
    else:
        raise failed or OSError("no address")
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    tls: Any = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
    # As in `kube/tls.py`: any certificate in the authority is trusted, and only alternative names count.
    tls.verify_flags |= _ssl.VERIFY_X509_PARTIAL_CHAIN
    tls._host_flags |= _ssl.HOSTFLAG_NEVER_CHECK_SUBJECT
    tls._set_alpn_protocols(b"\x08http/1.1")
    tls.load_verify_locations(None, None, context.authority.decode("ascii"))
    if context.certificate:
        with os.fdopen(os.memfd_create("hatchway", os.MFD_CLOEXEC), "wb") as memory:
            memory.write(context.certificate.rstrip() + b"\n" + context.key)
            memory.flush()
            tls.load_cert_chain(f"/proc/self/fd/{memory.fileno()}", None, "")
    if tls.verify_mode != _ssl.CERT_REQUIRED or not tls.check_hostname:
        raise OSError("the server would not be verified")
    stream = tls._wrap_socket(sock, False, context.host)
    stream.do_handshake()
    return _TlsStream(sock, stream)


class _TlsStream:
    """A TLS connection that blocks."""

    def __init__(self, sock: Any, tls: Any) -> None:
        self._sock = sock
        self._tls = tls

    def set_timeout(self, seconds: float) -> None:
        self._sock.settimeout(seconds)

    def read(self) -> bytes:
        """Wait for bytes, and return them; b"" at the end. Raises OSError (TimeoutError after the timeout)."""
        import _ssl

        try:
            found: bytes = self._tls.read(65536)
        except _ssl.SSLZeroReturnError:
            return b""
        return found

    def write(self, data: bytes) -> None:
        while data:
            data = data[self._tls.write(data) :]


def _request(context: QuickContext, path: str, fields: list[str]) -> bytes:
    """Return the head of a GET request."""
    from hatchway import __version__

    port = "" if context.port == 443 else f":{context.port}"
    lines = [f"GET {path} HTTP/1.1", f"Host: {context.host}{port}", f"User-Agent: hatchway/{__version__}", *fields]
    if context.token:
        lines.append(f"Authorization: Bearer {context.token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _upgrade_fields(key: str) -> list[str]:
    """Return the fields that request a WebSocket."""
    return [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Protocol: {_PROTOCOLS}",
    ]


def _answer(stream: _TlsStream) -> tuple[int, dict[str, str], bytes]:
    """Return (status, fields by lower-case names, the bytes after the head). Raises OSError, _Broken."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = stream.read()
        data += piece
        if not piece:
            raise _Broken("it closed the connection")
        if len(data) > _LARGEST_HEAD:
            raise _Broken("its answer has no end")
    line, *fields = data[:end].decode("latin-1").split("\r\n")
    found: dict[str, str] = {}
    for field in fields:
        name, _, value = field.partition(":")
        found[name.strip().lower()] = value.strip()
    status = line[9:12] if line.startswith("HTTP/1.1 ") else ""
    return int(status) if status.isdigit() else 0, found, data[end + 4 :]


def _accept(key: str) -> str:
    """Return the proof that the server has read the key (RFC 6455 section 4.2.2)."""
    import _sha1  # type: ignore[import-not-found]

    digest = _sha1.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


def _carry(stream: _TlsStream, data: bytes) -> int:
    """Write the command's output until the command ends; return its exit code."""
    status = b""
    opcode, message = _BINARY, b""
    silent = 0.0
    stream.set_timeout(_PING_SECONDS)
    try:
        while True:
            frame, data = _frame(data)
            if frame is None:
                try:
                    piece = stream.read()
                except TimeoutError:
                    silent += _PING_SECONDS
                    if silent > _SILENT_SECONDS:
                        raise _Broken("the API server is silent") from None
                    stream.write(_masked(_PING, b""))
                    continue
                silent = 0.0
                if not piece:
                    raise _Broken("the connection to the API server ended")
                data += piece
                continue
            final, kind, payload = frame
            if kind == _PING:
                stream.write(_masked(_PONG, payload))
            elif kind == _CLOSE:
                if not status:
                    raise _Broken("the API server closed the connection")
                return _exit_code(status)
            elif kind in (_CONTINUATION, _TEXT, _BINARY):
                if kind != _CONTINUATION:
                    opcode, message = kind, b""
                message += payload
                if len(message) > _LARGEST_FRAME or opcode != _BINARY:
                    raise _Broken("the API server sent a message that does not belong to a command")
                if final and message:
                    if message[0] == _ERROR:
                        status = (status + message[1:])[:_LARGEST_STATUS]
                    elif message[0] in (_STDOUT, _STDERR) and len(message) > 1:
                        _write(message[0], memoryview(message)[1:])
    except BrokenPipeError:
        # The reader of this command's output has closed its end.
        return 1
    except (OSError, _Broken) as error:
        if status:
            return _exit_code(status)
        _complain(f"the connection was lost while the command ran: {error}")
        return 1


def _frame(data: bytes) -> tuple[tuple[bool, int, bytes] | None, bytes]:
    """Return the first frame of `data` (RFC 6455 section 5.2), None while it is incomplete, and the bytes after it."""
    if len(data) < 2:
        return None, data
    first, second = data[0], data[1]
    length, start = second & 0x7F, 2
    if length > 125:
        start = 4 if length == 126 else 10
        if len(data) < start:
            return None, data
        length = int.from_bytes(data[2:start], "big")
    if second & 0x80 or first & 0x70 or length > _LARGEST_FRAME:
        raise _Broken("the API server broke the WebSocket protocol")
    if len(data) < start + length:
        return None, data
    return (bool(first & 0x80), first & 0x0F, data[start : start + length]), data[start + length :]


def _masked(opcode: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    body = bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload[:125]))
    return bytes((0x80 | opcode, 0x80 | len(body))) + mask + body


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _exit_code(status: bytes) -> int:
    """Return the exit code in a command's Status. When the command never ran, print the reason."""
    if status.startswith(b'{"metadata":{},"status":"Success"'):
        return 0
    from hatchway.remote.outcome import outcome_of

    code, message = outcome_of(status)
    if message:
        _complain(message)
    return code


def _complain(message: str) -> None:
    from hatchway.printable import printable

    print(f"hatchway: {printable(message)}", file=sys.stderr)


def _quoted(value: str) -> str:
    """Return a value, escaped for a query or a path."""
    raw = value.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in raw)
