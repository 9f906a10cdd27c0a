"""Lets changes of a file's owner succeed without an effect, in containers that have one user.

A container's user namespace maps one user and one group, so that chown(2) to any other fails with EINVAL, even for the
container's root. `tar` (with it `kubectl cp`), `install -o` and many start scripts then end with an error, although
nothing else has gone wrong. A seccomp filter answers these calls in place of the kernel, as fakeroot does.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from hatchway.cluster.network import syscalls as linux

# Instructions of classic BPF (linux/bpf_common.h): load a word, jump if equal, return.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
# seccomp(2). The second one, with the error number 0, is a success.
_ALLOW, _SUCCEED = 0x7FFF0000, 0x00050000
# Fields of struct seccomp_data; arguments have 64 bits, of which user and group are the low half.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
# The only user and group of a container, and -1 for "leave it".
_NO_CHANGE = (0, 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class _Calls:
    """A machine's system calls that change an owner.

    Attributes:
        architecture: AUDIT_ARCH_... of linux/audit.h.
        by_argument: call numbers by the index of their argument with the user; the group follows it.
    """

    architecture: int
    by_argument: Mapping[int, tuple[int, ...]]


_GENERIC = {1: (55,), 2: (54,)}
_MACHINES = {
    # chown, fchown and lchown; fchownat.
    "x86_64": _Calls(0xC000003E, {1: (92, 93, 94), 2: (260,)}),
    # fchown; fchownat.
    "aarch64": _Calls(0xC00000B7, _GENERIC),
    "riscv64": _Calls(0xC00000F3, _GENERIC),
    "loongarch64": _Calls(0xC0000102, _GENERIC),
}


def ignore_owner_changes() -> None:
    """Let changes of a file's owner to a user or group other than 0 succeed without an effect.

    This holds for this process and all that it starts. Call it after `set_no_new_privileges`. Nothing is done on
    machines whose system calls are not listed here. Raises OSError where the kernel has no such filters.
    """
    calls = _MACHINES.get(platform.machine())
    if calls is not None:
        linux.set_filter(_program(calls))


def _program(calls: _Calls) -> bytes:
    """Return the filter's instructions (struct sock_filter)."""
    allow, succeed = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _SUCCEED)
    program = _load(_ARCHITECTURE) + _jump(calls.architecture, 1, 0) + allow + _load(_NUMBER)
    for argument, numbers in calls.by_argument.items():
        # Each check loads an argument, compares it with both values, and answers when it is neither of them.
        check = b"".join(
            _load(_ARGUMENTS + 8 * index) + _jump(_NO_CHANGE[0], 2, 0) + _jump(_NO_CHANGE[1], 1, 0) + succeed
            for index in (argument, argument + 1)
        )
        block = check + allow
        for left, number in reversed(list(enumerate(reversed(numbers)))):
            # To the block behind the jumps that are left; the last jump skips the block for all other calls.
            program += _jump(number, left, 0 if left else len(block) // 8)
        program += block
    return program + allow


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _jump(value: int, if_true: int, if_false: int) -> bytes:
    """Return a comparison. if_true, if_false: how many instructions are skipped."""
    return _instruction(_JUMP_IF_EQUAL, value, if_true, if_false)
