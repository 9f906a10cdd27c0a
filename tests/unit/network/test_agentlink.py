"""Messages from the network's first process to the node agent, when the kernel refuses descriptors."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence

import pytest

from hatchway.cluster.network import channel
from hatchway.cluster.network.agentlink import AgentLink


@pytest.fixture
def link() -> Iterator[AgentLink]:
    """Yield a link to a program that reads nothing."""
    found = AgentLink(["/bin/sleep", "60"], 0, (), False, "one", select.poll(), lambda *_: None)
    found.start()
    yield found
    os.kill(found.pid, signal.SIGKILL)
    os.waitpid(found.pid, 0)
    found.close()


def test_a_message_is_sent_without_descriptors_when_too_many_are_in_flight(
    link: AgentLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(errno.ETOOMANYREFS, "too many references"), BlockingIOError()]
    sent: list[tuple[channel.Message, int]] = []

    def send(sock: socket.socket, message: channel.Message, descriptors: Sequence[int] = ()) -> None:
        if errors:
            raise errors.pop(0)
        sent.append((message, len(descriptors)))

    monkeypatch.setattr(channel, "send", send)
    link.tell({"id": 1}, [0])
    assert sent == []
    assert link.handle(link._channel.fileno(), select.POLLOUT)
    assert sent == [({"id": 1}, 0)]
