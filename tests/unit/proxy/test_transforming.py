"""A transform gets a long body in slices, and other tasks run between the slices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hatchway.proxy.transforming import TransformedBody

SLICE = 64 * 1024


class Noted:
    """A transform that records the number of bytes that it got in each turn of the event loop."""

    def __init__(self, fails_at: int = -1) -> None:
        self.fed: list[tuple[int, int]] = []
        self.turn = 0
        self._fails_at = fails_at
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self._next)

    def feed(self, data: bytes) -> bytes:
        self.fed.append((self.turn, len(data)))
        if len(self.fed) - 1 == self._fails_at:
            raise ValueError
        return data

    def finish(self) -> bytes:
        return b"!"


class Out:
    def __init__(self, transform: Noted) -> None:
        self.made = bytearray()
        self.calls: list[str] = []
        self.body = TransformedBody(
            asyncio.get_running_loop(),
            transform,
            emit=self.made.extend,
            ready=lambda: self.calls.append("ready"),
            failed=lambda: self.calls.append("failed"),
        )

    def end(self) -> None:
        self.body.end(self._finish)

    def _finish(self) -> None:
        assert self.body.finish()
        self.calls.append("end")

    async def calm(self) -> None:
        async with asyncio.timeout(10):
            while self.body.busy:  # noqa: ASYNC110  no event reports this
                await asyncio.sleep(0)


DATA = bytes(range(256)) * (1024 * 3 + 7)


@pytest.mark.parametrize("size", [1, SLICE, SLICE + 1, 256 * 1024, len(DATA)])
async def test_one_slice_in_each_turn_and_in_order(size: int) -> None:
    transform = Noted()
    out = Out(transform)
    out.body.feed(DATA[:size])
    assert out.body.busy is (size > SLICE)
    out.body.feed(b"more")
    out.end()
    await out.calm()
    assert out.made == DATA[:size] + b"more!"
    assert max(fed for _, fed in transform.fed) <= SLICE
    assert out.calls == ["end"]
    if size > SLICE:
        turns = [turn for turn, _ in transform.fed]
        assert len(set(turns)) == len(turns)


async def test_ready_is_called_when_more_may_be_read() -> None:
    out = Out(Noted())
    out.body.feed(DATA)
    await out.calm()
    assert out.calls == ["ready"]
    out.body.feed(b"short")
    assert out.calls == ["ready"] and out.made == DATA + b"short"


async def test_a_client_that_does_not_read_pauses_the_transform() -> None:
    out = Out(Noted())
    out.body.feed(DATA)
    out.body.hold()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(out.made) == SLICE
    out.body.feed(b"more")
    assert len(out.made) == SLICE
    out.end()
    out.body.release()
    await out.calm()
    assert out.made == DATA + b"more!" and out.calls == ["end"]


@pytest.mark.parametrize("at", [0, 2])
async def test_no_output_after_a_failure(at: int) -> None:
    out = Out(Noted(at))
    out.body.feed(DATA)
    out.end() if out.body.busy else None
    for _ in range(20):
        await asyncio.sleep(0)
    assert out.calls == ["failed"]
    assert len(out.made) == at * SLICE


async def test_no_output_after_a_cancellation() -> None:
    out = Out(Noted())
    out.body.feed(DATA)
    out.end()
    out.body.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    made: Any = out.calls, len(out.made)
    assert made == ([], SLICE)
