"""`kubectl proxy` and `hatchway proxy` as processes, and raw requests to them."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests import commands
from tests.conftest import find_kubectl
from tests.descriptors import is_readable

FIRST_LINE = re.compile(r"^Starting to serve on (.+)$")


@dataclass
class Ask:
    """A request. path: exactly as in the request line. host: None to send no Host field."""

    path: str
    method: str = "GET"
    host: str | None = "localhost:8001"
    headers: tuple[str, ...] = ()
    body: bytes = b""

    def wire(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        if self.host is not None:
            lines.append(f"Host: {self.host}")
        lines += self.headers
        if not any(one.lower().startswith("connection:") for one in self.headers):
            lines.append("Connection: close")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body

    def __str__(self) -> str:
        return " ".join([self.method, self.path or "(no path)", f"Host: {self.host}", *self.headers])


@dataclass
class Got:
    """A response: `headers` with lower-case names, `body` without its transfer coding."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = self.headers.get(name)
        return ", ".join(found) if found else None


@dataclass
class Proxy:
    """A running proxy. `where`: the address in its first line of output. `errors()`: its standard error so far."""

    process: subprocess.Popen[str] | commands.Command
    where: str
    log: Path
    cwd: Path

    @property
    def port(self) -> int:
        return int(self.where.rpartition(":")[2])

    def errors(self) -> str:
        return self.log.read_text()

    def connect(self, timeout: float = 20) -> socket.socket:
        if ":" not in self.where:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(timeout)
            connection.connect(str(self.cwd / self.where))
            return connection
        host = self.where.rpartition(":")[0].strip("[]")
        return socket.create_connection(({"::": "127.0.0.1"}.get(host, host), self.port), timeout)

    def ask(self, ask: Ask) -> Got:
        """Send one request; return the response."""
        with self.connect() as connection:
            connection.sendall(ask.wire())
            answer = http.client.HTTPResponse(connection, method=ask.method)
            answer.begin()
            headers: dict[str, list[str]] = {}
            for name, value in answer.getheaders():
                headers.setdefault(name.lower(), []).append(value)
            return Got(answer.status, headers, b"" if answer.status == 101 else answer.read())


def start(program: str, arguments: list[str], errors: TextIO, cwd: Path) -> subprocess.Popen[str] | commands.Command:
    """Start "kubectl" or "hatchway", with a pipe for its standard output."""
    if program == "hatchway":
        return commands.start(arguments, stdout=subprocess.PIPE, stderr=errors, cwd=cwd)
    return subprocess.Popen([find_kubectl(), *arguments], stdout=subprocess.PIPE, stderr=errors, text=True, cwd=cwd)


@contextlib.contextmanager
def running(program: str, kubeconfig: Path, *flags: str, cwd: Path) -> Iterator[Proxy]:
    """Run a proxy during a block, which begins after its first line of output.

    Raises AssertionError with its standard error if the proxy ends before that line.
    """
    if not any(flag.startswith(("--port", "-p", "--unix-socket", "-u")) for flag in flags):
        flags = ("--port=0", *flags)
    log = cwd / f"{program}.log"
    with (
        log.open("w") as errors,
        start(program, ["proxy", f"--kubeconfig={kubeconfig}", *flags], errors, cwd) as process,
    ):
        try:
            yield Proxy(process, _first_line(process, log), log, cwd)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _first_line(process: subprocess.Popen[str] | commands.Command, log: Path, seconds: float = 60) -> str:
    assert process.stdout is not None
    if not is_readable(process.stdout, seconds):
        raise AssertionError(f"no line after {seconds:.0f} s; standard error: {log.read_text()}")
    line = process.stdout.readline()
    found = FIRST_LINE.match(line)
    if found is None:
        process.wait(10)
        raise AssertionError(f"first line {line!r}, exit {process.returncode}, standard error: {log.read_text()}")
    return found[1]


def fails(program: str, kubeconfig: Path, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a proxy that must fail to start; return its result."""
    arguments = ["proxy", f"--kubeconfig={kubeconfig}", *flags]
    if program == "hatchway":
        return commands.run_text(arguments, cwd=cwd)
    return subprocess.run([find_kubectl(), *arguments], capture_output=True, text=True, cwd=cwd, timeout=30)
