"""Gives new processes of containers their oom_score_adj (proc_pid_oom_score_adj(5)).

A process cannot set its own while its memory is private, and inside of a container it must be private at all times: a
privileged container could otherwise read it, and take over its descriptors. So the first process, which no container
sees, has the value itself for the moment in which it forks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from hatchway.cluster.network import syscalls as linux

_PATH = "/proc/self/oom_score_adj"


class OomScores:
    """This process's own file in /proc, opened once. Make it where no container can see this process."""

    def __init__(self) -> None:
        linux.keep_memory_private(False)
        try:
            self._file = os.open(_PATH, os.O_RDWR | os.O_CLOEXEC)
        finally:
            linux.keep_memory_private()
        self._own = int(os.read(self._file, 16))

    @contextlib.contextmanager
    def inherited(self, score: int) -> Iterator[None]:
        """Give children that are forked in the block this oom_score_adj, or this process's own if that is higher.

        An ordinary user may not lower it. Raises OSError.
        """
        os.pwrite(self._file, str(max(score, self._own)).encode(), 0)
        try:
            yield
        finally:
            # Where it was before, the kernel allows it to be again.
            os.pwrite(self._file, str(self._own).encode(), 0)
