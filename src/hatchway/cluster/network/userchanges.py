"""Answers changes of users in containers whose root is the cluster's one user; finds containers that need another user.

Many images start as root and continue as another user: their start script checks `id -u`, and runs itself again by
`gosu`, `su-exec` or `setpriv`. If the user never changes, such a script repeats forever. So when a process of the
container calls setuid(2) or the like, the kernel asks the network's first process (seccomp_unotify(2)), which answers
with success. If the container's first process then executes another program, the container needs the other user, and is
started again as that user (`nestedusers.py`). Servers that only drop root's rights (nginx) execute no program
afterwards, and continue.

The network's first process also has other work. So it spends little time on each question, and limits how many
questions of a container it answers in a second.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from hatchway.cluster.network.ownerchanges import UserChange, find_change

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
# struct seccomp_notif: id, pid, flags, and struct seccomp_data. struct seccomp_notif_resp: id, val, error, flags.
_QUESTION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
# After the first process has changed its user, it is checked for a new program at these times (seconds).
_CHECKS = (0.02, 0.1, 0.5, 2.0)
# The number of questions that are answered without delay. Further questions: one in each period (seconds).
_FREE, _PERIOD = 200, 0.01
_STAT_BYTES = 4096


class _ExecutedProgram(NamedTuple):
    """Identifies the program that a process executes: by its file, and by the address of its stack."""

    device: int
    inode: int
    stack: bytes


class UserChanges:
    """The questions of one container. listener: see `linux.set_listening_filter`. pid: its first process."""

    def __init__(self, listener: int, pid: int) -> None:
        self.listener = listener
        self._pid = pid
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._answered = 0
        self._user = self._group = 0
        self._before: _ExecutedProgram | None = None
        self._checks: list[float] = []
        # The time at which questions are read again; None while they are read without delay.
        self.paused_until: float | None = None

    @property
    def next_check(self) -> float | None:
        """Return when `check` has to be called (time.monotonic); None for never."""
        times = [*self._checks[:1], *([self.paused_until] if self.paused_until is not None else [])]
        return min(times, default=None)

    def answer(self) -> bool:
        """Answer one question, if there is one. Return False when the container has ended."""
        events = dict(self._poll.poll(0)).get(self.listener, 0)
        if not events & select.POLLIN:
            return not events
        buffer = bytearray(_QUESTION.size)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, buffer)
        except OSError:
            # The process was killed meanwhile.
            return True
        number, pid, _, call, architecture, _, *arguments = _QUESTION.unpack(buffer)
        error = 0
        try:
            self._note(pid, find_change(architecture, call), arguments)
        except ValueError:
            # The kernel gives this answer for numbers that do not exist in a user namespace. A container cannot be
            # started again with such a number.
            error = -errno.EINVAL
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.listener, _SEND, bytearray(_ANSWER.pack(number, 0, error, 0)))
        self._answered += 1
        if self._answered > _FREE:
            self.paused_until = time.monotonic() + _PERIOD
        return True

    def _note(self, pid: int, change: UserChange | None, arguments: list[int]) -> None:
        """Record that the first process has changed its user or group. Raises ValueError for an invalid number."""
        value = change.number(arguments) if change is not None else None
        if change is None or value is None or not self._is_first(pid):
            return
        if change.kind == "group":
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
        """Return the user and group for a restart of the container; None when it needs no restart.

        now: monotonic seconds.
        """
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

    watch: calls a function whenever a descriptor is readable. unwatch: stops watching a descriptor; idempotent.
    tell: called with the number of a container that must be started again, and the user and group for it.
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
        """Answer a container's changes of users until it ends. changes: None when the kernel does not support that."""
        if changes is not None:
            self._all[key] = changes
            self._read(changes)

    def remove(self, key: int) -> None:
        """Remove a container that has ended. Call it before the container's listener is closed."""
        if (changes := self._all.pop(key, None)) is not None:
            self._unwatch(changes.listener)

    def next_checks(self) -> list[float]:
        """Return when `check` has to be called (time.monotonic)."""
        return [due for changes in self._all.values() if (due := changes.next_check) is not None]

    def check(self) -> None:
        """Report containers that must be started again as another user, and read delayed questions."""
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
        """Answer the questions of a container, until no question is left or the container has asked too often."""

        def ready() -> None:
            if not changes.answer() or changes.paused_until is not None:
                self._unwatch(changes.listener)

        self._watch(changes.listener, ready)


def _executed_program(pid: int) -> _ExecutedProgram | None:
    """Return the program that a process executes; None when the process has ended."""
    try:
        file = os.stat(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The fields after the name in parentheses begin with field 3; `startstack` is field 28.
            fields = stat.read(_STAT_BYTES).rpartition(b")")[2].split()
        return _ExecutedProgram(file.st_dev, file.st_ino, fields[25])
    except (OSError, IndexError):
        return None
