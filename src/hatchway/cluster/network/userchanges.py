"""Answers the changes of users in a container whose root is the cluster's one user, and notices what they are for.

Images often begin as root and go on as another user: their start script runs itself again by `gosu`, `su-exec` or
`setpriv`, and asks `id -u` whether it has to. Where nothing can change, such a script would never end. So the kernel
asks here (seccomp_unotify(2)) when a process of the container calls setuid(2) or the like; the answer is that it has
worked. When the container's first process has asked for another user, and then executes another program, the container
is one of these, and can begin as that user instead (`nestedusers.py`). Servers that only give up root's rights (nginx)
execute nothing afterwards, and go on.

The network's first process reads the questions, so each takes little time, and a container that asks all the time
waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from hatchway.cluster.network.ownerchanges import find_change

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
# struct seccomp_notif: id, pid, flags, and struct seccomp_data. struct seccomp_notif_resp: id, val, error, flags.
_QUESTION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_NO_CHANGE = 0xFFFFFFFF
# When the first process is looked at after it has asked for another user (seconds).
_CHECKS = (0.02, 0.1, 0.5, 2.0)
# So many questions are answered at once; then one in each period (seconds).
_FREE, _PERIOD = 200, 0.01
_STAT_BYTES = 4096


class _ExecutedProgram(NamedTuple):
    """What tells that a process has executed another program: its file, and where its stack begins."""

    device: int
    inode: int
    stack: bytes


class UserChanges:
    """The questions of one container. listener: what `linux.set_listening_filter` returns. pid: its first process."""

    def __init__(self, listener: int, pid: int) -> None:
        self.listener = listener
        self._pid = pid
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._answered = 0
        self._user = self._group = 0
        self._before: _ExecutedProgram | None = None
        self._checks: list[float] = []
        # When questions are read again; None while they are read at once.
        self.paused_until: float | None = None

    @property
    def next_check(self) -> float | None:
        """Return when `check` has to be called (time.monotonic); None for never."""
        times = [*self._checks[:1], *([self.paused_until] if self.paused_until is not None else [])]
        return min(times, default=None)

    def answer(self) -> bool:
        """Answer one question, if there is one. Return False when no more will come."""
        events = dict(self._poll.poll(0)).get(self.listener, 0)
        if not events & select.POLLIN:
            return not events
        buffer = bytearray(_QUESTION.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, buffer)
        except OSError:
            # The process has been killed meanwhile.
            return True
        number, pid, _, call, architecture, _, *arguments = _QUESTION.unpack(buffer)
        self._note(pid, find_change(architecture, call), arguments)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.listener, _SEND, bytearray(_ANSWER.pack(number, 0, 0, 0)))
        self._answered += 1
        if self._answered > _FREE:
            self.paused_until = time.monotonic() + _PERIOD
        return True

    def _note(self, pid: int, change: tuple[str, int] | None, arguments: list[int]) -> None:
        if change is None or not self._is_first(pid):
            return
        kind, index = change
        value = arguments[index] & _NO_CHANGE
        if value == _NO_CHANGE:
            return
        if kind == "group":
            self._group = value
            return
        self._user = value
        self._before = _executed_program(self._pid) if value else None
        now = time.monotonic()
        self._checks = [now + delay for delay in _CHECKS] if self._before is not None else []

    def _is_first(self, pid: int) -> bool:
        """Return True for the first process, and for each of its threads."""
        if pid == self._pid:
            return True
        return os.path.isdir(f"/proc/{self._pid}/task/{pid}")

    def check(self, now: float) -> tuple[int, int] | None:
        """Return the user and group as which the container should have begun; None when it goes on. now: monotonic."""
        if self.paused_until is not None and now >= self.paused_until:
            self.paused_until = None
        if not self._checks or now < self._checks[0]:
            return None
        self._checks = [due for due in self._checks if due > now]
        present = _executed_program(self._pid)
        if self._before is None or present is None or present == self._before:
            return None
        self._checks = []
        return self._user, self._group

    def close(self) -> None:
        """Close the listener. Idempotent."""
        if self.listener >= 0:
            os.close(self.listener)
            self.listener = -1


class FollowedContainers:
    """The containers whose changes of users are answered, by their numbers.

    watch: calls a function when a descriptor can be read. unwatch: ends that; nothing happens when it has ended.
    tell: called with the number of a container that should have begun as another user, its user and its group.
    """

    def __init__(
        self,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        tell: Callable[[int, int, int], None],
    ) -> None:
        self._watch = watch
        self._unwatch = unwatch
        self._tell = tell
        self._all: dict[int, UserChanges] = {}

    def add(self, key: int, changes: UserChanges | None) -> None:
        """Answer a container's changes of users, until it has ended. None: the kernel does not ask."""
        if changes is not None:
            self._all[key] = changes
            self._read(changes)

    def remove(self, key: int) -> None:
        """Forget a container that has ended, before its listener is closed."""
        if (changes := self._all.pop(key, None)) is not None:
            self._unwatch(changes.listener)

    def next_checks(self) -> list[float]:
        """Return when `check` has to be called (time.monotonic)."""
        return [due for changes in self._all.values() if (due := changes.next_check) is not None]

    def check(self) -> None:
        """Tell of containers that should have begun as another user; read questions that have waited."""
        now = time.monotonic()
        for key, changes in self._all.items():
            if (due := changes.next_check) is None or due > now:
                continue
            paused = changes.paused_until is not None
            if (user := changes.check(now)) is not None:
                self._tell(key, *user)
            if paused and changes.paused_until is None:
                self._read(changes)

    def _read(self, changes: UserChanges) -> None:
        """Read the questions of a container, until no more come or it has asked too often."""

        def ready() -> None:
            if not changes.answer() or changes.paused_until is not None:
                self._unwatch(changes.listener)

        self._watch(changes.listener, ready)


def _executed_program(pid: int) -> _ExecutedProgram | None:
    """Return what a process executes; None when it has ended."""
    try:
        file = os.stat(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The fields after the name in parentheses begin with field 3; `startstack` is field 28.
            fields = stat.read(_STAT_BYTES).rpartition(b")")[2].split()
        return _ExecutedProgram(file.st_dev, file.st_ino, fields[25])
    except (OSError, IndexError):
        return None
