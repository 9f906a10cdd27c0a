"""The filter of the default profile. An interpreter of classic BPF runs it, so results are equal on all machines."""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection

import pytest

from hatchway.cluster.capabilitynames import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from hatchway.cluster.network import callfilter
from hatchway.cluster.network.capabilities import numbers

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOWED = 0


def answer(program: bytes | None, architecture: int, call: int, *arguments: int) -> int:
    """Return the error number that a program gets; ALLOWED (0) if the kernel executes the call."""
    assert program is not None
    data = struct.pack("=IIQ6Q", call, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    assert len(code) <= 4096
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x05:
            at += value
        elif operation == 0x06:
            if value == 0x7FFF0000:
                return ALLOWED
            assert value & 0xFFFF0000 == 0x00050000
            return value & 0xFFFF
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            at += if_true if holds else if_false


def profile(
    capabilities: Collection[str] = DEFAULT_CAPABILITIES, machine: str = "x86_64", release: str = "6.1.0"
) -> bytes | None:
    return callfilter.default_profile(capabilities, machine, release)


# These are mount, bpf, keyctl, kexec_load, perf_event_open, userfaultfd, io_uring_setup, unshare, pivot_root, quotactl.
@pytest.mark.parametrize(
    ("machine", "architecture", "calls"),
    [
        ("x86_64", X86_64, (165, 321, 250, 246, 298, 323, 425, 272, 155, 179)),
        ("x86_64", I386, (21, 357, 288, 283, 336, 374, 425, 310, 217, 131)),
        ("aarch64", AARCH64, (40, 280, 219, 104, 241, 282, 425, 97, 41, 60)),
        ("riscv64", 0xC00000F3, (40, 280, 219, 104, 241, 282, 425, 97, 41, 60)),
    ],
)
def test_dangerous_calls_are_forbidden_on_every_machine(
    machine: str, architecture: int, calls: tuple[int, ...]
) -> None:
    program = profile(machine=machine)
    assert {call: answer(program, architecture, call) for call in calls} == dict.fromkeys(calls, errno.EPERM)


def test_ordinary_calls_are_allowed() -> None:
    program = profile()
    # read, open, fork, execve, chown, setuid, prctl, seccomp, setxattrat; ptrace since 4.8.
    for call in (0, 2, 57, 59, 92, 105, 157, 317, 463, 101):
        assert answer(program, X86_64, call) == ALLOWED
    assert answer(profile(release="4.7.10"), X86_64, 101) == errno.EPERM
    assert answer(profile(["SYS_PTRACE"], release="4.7.10"), X86_64, 101) == ALLOWED


def test_new_namespaces_are_forbidden_and_threads_are_not() -> None:
    program = profile()
    # The flags of pthread_create(3) and fork(2).
    for flags in (0x3D0F00, 0x1200011):
        assert answer(program, X86_64, 56, flags) == ALLOWED
    for kind in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(program, X86_64, 56, kind | 0x11) == errno.EPERM
    # The flags of clone3 are in memory, where no filter can read them. With ENOSYS, glibc falls back to clone.
    assert answer(program, X86_64, 435) == errno.ENOSYS


def test_calls_that_are_allowed_only_with_some_arguments() -> None:
    program = profile()
    tried = {*range(0x20), *range(0x20000, 0x20020), *(1 << bit for bit in range(31))}
    allowed = {value for value in tried if answer(program, X86_64, 135, value) == ALLOWED}
    assert allowed == {0x0, 0x8, 0x20000, 0x20008}
    assert answer(program, X86_64, 135, 0xFFFFFFFF) == ALLOWED
    assert [family for family in range(50) if answer(program, X86_64, 41, family) != ALLOWED] == [38, 40]


def test_unknown_calls_have_the_error_enosys() -> None:
    program = profile()
    for architecture, call in ((X86_64, 467), (X86_64, 1000), (X86_64, 0x40000000 + 39), (X86_64, 0xFFFFFFFF)):
        assert answer(program, architecture, call) == errno.ENOSYS
    # On another architecture, the same number means another call.
    assert answer(program, AARCH64, 63) == errno.ENOSYS
    assert answer(profile(machine="aarch64"), 0x40000028, 3) == errno.ENOSYS
    assert profile(machine="vax") is None


@pytest.mark.parametrize(
    ("capability", "calls"),
    [
        ("SYS_ADMIN", (165, 166, 272, 308, 321, 298, 435, 428)),
        ("SYS_CHROOT", (161,)),
        ("SYS_MODULE", (175, 176, 313)),
        ("SYS_TIME", (164, 227)),
        ("SYS_BOOT", (169,)),
        ("DAC_READ_SEARCH", (304,)),
        ("BPF", (321,)),
        ("PERFMON", (298,)),
        ("SYSLOG", (103,)),
        ("SYS_NICE", (237, 238, 239)),
        ("SYS_PTRACE", (312, 438, 440)),
    ],
)
def test_a_capability_allows_its_calls(capability: str, calls: tuple[int, ...]) -> None:
    without, with_it = profile([]), profile([capability])
    for call in calls:
        assert answer(without, X86_64, call) in (errno.EPERM, errno.ENOSYS)
        assert answer(with_it, X86_64, call) == ALLOWED
    # No capability allows keyctl or kexec_load.
    assert {answer(profile(ALL_CAPABILITIES), X86_64, call) for call in (250, 246)} == {errno.EPERM}


def test_the_guard_forbids_namespaces_of_control_groups_and_of_mounts() -> None:
    guard = callfilter.namespace_guard(mounts=False, machine="x86_64")
    for call, arguments in ((272, (0x2000000,)), (56, (0x2000011,)), (308, (9, 0x2000000)), (308, (9, 0))):
        assert answer(guard, X86_64, call, *arguments) == errno.EPERM
    for call, arguments in ((272, (0x20000,)), (308, (9, 0x20000)), (1000, ())):
        assert answer(guard, X86_64, call, *arguments) == ALLOWED
    strict = callfilter.namespace_guard(mounts=True, machine="x86_64")
    assert answer(strict, X86_64, 308, 9, 0x20000) == errno.EPERM
    assert answer(strict, X86_64, 308, 9, 0x40000000) == ALLOWED
    # The filter also covers 32-bit calls and calls of x32.
    assert answer(strict, I386, 346, 9, 0x20000) == errno.EPERM
    assert answer(strict, X86_64, 0x40000000 + 308, 9, 0x20000) == errno.ENOSYS


def test_names_of_capabilities() -> None:
    assert numbers(["CAP_CHOWN", "chown", "SYS_ADMIN", "NONE_SUCH"]) == {0, 21}
    # CapBnd of a container of Docker: a80425fb.
    assert sum(1 << number for number in numbers(DEFAULT_CAPABILITIES)) == 0xA80425FB
