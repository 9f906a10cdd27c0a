"""Logs: CRI's format, rotation, tails, following."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import tempfile
import threading
import time
from pathlib import Path

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.node import clock, logfiles
from hatchway.cluster.node.containerstreams import ContainerStreams
from hatchway.cluster.node.kubeletapi import BadLogQuery, parse_options
from hatchway.cluster.node.logfiles import LINE_LIMIT, ContainerLog, LineEncoder
from hatchway.cluster.node.logreader import LogReadOptions, parts_of, read_log

MOMENT = b"2026-01-02T03:04:05.123456789Z"


def feed(encoder: LineEncoder, *chunks: bytes) -> bytes:
    return b"".join(encoder.feed(chunk, MOMENT) for chunk in chunks) + encoder.finish(MOMENT)


def test_a_line_of_the_file() -> None:
    assert feed(LineEncoder(b"stderr"), b"hello\n\nrest") == (
        MOMENT + b" stderr F hello\n" + MOMENT + b" stderr F \n" + MOMENT + b" stderr P rest\n"
    )


def test_times_have_nine_digits_after_the_point() -> None:
    assert clock.rfc3339_nano(1_767_323_045_000_000_007) == "2026-01-02T03:04:05.000000007Z"


def test_long_lines_are_divided_into_parts() -> None:
    lines = feed(LineEncoder(b"stdout"), b"x" * (LINE_LIMIT + 1) + b"\n").splitlines()
    assert [(line.split(b" ", 3)[2], len(line.split(b" ", 3)[3])) for line in lines] == [(b"P", LINE_LIMIT), (b"F", 1)]


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"a\r\n", b"y" * 15]), max_size=12),
    st.integers(0, 5),
)
async def test_written_lines_are_read_back(chunks: list[bytes], tail: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "0.log"
        path.write_bytes(feed(LineEncoder(b"stdout", limit=16), *chunks))
        data = b"".join(chunks)
        assert await read(path) == data
        if all(len(line) < 16 for line in data.split(b"\n")):
            lines = re.findall(rb"[^\n]*\n|[^\n]+", data)
            last = lines[len(lines) - min(tail, len(lines)) :]
            assert await read(path, tail_lines=tail) == b"".join(last)


async def read(path: Path, live: ContainerLog | None = None, **options: object) -> bytes:
    return b"".join([chunk async for chunk in read_log(path, LogReadOptions(**options), live)])  # type: ignore[arg-type]


def line(text: str, second: int = 5) -> bytes:
    return logfiles.encode(b"stdout", text.encode(), f"2026-01-02T03:04:{second:02d}.5Z".encode())


async def test_rotation_keeps_the_last_files_and_readers_read_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    file = ContainerLog(path, rotate_bytes=100, kept=3)
    for number in range(20):
        file.write(line(f"line {number:02d}"))
    file.close()
    assert [part.name for part in parts_of(path)] == ["0.log.2", "0.log.1", "0.log"]
    text = (await read(path)).decode().splitlines()
    assert text == [f"line {number:02d}" for number in range(20 - len(text), 20)]
    assert len(text) > 4
    assert (await read(path, tail_lines=4)).decode().splitlines() == text[-4:]


async def test_without_follow_a_reader_ends_while_the_container_writes(tmp_path: Path) -> None:
    file = ContainerLog(tmp_path / "0.log")
    file.write(line("first") + line("second"))
    got = b""
    async for chunk in read_log(file.path, LogReadOptions(tail_lines=1), file):
        got += chunk
        file.write(line("later"))
    assert got == b"second\n"
    file.close()


async def test_options(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(line("a", 1) + line("b", 2) + b"torn\n" + line("c", 3))
    assert await read(path) == b"a\nb\nc\n"
    assert await read(path, since="2026-01-02T03:04:02.500000Z") == b"b\nc\n"
    assert await read(path, since="2026-01-02T03:04:02.500001Z") == b"c\n"
    assert await read(path, limit_bytes=3) == b"a\nb"
    assert await read(path, timestamps=True, tail_lines=1) == b"2026-01-02T03:04:03.5Z c\n"
    with pytest.raises(FileNotFoundError):
        await read(tmp_path / "1.log")


async def test_following_continues_after_rotations_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    file = ContainerLog(path, rotate_bytes=60, kept=5)
    file.write(line("first"))
    got: list[bytes] = []
    seen = asyncio.Event()

    async def follow() -> None:
        async for chunk in read_log(path, LogReadOptions(follow=True, tail_lines=1), file):
            got.append(chunk)
            seen.set()

    async with asyncio.timeout(60):
        following = asyncio.create_task(follow())
        for number in range(6):
            await seen.wait()
            seen.clear()
            file.write(line(f"more {number}"))
        file.write(line("at once 1") + line("at once 2"))
        file.close()
        await following
    assert b"".join(got).decode().splitlines() == ["first", *(f"more {n}" for n in range(6)), "at once 1", "at once 2"]


async def test_following_before_the_first_line(tmp_path: Path) -> None:
    file = ContainerLog(tmp_path / "sub" / "0.log")
    following = asyncio.create_task(read(file.path, file, follow=True))
    await asyncio.sleep(0)
    file.write(line("x"))
    file.close()
    async with asyncio.timeout(60):
        assert await following == b"x\n"


async def test_a_full_disk_loses_lines_but_not_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = ContainerLog(tmp_path / "0.log")
    file.write(line("before"))
    real = os.write

    def cut(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:10])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", cut)
    file.write(line("cut"))
    monkeypatch.setattr(os, "write", full)
    file.write(line("lost"))
    monkeypatch.setattr(os, "write", real)
    file.write(line("after"))
    file.close()
    assert await read(file.path) == b"before\nafter\n"
    assert "No space left" in caplog.text or "no space left" in caplog.text


async def test_output_in_pipes_is_written_to_the_log(tmp_path: Path) -> None:
    file = ContainerLog(tmp_path / "0.log")
    output = ContainerStreams(file)
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "echo out; echo err >&2; printf tail", stdout=output.stdout, stderr=output.stderr
    )
    output.started(process)
    await process.wait()
    await output.drain()
    assert file.closed
    lines = sorted(file.path.read_bytes().splitlines())
    assert sorted(entry.split(b" ", 1)[1] for entry in lines) == [b"stderr F err", b"stdout F out", b"stdout P tail"]
    assert file.path.stat().st_mode & 0o777 == 0o600


async def test_a_container_without_output_has_a_log(tmp_path: Path) -> None:
    output = ContainerStreams(ContainerLog(tmp_path / "0.log"))
    await output.drain()
    assert await read(tmp_path / "0.log") == b""


async def test_a_container_with_much_output_is_slowed_down_and_loses_nothing(tmp_path: Path) -> None:
    output = ContainerStreams(ContainerLog(tmp_path / "0.log", rotate_bytes=1 << 30))
    count = 120_000
    process = await asyncio.create_subprocess_exec(
        "seq", "-f", "%060.0f", str(count), stdout=output.stdout, stderr=output.stderr
    )
    output.started(process)
    begun = time.monotonic()
    await process.wait()
    await output.drain(30)
    # Of seven megabytes, at most four are read at once.
    assert time.monotonic() - begun > 0.2
    lines = (await read(tmp_path / "0.log")).splitlines()
    assert lines == [f"{number:060}".encode() for number in range(1, count + 1)]


async def test_closing_a_log_reports_lines_that_are_incomplete(tmp_path: Path) -> None:
    output = ContainerStreams(ContainerLog(tmp_path / "0.log"))
    os.write(output.stdout, b"half a li")
    descendant = os.dup(output.stdout)
    try:
        await output.drain(0.05)
    finally:
        os.close(descendant)
    assert b"stdout P half a li" in (tmp_path / "0.log").read_bytes()


def test_pipes_close_their_own_descriptors_and_no_others(tmp_path: Path) -> None:
    """With uvloop, like the node agent, while threads open and close files."""
    lost: list[OSError] = []
    done = threading.Event()

    def open_and_close() -> None:
        while not done.is_set():
            for descriptor in [os.open("/", os.O_RDONLY) for _ in range(4)]:
                try:
                    os.close(descriptor)
                except OSError as error:
                    lost.append(error)

    async def make_pipes() -> None:
        for _ in range(3000):
            await ContainerStreams(ContainerLog(tmp_path / "0.log")).drain()
            if lost:
                return

    threads = [threading.Thread(target=open_and_close) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        uvloop.run(make_pipes())
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not lost


def test_queries() -> None:
    options, previous = parse_options(b"follow=true&tailLines=3&timestamps=1&previous=true&limitBytes=9")
    assert (options.follow, options.tail_lines, options.timestamps, options.limit_bytes) == (True, 3, True, 9)
    assert previous
    options, _ = parse_options(b"sinceTime=2026-01-02T05:04:05.5%2B02:00")
    assert options.since == "2026-01-02T03:04:05.500000Z"
    assert parse_options(None) == (LogReadOptions(), False)


@pytest.mark.parametrize(
    "query",
    [
        b"tailLines=x",
        b"tailLines=-1",
        b"limitBytes=0",
        b"sinceTime=never",
        b"sinceSeconds=" + b"9" * 30,
        b"sinceSeconds=" + b"9" * 18,
    ],
)
def test_invalid_queries(query: bytes) -> None:
    with pytest.raises(BadLogQuery):
        parse_options(query)
