"""Processes identified by their ID and start time: the ID alone may soon belong to another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# The line that tells an attached control plane, on its standard input, to continue when its parent process ends.
KEEP = b"keep\n"
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """A process. pid: its ID. started: its start time, in a form that depends on the platform; "" if unknown."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has this ID now."""
        return cls(pid, _started(pid))

    @classmethod
    def from_dict(cls, found: Any) -> Process | None:
        """Return the process that `as_dict` wrote; None when `found` has another form."""
        if not isinstance(found, Mapping):
            return None
        pid, started = found.get("pid"), found.get("started")
        if type(pid) is not int or pid <= 1 or not isinstance(started, str):
            return None
        return cls(pid, started)

    def as_dict(self) -> dict[str, Any]:
        """Return the process as a JSON object, for `from_dict`."""
        return {"pid": self.pid, "started": self.started}

    def alive(self) -> bool:
        """Return True while this process runs or is stopped; False once it has ended, or another process has its ID."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # The ID belongs to another user's process, which this object never describes. So if the start time is
            # known, the described process has ended.
            return not self.started
        found = _started(self.pid)
        return found == self.started if found and self.started else bool(found)

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs. Also send SIGCONT, so that a stopped process handles the signal."""
        try:
            descriptor = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:
            return
        try:
            # The start time is compared after the descriptor was opened, so the descriptor refers to the compared
            # process.
            if not self.alive():
                return
            for one in (number, signal.SIGCONT):
                if descriptor >= 0:
                    signal.pidfd_send_signal(descriptor, one)
                else:
                    os.kill(self.pid, one)
        except ProcessLookupError:
            return
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` until the process has ended. Return False when it has not."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return the start time of the process; "" when it does not run (a zombie does not)."""
    if sys.platform == "linux":
        try:
            # The name in parentheses may contain blanks. After it: state, ..., start time in clock ticks since boot.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else f"{_boot()} {fields[19]}"
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    ).stdout.split(maxsplit=1)
    return "" if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()
