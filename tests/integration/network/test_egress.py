"""Pods reach other networks, but not this machine. All addresses are those of a simulated host."""

from __future__ import annotations

import functools
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster import plan
from hatchway.cluster.network.egress.tools import TOOLS
from tests.integration.network.conftest import Run
from tests.integration.network.pretendhost import FAR, HOST, METADATA, WEB

MakeRun = Callable[..., Run]
PRETEND = Path(__file__).with_name("pretendhost.py")
MEGABYTE = 1 << 20

# A pod's attempts, each with the expected result.
FIRST: list[tuple[list[Any], object]] = [
    # Servers outside see this machine's address.
    (["tcp", WEB, 8080], HOST),
    (["tcp", FAR, 8080], HOST),
    (["udp", WEB, 9000, 100], 100),
    # This datagram is longer than the largest packet between pods.
    (["udp", WEB, 9000, 9000], 9000),
    (["many", WEB, 8080, 100], [HOST]),
    (["get", WEB, 8080, 32 * MEGABYTE], 32 * MEGABYTE),
    (["put", WEB, 8080, 8 * MEGABYTE], str(8 * MEGABYTE)),
    # Names are resolved by this machine's resolver on its loopback: over UDP, with its search domain, over TCP.
    (["name", "web.example.test"], [WEB]),
    (["name", "inner"], [WEB]),
    (["count", "long.example.test"], 200),
    (["name", "absent.example.test"], "gai -2"),
    (["tcp", WEB, 81], "ECONNREFUSED"),
    # These addresses are this machine's: port 9092 is open on all of them, port 9091 only on its loopback.
    (["tcp", HOST, 9092], "EHOSTUNREACH"),
    (["tcp", HOST, 9091], "EHOSTUNREACH"),
    (["tcp", plan.EGRESS_NEXT_HOP, 9091], "EHOSTUNREACH"),
    (["tcp", plan.EGRESS_IP, 9091], "EHOSTUNREACH"),
    (["tcp", "127.0.0.1", 9091], "ECONNREFUSED"),
    (["tcp", METADATA, 8080], "EHOSTUNREACH"),
    (["udp", HOST, 53, 30], "EHOSTUNREACH"),
    # Packets to unused addresses of pods and nodes are not sent outside.
    (["tcp", "10.244.200.9", 80], "EHOSTUNREACH"),
    (["tcp6", "2001:db8::1", 80], "ENETUNREACH"),
]
SECOND = [["tcp", WEB, 8080], ["name", "web.example.test"]]


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@functools.cache
def why_no_tun(*, other_user: bool) -> str:
    """Return why the test's user cannot make a TAP interface; "" if it can.

    other_user: whether the user is not that of the tests. If root runs the tests, the simulated host lets all users
        open /dev/net/tun.
    """
    if other_user and os.geteuid() == 0:
        return "" if os.path.exists("/dev/net/tun") else "there is no /dev/net/tun"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return ""


def start(make_run: MakeRun, other_user: bool, scenario: str, tool: str, *words: str, **files: str) -> Run:
    if why := why_no_tun(other_user=other_user):
        pytest.skip(why)
    before = [sys.executable, str(PRETEND)]
    if other_user:
        before.append("--open-tun")
    files |= {"egress": " ".join((tool, *words)), f"bin/{tool}": f"-> {shutil.which(tool)}"}
    return make_run("private", scenario, files, before)


def test_pods_reach_other_networks_and_not_this_machine(
    make_run: MakeRun, user: tuple[list[str], dict[str, str], bool], tool: str
) -> None:
    wanted = {"first": [attempt for attempt, _ in FIRST], "second": SECOND}
    found = start(make_run, user[2], "egress", tool, wanted=json.dumps(wanted)).result()
    assert [(attempt, got) for (attempt, _), got in zip(FIRST, found["first"], strict=True)] == FIRST
    assert found["inside"] == ["other"]
    assert found["down"] == ["ENETUNREACH", [WEB]]
    assert found["again"] == [HOST, [WEB]]


def test_pods_may_reach_the_addresses_of_this_machine_when_allowed(
    make_run: MakeRun, user: tuple[list[str], dict[str, str], bool], tool: str
) -> None:
    tried = [["tcp", HOST, 9092], ["tcp", HOST, 9091], ["tcp", plan.EGRESS_NEXT_HOP, 9091], ["tcp", METADATA, 8080]]
    run = start(make_run, user[2], "egress", tool, "to-host", wanted=json.dumps({"first": tried, "second": []}))
    # This machine's loopback stays unreachable.
    assert run.result()["first"] == [HOST, "ECONNREFUSED", "EHOSTUNREACH", "EHOSTUNREACH"]


def test_the_program_ends_with_a_control_plane_that_is_killed(
    make_run: MakeRun, user: tuple[list[str], dict[str, str], bool], tool: str
) -> None:
    run = start(make_run, user[2], "egress_for_ever", tool)
    run.wait_for("ready")
    first = int((run.directory / "pid").read_text())
    below = descendants(first)
    programs = [pid for pid in below if name_of(pid).startswith((tool, "passt"))]
    assert programs
    ends = [os.pidfd_open(pid) for pid in (first, *below)]
    os.kill(run.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    for end in ends:
        # A pidfd is readable when its process has ended.
        assert select.select([end], [], [], max(0, deadline - time.monotonic()))[0], [name_of(pid) for pid in below]
        os.close(end)


def descendants(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
