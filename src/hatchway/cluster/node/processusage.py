"""Reads processor time, memory and traffic of containers and of this machine from /proc.

Where the cluster cannot create control groups (`cgroups.py`), a container's usage is the sum of its processes' usage. A
container's processes are the processes in its mount namespace (PID namespaces may be shared); on loopback addresses,
the processes in its session. The kernel adds the CPU time and the disk traffic of ended processes to the counters of
their parents (wait(2)).

Memory that several processes of a container share must be counted once, so their proportional shares are added. The
kernel computes these shares slowly, by a walk over page tables. So for a container with only one process, the process's
counters are read instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FRESH_SECONDS = 1.0
# If a container has more processes than this, they are not examined one by one, and shared memory is counted
# repeatedly.
_MOST_EXAMINED = 64


@dataclass(slots=True)
class Usage:
    """The resources that processes use.

    cpu: CPU time so far, in core-seconds.
    system: the part of `cpu` that was spent in the kernel.
    memory: resident bytes.
    anonymous: the part of `memory` that belongs to no file.
    read, written: bytes that were read from and written to disks so far.
    """

    cpu: float = 0.0
    memory: int = 0
    processes: int = 0
    threads: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    system: float = 0.0
    anonymous: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in _NAMES))

    def at_least(self, before: Usage) -> Usage:
        """Return this usage with counters that are not lower than in `before`. Memory and processes are not changed."""
        return replace(self, **{name: max(getattr(self, name), getattr(before, name)) for name in _COUNTERS})


_NAMES = tuple(one.name for one in fields(Usage))
_COUNTERS = ("cpu", "system", "page_faults", "major_page_faults", "read", "written")


@dataclass(frozen=True, slots=True)
class NetworkUsage:
    """One interface's counters, in bytes and packets."""

    name: str
    received: int
    received_packets: int
    receive_errors: int
    receive_drops: int
    sent: int
    sent_packets: int
    send_errors: int
    send_drops: int


@dataclass(slots=True)
class Snapshot:
    """All processes at one moment. moment: the time in POSIX seconds."""

    moment: float = field(default_factory=time.time)
    _groups: dict[tuple[str, int], Usage] = field(default_factory=dict)
    _group_of: dict[int, tuple[str, int]] = field(default_factory=dict)
    # For each group that was not examined yet, its process IDs.
    _members: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    @classmethod
    def take(cls) -> Snapshot:
        """Read /proc. The result is empty on systems without /proc."""
        found = cls()
        try:
            own = os.stat("/proc/self/ns/mnt").st_ino
            names = [name for name in os.listdir("/proc") if name.isdecimal()]
        except OSError:
            return found
        for name in names:
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The name in parentheses may itself contain parentheses.
                    fields = file.read().rpartition(b")")[2].split()
                namespace = os.stat(f"/proc/{name}/ns/mnt").st_ino
            except OSError:
                # The process has ended meanwhile, or this user may not read it.
                continue
            group = ("session", int(fields[3])) if namespace == own else ("namespace", namespace)
            found._group_of[int(name)] = group
            found._members.setdefault(group, []).append(int(name))
            found._groups[group] = found._groups.get(group, Usage()) + _usage(fields)
        return found

    def of(self, pid: int) -> Usage:
        """Return the usage of the container whose first process is `pid`; the first call examines its processes."""
        group = self._group_of.get(pid)
        if group is None:
            return Usage()
        found = self._groups[group]
        members = self._members.pop(group, [])
        if 0 < len(members) <= _MOST_EXAMINED:
            _examine(found, members)
        return found


def _examine(found: Usage, pids: list[int]) -> None:
    """Correct a container's memory, anonymous memory and disk traffic with the files in /proc of its processes.

    Processes that have ended in between are ignored.
    """
    shares = anonymous = 0
    for pid in pids:
        proportional = _numbers(f"/proc/{pid}/smaps_rollup") if len(pids) > 1 else {}
        sizes = _read(f"/proc/{pid}/statm").split()
        resident, shared = (int(sizes[1]), int(sizes[2])) if len(sizes) > 2 else (0, 0)
        shares += proportional.get("Pss", resident * _PAGE // 1024) * 1024
        anonymous += proportional.get("Pss_Anon", max(0, resident - shared) * _PAGE // 1024) * 1024
        disk = _numbers(f"/proc/{pid}/io")
        found.read += disk.get("read_bytes", 0)
        found.written += disk.get("write_bytes", 0)
    found.memory = min(found.memory, shares) or found.memory
    found.anonymous = min(anonymous, found.memory)


def _numbers(path: str) -> dict[str, int]:
    """Return the lines `name: number` of a file; empty when it cannot be read."""
    found = {}
    for line in _read(path).splitlines():
        name, colon, rest = line.partition(":")
        words = rest.split()
        if colon and words and words[0].isdecimal():
            found[name] = int(words[0])
    return found


def _usage(fields: list[bytes]) -> Usage:
    """Return the usage from the fields of /proc/PID/stat after the name (proc(5): state is the third)."""

    def number(position: int) -> int:
        return int(fields[position - 3])

    return Usage(
        cpu=sum(number(position) for position in (14, 15, 16, 17)) / _TICKS,
        memory=number(24) * _PAGE,
        processes=1,
        threads=number(20),
        page_faults=number(10),
        major_page_faults=number(12),
        system=(number(15) + number(17)) / _TICKS,
    )


class Meter:
    """Shares one snapshot between many callers, and takes a new one when it is old."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """Return a snapshot that is at most a second old; take a new one when needed. Blocks."""
        if self._last is None or not 0 <= time.time() - self._last.moment < _FRESH_SECONDS:
            self._last = Snapshot.take()
        return self._last


def network_of(pid: int) -> list[NetworkUsage]:
    """Return the counters of the interfaces in the process's network namespace, without loopback."""
    return list(parse_network(_read(f"/proc/{pid}/net/dev")))


def parse_network(text: str) -> Iterator[NetworkUsage]:
    """Yield the counters of each interface except `lo`. text: the content of /proc/PID/net/dev."""
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        counters = rest.split()
        if colon and len(counters) >= 12 and name.strip() != "lo":
            yield NetworkUsage(name.strip(), *(int(counters[index]) for index in (0, 1, 2, 3, 8, 9, 10, 11)))


def machine() -> Usage:
    """Return the CPU time and the used memory of this machine, which every node reports as its own."""
    cpu = system = 0.0
    for line in _read("/proc/stat").splitlines():
        if line.startswith("cpu "):
            times = [int(value) for value in line.split()[1:9]]
            # All times except idle and iowait.
            cpu = (sum(times) - sum(times[3:5])) / _TICKS
            # The times system, irq and softirq.
            system = (times[2] + times[5] + times[6]) / _TICKS
    memory = dict(_memory())
    return Usage(cpu=cpu, system=system, memory=max(0, memory.get("MemTotal", 0) - memory.get("MemAvailable", 0)))


def available_memory() -> int:
    """Return how many bytes of memory are available on this machine."""
    return dict(_memory()).get("MemAvailable", 0)


def boot_time() -> float:
    """Return the time when this machine was started, in seconds since the epoch; 0 when it is not known."""
    for line in _read("/proc/stat").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _memory() -> Iterator[tuple[str, int]]:
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if rest.split():
            yield name, int(rest.split()[0]) * 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        # Not every platform has the file, and the process may have ended.
        return ""
