"""The connection of a client that sends requests but does not read answers."""

from __future__ import annotations

import asyncio
from typing import Any

from hatchway.cluster.node.streaming.clientlink import ClientLink, SocketLink


class Transport(asyncio.Transport):
    """A transport whose client reads nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.aborted = False

    def writelines(self, list_of_data: Any) -> None:
        self.unread += sum(map(len, list_of_data))

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Echo:
    """Answers with the received bytes."""

    def attach(self, link: ClientLink) -> None:
        self.link = link

    def receive(self, data: bytes) -> None:
        self.link.write([data])

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def lose_client(self) -> None:
        pass

    def probe(self) -> None:
        pass


def test_unread_answers_have_a_maximum_size() -> None:
    user, transport = Echo(), Transport()
    link = SocketLink(user)
    link.connection_made(transport)
    for _ in range(100):
        link.data_received(b"x" * 65536)
    assert not transport.aborted
    for _ in range(3):
        link.pause_writing()
        for _ in range(16):
            link.data_received(b"x" * 65536)
        # Data that were buffered before, and data that are not an answer to received bytes, do not count.
        user.link.write([b"x" * 4_000_000])
        link.data_received(b"")
        link.resume_writing()
    assert not transport.aborted
    link.pause_writing()
    for _ in range(17):
        link.data_received(b"x" * 65536)
    assert transport.aborted
