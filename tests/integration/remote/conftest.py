"""An independent API server with a few pods, whose commands run on this machine."""

from __future__ import annotations

import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from tests import commands
from tests.conftest import BIN
from tests.podserver import V5, PodServer, make_pod


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PodServer]:
    """Run an API server with the pods `one`, and `two` (containers a and b).

    param: the WebSocket protocols that the server accepts for commands.
    """
    found = PodServer(tmp_path, getattr(request, "param", (V5,)))
    found.add(make_pod("one"))
    found.add(make_pod("two", "a", "b", annotations={"kubectl.kubernetes.io/default-container": "b"}))
    with found.running():
        found.kubeconfig()
        yield found


Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def hatchway(server: PodServer) -> Run:
    """Return a function that runs the command line with the server.

    quick: whether `exec` may use its quicker implementation (`remote/quickpod.py`).
    """

    def run(*arguments: str, stdin: bytes = b"", quick: bool = True) -> subprocess.CompletedProcess[bytes]:
        command, *rest = arguments
        environment = {**os.environ, "KUBECONFIG": str(server.directory / "kubeconfig")}
        # The quicker implementation does not support this flag.
        own = [] if quick else ["--request-timeout", "0"]
        return commands.run([command, *own, *rest], input=stdin, env=environment)

    return run


class Terminal:
    """A program on its own terminal."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.output = b""
        self._seen = 0
        self.pid, self.descriptor = pty.fork()
        if not self.pid:
            os.execvpe(arguments[0], arguments, environment)
        self.resize(100, 30)

    def resize(self, width: int, height: int) -> None:
        ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def expect(self, text: str, seconds: float = 30) -> None:
        """Wait until the output contains a text, after the previously expected text."""
        wanted, until = text.encode(), time.monotonic() + seconds
        while (at := self.output.find(wanted, self._seen)) < 0:
            assert time.monotonic() < until, f"no {text!r} in {self.output[self._seen :]!r}"
            if select.select([self.descriptor], [], [], 0.2)[0]:
                data = self._read()
                assert data, f"the end, and no {text!r} in {self.output!r}"
                self.output += data
        self._seen = at + len(wanted)

    def _read(self) -> bytes:
        try:
            return os.read(self.descriptor, 65536)
        except OSError:
            return b""

    def is_raw(self) -> bool:
        """Return True if the terminal is in raw mode."""
        return not termios.tcgetattr(self.descriptor)[3] & termios.ICANON

    def wait(self) -> int:
        """Wait for the end of the program; return the exit code."""
        while data := self._read():
            self.output += data
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Kill the program, unless it has ended."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


@pytest.fixture
def terminal(server: PodServer) -> Iterator[Callable[..., Terminal]]:
    """Return a function that starts a program on a terminal; its PATH contains `hatchway`."""
    opened: list[Terminal] = []

    def start(*arguments: str, **more: str) -> Terminal:
        environment = {
            **os.environ,
            "KUBECONFIG": str(server.directory / "kubeconfig"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            **more,
        }
        opened.append(Terminal(environment, *arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
