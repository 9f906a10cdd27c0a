"""The control plane starts the process that pulls images, and ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop

from hatchway.cluster import imageservice
from hatchway.cluster.imageservice import ImageService
from hatchway.images.pullservice import unixsockets

PATIENCE = 20.0
# A program that sends its process id on one connection; after that, it waits for the end of standard input, or exits.
_PROGRAM = """
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[2]))
listener.setblocking(True)
client = listener.accept()[0]
client.sendall(f"{os.getpid()} {sys.argv[1]}".encode())
client.close()
if sys.argv[1].endswith("stays"):
    sys.stdin.read()
"""


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """Use the control plane's event loop, because this loop starts processes in a way of its own."""
    return uvloop.EventLoopPolicy()


def service(tmp_path: Path, store: str) -> ImageService:
    program = (sys.executable, "-S", "-c", _PROGRAM)
    return ImageService(tmp_path / "images.sock", Path(store), tmp_path / "server.log", program)


async def ask(tmp_path: Path) -> tuple[int, str]:
    """Connect to the process; return its process id and its store."""
    reader, writer = await asyncio.open_unix_connection(sock=unixsockets.connect(tmp_path / "images.sock"))
    async with asyncio.timeout(PATIENCE):
        pid, store = (await reader.read()).decode().split()
    writer.close()
    return int(pid), store


async def test_the_process_is_started_by_the_first_connection_and_again_after_its_end(tmp_path: Path) -> None:
    found = service(tmp_path, "/store/goes")
    found.listen()
    try:
        first, store = await ask(tmp_path)
        assert store == "/store/goes"
        second, _ = await ask(tmp_path)
        assert first != second
    finally:
        await found.close()
    assert not (tmp_path / "images.sock").exists()


async def test_the_process_ends_with_the_control_plane(tmp_path: Path) -> None:
    found = service(tmp_path, "/store/stays")
    found.listen()
    try:
        pid, _ = await ask(tmp_path)
        os.kill(pid, 0)
    finally:
        await found.close()
    assert not alive(pid)


def test_the_process_ends_with_a_control_plane_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from tests.unit.cluster.test_imageservice import *\n"
        "async def main():\n"
        "    path = Path(sys.argv[1]); service(path, '/store/stays').listen()\n"
        "    print((await ask(path))[0], flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    plane = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with plane:
        assert plane.stdout is not None
        pid = int(plane.stdout.readline())
        os.kill(pid, 0)
        plane.send_signal(signal.SIGKILL)
        plane.wait(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while alive(pid):
        assert time.monotonic() < deadline, "the process has not ended"
        time.sleep(0.01)


async def test_a_process_that_fails_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imageservice, "_RETRY_SECONDS", 0.05)
    marks = tmp_path / "marks"
    program = ("/bin/sh", "-c", f"echo started >> {marks}; exit 3")
    found = ImageService(tmp_path / "images.sock", Path("/store"), tmp_path / "server.log", program)
    found.listen()
    try:
        with unixsockets.connect(tmp_path / "images.sock"):
            await asyncio.to_thread(_await_lines, marks, 2)
    finally:
        await found.close()


def _await_lines(file: Path, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not file.exists() or len(file.read_text().split()) < count:
        assert time.monotonic() < deadline, f"{file} has not got {count} lines"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Return True while the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
