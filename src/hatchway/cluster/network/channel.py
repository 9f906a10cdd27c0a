"""Sends messages with descriptors between processes of a cluster, over a pair of Unix SOCK_SEQPACKET sockets.

A message is a JSON object and up to `MAX_DESCRIPTORS` descriptors (SCM_RIGHTS, unix(7)). A message that is too large
for a datagram is sent in a memory file, whose descriptor comes first. `send` and `receive` are for `init.py`, which has
no event loop; `Channel` is for processes with an event loop.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

MAX_DESCRIPTORS = 32
_INLINE_BYTES = 32768
_IN_FILE = b"F"

Message = dict[str, Any]


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected, non-blocking sockets."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises BlockingIOError when the socket is full, another OSError when the peer is gone."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) <= _INLINE_BYTES:
        _sendmsg(sock, data, descriptors)
        return
    # No JSON object begins with this letter, so this letter marks a message that is in a file.
    memory = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        _sendmsg(sock, _IN_FILE, [memory, *descriptors])
    finally:
        os.close(memory)


def _sendmsg(sock: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    if descriptors:
        rights = array.array("i", descriptors)
        sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    else:
        sock.send(data)


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """Return one message and its descriptors (close-on-exec); None when the peer is gone. Raises BlockingIOError."""
    space = socket.CMSG_SPACE((MAX_DESCRIPTORS + 1) * array.array("i").itemsize)
    try:
        data, ancillary, _, _ = sock.recvmsg(_INLINE_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    if not data:
        return None
    received = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    descriptors = received.tolist()
    if data.startswith(_IN_FILE):
        with open(descriptors.pop(0), "rb") as file:
            file.seek(0)
            data = file.read()
    message: Message = json.loads(data)
    return message, descriptors


def close_all(descriptors: Sequence[int]) -> None:
    """Close all of the descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def keep_from_children() -> None:
    """Let programs that this process starts inherit no descriptors except the standard streams.

    Call it first in the processes that start pods. A parent may leave descriptors open: uvloop leaves duplicates of the
    standard streams, which are the cluster's own log.
    """
    for name in os.listdir("/dev/fd"):
        try:
            if int(name) > 2:
                os.set_inheritable(int(name), False)
        except OSError as error:
            # The descriptor with which the directory was listed is closed already.
            if error.errno != errno.EBADF:
                raise


class Channel:
    """One end of a socket pair in an event loop. Must be made inside the loop.

    on_message: called with each message and its descriptors, which the called function must close.
    on_close: called once, when the peer is gone (not after `close`).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_message: Callable[[Message, list[int]], None],
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._on_message = on_message
        self._on_close = on_close
        self._waiting: deque[tuple[Message, list[int]]] = deque()
        self.closed = False
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, or queue it (with duplicates of the descriptors) until the socket has room.

        Nothing happens when the channel is closed.
        """
        if self.closed:
            return
        if not self._waiting:
            try:
                send(self._socket, message, descriptors)
                return
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._writable)
            except ConnectionError:
                self._lost()
                return
        self._waiting.append((message, [os.dup(descriptor) for descriptor in descriptors]))

    def close(self) -> None:
        """Close this end. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        while self._waiting:
            close_all(self._waiting.popleft()[1])

    def _lost(self) -> None:
        self.close()
        self._on_close()

    def _readable(self) -> None:
        while not self.closed:
            try:
                received = receive(self._socket)
            except BlockingIOError:
                return
            if received is None:
                self._lost()
                return
            self._on_message(*received)

    def _writable(self) -> None:
        while self._waiting and not self.closed:
            message, descriptors = self._waiting[0]
            try:
                send(self._socket, message, descriptors)
            except BlockingIOError:
                return
            except ConnectionError:
                self._lost()
                return
            self._waiting.popleft()
            close_all(descriptors)
        if not self.closed:
            self._loop.remove_writer(self._socket.fileno())
