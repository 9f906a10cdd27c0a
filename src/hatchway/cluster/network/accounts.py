"""Users and groups of a container, from its own /etc/passwd and /etc/group.

The rules and messages come from containerd (`oci.WithUser`, `WithAdditionalGIDs`) and from `moby/sys/user`
(`GetExecUser`), which runc uses, too. Call `look_up_account` in a process whose root directory is the container's.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# The largest number of a user or group.
LARGEST_ID = 2**31 - 1
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
# The maximum number of bytes that are read of each file. The files of distributions have a few thousand bytes.
_FILE_BYTES = 4 << 20
_LINE_BYTES = 64 << 10
# The most supplementary groups of a user; the kernel's own limit is 65536 (NGROUPS_MAX).
_GROUPS = 16384


class AccountError(Exception):
    """A user or group cannot be found. The message is the one of container engines."""


class Account(NamedTuple):
    """A process's user. groups: supplementary groups, without duplicates. home: "" when /etc/passwd has none."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


class _PasswdEntry(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _GroupEntry(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def look_up_account(spec: str, groups: Sequence[int], *, merge: bool) -> Account:
    """Return the account of an image's USER or a pod's runAsUser.

    spec: a user's name or number, which `:` and a group's name or number may follow; "" is root.
    groups: further supplementary groups. merge: whether to add the groups that /etc/group gives the user.

    Raises:
        AccountError: there is no such user or group, or a number is out of range.
    """
    user, _, group = spec.partition(":")
    number = _as_number(user) if user else 0
    users = _users()
    found = next(
        (known for known in users if (known.uid == number if number is not None else known.name == user)), None
    )
    if found is None:
        if number is None:
            raise AccountError(f"unable to find user {user}: no matching entries in passwd file")
        found = _PasswdEntry("", number, 0, "")
    gid, more = _find_groups(group, found, merge=merge and bool(found.name))
    for value in (found.uid, gid, *groups):
        if not 0 <= value <= LARGEST_ID:
            raise AccountError(f"uids and gids must be in range 0-{LARGEST_ID}")
    # The primary group is also a supplementary one; otherwise a process could gain rights by dropping it
    # (containerd, CVE-2022-36109).
    together = tuple(dict.fromkeys((gid, *more, *groups)))[:_GROUPS]
    return Account(found.uid, gid, together, found.home)


def find_home(uid: int) -> str:
    """Return the home directory that /etc/passwd has for a user; "" when it has none."""
    return next((user.home for user in _users() if user.uid == uid), "")


def _find_groups(spec: str, user: _PasswdEntry, *, merge: bool) -> tuple[int, list[int]]:
    """Return the number of the user's group, and the numbers of the groups in which the user is a member.

    spec: the group's name or number; "" for the user's group in /etc/passwd. merge: whether to return the second
    result; False returns an empty one.
    """
    gid = _as_number(spec) if spec else user.gid
    more: list[int] = []
    if gid is None or merge:
        for group in _groups():
            if gid is None and group.name == spec:
                gid = group.gid
            if merge and user.name in group.members and len(more) < _GROUPS:
                more.append(group.gid)
    if gid is None:
        raise AccountError(f"unable to find group {spec}: no matching entries in group file")
    return gid, more


def _as_number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _users() -> Iterator[_PasswdEntry]:
    for fields in _lines("/etc/passwd"):
        # name:password:UID:GID:GECOS:directory:shell
        name, _, uid, gid, _, home = (*fields, *[""] * 6)[:6]
        if _NUMBER.fullmatch(uid):
            yield _PasswdEntry(name, int(uid), _as_number(gid) or 0, home)


def _groups() -> Iterator[_GroupEntry]:
    for fields in _lines("/etc/group"):
        # group_name:password:GID:user_list
        name, _, gid, members = (*fields, *[""] * 4)[:4]
        if _NUMBER.fullmatch(gid):
            yield _GroupEntry(name, int(gid), tuple(members.split(",")) if members else ())


def _lines(path: str) -> Iterator[list[str]]:
    """Yield the fields of each line of a file; yield nothing for a file that is not regular."""
    try:
        # O_NONBLOCK: opening a FIFO would block until it has a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        content = _read(file.fileno())
    for line in content.split(b"\n"):
        text = line.strip()
        if text and not text.startswith(b"#") and len(text) <= _LINE_BYTES and b"\0" not in text:
            yield text.decode("utf-8", "surrogateescape").split(":")


def _read(descriptor: int) -> bytes:
    parts: list[bytes] = []
    left = _FILE_BYTES
    while left > 0:
        try:
            part = os.read(descriptor, left)
        except OSError as error:
            if error.errno == errno.EINTR:
                continue
            break
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
