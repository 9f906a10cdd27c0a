"""Changes of users that the kernel reports, and the moment when a container's first process executes a program."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from hatchway.cluster.network import userchanges
from hatchway.cluster.network.ownerchanges import UserChange, find_change, make_program
from hatchway.cluster.network.userchanges import FollowedContainers, UserChanges
from tests.unit.network.test_ownerchanges import AARCH64, ALLOW, I386, SUCCEED, X86_64, answer

ASK = 0x7FC00000


@pytest.mark.parametrize(
    ("machine", "architecture", "users", "groups", "answered"),
    [
        ("x86_64", X86_64, (105, 113, 117), (106, 114, 119), (116, 122, 123)),
        ("x86_64", I386, (23, 70, 164, 213, 203, 208), (46, 71, 170, 214, 204, 210), (81, 206, 138, 215)),
        ("aarch64", AARCH64, (146, 145, 147), (144, 143, 149), (159, 151, 152)),
    ],
)
def test_calls_that_the_kernel_reports(
    machine: str, architecture: int, users: tuple[int, ...], groups: tuple[int, ...], answered: tuple[int, ...]
) -> None:
    program = make_program(machine, users_too=True, ask=True)
    asked = {number for number in range(600) if answer(program, architecture, number, 1, 1, 1) == ASK}
    assert asked == {*users, *groups}
    for number in users:
        found = find_change(architecture, number)
        assert found is not None and found[0] == "user"
    assert {find_change(architecture, number)[0] for number in groups} == {"group"}  # type: ignore[index]
    assert [answer(program, architecture, number, 1) for number in answered] == [SUCCEED] * len(answered)
    assert answer(program, architecture, 1, 1) == ALLOW
    assert answer(make_program(machine, users_too=True), architecture, users[0], 1) == SUCCEED


@pytest.mark.parametrize(
    ("architecture", "call", "arguments", "expected"),
    [
        # setuid, setgid: the number is unsigned and has 32 bits; -1 is an error.
        (X86_64, 105, [999], 999),
        (X86_64, 105, [2**31 - 1], 2**31 - 1),
        (X86_64, 105, [2**31], None),
        (X86_64, 105, [3_000_000_000], None),
        (X86_64, 105, [0xFFFFFFFF], None),
        (X86_64, 105, [0xFFFFFFFFFFFFFFFF], None),
        (X86_64, 105, [(0xDEAD << 32) + 5], 5),
        (X86_64, 106, [3_000_000_000], None),
        (AARCH64, 146, [3_000_000_000], None),
        # setreuid, setresuid, setresgid: -1 means no change.
        (X86_64, 113, [0xFFFFFFFF, 0xFFFFFFFF], "unchanged"),
        (X86_64, 117, [5, 0xDEADBEEFFFFFFFFF, 5], "unchanged"),
        (X86_64, 119, [5, 3_000_000_000, 5], None),
        # The 16-bit calls of 32-bit x86: setuid16, setreuid16, setresuid16; and setuid32.
        (I386, 23, [0xABCD0005], 5),
        (I386, 23, [0xFFFF], None),
        (I386, 70, [0, 0xFFFF], "unchanged"),
        (I386, 164, [0, 0xFFFFFFFF, 0], "unchanged"),
        (I386, 213, [0xFFFF], 0xFFFF),
    ],
)
def test_numbers_of_users(architecture: int, call: int, arguments: list[int], expected: int | str | None) -> None:
    change = find_change(architecture, call)
    assert change is not None
    if expected is None:
        with pytest.raises(ValueError, match="out of range"):
            change.number(arguments)
    else:
        assert change.number(arguments) == (None if expected == "unchanged" else expected)


_ANSWERED = """
import os, sys
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.ownerchanges import follow_user_changes
from hatchway.cluster.network.userchanges import UserChanges
linux.set_no_new_privileges()
try:
    listener = follow_user_changes()
except OSError:
    listener = -1
if listener < 0:
    sys.exit(9)
pid = os.fork()
if pid == 0:
    for call in (lambda: os.setuid(3_000_000_000), lambda: os.setgid(3_000_000_000), lambda: os.setresuid(-1, -1, -1),
                 lambda: os.setuid(999)):
        try:
            call()
            print("done", flush=True)
        except OSError as error:
            print(error.errno, flush=True)
    os._exit(0)
changes = UserChanges(listener, pid)
while os.waitpid(pid, os.WNOHANG) == (0, 0):
    changes.answer()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_users_that_do_not_exist_are_refused() -> None:
    done = subprocess.run([sys.executable, "-c", _ANSWERED], capture_output=True, text=True, timeout=60)
    if done.returncode == 9:
        pytest.skip("this kernel does not ask")
    assert done.stdout.split() == [str(errno.EINVAL), str(errno.EINVAL), "done", "done"], done.stderr


@pytest.mark.parametrize("executes", [True, False])
def test_a_process_that_executes_another_program(executes: bool) -> None:
    after = "os.execvp('sleep', ['sleep', '60'])" if executes else "time.sleep(60)"
    code = f"import os, sys, time; print('x', flush=True); sys.stdin.readline(); print('y', flush=True); {after}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    reading, writing = os.pipe()
    changes = UserChanges(reading, process.pid)
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        # A call of another process, a call that does not change the user, and a change to root need no action.
        changes._note(os.getpid(), UserChange("user", 0), [999])
        changes._note(process.pid, UserChange("user", 1), [5, 0xFFFFFFFF])
        changes._note(process.pid, UserChange("user", 0), [0])
        changes._note(process.pid, None, [])
        assert changes.next_check is None
        changes._note(process.pid, UserChange("group", 1), [0, 998])
        changes._note(process.pid, UserChange("user", 0), [(7 << 32) + 999])
        due = changes.next_check
        assert due is not None
        assert changes.check(due - 1) is None
        process.stdin.write("\n")
        process.stdout.readline()
        deadline = time.monotonic() + 30
        while executes and time.monotonic() < deadline:
            with open(f"/proc/{process.pid}/comm", encoding="ascii") as comm:
                if comm.read().strip() == "sleep":
                    break
        assert changes.check(time.monotonic() + 0.05) == ((999, 998) if executes else None)
        assert changes.check(time.monotonic() + 10) is None
        assert changes.next_check is None
    finally:
        process.kill()
        process.communicate()
        changes.close()
        changes.close()
        os.close(writing)


def test_reports_are_read_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: dict[int, Callable[[], None]] = {}
    reading, writing = os.pipe()
    changes = UserChanges(reading, os.getpid())
    followed = FollowedContainers(
        watched.__setitem__, lambda descriptor: watched.pop(descriptor, None) and None, lambda *_: None
    )
    monkeypatch.setattr(changes, "answer", lambda: True)
    followed.add(1, None)
    followed.add(2, changes)
    watched[reading]()
    assert list(watched) == [reading]
    changes.paused_until = time.monotonic() - 1
    watched[reading]()
    assert watched == {} and len(followed.next_checks()) == 1
    followed.check()
    assert list(watched) == [reading] and followed.next_checks() == []
    # The last process of the container has ended.
    monkeypatch.setattr(changes, "answer", lambda: False)
    watched[reading]()
    assert watched == {}
    followed.remove(2)
    followed.remove(2)
    changes.close()
    os.close(writing)


def test_a_process_that_has_ended_has_no_program() -> None:
    assert userchanges._executed_program(1 << 30) is None
