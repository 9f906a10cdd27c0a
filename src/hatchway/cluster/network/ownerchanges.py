"""Lets changes of owners and users succeed without an effect, in containers that have one user.

A container's user namespace may map only one user and one group. Then chown(2) and setuid(2) with any other number fail
with EINVAL, even for the container's root. `tar` (which `kubectl cp` uses), `install -o` and many start scripts then
end with an error, although nothing else has gone wrong; servers that give up root's rights (nginx, redis) do not start.
A seccomp filter answers these calls in place of the kernel, as fakeroot and Charliecloud (`ch-run --seccomp`) do.

The programs of 32-bit x86 have their own numbers. Calls of x32, which few kernels have, could evade the filter, so they
fail with ENOSYS.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.accounts import LARGEST_ID

# Instructions of classic BPF (linux/bpf_common.h).
_LOAD, _AND, _JUMP, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x06
# Actions of seccomp(2). _ANSWER with the error number 0 lets a call succeed without an effect.
_ALLOW, _ANSWER, _ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
# Fields of struct seccomp_data; arguments have 64 bits; user, group and mode are in the low half.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
# The only user and group of a container, and -1 for "leave it".
_NO_CHANGE = (0, 0xFFFFFFFF)
# The file type of mknod's mode (inode(7)): S_IFMT, S_IFCHR, S_IFBLK.
_TYPE, _DEVICES = 0xF000, (0x2000, 0x6000)
# The first number of x32's calls on x86_64.
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class _Calls:
    """The numbers of an architecture's system calls.

    Attributes:
        architecture: AUDIT_ARCH_... of linux/audit.h.
        owners: calls that change an owner, by the index of their argument with the user; the group is the next
        argument.
        narrow_owners: like `owners`, for calls whose users and groups have 16 bits.
        users: calls that change the process's users, groups or supplementary groups.
        nodes: calls that make files of any type, by the index of their argument with the mode.
    """

    architecture: int
    owners: tuple[tuple[int, tuple[int, ...]], ...]
    users: tuple[int, ...]
    nodes: tuple[tuple[int, tuple[int, ...]], ...]
    narrow_owners: tuple[int, ...] = ()


class UserChange(NamedTuple):
    """The change that a system call asks for.

    kind: "user" or "group". position: the index of the argument with the new effective user or group. bits: the size of
    that argument; higher bits of its register mean nothing. must_change: whether -1 is an error (setuid(2)), and not
    "no change" (setreuid(2)).
    """

    kind: str
    position: int
    bits: int = 32
    must_change: bool = False

    def number(self, arguments: Sequence[int]) -> int | None:
        """Return the new number from a call's arguments (registers, 64 bits each); None for no change.

        Raises ValueError for a number that no container may have: users and groups are unsigned numbers of 32 bits, but
        container engines allow only 31 bits (`accounts.py`). The caller gets EINVAL, as for an unmapped number.
        """
        highest = (1 << self.bits) - 1
        found = arguments[self.position] & highest
        if found == highest and not self.must_change:
            return None
        if found == highest or found > LARGEST_ID:
            raise ValueError(f"{self.kind} {found} is out of range")
        return found


# The 16-bit calls of 32-bit x86.
_NARROW = frozenset({23, 46, 70, 71, 164, 170})
# The calls that the kernel passes to another process (`make_program`), by architecture and number. In this order:
# set...id, setre...id, setres...id.
_FOLLOWED = {
    (architecture, number): UserChange(
        kind, index, 16 if architecture == 0x40000003 and number in _NARROW else 32, index == 0
    )
    for architecture, kind, numbers in (
        (0xC000003E, "user", ((105, 0), (113, 1), (117, 1))),
        (0xC000003E, "group", ((106, 0), (114, 1), (119, 1))),
        (0x40000003, "user", ((23, 0), (70, 1), (164, 1), (213, 0), (203, 1), (208, 1))),
        (0x40000003, "group", ((46, 0), (71, 1), (170, 1), (214, 0), (204, 1), (210, 1))),
        *((generic, "user", ((146, 0), (145, 1), (147, 1))) for generic in (0xC00000B7, 0xC00000F3, 0xC0000102)),
        *((generic, "group", ((144, 0), (143, 1), (149, 1))) for generic in (0xC00000B7, 0xC00000F3, 0xC0000102)),
    )
    for number, index in numbers
}
# setregid, setgid, setreuid, setuid, setresuid, setresgid, setfsuid, setfsgid, setgroups
_GENERIC_USERS = (143, 144, 145, 146, 147, 149, 151, 152, 159)
# fchown, fchownat; mknodat
_GENERIC = (((1, (55,)), (2, (54,))), _GENERIC_USERS, ((2, (33,)),))
_MACHINES = {
    "x86_64": (
        _Calls(
            0xC000003E,
            # chown, fchown, lchown; fchownat
            ((1, (92, 93, 94)), (2, (260,))),
            # setuid, setgid, setreuid, setregid, setgroups, setresuid, setresgid, setfsuid, setfsgid
            (105, 106, 113, 114, 116, 117, 119, 122, 123),
            # mknod; mknodat
            ((1, (133,)), (2, (259,))),
        ),
        # 32-bit x86
        _Calls(
            0x40000003,
            # lchown32, fchown32, chown32; fchownat
            ((1, (198, 207, 212)), (2, (298,))),
            # The calls with 16 bits (setuid, setgid, setreuid, setregid, setgroups, setfsuid, setfsgid, setresuid,
            # setresgid), and those with 32.
            (23, 46, 70, 71, 81, 138, 139, 164, 170, 203, 204, 206, 208, 210, 213, 214, 215, 216),
            # mknod; mknodat
            ((1, (14,)), (2, (297,))),
            # lchown, fchown, chown
            (16, 95, 182),
        ),
    ),
    "aarch64": (_Calls(0xC00000B7, *_GENERIC),),
    "riscv64": (_Calls(0xC00000F3, *_GENERIC),),
    "loongarch64": (_Calls(0xC0000102, *_GENERIC),),
}


def ignore_owner_changes() -> None:
    """Let changes of a file's owner to a user or group other than 0 succeed without an effect.

    This holds for this process and all that it starts. Call it after `set_no_new_privileges`, or with CAP_SYS_ADMIN.
    Do nothing on machines whose system calls are not listed in this file. Raises OSError where the kernel has no
    filters.
    """
    _set(users_too=False)


def ignore_user_changes() -> None:
    """Let changes of owners, of the process's users and groups, and the making of devices succeed without an effect.

    For containers of images that have one user; see `ignore_owner_changes`. The process stays root. A program that
    checks its user with getuid(2) sees that the user has not changed.
    """
    _set(users_too=True)


def follow_user_changes() -> int:
    """Do the same as `ignore_user_changes`, but let another process answer setuid(2) and the like (`userchanges.py`).

    Return the descriptor for that process, or -1 on machines whose calls are not listed in this file. The caller of
    setuid(2) waits until that process answers. Raises OSError on kernels without this feature (before Linux 5.0).
    """
    program = make_program(platform.machine(), users_too=True, ask=True)
    return linux.set_listening_filter(program) if program else -1


def find_change(architecture: int, number: int) -> UserChange | None:
    """Return the change that a call makes; None when the call changes neither user nor group."""
    return _FOLLOWED.get((architecture, number))


def _set(*, users_too: bool) -> None:
    program = make_program(platform.machine(), users_too=users_too)
    if program:
        linux.set_filter(program)


def make_program(machine: str, *, users_too: bool, ask: bool = False) -> bytes:
    """Return a filter's instructions (struct sock_filter); b"" for an unknown machine.

    users_too: True for the filter of `ignore_user_changes`, False for the filter of `ignore_owner_changes`.
    ask: True for the filter of `follow_user_changes`.
    """
    architectures = _MACHINES.get(machine)
    if architectures is None:
        return b""
    program = _load(_ARCHITECTURE)
    for calls in architectures:
        block = _load(_NUMBER)
        if machine == "x86_64" and calls is architectures[0]:
            block += _instruction(_IF_AT_LEAST, _X32, 0, 1) + _answer(errno.ENOSYS)
        block += b"".join(_checks(calls, users_too=users_too, ask=ask)) + _allow()
        # A jump over a long block needs the wide operand of an unconditional jump.
        program += _instruction(_IF_EQUAL, calls.architecture, 1, 0) + _instruction(_JUMP, len(block) // 8) + block
    return program + _allow()


def _checks(calls: _Calls, *, users_too: bool, ask: bool) -> Iterator[bytes]:
    for argument, numbers in calls.owners:
        yield _for(numbers, _unless_unchanged(argument, _NO_CHANGE))
    if calls.narrow_owners:
        yield _for(calls.narrow_owners, _unless_unchanged(1, (0, 0xFFFF), bits=16))
    if users_too:
        followed = [number for number in calls.users if ask and find_change(calls.architecture, number) is not None]
        if followed:
            yield _for(followed, _instruction(_RETURN, _ASK))
        yield _for(calls.users, _answer(0))
        for argument, numbers in calls.nodes:
            is_device = b"".join(_instruction(_IF_EQUAL, kind, 0, 1) + _answer(0) for kind in _DEVICES)
            yield _for(numbers, _load(_ARGUMENTS + 8 * argument) + _instruction(_AND, _TYPE) + is_device + _allow())


def _unless_unchanged(argument: int, no_change: tuple[int, int], bits: int = 32) -> bytes:
    """Return a block that loads user and group, and answers the call if one of them is not in `no_change`."""
    narrowed = b"" if bits == 32 else _instruction(_AND, (1 << bits) - 1)
    return (
        b"".join(
            _load(_ARGUMENTS + 8 * index)
            + narrowed
            + _instruction(_IF_EQUAL, no_change[0], 2, 0)
            + _instruction(_IF_EQUAL, no_change[1], 1, 0)
            + _answer(0)
            for index in (argument, argument + 1)
        )
        + _allow()
    )


def _for(numbers: Sequence[int], block: bytes) -> bytes:
    """Return instructions that execute `block` for calls with these numbers only. The block must end with a return."""
    jumps = b""
    for left, number in reversed(list(enumerate(reversed(numbers)))):
        # Jump over the remaining jumps to the block. The last jump skips the block for all other calls.
        jumps += _instruction(_IF_EQUAL, number, left, 0 if left else len(block) // 8)
    return jumps + block


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _allow() -> bytes:
    return _instruction(_RETURN, _ALLOW)


def _answer(number: int) -> bytes:
    return _instruction(_RETURN, _ANSWER | number)
