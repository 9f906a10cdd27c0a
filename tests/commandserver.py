"""A process that has imported the command line, and forks for each command that a test runs (`commands.py`).

A short command spends most of its time on imports. This process imports the modules once for all commands. Each command
is a process of its own, with the arguments, environment, directory and files that the test gives it.

    python -m tests.commandserver DESCRIPTOR

DESCRIPTOR is a socket. Each message is a JSON object (argv, env, cwd) after its length (8 bytes), and comes with four
descriptors: the command's standard input, output and error, and a socket to which the command's process id and later
its exit code are written, a line each. The process ends when the other end of the socket is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import selectors
import signal
import socket
import sys
import threading
from typing import Any

# Modules that commands import only when they run.
_LAZILY = (
    "cryptography.x509",
    "hatchway.cli.clients",
    "hatchway.cli.run",
    "hatchway.cluster.statusreport",
    "hatchway.door.door",
    "hatchway.kube.lookup",
    "hatchway.remote.quickexec",
    "shlex",
    "uvloop",
)


def main(descriptor: int) -> None:
    """Serve until the other end of the socket is closed. In the process of a command, run the command and return."""
    _import()
    ended, wake = socket.socketpair()
    for one in (ended, wake):
        one.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    requests = socket.socket(fileno=descriptor)
    running: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        for one in (requests, ended):
            selector.register(one, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if ended in ready:
                with contextlib.suppress(BlockingIOError):
                    ended.recv(4096)
                _report_ended(running)
            if requests not in ready:
                continue
            length, files, _, _ = socket.recv_fds(requests, 8, 4)
            if not length:
                return
            message = requests.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
            report = socket.socket(fileno=files.pop())
            pid = os.fork()
            if not pid:
                break
            for file in files:
                os.close(file)
            running[pid] = report
            _tell(report, pid)
    # This is the process of a command, so it closes everything that belongs to the server.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for used in (*running.values(), report, requests, ended, wake):
        used.close()
    _become(json.loads(message), files)


def _import() -> None:
    from hatchway.cli.app import app
    from hatchway.cli.commandgroup import leaf_commands

    with app.make_context("hatchway", [], resilient_parsing=True) as context:
        leaf_commands(app, context)
    for name in _LAZILY:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _report_ended(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as report:
            _tell(report, os.waitstatus_to_exitcode(status))


def _tell(report: socket.socket, number: int) -> None:
    # The test may have closed its end.
    with contextlib.suppress(OSError):
        report.sendall(b"%d\n" % number)


def _become(asked: dict[str, Any], files: list[int]) -> None:
    """Give this process a command's files, environment, directory and arguments, and run the command."""
    from hatchway.cli import main as command

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    # Open all three as Python does at its start.
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), line_buffering=os.isatty(1))
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), errors="backslashreplace", line_buffering=True
    )
    sys.argv = asked["argv"]
    try:
        command()
    except SystemExit as end:
        if threading.active_count() > 1 or not isinstance(end.code, int):
            raise
        # No other thread runs, so skip Python's normal exit: it takes longer than many commands.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
        os._exit(end.code)


if __name__ == "__main__":
    main(int(sys.argv[1]))
