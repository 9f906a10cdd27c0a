"""Limits the number of processes of the cluster, its nodes and containers.

The cluster gets half of this machine's limit, a node a quarter, and a container an eighth.

Since Linux 6.14 each PID namespace has its own `pid_max`, which also holds for all namespaces below it. On older
kernels, two other limits remain: RLIMIT_NPROC (see `containerstart.py`), which the kernel does not apply to this
machine's root; and control groups, where the cluster may make them (`cgroups.py`).
"""

from __future__ import annotations

import os
import re

_PATH = "/proc/sys/kernel/pid_max"
_MOST, _USUAL = 65536, 32768
# The kernel refuses a smaller limit (RESERVED_PIDS).
_LEAST = 512


def of_cluster() -> int:
    """Return the cluster's limit: half of this machine's limit, at most 65536.

    Call it outside of the cluster's PID namespaces.
    """
    try:
        with open(_PATH, encoding="ascii") as file:
            machine = int(file.read())
    except (OSError, ValueError):
        # /proc is hidden from this process.
        machine = _USUAL
    return max(_LEAST * 4, min(machine // 2, _MOST))


def limit_here(number: int) -> None:
    """Limit the PID namespace that this process is in. Do nothing where namespaces have no limit of their own."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if release is None or (int(release[1]), int(release[2])) < (6, 14):
        return
    try:
        with open(_PATH, "w", encoding="ascii") as file:
            file.write(str(max(number, _LEAST)))
    except OSError:
        # /proc is mounted read-only here; the other limits remain.
        return
