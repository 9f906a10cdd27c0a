from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from hatchway.cluster.node.descriptorio import DescriptorReader, DescriptorWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield a pipe; its ends are closed afterwards unless the test has closed them."""
    reading, writing = os.pipe()
    known = [os.fstat(reading).st_ino, os.fstat(writing).st_ino]
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            if os.fstat(descriptor).st_ino in known:
                os.close(descriptor)
        except OSError:
            pass


class Reading:
    """Records the calls of a reader."""

    def __init__(self, descriptor: int) -> None:
        self.data = b""
        self.more = asyncio.Event()
        self.ended = asyncio.Event()
        self.reader = DescriptorReader(descriptor, self._received, self.ended.set)

    def _received(self, data: bytes) -> None:
        self.data += data
        self.more.set()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_reader_reads_to_the_end_and_reports_the_end_once(pipe: tuple[int, int]) -> None:
    found = Reading(pipe[0])
    os.write(pipe[1], b"text")
    await found.more.wait()
    os.close(pipe[1])
    await found.ended.wait()
    assert found.data == b"text" and found.reader.closed
    found.reader.close()
    found.reader.resume()
    await turns()


async def test_a_paused_reader_does_not_read(pipe: tuple[int, int]) -> None:
    found = Reading(pipe[0])
    found.reader.pause()
    os.write(pipe[1], b"text")
    await turns()
    assert found.data == b""
    found.reader.resume()
    await found.more.wait()
    assert found.data == b"text"
    found.reader.close()


async def test_a_terminal_without_processes_has_ended() -> None:
    shown, own = os.openpty()
    try:
        found = Reading(shown)
        os.write(own, b"last")
        await found.more.wait()
        os.close(own)
        await found.ended.wait()
        assert found.data == b"last"
    finally:
        os.close(shown)


class Writing:
    """Records the calls of a writer."""

    def __init__(self, descriptor: int) -> None:
        self.taken = 0
        self.finished = asyncio.Event()
        self.writer = DescriptorWriter(descriptor, self._written, self.finished.set)

    def _written(self, count: int) -> None:
        self.taken += count


async def test_a_writer_buffers_data_while_the_pipe_is_full(pipe: tuple[int, int]) -> None:
    wanted = os.urandom(1_000_000)
    found = Writing(pipe[1])
    found.writer.write(wanted[:600_000])
    found.writer.write(wanted[600_000:])
    found.writer.finish()
    assert found.taken + found.writer.waiting == len(wanted) and found.writer.waiting > 0
    received = Reading(pipe[0])
    await found.finished.wait()
    while len(received.data) < len(wanted):
        received.more.clear()
        await received.more.wait()
    received.reader.close()
    assert received.data == wanted and found.taken == len(wanted)


async def test_data_count_as_written_after_the_reader_has_closed(pipe: tuple[int, int]) -> None:
    found = Writing(pipe[1])
    found.writer.write(b"x" * 200_000)
    assert found.taken < 200_000
    os.close(pipe[0])
    await found.finished.wait()
    assert found.taken == 200_000
    found.writer.write(b"more")
    assert found.taken == 200_004 and found.writer.waiting == 0


async def test_a_closed_writer_drops_its_buffer(pipe: tuple[int, int]) -> None:
    found = Writing(pipe[1])
    found.writer.write(b"x" * 200_000)
    found.writer.close()
    found.writer.finish()
    await turns()
    assert found.writer.waiting == 0 and not found.finished.is_set()
