"""The node agent as the network's first process sees it: a child, and the channel on which it asks."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Sequence

from hatchway.cluster.network import channel, container

ENVIRONMENT = "HATCHWAY_NETWORK"


class AgentLink:
    """One agent at a time. argv: its program. dial: the socket on which it answers the control plane's dialer, kept for
    its successors. asked: called with each of its messages and the message's descriptors, which are closed afterwards.

    pid: 0 while there is none.
    """

    def __init__(
        self,
        argv: Sequence[str],
        dial: int,
        poll: select.poll,
        asked: Callable[[channel.Message, list[int]], None],
    ) -> None:
        self._argv = argv
        self._dial = dial
        self._poll = poll
        self._asked = asked
        self._outgoing: deque[channel.Message] = deque()
        self._channel, theirs = channel.pair()
        theirs.close()
        self._channel.close()
        self.pid = 0

    @property
    def running(self) -> bool:
        return self.pid != 0

    def start(self) -> None:
        self._channel, theirs = channel.pair()
        pid = os.fork()
        if pid == 0:
            with container.child_exits():
                for descriptor in (theirs.fileno(), self._dial):
                    os.set_inheritable(descriptor, True)
                env = {**os.environ, ENVIRONMENT: f"private:{theirs.fileno()}:{self._dial}"}
                os.execve(self._argv[0], list(self._argv), env)
        theirs.close()
        self.pid = pid
        self._poll.register(self._channel, select.POLLIN)

    def close(self) -> None:
        """It has ended: what was to be told it is told nobody."""
        self.pid = 0
        self._outgoing.clear()
        self._forget()

    def tell(self, message: channel.Message) -> None:
        """Send a message, or keep it until there is room; without an agent nothing happens."""
        if self._channel.fileno() >= 0:
            self._outgoing.append(message)
            self._send()

    def handle(self, descriptor: int, events: int) -> bool:
        """Attend to what poll(2) has found, if it is about this channel."""
        if descriptor != self._channel.fileno():
            return False
        if events & select.POLLOUT:
            self._send()
        if events & ~select.POLLOUT:
            self._receive()
        return True

    def _send(self) -> None:
        while self._outgoing:
            try:
                channel.send(self._channel, self._outgoing[0])
            except BlockingIOError:
                break
            except ConnectionError:
                # It is ending, and its end will be seen.
                self._outgoing.clear()
                return
            self._outgoing.popleft()
        self._poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._outgoing else 0))

    def _receive(self) -> None:
        while self._channel.fileno() >= 0:
            try:
                received = channel.receive(self._channel)
            except BlockingIOError:
                return
            if received is None:
                self._forget()
                return
            try:
                self._asked(*received)
            finally:
                channel.close_all(received[1])

    def _forget(self) -> None:
        if self._channel.fileno() >= 0:
            self._poll.unregister(self._channel)
            self._channel.close()
