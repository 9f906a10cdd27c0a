"""Run `hatchway` commands in tests without waiting for their imports: see `commandserver.py`.

Each command is a process, as if the console script were started: with its own arguments, environment, directory, files
and signals. Other tests run the console script itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parents[1]
_SCRIPT = str(Path(sys.executable).parent / "hatchway")
_LOCK = threading.Lock()


class Command:
    """A running command, with the attributes and methods of subprocess.Popen that tests need.

    stdout: the pipe from the command's output; None if the command was started without subprocess.PIPE. returncode:
    None until `poll` or `wait` has found the command's end. As a context manager, it waits for the command's end on
    exit.
    """

    def __init__(self, arguments: Sequence[str], pid: int, report: socket.socket, buffered: bytes) -> None:
        self.args = ["hatchway", *arguments]
        self.pid = pid
        self.stdout: IO[str] | None = None
        self.returncode: int | None = None
        self._report = report
        self._said = buffered
        self._lock = threading.Lock()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code; None while the command runs."""
        return self._exit_code(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        code = self._exit_code(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _exit_code(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None:
                waiting = select.poll()
                waiting.register(self._report, select.POLLIN)
                if b"\n" in self._said or waiting.poll(None if timeout is None else timeout * 1000):
                    self.returncode = int(_line(self._report, self._said)[0])
                    self._report.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str],
    *,
    stdin: int | IO[Any] = 0,
    stdout: int | IO[Any] = 1,
    stderr: int | IO[Any] = 2,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
) -> Command:
    """Start `hatchway` with the arguments.

    stdin, stdout, stderr: descriptors or open files; stdout may be subprocess.PIPE. env: the whole environment; this
    process's by default.
    """
    if stdout == subprocess.PIPE:
        read, write = os.pipe()
        try:
            command = start(arguments, stdin=stdin, stdout=write, stderr=stderr, env=env, cwd=cwd)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        command.stdout = open(read)  # noqa: SIM115  closed by `__exit__`
        return command
    mine, theirs = socket.socketpair()
    with theirs:
        asked = {
            "argv": [_SCRIPT, *arguments],
            "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or os.getcwd()),
        }
        message = json.dumps(asked).encode()
        files = [one if isinstance(one, int) else one.fileno() for one in (stdin, stdout, stderr)]
        with _LOCK:
            server = _server()
            socket.send_fds(server, [len(message).to_bytes(8, "big")], [*files, theirs.fileno()])
            server.sendall(message)
    try:
        line, more = _line(mine, b"")
    except BaseException:
        mine.close()
        raise
    return Command(arguments, int(line), mine, more)


def run(
    arguments: Sequence[str],
    *,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; return its exit code and output, like subprocess.run.

    input: the standard input; None for this process's. Raises subprocess.TimeoutExpired after `timeout` seconds.
    """
    with contextlib.ExitStack() as stack:
        pipes = [os.pipe() for _ in range(2 if input is None else 3)]
        (out, out_end), (error, error_end) = pipes[:2]
        theirs, ours = [out_end, error_end], [out, error]
        if input is not None:
            theirs.append(pipes[2][0])
        try:
            command = start(
                arguments, stdin=0 if input is None else theirs[2], stdout=out_end, stderr=error_end, env=env, cwd=cwd
            )
        except BaseException:
            for one in (out, error):
                os.close(one)
            raise
        finally:
            for one in theirs:
                os.close(one)
        told: list[bytes] = [b"", b""]
        threads = [threading.Thread(target=_read_into, args=(told, number, one)) for number, one in enumerate(ours)]
        if input is not None:
            threads.append(threading.Thread(target=_write, args=(pipes[2][1], input)))
        for thread in threads:
            thread.start()
        stack.callback(_join, threads)
        try:
            code = command.wait(timeout)
        except BaseException:
            command.kill()
            command.wait()
            raise
    return subprocess.CompletedProcess(command.args, code, *told)


def run_text(
    arguments: Sequence[str],
    *,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a command as `run` does, with input and output as texts."""
    data = None if input is None else input.encode()
    done = run(arguments, input=data, env=env, cwd=cwd, timeout=timeout)
    told = (one.decode().replace("\r\n", "\n") for one in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *told)


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()


def _read_into(told: list[bytes], number: int, descriptor: int) -> None:
    with open(descriptor, "rb") as file:
        told[number] = file.read()


def _write(descriptor: int, data: bytes) -> None:
    # The command may end before it has read everything.
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]


def _line(report: socket.socket, said: bytes) -> tuple[bytes, bytes]:
    """Return the next line from the server, and the bytes received after it."""
    while b"\n" not in said:
        data = report.recv(100)
        assert data, "the command server has ended"
        said += data
    line, _, more = said.partition(b"\n")
    return line, more


@functools.cache
def _server() -> socket.socket:
    """Start the server, and stop it when this process ends."""
    mine, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.commandserver", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=_ROOT,
        )
    atexit.register(_stop, process, mine)
    return mine


def _stop(process: subprocess.Popen[bytes], server: socket.socket) -> None:
    server.close()
    process.wait()
