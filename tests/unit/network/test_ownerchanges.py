"""The filter that answers changes of users and owners, run by an interpreter of classic BPF."""

from __future__ import annotations

import errno
import struct

import pytest

from hatchway.cluster.network.ownerchanges import make_program

ALLOW, SUCCEED, NO_CALL = 0x7FFF0000, 0x00050000, 0x00050000 | errno.ENOSYS
X86_64, I386, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
NONE = 0xFFFFFFFF


def answer(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Run the filter's instructions like the kernel; return its answer (seccomp(2))."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            at += value
        elif operation == 0x15:
            at += if_true if accumulator == value else if_false
        elif operation == 0x35:
            at += if_true if accumulator >= value else if_false
        else:
            assert operation == 0x06
            return int(value)


@pytest.mark.parametrize("users_too", [False, True])
@pytest.mark.parametrize(
    ("machine", "architecture", "chown", "fchownat"),
    [
        ("x86_64", X86_64, 92, 260),
        ("x86_64", X86_64, 93, 260),
        ("x86_64", X86_64, 94, 260),
        ("x86_64", I386, 212, 298),
        ("aarch64", AARCH64, 55, 54),
        ("riscv64", 0xC00000F3, 55, 54),
        ("loongarch64", 0xC0000102, 55, 54),
    ],
)
def test_owners(machine: str, architecture: int, chown: int, fchownat: int, users_too: bool) -> None:
    program = make_program(machine, users_too=users_too)
    for user, group, wanted in (
        (33, 44, SUCCEED),
        (0, 44, SUCCEED),
        (33, NONE, SUCCEED),
        (0, 0, ALLOW),
        (NONE, NONE, ALLOW),
        (NONE, 0, ALLOW),
        # The kernel reads the lower 32 bits only.
        (7 << 32, 9 << 32, ALLOW),
        ((7 << 32) + 1, 0, SUCCEED),
    ):
        assert answer(program, architecture, chown, 5, user, group) == wanted
        assert answer(program, architecture, fchownat, 5, 6, user, group) == wanted


def test_owners_of_16_bits() -> None:
    program = make_program("x86_64", users_too=False)
    assert [answer(program, I386, 182, 5, user, 0) for user in (0, 0xFFFF, 33)] == [ALLOW, ALLOW, SUCCEED]
    # These calls use the lower 16 bits of a register; the upper bits may have any value.
    assert answer(program, I386, 182, 5, 0xABCD0000, 0xABCDFFFF) == ALLOW


@pytest.mark.parametrize(
    ("machine", "architecture", "numbers"),
    [
        ("x86_64", X86_64, (105, 106, 113, 114, 116, 117, 119, 122, 123)),
        ("x86_64", I386, (23, 46, 70, 71, 81, 138, 139, 164, 170, 203, 204, 206, 208, 210, 213, 214, 215, 216)),
        ("aarch64", AARCH64, (143, 144, 145, 146, 147, 149, 151, 152, 159)),
    ],
)
def test_users(machine: str, architecture: int, numbers: tuple[int, ...]) -> None:
    both, owners = make_program(machine, users_too=True), make_program(machine, users_too=False)
    answered = {number for number in range(600) if answer(both, architecture, number, 1, 0x2000, 0x2000) == SUCCEED}
    assert answered >= set(numbers)
    for number in numbers:
        assert answer(owners, architecture, number, 1, 1, 1) == ALLOW
    # The filter lets all other calls pass.
    others = answered - set(numbers)
    assert (
        others
        <= {
            X86_64: {92, 93, 94, 260, 133, 259},
            I386: {16, 95, 182, 198, 207, 212, 298, 14, 297},
            AARCH64: {54, 55, 33},
        }[architecture]
    )


@pytest.mark.parametrize(
    ("architecture", "mknod", "argument"), [(X86_64, 133, 1), (X86_64, 259, 2), (I386, 14, 1), (I386, 297, 2)]
)
def test_devices(architecture: int, mknod: int, argument: int) -> None:
    program = make_program("x86_64", users_too=True)
    for mode, wanted in (
        (0o020666, SUCCEED),
        (0o060600, SUCCEED),
        (0o010644, ALLOW),
        (0o100644, ALLOW),
        (0o140755, ALLOW),
        (0o644, ALLOW),
    ):
        assert answer(program, architecture, mknod, *[0] * argument, mode) == wanted


def test_calls_of_x32_are_refused() -> None:
    for users_too in (False, True):
        program = make_program("x86_64", users_too=users_too)
        assert answer(program, X86_64, 0x40000000 + 92, 5, 33, 44) == NO_CALL
        assert answer(program, X86_64, 0x40000000 + 105, 33) == NO_CALL
        assert answer(program, X86_64, 0xFFFFFFFF) == NO_CALL


def test_other_calls_and_machines_are_not_filtered() -> None:
    assert answer(make_program("aarch64", users_too=True), ARM, 213, 1) == ALLOW
    assert answer(make_program("x86_64", users_too=True), X86_64, 1, 1) == ALLOW
    assert make_program("s390x", users_too=True) == b""
