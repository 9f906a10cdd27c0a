"""Kubernetes' channel protocols: several streams in one WebSocket, and the messages of remote commands.

Sources: apimachinery `pkg/util/remotecommand/constants.go` and `pkg/util/httpstream/wsstream/conn.go`; client-go
`tools/remotecommand/v4.go`, `v5.go`, `websocket.go`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

# The channels of a remote command.
STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
RESIZE: Final = 4
# In v5, a message that begins with this byte ends a channel. Its second byte is the number of this channel.
CLOSE: Final = 255

# The values of the header `streamtype`, by which SPDY sessions name the same streams.
STREAM_TYPES: Final = {b"stdin": STDIN, b"stdout": STDOUT, b"stderr": STDERR, b"error": ERROR, b"resize": RESIZE}

# The largest width and height of a terminal in characters (struct winsize).
_LARGEST_SIDE: Final = 65535
# The maximum number of characters of a message in a Status.
_LONGEST_MESSAGE: Final = 64 * 1024


class ChannelError(Exception):
    """A message violates the protocol."""


@dataclass(frozen=True, slots=True)
class ChannelProtocol:
    """A sub-protocol: how a message encodes a channel and its bytes.

    name: the sub-protocol's name; "" when the client has offered none.
    is_base64: True when messages are text: a digit for the channel, then the bytes in base64.
    has_status: True when the channel ERROR carries a Status object at the end of the command. Otherwise the
        channel carries text, and only after an error.
    has_close: True when each side can end a single channel.
    """

    name: str
    is_base64: bool = False
    has_status: bool = False
    has_close: bool = False

    def encode(self, channel: int, data: bytes) -> bytes:
        """Return the message that carries `data`: a text message if `is_base64`, otherwise a binary message."""
        if self.is_base64:
            return b"%c%b" % (0x30 + channel, base64.b64encode(data))
        return b"%c%b" % (channel, data)

    def encode_close(self, channel: int) -> bytes:
        """Return the message that ends a channel. Allowed only when `has_close` is True."""
        return bytes((CLOSE, channel))

    def decode(self, message: bytes) -> tuple[int, bytes]:
        """Return (channel, data) of a message, or (CLOSE, the channel as one byte). Raises ChannelError."""
        if not message:
            raise ChannelError("a message names no channel")
        if not self.is_base64:
            if message[0] == CLOSE and (not self.has_close or len(message) != 2):
                raise ChannelError("a message that ends a channel is malformed")
            return message[0], message[1:]
        channel = message[0] - 0x30
        if channel < 0:
            raise ChannelError("a message names no channel")
        try:
            return channel, base64.b64decode(message[1:], validate=True)
        except binascii.Error:
            raise ChannelError("a message is not base64") from None


V1: Final = ChannelProtocol("channel.k8s.io")
V1_BASE64: Final = ChannelProtocol("base64.channel.k8s.io", is_base64=True)
V4: Final = ChannelProtocol("v4.channel.k8s.io", has_status=True)
V4_BASE64: Final = ChannelProtocol("v4.base64.channel.k8s.io", is_base64=True, has_status=True)
V5: Final = ChannelProtocol("v5.channel.k8s.io", has_status=True, has_close=True)
# For a client that has offered no sub-protocol: the same as V1, but without a name.
UNNAMED: Final = ChannelProtocol("")

_PROTOCOLS: Final = {protocol.name: protocol for protocol in (UNNAMED, V1, V1_BASE64, V4, V4_BASE64, V5)}

# `X-Stream-Protocol-Version` of remote commands over SPDY, the best first. v2 added the channel for errors, v3 the size
# of the terminal, and v4 a Status that reports the command's end.
SPDY_PROTOCOLS: Final = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")


def choose(offered: Iterable[str]) -> ChannelProtocol | None:
    """Return the first supported sub-protocol among those that a client offers; `UNNAMED` when it offers none.

    Returns None when no offered sub-protocol is supported.
    """
    names = list(offered)
    if not names:
        return UNNAMED
    return next((_PROTOCOLS[name] for name in names if name in _PROTOCOLS), None)


def encode_size(width: int, height: int) -> bytes:
    """Return the data for the channel RESIZE that reports a terminal's size, in characters."""
    return b'{"Width":%d,"Height":%d}\n' % (width, height)


def decode_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) from the channel RESIZE. Raises ChannelError."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ChannelError("a terminal's size is not JSON") from None
    if not isinstance(found, dict):
        raise ChannelError("a terminal's size is not a JSON object")
    sides = [found.get(name, 0) for name in ("Width", "Height")]
    if not all(type(side) is int and 0 <= side <= _LARGEST_SIDE for side in sides):
        raise ChannelError("a terminal's size is out of range")
    return sides[0], sides[1]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a remote command has ended.

    exit_code: the exit code; None when the command never ran, or when the server does not report the code.
    message: why the command failed; "" for success.
    reason: the Status's `reason`; "" when there is none.
    """

    exit_code: int | None
    message: str = ""
    reason: str = ""


def success_status() -> bytes:
    """Return the data for the channel ERROR after exit code 0 (v4 and later)."""
    return b'{"metadata":{},"status":"Success"}'


def exit_status(code: int) -> bytes:
    """Return the data for the channel ERROR after an exit code other than 0 (v4 and later)."""
    return _encode(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: command terminated with exit code {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


def failure_status(message: str) -> bytes:
    """Return the data for the channel ERROR when a command could not be run (v4 and later)."""
    return _encode({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})


def _encode(status: dict[str, Any]) -> bytes:
    return json.dumps(status, separators=(",", ":")).encode()


def decode_status(data: bytes) -> CommandResult:
    """Parse the data of the channel ERROR (v4 and later). Raises ChannelError."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ChannelError("the status of a command is not JSON") from None
    if not isinstance(found, dict):
        raise ChannelError("the status of a command is not a JSON object")
    if found.get("status") == "Success":
        return CommandResult(0)
    message, reason = (str(found.get(name) or "")[:_LONGEST_MESSAGE] for name in ("message", "reason"))
    if found.get("status") != "Failure":
        raise ChannelError("the status of a command is neither Success nor Failure")
    return CommandResult(_exit_code(found.get("details")), message or "the command failed", reason)


def _exit_code(details: object) -> int | None:
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and cause.get("reason") == "ExitCode":
            text = cause.get("message")
            if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 3:
                return int(text)
    return None
