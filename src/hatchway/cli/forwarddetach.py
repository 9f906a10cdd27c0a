"""Starts, lists and stops forwards in the background.

Each background process has a file, its record, which it locks while it runs. The lock shows that the process still
runs. Its process ID would not show that, because another process may have the same ID later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hatchway.cli.printing import print_data, print_table, say
from hatchway.errors import HatchwayError
from hatchway.files import write_private
from hatchway.target import SHORT, WORDS

# The maximum number of seconds that a process may take to end, and the seconds between two checks.
_ENDING, _PAUSE = 5.0, 0.05
# Maps the word for a kind to its short form in arguments.
_SHORT = {WORDS[kind]: short for kind, short in SHORT.items()}
# The number of bytes at the end of a log that are searched for the reason of a failure.
_LAST = 4096


def _directory() -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return home / "hatchway-forward"


def start(output: str, more: Sequence[str] = ()) -> None:
    """Run the same command line in the background, and print its forwards when they are ready.

    more: additional options for the background process.

    Raises:
        HatchwayError: the process has ended before it was ready. The error contains its message.
    """
    directory = _directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = [word for word in sys.argv[1:] if word not in ("--detach", "-d", "--detach=true")]
    reading, writing = os.pipe()
    log = directory / f"starting-{os.getpid()}.log"
    record: Path | None = None
    try:
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *arguments, *more, f"--ready-fd={writing}"],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        log.rename(directory / f"{process.pid}.log")
        log = directory / f"{process.pid}.log"
        with os.fdopen(reading) as file:
            text = file.read()
        if not text:
            process.wait()
            raise _failure(log)
        record = directory / f"{process.pid}.json"
        told = json.loads(text)
    finally:
        if record is None:
            log.unlink(missing_ok=True)
    _print(process.pid, told, output)


# Used in place of the console script, whose path is not known in all kinds of installations.
_PROGRAM = "from hatchway.cli import main; main()"


def _failure(log: Path) -> HatchwayError:
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-_LAST:].decode(errors="replace").strip().splitlines()
        for number, line in enumerate(lines):
            if line.startswith("hatchway: "):
                return HatchwayError(line.removeprefix("hatchway: "), "\n".join(lines[number + 1 :]).strip())
        if lines:
            return HatchwayError(lines[-1])
    # Nothing could be written to the log.
    full = not os.statvfs(log.parent).f_bavail
    return HatchwayError(
        "the forward has ended before it was ready",
        f"the disk of {log.parent} is full: free some space" if full else "",
    )


def _print(pid: int, told: dict[str, Any], output: str) -> None:
    if output == "json":
        print_data(told["forwards"], "json")
        return
    if output == "env":
        for line in told["env"]:
            say(line)
        return
    for line in told["lines"]:
        say(line)
    say(f"Ready. `hatchway forward --stop {pid}` ends it.")


@contextlib.contextmanager
def recorded(forwards: list[dict[str, Any]]) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Keep a record of this process while the block runs. Yield a function that replaces the recorded forwards."""
    directory = _directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"{os.getpid()}.json"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"pid": os.getpid(), "since": time.time()}, file)
        file.flush()
        try:
            _write_forwards(path, forwards)
            yield lambda found: _write_forwards(path, found)
        finally:
            _remove(path)


def _write_forwards(path: Path, forwards: list[dict[str, Any]]) -> None:
    # A second file, because writing replaces the file, and the locked file must not be replaced.
    write_private(path.with_suffix(".forwards"), json.dumps(forwards).encode())


def _remove(path: Path) -> None:
    for suffix in (".json", ".forwards", ".log"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _running() -> list[dict[str, Any]]:
    """Return the records of running processes; remove other records."""
    found = []
    for path in sorted(_directory().glob("*.json")):
        try:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    forwards = json.loads(path.with_suffix(".forwards").read_bytes())
                    found.append({**json.load(file), "forwards": forwards})
                    continue
                _remove(path)
        except (OSError, ValueError):
            continue
    return found


def print_list(output: str) -> None:
    """Print the forwards in the background."""
    records = _running()
    if output == "json":
        print_data(records, "json")
        return
    if output == "env":
        from hatchway.forward.forwardoutput import as_env

        for line in as_env([one for record in records for one in record["forwards"]]):
            print(line)
        return
    rows = [("ID", "LOCAL", "TARGET", "NAMESPACE", "STATUS")]
    for record in records:
        for one in record["forwards"]:
            local = one.get("unixSocket") or f"{one['address']}:{one['localPort']}"
            short = _SHORT[one["kind"]]
            port = one.get("portName") or one.get("port")
            protocol = "/udp" if one.get("protocol") == "UDP" else ""
            named = f"{short}/{one['name']}:{port}{protocol}"
            state = "cluster is away" if one.get("clusterAway") else "running"
            rows.append((str(record["pid"]), local, named, one.get("namespace", ""), state))
    if len(rows) == 1:
        print("no forwards run in the background", file=sys.stderr)
        return
    print_table(rows)


def stop(identity: str) -> None:
    """Stop the forwards with this ID, or "all".

    Raises:
        HatchwayError: no forwards in the background have this ID.
    """
    records = _running()
    chosen = [record for record in records if identity in ("all", str(record["pid"]))]
    if not chosen and identity != "all":
        known = ", ".join(str(record["pid"]) for record in records)
        raise HatchwayError(
            f"no forwards with the ID {identity} run in the background",
            f"these do: {known}" if known else "no forwards run in the background",
        )
    for record in chosen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record["pid"], signal.SIGTERM)
    until = time.monotonic() + _ENDING
    while time.monotonic() < until and {one["pid"] for one in _running()} & {one["pid"] for one in chosen}:
        time.sleep(_PAUSE)
    for record in chosen:
        say(f"Ended {record['pid']} ({len(record['forwards'])} forwarded)")
