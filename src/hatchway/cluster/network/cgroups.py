"""Control groups of version 2 (cgroups(7)): finds where the cluster may create groups, and creates the pods' groups.

    BASE/hatchway-NAME-NUMBER/          created by the control plane, removed when the cluster ends
        podUID/CONTAINER                Guaranteed pods (the kubelet's layout)
        burstable/podUID/CONTAINER
        besteffort/podUID/CONTAINER

For root, BASE is the root of the hierarchy; for another user, it is this process's own group, if the group was
delegated to the user (systemd: `Delegate=yes`). A group cannot have both processes and groups with controllers below
it. So in a delegated group the cluster's own processes move to a group of their own, `hatchway-main`.

Reads of files are bounded, although the kernel writes them. Functions raise OSError.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from hatchway.cluster.network import processes
from hatchway.cluster.runtime import GroupLimits, GroupUsage, QosClass

NEEDED = frozenset({"cpu", "memory"})
# Controllers that are enabled where they are available.
_USEFUL = ("pids", "io")
_PERIOD = 100_000
_READ_BYTES = 64 << 10
_MOUNTS_BYTES = 4 << 20
_OWN = "hatchway-main"
# The errors with which the kernel refuses to enable controllers below a group that has processes. The second error
# comes when controllers that support threads (`cpu`, `pids`) are already enabled there
# (cgroup_vet_subtree_control_enable).
_HAS_PROCESSES = frozenset({errno.EBUSY, errno.EOPNOTSUPP})
_DELEGATE = "`systemd-run --user --scope -p Delegate=yes hatchway up -d` starts the cluster where they are enforced"
# This directory exists where systemd is the machine's init system (sd_booted(3)).
_SYSTEMD = Path("/run/systemd/system")
_ADMINISTRATOR = "the machine's administrator can delegate them with `Delegate=cpu memory pids` for user@.service"
_REMOVE_SECONDS = 1.0
_SAFE = re.compile(r"[A-Za-z0-9][-_.A-Za-z0-9]{0,200}\Z")
_LEAST_WEIGHT, _MOST_WEIGHT = 1, 10_000
_LEAST_SHARES, _MOST_SHARES = 2, 262_144


class NoGroups(Exception):
    """Control groups cannot be created here; the message says why."""


def find_base(proc: Path = Path("/proc/self")) -> Path:
    """Return the directory of the group in which this process may create groups. Raises NoGroups, OSError.

    proc: the directory with `mountinfo` and `cgroup` of this process.
    """
    mount = _find_mount(proc)
    if mount is None:
        raise NoGroups("this machine has no control groups of version 2")
    root, point = mount
    own = next((line[3:] for line in _lines(proc / "cgroup") if line.startswith("0::")), "/")
    inside = os.path.relpath(own, root)
    base = point if os.geteuid() == 0 or inside.startswith("..") else point / inside
    writable = all(os.access(base / name, os.W_OK) for name in (".", "cgroup.procs", "cgroup.subtree_control"))
    if not writable:
        raise NoGroups(f"the control group {base} was not delegated to this user; {_delegation()}")
    missing = NEEDED - set(_read(base / "cgroup.controllers").split())
    if missing:
        hint = "" if os.geteuid() == 0 else f"; {_ADMINISTRATOR}"
        raise NoGroups(f"the control group {base} has no controllers {', '.join(sorted(missing))}{hint}")
    return base


def make_tree(base: Path, name: str, state: Path) -> Path:
    """Create the cluster's group, without processes, and enable its controllers; return its directory.

    base: see `find_base`. name: the cluster's name. state: its state directory, which makes the group's name unique.

    Raises NoGroups, OSError.
    """
    number = hashlib.sha256(os.fsencode(state)).hexdigest()[:8]
    tree = base / f"hatchway-{name}-{number}"
    remove_tree(tree)
    _enable(base)
    try:
        tree.mkdir()
        _enable(tree)
        for kind in ("burstable", "besteffort"):
            (tree / kind).mkdir()
            _enable(tree / kind)
        _write(tree / "besteffort" / "cpu.weight", str(_LEAST_WEIGHT))
        _limit_processes(tree, processes.of_cluster())
        _try_limit(tree)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(tree)
        raise
    return tree


def _limit_processes(group: Path, number: int) -> None:
    """Limit the processes of a group and of the groups below it. Do nothing where the controller `pids` is missing."""
    with contextlib.suppress(FileNotFoundError):
        _write(group / "pids.max", str(number))


def _try_limit(tree: Path) -> None:
    """Set a limit and read it back. Raises NoGroups when the limit has no effect."""
    group = tree / "try"
    group.mkdir()
    try:
        _write(group / "memory.max", str(1 << 30))
        if _read(group / "memory.max").strip() != str(1 << 30):
            raise NoGroups(f"limits of the control group {group} have no effect")
    finally:
        group.rmdir()


def remove_tree(tree: Path) -> None:
    """Remove a group and the groups below it, whose processes have ended. Blocks, up to a second."""
    for folder, _, _ in os.walk(tree, topdown=False):
        _remove_group(Path(folder))


def _remove_group(group: Path) -> None:
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            # A process that was just killed may still be in the group.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _enable(group: Path) -> None:
    """Enable the controllers for the groups below `group`."""
    there = set(_read(group / "cgroup.controllers").split())
    enabled = set(_read(group / "cgroup.subtree_control").split())
    if missing := NEEDED - enabled:
        # Enable all in one write. A group with processes accepts `cpu` alone. But this makes the group the root of a
        # threaded subtree, which refuses `memory`.
        wanted = " ".join(f"+{name}" for name in sorted(missing))
        try:
            _write(group / "cgroup.subtree_control", wanted)
        except OSError as error:
            if error.errno not in _HAS_PROCESSES:
                raise
            # Below a group with processes no controllers can be enabled, except below the hierarchy's root.
            _move_own_processes(group)
            _write(group / "cgroup.subtree_control", wanted)
    for name in _USEFUL:
        if name in there and name not in enabled:
            # This controller is optional, and the kernel may refuse it in a threaded group.
            with contextlib.suppress(OSError):
                _write(group / "cgroup.subtree_control", f"+{name}")


def _delegation() -> str:
    """Return how a user gets a control group for the cluster on this machine."""
    if _SYSTEMD.is_dir():
        return _DELEGATE
    return "systemd does not run here, so the administrator must give the cluster's user a control group of its own"


def _move_own_processes(group: Path) -> None:
    """Move the processes of `group` to a group below it, if all of them are this process and its ancestors.

    Raises NoGroups when there are other processes, such as a terminal's or a container's: the cluster must not move
    them.
    """
    found = [int(line) for line in _read(group / "cgroup.procs").split() if line.isdecimal()]
    others = set(found) - set(_ancestors())
    if others:
        raise NoGroups(f"the control group {group} has other processes than the cluster's; {_delegation()}")
    (group / _OWN).mkdir(exist_ok=True)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            _write(group / _OWN / "cgroup.procs", str(pid))


def _ancestors() -> Iterator[int]:
    """Yield the numbers of this process and of its ancestors."""
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            # The name in parentheses may have any characters; the parent is the second field after it.
            pid = int(_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return


def join(group: str) -> None:
    """Move this process, which must have one thread, to a group. group: the group's directory."""
    _write(Path(group) / "cgroup.procs", "0")


class GroupTree:
    """The groups of pods and containers, for the node agent. tree: the directory of `make_tree`."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._pods: dict[str, tuple[QosClass, int]] = {}

    def _pod(self, uid: str, qos: QosClass) -> Path:
        _check_name(uid)
        return (self._tree if qos == "Guaranteed" else self._tree / qos.lower()) / f"pod{uid}"

    def make_pod(self, uid: str, qos: QosClass, resources: GroupLimits) -> None:
        """Create a pod's group, or change its limits if it exists."""
        group = self._pod(uid, qos)
        if not group.is_dir():
            self._enable_above(group)
            group.mkdir()
            _enable(group)
        _set(group, resources)
        self._weigh(uid, (qos, resources.shares))

    def make_container(self, uid: str, name: str, resources: GroupLimits) -> str:
        """Create a container's group in its pod's group; return its directory.

        name: the directory's name, unique in the pod.
        """
        _check_name(name)
        qos, _ = self._pods[uid]
        group = self._pod(uid, qos) / name
        self._enable_above(group)
        group.mkdir()
        try:
            _set(group, resources)
            # The kernel kills all processes of the container together, so that none continues without the others.
            _write(group / "memory.oom.group", "1")
            self._limit_processes(group)
        except BaseException:
            group.rmdir()
            raise
        return str(group)

    def _limit_processes(self, group: Path) -> None:
        """Limit a container to a quarter of the cluster's processes: the same limit as in `processes.py`."""
        with contextlib.suppress(FileNotFoundError):
            # 0 for "max": the cluster has no limit of its own.
            if limit := _number(self._tree / "pids.max"):
                _limit_processes(group, max(limit // 4, 1))

    def _enable_above(self, group: Path) -> None:
        """Enable the controllers of the groups above a new group again, because systemd disables unused controllers."""
        above = [path for path in group.parents if path == self._tree.parent or self._tree.parent in path.parents]
        for path in reversed(above):
            if not set(_read(path / "cgroup.subtree_control").split()) >= NEEDED:
                _enable(path)

    def update_container(self, group: str, resources: GroupLimits) -> None:
        """Change a container's limits. Raises OSError: EBUSY when the container uses more memory than the new limit."""
        if resources.memory is not None and _number(Path(group) / "memory.current") > resources.memory:
            raise OSError(errno.EBUSY, "it uses more memory than the new limit")
        _set(Path(group), resources)

    def was_out_of_memory(self, group: str) -> bool:
        """Return True when the kernel has killed a process of a container because of its memory limit."""
        return _counters(Path(group) / "memory.events").get("oom_kill", 0) > 0

    def usage(self, group: str) -> GroupUsage | None:
        """Return the resource usage of a container's processes; None when the container has ended."""
        try:
            cpu = _counters(Path(group) / "cpu.stat")
            memory = _counters(Path(group) / "memory.stat")
            current = _number(Path(group) / "memory.current")
        except OSError:
            return None
        return GroupUsage(
            cpu=cpu.get("usage_usec", 0) / 1e6,
            system=cpu.get("system_usec", 0) / 1e6,
            memory=max(0, current - memory.get("inactive_file", 0)),
            anonymous=memory.get("anon", 0),
        )

    def remove_container(self, group: str) -> None:
        """Kill the remaining processes of a container's group, and remove it. Blocks, up to a second."""
        self._end_and_remove(Path(group))

    def remove_pod(self, uid: str) -> None:
        """Remove a pod's group with its containers' groups; do nothing for a pod without a group. Blocks."""
        known = self._pods.get(uid)
        if known is None:
            return
        group = self._pod(uid, known[0])
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(group.iterdir()):
                if entry.is_dir():
                    self._end_and_remove(entry)
            _remove_group(group)
        self._weigh(uid, None)

    def _end_and_remove(self, group: Path) -> None:
        with contextlib.suppress(OSError):
            # cgroup.kill needs Linux 5.14; on older kernels the processes end with their PID namespace.
            _write(group / "cgroup.kill", "1")
        _remove_group(group)

    def _weigh(self, uid: str, known: tuple[QosClass, int] | None) -> None:
        """Record a pod's class and CPU shares; set the weight of the Burstable pods' group (qosContainerManager)."""
        if known is None:
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = known
        shares = sum(found for qos, found in self._pods.values() if qos == "Burstable")
        _write(self._tree / "burstable" / "cpu.weight", str(weight_of(shares)))


def weight_of(shares: int) -> int:
    """Convert CPU shares to a weight, as runc does since 1.3.2: 2, 1024 and 262144 shares become 1, 100 and 10000."""
    if shares <= _LEAST_SHARES:
        return _LEAST_WEIGHT
    if shares >= _MOST_SHARES:
        return _MOST_WEIGHT
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _set(group: Path, resources: GroupLimits) -> None:
    """Write a group's limits."""
    quota = "max" if resources.cpu_quota is None else str(resources.cpu_quota)
    memory = "max" if resources.memory is None else str(resources.memory)
    _write(group / "cpu.weight", str(weight_of(resources.shares)))
    _write(group / "cpu.max", f"{quota} {_PERIOD}")
    _write(group / "memory.max", memory)
    # Without swap, exceeding the limit kills the container instead of swapping pages out (the kubelet's NoSwap).
    with contextlib.suppress(FileNotFoundError):
        _write(group / "memory.swap.max", "max" if resources.memory is None else "0")


def _find_mount(proc: Path) -> tuple[str, Path] | None:
    """Return (the group at the mount's root, the mount point) of the version 2 hierarchy; None when not mounted."""
    for line in _read(proc / "mountinfo", _MOUNTS_BYTES).splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if after.split(" ")[0] == "cgroup2" and len(fields) > 4:
            return fields[3], Path(fields[4].replace("\\040", " "))
    return None


def _lines(path: Path) -> list[str]:
    return _read(path).splitlines()


def _read(path: Path, limit: int = _READ_BYTES) -> str:
    with open(path, "rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def _write(path: Path, text: str) -> None:
    # Without O_CREAT: a file that this kernel does not have must not be created.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _number(path: Path) -> int:
    text = _read(path).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _counters(path: Path) -> dict[str, int]:
    """Return the lines `NAME NUMBER` of a file; other lines are skipped."""
    found = {}
    for line in _lines(path):
        name, _, number = line.partition(" ")
        if number.isascii() and number.isdecimal() and len(number) < 20:
            found[name] = int(number)
    return found


def _check_name(name: str) -> None:
    if not _SAFE.match(name):
        raise OSError(errno.EINVAL, f"{name!r} cannot be a control group's name")


def why_none(error: OSError | NoGroups) -> str:
    """Return one sentence that says why limits are not enforced."""
    why = str(error) if isinstance(error, NoGroups) else f"{error.filename or ''}: {error.strerror}".lstrip(": ")
    return f"limits of CPU and memory are counted, and not enforced: {why}"
