"""Two ends of a SPDY session on a simulated network: after any operations, the received data equal the sent data."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.kube.streams import spdyconnection
from hatchway.kube.streams.spdyconnection import SpdyConnection
from hatchway.kube.streams.spdystream import SpdyStream
from hatchway.wire.spdyevents import SpdyLimits


class Wire(asyncio.Transport):
    """The transport of one direction. It keeps data until `pass_on` delivers them to the protocol at the other end."""

    other: Wire

    def __init__(self, protocol: SpdyConnection) -> None:
        super().__init__()
        self.protocol = protocol
        self.queue: deque[bytes] = deque()
        self.reading = True
        self.closing = False
        self.full = False

    def write(self, data: Any) -> None:
        if not self.closing:
            self.queue.append(bytes(data))
            if not self.full and self.get_write_buffer_size() > 1000:
                self.full = True
                self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pass_on(self, most: int) -> bool:
        """Deliver up to `most` bytes. Returns False if no byte could be delivered."""
        if not self.queue or not self.other.reading or self.other.closing:
            return False
        data = self.queue.popleft()
        if len(data) > most:
            self.queue.appendleft(data[most:])
            data = data[:most]
        if self.full and self.get_write_buffer_size() < 500:
            self.full = False
            self.protocol.resume_writing()
        self.other.protocol.data_received(data)
        return True

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.queue))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Peer(asyncio.Protocol):
    """One end of a stream: the data that it has sent and received, and its state."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.got = bytearray()
        self.full = self.eof = self.lost = self.ended = False
        self.error: Exception | None = None
        self.paused = False

    def data_received(self, data: bytes) -> None:
        assert not self.paused and not self.eof and not self.lost
        self.got += data

    def eof_received(self) -> bool:
        assert not self.eof and not self.lost
        self.eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        assert not self.lost
        self.lost, self.error = True, exc

    def pause_writing(self) -> None:
        assert not self.full and not self.lost
        self.full = True

    def resume_writing(self) -> None:
        assert self.full and not self.lost
        self.full = False


class World:
    def __init__(self, window: int, tunnel: bool, kept: int = 1 << 24) -> None:
        limits = SpdyLimits(window=window)
        self.streams: list[tuple[SpdyStream, Peer]] = []
        self.pairs: dict[int, list[Peer]] = {}
        self.client = SpdyConnection(server=False, tunnel=tunnel, limits=limits, kept=kept)
        self.server = SpdyConnection(server=True, tunnel=tunnel, limits=limits, on_stream=self.accept)
        self.wires = [Wire(self.client), Wire(self.server)]
        self.wires[0].other, self.wires[1].other = self.wires[1], self.wires[0]
        for wire in self.wires:
            wire.protocol.connection_made(wire)

    def add(self, stream: SpdyStream) -> None:
        peer = Peer()
        stream.start(peer)
        self.streams.append((stream, peer))
        self.pairs.setdefault(stream.stream_id, []).append(peer)

    def accept(self, stream: SpdyStream) -> None:
        stream.accept()
        self.add(stream)

    async def settle(self) -> None:
        """Deliver data until all data are delivered."""
        idle = 0
        while idle < 5:
            moved = [wire.pass_on(4000) for wire in self.wires]
            await asyncio.sleep(0)
            idle = 0 if any(moved) else idle + 1

    def end(self) -> None:
        for wire in self.wires:
            wire.close()


@settings(max_examples=150)
@given(
    window=st.sampled_from([64, 1000, 1 << 20]),
    tunnel=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["open", "write", "write", "write", "pass", "pass", "pause", "resume", "eof"]),
            st.integers(0, 20),
            st.integers(1, 3000),
        ),
        max_size=60,
    ),
)
def test_data_of_streams_arrive_completely(window: int, tunnel: bool, steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        world = World(window, tunnel)
        for action, which, size in steps:
            await asyncio.sleep(0)
            if action == "open":
                if len(world.streams) < 10:
                    world.add(world.client.open([(b"streamtype", b"data")]))
                continue
            if action == "pass":
                world.wires[which % 2].pass_on(size)
                continue
            if not world.streams:
                continue
            stream, peer = world.streams[which % len(world.streams)]
            if action == "write" and not (peer.ended or peer.lost):
                data = bytes([which]) * size
                stream.write(data if size % 2 else bytearray(data))
                peer.sent += data
            elif action == "eof" and not peer.lost:
                stream.write_eof()
                peer.ended = True
            elif action == "pause":
                stream.pause_reading()
                peer.paused = True
            elif action == "resume":
                peer.paused = False
                stream.resume_reading()
        await world.settle()
        for stream, peer in list(world.streams):
            peer.paused = False
            stream.resume_reading()
        await world.settle()
        for stream, peer in list(world.streams):
            if not peer.lost:
                stream.write_eof()
        await world.settle()
        for first, second in world.pairs.values():
            assert first.got == second.sent and second.got == first.sent
            assert first.eof and second.eof and first.lost and second.lost
            assert first.error is None and second.error is None
        for end in (world.client, world.server):
            assert end.stream_count == 0 and end.session.stream_count == 0 and not end.stalled
        world.end()
        await asyncio.sleep(0)

    asyncio.run(run())


@settings(max_examples=150)
@given(
    window=st.sampled_from([64, 1 << 20]),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["open", "write", "write", "pass", "pass", "pause", "close", "abort"]),
            st.integers(0, 20),
            st.integers(1, 3000),
        ),
        max_size=60,
    ),
)
def test_closed_or_aborted_streams_do_not_affect_other_streams(window: int, steps: list[tuple[str, int, int]]) -> None:
    async def run() -> None:
        world = World(window, True)
        ended: set[int] = set()
        for action, which, size in steps:
            await asyncio.sleep(0)
            if action == "open" and len(world.streams) < 10:
                world.add(world.client.open([(b"streamtype", b"data")]))
            elif action == "pass":
                world.wires[which % 2].pass_on(size)
            elif action != "open" and world.streams:
                stream, peer = world.streams[which % len(world.streams)]
                if action == "write" and not peer.lost:
                    stream.write(bytes(size))
                    peer.sent += bytes(size)
                elif action == "pause":
                    stream.pause_reading()
                    peer.paused = True
                elif action in ("close", "abort"):
                    getattr(stream, action)()
                    ended.add(stream.stream_id)
        for stream, peer in list(world.streams):
            peer.paused = False
            stream.resume_reading()
        await world.settle()
        for stream, peer in list(world.streams):
            if not peer.lost:
                stream.write_eof()
        await world.settle()
        for stream_id, peers in world.pairs.items():
            if stream_id in ended:
                for one, other in (peers, peers[::-1]) if len(peers) == 2 else ():
                    assert other.sent.startswith(one.got)
                continue
            first, second = peers
            assert first.got == second.sent and second.got == first.sent
            assert first.lost and second.lost and first.error is None and second.error is None
        assert world.client._kept == 0 and world.server._kept == 0
        assert all(peer.lost for peers in world.pairs.values() for peer in peers)
        world.end()
        await asyncio.sleep(0)

    asyncio.run(run())


async def test_data_before_close_are_sent_even_if_the_peer_has_ended_its_stream() -> None:
    world = World(64, False)
    world.add(world.client.open([]))
    await world.settle()
    (stream, peer), (other, _) = world.streams
    other.close()
    stream.write(bytes(65))
    stream.close()
    await world.settle()
    assert peer.lost and world.client.stream_count == 0 and world.server.stream_count == 0
    world.end()
    await asyncio.sleep(0)


async def test_closed_stream_that_the_peer_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdyconnection, "_LINGER", 0.0)
    monkeypatch.setattr(spdyconnection, "_CHECK_INTERVAL", 0.01)
    world = World(64, False)
    world.add(world.client.open([]))
    await world.settle()
    (stream, peer), (other, reader) = world.streams
    other.pause_reading()
    stream.write(bytes(1000))
    stream.close()
    await world.settle()
    assert not peer.lost
    while not reader.lost:
        await asyncio.sleep(0.005)
        await world.settle()
    assert isinstance(peer.error, TimeoutError) and isinstance(reader.error, ConnectionResetError)
    world.end()
    await asyncio.sleep(0)


async def test_too_much_unread_data_pauses_the_connection() -> None:
    world = World(1 << 20, False, kept=10_000)
    world.add(world.client.open([]))
    await world.settle()
    (stream, reader), (sender, _) = world.streams
    stream.pause_reading()
    for _ in range(40):
        sender.write(bytes(1000))
    await world.settle()
    assert world.client.stalled and not reader.got
    stream.resume_reading()
    await world.settle()
    assert not world.client.stalled and len(reader.got) == 40_000
    world.end()
    await asyncio.sleep(0)


async def test_streams_opened_by_the_peer_are_refused() -> None:
    world = World(1000, False)
    stream = world.server.open([])
    peer = Peer()
    stream.start(peer)
    await world.settle()
    assert isinstance(peer.error, ConnectionResetError)
    world.end()
    await asyncio.sleep(0)


async def test_stream_remains_until_all_data_are_sent_after_the_end_of_the_peer() -> None:
    world = World(64, False)
    world.add(world.client.open([]))
    await world.settle()
    (stream, peer), (other, reader) = world.streams
    other.write_eof()
    await world.settle()
    other.pause_reading()
    reader.paused = True
    stream.write(bytes(1000))
    stream.write_eof()
    await world.settle()
    assert peer.eof and not peer.lost and stream.get_write_buffer_size() == 936
    reader.paused = False
    other.resume_reading()
    await world.settle()
    assert peer.lost and len(reader.got) == 1000 and reader.lost
    world.end()
    await asyncio.sleep(0)
