"""Gives new processes of containers their oom_score_adj (proc_pid_oom_score_adj(5)).

A process that is not dumpable cannot set its own value. In a container, a process must never be dumpable before its
program runs: a privileged container could read its memory, and take over its descriptors. So the network's first
process, which no container sees, gives itself the value before it forks, and the child inherits it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from hatchway.cluster.network import syscalls as linux

_PATH = "/proc/self/oom_score_adj"


class OomScores:
    """Changes this process's oom_score_adj.

    Create it where no container can see this process, because it opens a file in /proc.
    """

    def __init__(self) -> None:
        linux.keep_memory_private(False)
        try:
            self._file = os.open(_PATH, os.O_RDWR | os.O_CLOEXEC)
        finally:
            linux.keep_memory_private()
        self._own = int(os.read(self._file, 16))

    @contextlib.contextmanager
    def inherited(self, score: int) -> Iterator[None]:
        """Within the block, give forked children this oom_score_adj, or this process's own value if that is higher.

        An ordinary user may not lower the value. Raises OSError.
        """
        os.pwrite(self._file, str(max(score, self._own)).encode(), 0)
        try:
            yield
        finally:
            # The kernel allows a process to lower the value to its former value.
            os.pwrite(self._file, str(self._own).encode(), 0)
