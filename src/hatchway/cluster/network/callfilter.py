"""The system calls that container engines forbid: their default seccomp profile, as a filter in classic BPF.

Moby and containerd list the allowed calls, and answer all others with EPERM (moby/profiles seccomp/default_linux.go,
containerd contrib/seccomp/seccomp_default.go). This file lists the opposite: the calls that are not in their lists, and
the capabilities that allow these calls. As in runc, calls that are newer than the profile fail with ENOSYS, so that
programs use older calls.

Programs may have the kernel's architecture, or 32-bit x86 on x86_64. For other programs, all calls fail with ENOSYS.
"""

from __future__ import annotations

import errno
import platform
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

# Instructions of classic BPF (linux/bpf_common.h).
_LOAD, _JUMP, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ANSWER = 0x7FFF0000, 0x00050000
# Fields of struct seccomp_data. Arguments have 64 bits; only the low half is compared.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
_NEW_NAMESPACES = 0x7E020000
_CLONE_NEWNS, _CLONE_NEWCGROUP = 0x00020000, 0x02000000
# Execution domains (personality(2)) that the profile allows: Linux alone, with UNAME26, with 32 bits, or with both; and
# 0xFFFFFFFF, which only reads the current domain.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# The forbidden address families: AF_ALG (the kernel's cryptography) and AF_VSOCK (the hypervisor).
_FAMILIES = (38, 40)
# Calls with this or a higher number are newer than the profile. Its newest calls are setxattrat and the like (Linux
# 6.13).
_UNKNOWN = 467
# The first number of the x32 calls of x86_64.
_X32 = 0x40000000


class _Numbers(NamedTuple):
    """A system call's number on x86_64, on 32-bit x86, and on architectures with the generic table; -1 for none."""

    x86_64: int
    i386: int
    generic: int


# Never allowed, whatever capabilities a container has.
_FORBIDDEN: Mapping[str, _Numbers] = {
    "_sysctl": _Numbers(156, 149, -1),
    "add_key": _Numbers(248, 286, 217),
    "create_module": _Numbers(174, 127, -1),
    "get_kernel_syms": _Numbers(177, 130, -1),
    "io_uring_enter": _Numbers(426, 426, 426),
    "io_uring_register": _Numbers(427, 427, 427),
    "io_uring_setup": _Numbers(425, 425, 425),
    "kexec_file_load": _Numbers(320, -1, 294),
    "kexec_load": _Numbers(246, 283, 104),
    "keyctl": _Numbers(250, 288, 219),
    "migrate_pages": _Numbers(256, 294, 238),
    "move_pages": _Numbers(279, 317, 239),
    "nfsservctl": _Numbers(180, 169, 42),
    "pivot_root": _Numbers(155, 217, 41),
    "query_module": _Numbers(178, 167, -1),
    "request_key": _Numbers(249, 287, 218),
    "swapoff": _Numbers(168, 115, 225),
    "swapon": _Numbers(167, 87, 224),
    "sysfs": _Numbers(139, 135, -1),
    "uselib": _Numbers(134, 86, -1),
    "userfaultfd": _Numbers(323, 374, 282),
    "ustat": _Numbers(136, 62, -1),
    "vm86": _Numbers(-1, 166, -1),
    "vm86old": _Numbers(-1, 113, -1),
}
# Allowed to containers with a capability.
_BY_CAPABILITY: Mapping[tuple[str, ...], Mapping[str, _Numbers]] = {
    ("DAC_READ_SEARCH",): {"open_by_handle_at": _Numbers(304, 342, 265)},
    ("SYS_ADMIN",): {
        "fanotify_init": _Numbers(300, 338, 262),
        "fsconfig": _Numbers(431, 431, 431),
        "fsmount": _Numbers(432, 432, 432),
        "fsopen": _Numbers(430, 430, 430),
        "fspick": _Numbers(433, 433, 433),
        "lookup_dcookie": _Numbers(212, 253, 18),
        "lsm_get_self_attr": _Numbers(459, 459, 459),
        "lsm_list_modules": _Numbers(461, 461, 461),
        "lsm_set_self_attr": _Numbers(460, 460, 460),
        "mount": _Numbers(165, 21, 40),
        "mount_setattr": _Numbers(442, 442, 442),
        "move_mount": _Numbers(429, 429, 429),
        "open_tree": _Numbers(428, 428, 428),
        "quotactl": _Numbers(179, 131, 60),
        "quotactl_fd": _Numbers(443, 443, 443),
        "setdomainname": _Numbers(171, 121, 162),
        "sethostname": _Numbers(170, 74, 161),
        "setns": _Numbers(308, 346, 268),
        "umount": _Numbers(-1, 22, -1),
        "umount2": _Numbers(166, 52, 39),
        "unshare": _Numbers(272, 310, 97),
    },
    ("SYS_ADMIN", "BPF"): {"bpf": _Numbers(321, 357, 280)},
    ("SYS_ADMIN", "PERFMON"): {"perf_event_open": _Numbers(298, 336, 241)},
    ("SYS_ADMIN", "SYSLOG"): {"syslog": _Numbers(103, 103, 116)},
    ("SYS_BOOT",): {"reboot": _Numbers(169, 88, 142)},
    ("SYS_CHROOT",): {"chroot": _Numbers(161, 61, 51)},
    ("SYS_MODULE",): {
        "delete_module": _Numbers(176, 129, 106),
        "finit_module": _Numbers(313, 350, 273),
        "init_module": _Numbers(175, 128, 105),
    },
    ("SYS_NICE",): {
        "get_mempolicy": _Numbers(239, 275, 236),
        "mbind": _Numbers(237, 274, 235),
        "set_mempolicy": _Numbers(238, 276, 237),
        "set_mempolicy_home_node": _Numbers(450, 450, 450),
    },
    ("SYS_PACCT",): {"acct": _Numbers(163, 51, 89)},
    ("SYS_PTRACE",): {
        "kcmp": _Numbers(312, 349, 272),
        "pidfd_getfd": _Numbers(438, 438, 438),
        "process_madvise": _Numbers(440, 440, 440),
    },
    ("SYS_RAWIO",): {"ioperm": _Numbers(173, 101, -1), "iopl": _Numbers(172, 110, -1)},
    ("SYS_TIME",): {
        "clock_settime": _Numbers(227, 264, 112),
        "clock_settime64": _Numbers(-1, 404, -1),
        "settimeofday": _Numbers(164, 79, 170),
        "stime": _Numbers(-1, 25, -1),
    },
    ("SYS_TTY_CONFIG",): {"vhangup": _Numbers(153, 111, 58)},
}
# Before Linux 4.8 a process could escape its filter by ptrace(2).
_TRACING: Mapping[str, _Numbers] = {
    "process_vm_readv": _Numbers(310, 347, 270),
    "process_vm_writev": _Numbers(311, 348, 271),
    "ptrace": _Numbers(101, 26, 117),
}
_CLONE, _CLONE3 = _Numbers(56, 120, 220), _Numbers(435, 435, 435)
_UNSHARE, _SETNS = _Numbers(272, 310, 97), _Numbers(308, 346, 268)
_PERSONALITY, _SOCKET = _Numbers(135, 136, 92), _Numbers(41, 359, 198)

# AUDIT_ARCH_... of linux/audit.h, with the column of `_Numbers`; the kernel's own architecture first.
_MACHINES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "x86_64": ((0xC000003E, 0), (0x40000003, 1)),
    "aarch64": ((0xC00000B7, 2),),
    "riscv64": ((0xC00000F3, 2),),
    "loongarch64": ((0xC0000102, 2),),
}


class _CallRule(NamedTuple):
    """A call that fails with an error number: always (`values` is None), or depending on an argument.

    test: "in" and "not in" compare the argument with each of `values`; "any bit" tests whether the argument has any bit
    of `values`.
    """

    call: _Numbers
    number: int = errno.EPERM
    argument: int = 0
    test: str = ""
    values: tuple[int, ...] = ()


def default_profile(capabilities: Collection[str], machine: str = "", release: str = "") -> bytes | None:
    """Return the default profile's instructions (struct sock_filter); None for an unknown architecture.

    capabilities: the container's, without `CAP_`. machine, release: as in uname(2); "" for this machine.
    """
    rules = [_CallRule(call) for call in _FORBIDDEN.values()]
    for needed, calls in _BY_CAPABILITY.items():
        if not any(name in capabilities for name in needed):
            rules += (_CallRule(call) for call in calls.values())
    if "SYS_PTRACE" not in capabilities and _is_before_4_8(release or platform.release()):
        rules += (_CallRule(call) for call in _TRACING.values())
    if "SYS_ADMIN" not in capabilities:
        rules.append(_CallRule(_CLONE, argument=0, test="any bit", values=(_NEW_NAMESPACES,)))
        rules.append(_CallRule(_CLONE3, errno.ENOSYS))
    rules.append(_CallRule(_PERSONALITY, argument=0, test="not in", values=_PERSONALITIES))
    rules.append(_CallRule(_SOCKET, argument=0, test="in", values=_FAMILIES))
    return _program(rules, machine or platform.machine(), unknown=_UNKNOWN)


def namespace_guard(*, mounts: bool, machine: str = "") -> bytes | None:
    """Return a filter for containers that may make namespaces; None for an unknown architecture.

    Containers without the default profile need it, too, because in a user namespace each process may make namespaces.
    The filter forbids cgroup namespaces: in a cgroup namespace, a container could mount the tree of control groups that
    has the cluster's own processes.

    mounts: True to forbid entering another mount namespace, too.
    """
    entered = _CLONE_NEWCGROUP | (_CLONE_NEWNS if mounts else 0)
    rules = [
        _CallRule(_CLONE, argument=0, test="any bit", values=(_CLONE_NEWCGROUP,)),
        _CallRule(_CLONE3, errno.ENOSYS),
        _CallRule(_UNSHARE, argument=0, test="any bit", values=(_CLONE_NEWCGROUP,)),
        _CallRule(_SETNS, argument=1, test="any bit", values=(entered,)),
        # In setns(2), 0 allows any type of namespace.
        _CallRule(_SETNS, argument=1, test="in", values=(0,)),
    ]
    return _program(rules, machine or platform.machine(), unknown=None)


def _is_before_4_8(release: str) -> bool:
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and (int(found[1]), int(found[2])) < (4, 8)


def _program(rules: Iterable[_CallRule], machine: str, *, unknown: int | None) -> bytes | None:
    architectures = _MACHINES.get(machine)
    if architectures is None:
        return None
    kept = list(rules)
    program = _instruction(_LOAD, _ARCHITECTURE)
    for position, (architecture, column) in enumerate(architectures):
        block = _instruction(_LOAD, _NUMBER)
        if machine == "x86_64" and position == 0:
            block += _instruction(_IF_AT_LEAST, _X32, 0, 1) + _answer(errno.ENOSYS)
        if unknown is not None:
            block += _instruction(_IF_AT_LEAST, unknown, 0, 1) + _answer(errno.ENOSYS)
        block += b"".join(_checks(kept, column)) + _instruction(_RETURN, _ALLOW)
        program += _instruction(_IF_EQUAL, architecture, 1, 0) + _instruction(_JUMP, len(block) // 8) + block
    return program + _answer(errno.ENOSYS)


def _checks(rules: Iterable[_CallRule], column: int) -> Iterator[bytes]:
    for rule in rules:
        if rule.call[column] < 0:
            continue
        answer = _answer(rule.number)
        if rule.test:
            test = _test(rule) + answer
            block = _instruction(_LOAD, _ARGUMENTS + 8 * rule.argument) + test + _instruction(_LOAD, _NUMBER)
        else:
            block = answer
        yield _instruction(_IF_EQUAL, rule.call[column], 0, len(block) // 8) + block


def _test(rule: _CallRule) -> bytes:
    """Return comparisons that continue at the next instruction if the rule applies, and otherwise skip it."""
    count = len(rule.values)
    if rule.test == "any bit":
        return _instruction(_IF_ANY_BIT, rule.values[0], 0, 1)
    if rule.test == "not in":
        return b"".join(
            _instruction(_IF_EQUAL, value, count - position, 0) for position, value in enumerate(rule.values)
        )
    return b"".join(
        _instruction(_IF_EQUAL, value, count - 1 - position, 1 if position == count - 1 else 0)
        for position, value in enumerate(rule.values)
    )


def _answer(number: int) -> bytes:
    return _instruction(_RETURN, _ANSWER | number)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
