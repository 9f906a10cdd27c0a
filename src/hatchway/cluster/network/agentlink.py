"""Starts the node agent, and reads the requests that it sends to the network's first process."""

from __future__ import annotations

import errno
import os
import select
from collections import deque
from collections.abc import Callable, Sequence

from hatchway.cluster.network import channel
from hatchway.cluster.network.forked import child_exits
from hatchway.usermaps import Way

# The environment variable that tells the agent how to reach its network: `private:CONTROL:DIAL:NODES:FILTER:USERS`
# or `loopback:LIFELINE:DIRECTORY`. CONTROL, DIAL and LIFELINE are descriptors, NODES a list of descriptors with commas.
# FILTER is 1 if packets can be filtered. USERS is a `usermaps.Way`.
ENVIRONMENT = "HATCHWAY_NETWORK"


class AgentLink:
    """The current node agent's process and channel. `start` starts the next node agent.

    argv: the agent's program and arguments; the first element is an absolute path.
    dial: the descriptor of the socket on which the agent serves the control plane's dialer. Each new agent gets it.
    nodes: descriptors of the nodes' network namespaces.
    filters: whether the agent can filter packets. users: the kind of user map.
    poll: the poll object of the caller's loop; the channel is registered there.
    asked: called with each message of the agent and the descriptors of the message, which `AgentLink` closes
    afterwards.

    pid: the agent's process id; 0 while no agent runs.
    """

    def __init__(
        self,
        argv: Sequence[str],
        dial: int,
        nodes: Sequence[int],
        filters: bool,
        users: Way,
        poll: select.poll,
        asked: Callable[[channel.Message, list[int]], None],
    ) -> None:
        self._argv = argv
        self._dial = dial
        self._nodes = nodes
        self._filters = filters
        self._users = users
        self._poll = poll
        self._asked = asked
        self._outgoing: deque[tuple[channel.Message, list[int]]] = deque()
        self._channel, theirs = channel.pair()
        theirs.close()
        self._channel.close()
        self.pid = 0

    @property
    def running(self) -> bool:
        """Return True between `start` and `close`."""
        return self.pid != 0

    def start(self) -> None:
        """Start an agent with a new channel. Raises OSError."""
        self._channel, theirs = channel.pair()
        pid = os.fork()
        if pid == 0:
            with child_exits():
                for descriptor in (theirs.fileno(), self._dial, *self._nodes):
                    os.set_inheritable(descriptor, True)
                nodes = ",".join(map(str, self._nodes))
                where = f"private:{theirs.fileno()}:{self._dial}:{nodes}:{self._filters:d}:{self._users}"
                os.execve(self._argv[0], list(self._argv), {**os.environ, ENVIRONMENT: where})
        theirs.close()
        self.pid = pid
        self._poll.register(self._channel, select.POLLIN)

    def close(self) -> None:
        """Close the channel of an agent that has ended, and drop the messages that were not sent."""
        self.pid = 0
        self._drop()
        self._forget()

    def tell(self, message: channel.Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message with copies of `descriptors`, or queue it while the channel is full.

        Do nothing while no agent runs. When the kernel allows no more descriptors in flight, the message is sent
        without descriptors.
        """
        if self._channel.fileno() >= 0:
            self._outgoing.append((message, [os.dup(descriptor) for descriptor in descriptors]))
            self._send()

    def handle(self, descriptor: int, events: int) -> bool:
        """Receive and send after an event of poll(2); return False when the event is not about this channel."""
        if descriptor != self._channel.fileno():
            return False
        if events & select.POLLOUT:
            self._send()
        if events & ~select.POLLOUT:
            self._receive()
        return True

    def _send(self) -> None:
        while self._outgoing:
            message, descriptors = self._outgoing[0]
            try:
                channel.send(self._channel, message, descriptors)
            except BlockingIOError:
                break
            except ConnectionError:
                # The agent is ending; the caller notices its end and calls `close`.
                self._drop()
                return
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS or not descriptors:
                    raise
                # The user's programs have more descriptors in flight than the kernel allows (unix(7), ETOOMANYREFS).
                channel.close_all(descriptors)
                self._outgoing[0] = message, []
                continue
            self._outgoing.popleft()
            channel.close_all(descriptors)
        self._poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._outgoing else 0))

    def _drop(self) -> None:
        while self._outgoing:
            channel.close_all(self._outgoing.popleft()[1])

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
