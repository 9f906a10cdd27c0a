"""Follow a document as a reader would: run its commands in their order on a terminal, and save its files.

In ```console blocks, lines that begin with `$ ` are commands, and the lines below a command are compared with its
output. A block after a line that ends in "Save this as `PATH`:" is the content of that file.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import wait_for
from tests.descriptors import is_readable

# Commands that run in a separate terminal until they are interrupted.
_STAYING = ("scripts/up", "hatchway proxy")
_COMMAND_SECONDS = 90.0
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SAVED = re.compile(r"Save this as `([^`]+)`:\n+\Z")
# Parts that differ from run to run: ports, names of pods, addresses, ages and times of day, seconds.
_VARYING = (
    (re.compile(r"(127\.0\.0\.1|localhost):\d+"), r"\1:PORT"),
    (re.compile(r"\b([a-z]+)-[a-z0-9]{8,10}-[a-z0-9]{5}\b"), r"\1-POD"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "ADDRESS"),
    (re.compile(r"\[\d\d/\w+/\d{4} [\d:]+\]"), "[TIME]"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|m|m\d+s)\b"), "SECONDS"),
    (re.compile(r"\s+"), " "),
)


@dataclass
class Step:
    """A step of a document: a command to run, or a file to save.

    command: a line for the terminal; "" if the step is a file. shown: the lines of the document below the command.
    path, text: the path and the content of the file; "" if the step is a command.
    """

    command: str = ""
    shown: list[str] = field(default_factory=list)
    path: str = ""
    text: str = ""

    @property
    def stays(self) -> bool:
        """Return True if the command runs until it is interrupted."""
        return self.command.startswith(_STAYING)


def steps_of(text: str) -> list[Step]:
    """Return the steps of a document in order. Continued lines are joined; comments are kept for the shell."""
    found: list[Step] = []
    for block in _BLOCK.finditer(text):
        language, body = block.groups()
        if saved := _SAVED.search(text, 0, block.start()):
            found.append(Step(path=saved[1], text=body))
        elif language == "console":
            for line in body.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    found.append(Step(line[2:]))
                elif line.strip():
                    found[-1].shown.append(line.strip())
    return found


def at_port(command: str, port: int) -> str:
    """Return the command for a door that listens on `port` instead of the default one."""
    command = command.replace("8001", str(port))
    return re.sub(r"^hatchway (proxy|open|ls)\b", rf"hatchway \1 --port {port}", command)


def missing_lines(shown: list[str], output: str) -> list[str]:
    """Return the lines that a document shows and a command did not print.

    `...` in a shown line matches anything; parts that differ from run to run are not compared.
    """
    printed = [_comparable(line) for line in output.splitlines()]
    missing = []
    for line in shown:
        pattern = re.compile(".*".join(re.escape(part) for part in _comparable(line).split("...")))
        if not any(pattern.fullmatch(candidate) for candidate in printed):
            missing.append(line)
    return missing


def _comparable(line: str) -> str:
    for pattern, replacement in _VARYING:
        line = pattern.sub(replacement, line)
    return line.strip()


class Terminal:
    """A shell on its own terminal. user: arguments of `Popen` that choose its user."""

    def __init__(self, directory: Path, environment: dict[str, str], user: dict[str, int]) -> None:
        self._master, slave = pty.openpty()
        self.output = ""
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env={**environment, "PS1": "", "TERM": "dumb"},
            start_new_session=True,
            **user,  # type: ignore[call-overload]
        )
        os.close(slave)

    @property
    def session(self) -> int:
        """Return the session id of the shell and its commands."""
        return self._process.pid

    def send(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def wait(self, pattern: str, seconds: float) -> re.Match[str]:
        """Wait until new output matches `pattern`; return the first match. Fails after `seconds`."""
        deadline = time.monotonic() + seconds
        begin = len(self.output)
        while not (found := re.compile(pattern).search(self.output, begin)):
            ready = is_readable(self._master, deadline - time.monotonic())
            assert ready, f"no {pattern!r} after {seconds:g} s in:\n{self.output[begin:]}"
            try:
                piece = os.read(self._master, 65536)
            except OSError as error:
                raise AssertionError(f"the terminal ended before {pattern!r}:\n{self.output[begin:]}") from error
            self.output += piece.decode("utf-8", "replace").replace("\r\n", "\n")
        return found

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end; return its exit status and its output."""
        begin = len(self.output)
        self.send(command)
        self.send('printf "status-of-last=%s\\n" "$?"')
        # The prompt of an activated environment may be in front of the status.
        found = self.wait(r"(?m)^(?:\(\S+\) )?status-of-last=(\d+)$", _COMMAND_SECONDS)
        return int(found[1]), self.output[begin : found.start()]

    def close(self) -> None:
        """End the shell and its commands, which are in process groups of their own because of job control."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in [*members(self.session), self.session]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            # An interactive shell ignores SIGTERM; its commands do not.
            with contextlib.suppress(AssertionError):
                wait_for(lambda: not members(self.session), seconds=10)
        self._process.wait()
        os.close(self._master)


def members(session: int) -> list[int]:
    """Return the running processes of a session, without its leader."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session, *_ = entry.read_text().rpartition(")")[2].split()
            if int(its_session) == session and int(entry.parent.name) != session and state != "Z":
                found.append(int(entry.parent.name))
    return found
