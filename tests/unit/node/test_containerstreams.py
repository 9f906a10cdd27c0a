"""The streams of a container with a real process, its log, and attached clients."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hatchway.cluster.node import containerstreams
from hatchway.cluster.node.containerstreams import ContainerStreams
from hatchway.cluster.node.logfiles import ContainerLog
from hatchway.cluster.runtime import ContainerProcess
from hatchway.wire.channels import STDERR, STDOUT


class Watcher:
    """An attached client. full: whether it accepts no more data."""

    def __init__(self) -> None:
        self.found: dict[int, bytes] = {}
        self.full = False
        self.changed = asyncio.Event()
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def write_output(self, channel: int, data: bytes) -> bool:
        self.found[channel] = self.found.get(channel, b"") + data
        self.changed.set()
        return not self.full

    def end_output(self, *, stalled: bool) -> None:
        self.ended.set_result(stalled)

    async def until(self, channel: int, wanted: bytes) -> None:
        while wanted not in self.found.get(channel, b""):
            self.changed.clear()
            await self.changed.wait()


async def start(streams: ContainerStreams, script: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        script,
        stdin=streams.stdin if streams.stdin >= 0 else asyncio.subprocess.DEVNULL,
        stdout=streams.stdout,
        stderr=streams.stderr,
    )
    streams.started(cast(Any, process))
    return process


async def test_attached_clients_get_the_same_output_as_the_log(tmp_path: Path) -> None:
    streams = ContainerStreams(ContainerLog(tmp_path / "0.log"))
    first, second = Watcher(), Watcher()
    streams.attach(first)
    streams.attach(second)
    process = await start(streams, "echo out; echo err >&2")
    await first.until(STDOUT, b"out\n")
    await first.until(STDERR, b"err\n")
    await process.wait()
    await streams.drain()
    assert first.found == second.found == {STDOUT: b"out\n", STDERR: b"err\n"}
    assert not await first.ended
    lines = (tmp_path / "0.log").read_bytes().splitlines()
    assert sorted(line.split(b" ", 1)[1] for line in lines) == [b"stderr F err", b"stdout F out"]
    late = Watcher()
    streams.attach(late)
    assert not await late.ended


async def test_input_reaches_the_process_until_it_is_ended(tmp_path: Path) -> None:
    streams = ContainerStreams(ContainerLog(tmp_path / "0.log"), has_input=True)
    watcher = Watcher()
    streams.attach(watcher)
    process = await start(streams, "cat")
    taken: list[int] = []
    streams.write_input(b"x" * 100_000, taken.append)
    streams.write_input(b"end", taken.append)
    streams.end_input()
    assert await process.wait() == 0
    await streams.drain()
    assert watcher.found[STDOUT] == b"x" * 100_000 + b"end"
    assert sum(taken) == 100_003
    streams.write_input(b"late", taken.append)
    assert sum(taken) == 100_007


async def test_a_client_that_does_not_read_pauses_the_output(tmp_path: Path) -> None:
    streams = ContainerStreams(ContainerLog(tmp_path / "0.log"))
    watcher = Watcher()
    watcher.full = True
    streams.attach(watcher)
    process = await start(streams, "head -c 1000000 /dev/zero; echo end")
    await watcher.changed.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(watcher.found[STDOUT]) <= 65536
    watcher.full = False
    streams.release(watcher)
    await watcher.until(STDOUT, b"end\n")
    assert await process.wait() == 0
    await streams.drain()


async def test_a_client_that_never_reads_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerstreams, "STALLED_SECONDS", 0.05)
    streams = ContainerStreams(ContainerLog(tmp_path / "0.log"))
    stalled, other = Watcher(), Watcher()
    stalled.full = True
    streams.attach(stalled)
    streams.attach(other)
    process = await start(streams, "head -c 1000000 /dev/zero; echo end")
    assert await stalled.ended
    await other.until(STDOUT, b"end\n")
    assert await process.wait() == 0
    await streams.drain()
    assert len(other.found[STDOUT]) == 1_000_004


async def test_a_slow_client_gets_all_output_of_a_process_that_has_ended(tmp_path: Path) -> None:
    streams = ContainerStreams(ContainerLog(tmp_path / "0.log"))
    watcher = Watcher()
    watcher.full = True
    streams.attach(watcher)
    process = await start(streams, "head -c 60000 /dev/zero; sleep 0.05; echo end")
    await process.wait()
    await streams.drain()
    assert watcher.found[STDOUT] == b"\0" * 60_000 + b"end\n"


async def test_a_terminal_carries_input_and_output(tmp_path: Path) -> None:
    streams = ContainerStreams(ContainerLog(tmp_path / "0.log"), has_input=True, has_terminal=True)
    assert (streams.stdin, streams.stdout, streams.stderr) == (-1, -1, -1)
    shown, own = os.openpty()
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "read line; echo got $line; stty size", stdin=own, stdout=own, stderr=own
    )
    os.close(own)
    watcher = Watcher()
    streams.attach(watcher)
    streams.started(cast(ContainerProcess, SimpleNamespace(terminal=shown)))
    streams.resize(101, 33)
    streams.end_input()
    streams.write_input(b"text\n", lambda _: None)
    await watcher.until(STDOUT, b"33 101")
    assert await process.wait() == 0
    await streams.drain()
    assert b"got text\r\n" in watcher.found[STDOUT]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(shown)
