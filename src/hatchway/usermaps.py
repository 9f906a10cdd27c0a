"""Chooses the users and groups of the cluster's user namespace, and makes such namespaces.

There are three kinds of user maps (user_namespaces(7)); the first one that this machine allows is used:

    real     root has started the cluster: the numbers 0 to 65535 are this machine's own
    mapped   an ordinary user with newuidmap(1): 0 is the user, 1 to 65536 are a range of /etc/subuid and /etc/subgid
    one      an ordinary user without newuidmap: 0 is the user, and there is no other number

From inside its new namespace, a process can only map its own user. So a child makes the namespace, this process maps it
from outside, and then enters it. When mapping fails, this process has not changed.

    users = usermaps.enter()                  # this process, which must have one thread
    usermaps.run([sys.executable, "-m", ...]) # a program in a namespace of its own
"""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

Way = Literal["real", "mapped", "one"]

# The size of a map: it includes 65534, the number of `nobody` and its group.
NUMBERS = 65536
# From <linux/sched.h>.
_CLONE_NEWUSER = 0x10000000
# The maximum number of bytes that are read of a file with ranges, and of a program's output.
_MOST_BYTES = 1 << 20
# Seconds that getsubids, newuidmap and newgidmap may take.
_SECONDS = 10.0

_RANGES = "`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`"
_INSTALL = (
    f"`apt install uidmap` and {_RANGES} (both by root) would give them real ones, as would `hatchway up` by root"
)
_ADD = f"{_RANGES} (by root) would give it one"


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of a map: numbers in a namespace, and the numbers outside to which they are mapped.

    inside: the first number in the namespace. outside: the first number outside. count: the length of the range.
    """

    inside: int
    outside: int
    count: int

    def __str__(self) -> str:
        return f"{self.inside} {self.outside} {self.count}"


@dataclass(frozen=True, slots=True)
class UserMap:
    """The users and groups of a namespace.

    way: the kind of map; see the module. users, groups: the map of user numbers and the map of group numbers.
    reason: why this is not a wider map, and how to get one; "" for `real` and `mapped`.
    """

    way: Way
    users: tuple[Extent, ...]
    groups: tuple[Extent, ...]
    reason: str = ""


class MapError(Exception):
    """A map cannot be used on this machine; the message says why."""


def enter() -> UserMap:
    """Move this process into a new user namespace, in which it is root; return the namespace's map.

    The process must have one thread, and enough rights to make user namespaces. Raises OSError.
    """
    reason = ""
    try:
        wanted = choose()
        if wanted.way != "one":
            _enter_mapped(wanted)
            return wanted
        reason = wanted.reason
    except MapError as error:
        reason = str(error)
    uid, gid = os.geteuid(), os.getegid()
    _unshare()
    for name, content in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(content, encoding="ascii")
    return replace(one(), users=(Extent(0, uid, 1),), groups=(Extent(0, gid, 1),), reason=reason)


def choose() -> UserMap:
    """Return the widest map that this machine seems to allow. Raises MapError when a wider one is misconfigured."""
    if os.geteuid() == 0:
        users, groups = (_read_own(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))
        if not (_covers(users) and _covers(groups)):
            raise MapError("this process is root of a namespace that has less than 65536 users or groups itself")
        same = (Extent(0, 0, NUMBERS),)
        return UserMap("real", same, same)
    missing = [name for name in ("newuidmap", "newgidmap") if shutil.which(name) is None]
    if missing:
        return replace(one(), reason=f"{missing[0]} is not installed; {_INSTALL}")
    uid, gid = os.geteuid(), os.getegid()
    own = (Extent(0, uid, 1),), (Extent(0, gid, 1),)
    user_range, group_range = find_range("/etc/subuid"), find_range("/etc/subgid")
    return UserMap(
        "mapped",
        (*own[0], Extent(1, user_range.start, NUMBERS)),
        (*own[1], Extent(1, group_range.start, NUMBERS)),
    )


def one() -> UserMap:
    """Return the map with one user and one group, those of this process."""
    return UserMap("one", (Extent(0, os.geteuid(), 1),), (Extent(0, os.getegid(), 1),))


def explain(way: Way, reason: str = "") -> str:
    """Return a sentence that describes the users of images' containers. reason: see `UserMap`."""
    if way == "real":
        return (
            "real: the users of images are this machine's users with the same numbers, up to 65535, "
            "because root has started the cluster"
        )
    if way == "mapped":
        return "mapped: the users of images are this user's own range of /etc/subuid (newuidmap)"
    return "one: all users of images are one user, so that changes of users and owners succeed without an effect" + (
        f": {reason}" if reason else ""
    )


def find_range(path: str) -> range:
    """Return the first range of this user that is wide enough. path: /etc/subuid or /etc/subgid. Raises MapError."""
    found = _ask_getsubids(path) or _read_ranges(path)
    if not found:
        raise MapError(f"{path} has no range for this user; {_ADD}")
    for numbers in found:
        if len(numbers) >= NUMBERS:
            return numbers[:NUMBERS]
    largest = max(map(len, found))
    raise MapError(f"the range of this user in {path} has {largest} numbers of {NUMBERS} that are needed; {_ADD}")


def parse_ranges(lines: Iterable[str], names: Iterable[str]) -> list[range]:
    """Return the ranges of a user from lines of /etc/subuid (subuid(5)): `NAME:FIRST:COUNT`; invalid lines are skipped.

    names: the user's name, and number as text.
    """
    found, wanted = [], frozenset(names)
    for line in lines:
        name, _, rest = line.strip().partition(":")
        if name in wanted and (numbers := _parse_range(rest.split(":"))) is not None:
            found.append(numbers)
    return found


def run(
    argv: Sequence[str], *, descriptors: Sequence[int] = (), timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program as root of a namespace with the same map as `enter`, and wait for it.

    This user may read or delete the files of containers' users only in such a namespace. Returns the exit code and the
    output on stderr. Raises OSError, subprocess.TimeoutExpired.

    descriptors: descriptors that the program inherits, with the same numbers. timeout: seconds after which it is
    killed.
    """
    return subprocess.run(
        [sys.executable, "-m", __name__, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=tuple(descriptors),
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        cwd="/",
    )


def _parse_range(fields: Sequence[str]) -> range | None:
    if len(fields) != 2 or not all(field.isascii() and field.isdigit() and len(field) <= 10 for field in fields):
        return None
    first, count = map(int, fields)
    # A range must not have 0, this machine's root, nor the last number, which is invalid (user_namespaces(7)).
    if not first > 0 or not count > 0 or first + count > 0xFFFFFFFF:
        return None
    return range(first, first + count)


def _read_ranges(path: str) -> list[range]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return []
    return parse_ranges(text.splitlines(), _own_names())


def _own_names() -> list[str]:
    uid = os.geteuid()
    try:
        return [pwd.getpwuid(uid).pw_name, str(uid)]
    except KeyError:
        return [str(uid)]


def _ask_getsubids(path: str) -> list[range]:
    """Return the ranges of getsubids(1), which also asks name services; none when it is missing or fails."""
    program = shutil.which("getsubids")
    if program is None:
        return []
    argv = [program, *(["-g"] if path.endswith("subgid") else []), _own_names()[0]]
    try:
        answer = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = []
    for line in answer.stdout[:_MOST_BYTES].decode(errors="replace").splitlines():
        # `0: NAME FIRST COUNT`
        numbers = _parse_range(line.split()[-2:])
        if numbers is not None:
            found.append(numbers)
    return found


def _read_own(path: str) -> list[range]:
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise MapError(f"cannot read {path}: {error.strerror}") from error
    fields = [[int(field) for field in line.split()] for line in lines]
    return [range(inside, inside + count) for inside, _, count in fields]


def _covers(numbers: Iterable[range]) -> bool:
    """Return True when ranges cover all of 0 to 65535."""
    reached = 0
    for one_range in sorted(numbers, key=lambda each: each.start):
        if one_range.start > reached:
            break
        reached = max(reached, one_range.stop)
    return reached >= NUMBERS


def _enter_mapped(wanted: UserMap) -> None:
    """Make a namespace in a child, map it from outside, and enter it.

    Raises OSError; MapError when the map is refused.
    """
    made, made_in_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        _hold_namespace(made_in_child)
    os.close(made_in_child)
    try:
        with open(made, "rb") as answer:
            number = answer.read(8)
        if number != b"made":
            raise OSError(int(number or b"5"), os.strerror(int(number or b"5")))
        _map(pid, wanted)
        namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc().setns(ctypes.c_int(namespace), ctypes.c_int(_CLONE_NEWUSER)), "setns")
        finally:
            os.close(namespace)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _hold_namespace(report: int) -> NoReturn:
    """Make a user namespace, report it, and wait until this process is killed. It ends with its parent."""
    try:
        parent_death_signal = 1
        _libc().prctl(ctypes.c_int(parent_death_signal), ctypes.c_ulong(signal.SIGKILL))
        _unshare()
        os.write(report, b"made")
        os.close(report)
        while True:
            signal.pause()
    except OSError as error:
        os.write(report, str(error.errno).encode())
    finally:
        os._exit(1)


def _map(pid: int, wanted: UserMap) -> None:
    for kind, program, extents in (("gid", "newgidmap", wanted.groups), ("uid", "newuidmap", wanted.users)):
        if wanted.way == "real":
            try:
                Path(f"/proc/{pid}/{kind}_map").write_text("\n".join(map(str, extents)), encoding="ascii")
            except OSError as error:
                raise MapError(f"root may not map {kind}s here: {(error.strerror or str(error)).lower()}") from error
            continue
        argv = [program, str(pid), *(field for extent in extents for field in str(extent).split())]
        try:
            answer = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MapError(f"{program} cannot be run: {error}") from error
        if answer.returncode:
            why = answer.stderr[:1000].decode(errors="replace").strip().replace("\n", " ")
            raise MapError(f"{program} failed: {why or f'exit code {answer.returncode}'}")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare() -> None:
    _check(_libc().unshare(ctypes.c_int(_CLONE_NEWUSER)), "unshare")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def main(argv: Sequence[str]) -> NoReturn:
    """Enter a namespace, and become the program `argv`."""
    try:
        enter()
        os.execvp(argv[0], list(argv))
    except OSError as error:
        sys.exit(f"{error.strerror or error}")


if __name__ == "__main__":
    main(sys.argv[1:])
