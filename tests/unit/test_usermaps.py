"""The users of the cluster's namespace: ranges of /etc/subuid, and the choice among the three kinds of user maps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway import usermaps
from hatchway.usermaps import Extent, MapError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann:100000:65536\n", [range(100000, 165536)]),
        ("bob:1:2\nann:100000:65536\n 1000:7:8 \n", [range(100000, 165536), range(7, 15)]),
        ("annette:1:2\nann\nann:1\nann:1:2:3\nann:x:2\nann:-1:2\nann:0x10:2\nann:1:\n", []),
        ("ann:0:65536\nann:1:0\nann:4294967295:1\nann:4000000000:4000000000\n", []),
        ("ann:٣:٣\n", []),
        ("# ann:1:2\n\n\0\nann:4294967293:2", [range(4294967293, 4294967295)]),
    ],
)
def test_ranges(text: str, found: list[range]) -> None:
    assert usermaps.parse_ranges(text.splitlines(), ["ann", "1000"]) == found


@given(st.text())
def test_any_file_can_be_read(text: str) -> None:
    for numbers in usermaps.parse_ranges(text.splitlines(), ["ann", ""]):
        assert 0 < numbers.start < numbers.stop < 1 << 32


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let this process seem to be an ordinary user's; return the only directory in $PATH, for programs."""
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getegid", lambda: 4343)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(directory: Path, name: str, script: str = "") -> None:
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_without_newuidmap_and_newgidmap_there_is_one_user(ordinary: Path) -> None:
    program(ordinary, "newuidmap")
    found = usermaps.choose()
    assert (found.way, found.users, found.groups) == ("one", (Extent(0, 4242, 1),), (Extent(0, 4343, 1),))
    assert found.reason.startswith("newgidmap is not installed; `apt install uidmap` and `usermod")


def test_a_range_from_the_name_services_is_used(ordinary: Path) -> None:
    program(ordinary, "newuidmap")
    program(ordinary, "newgidmap")
    program(ordinary, "getsubids", 'if [ "$1" = -g ]; then echo "0: x 300000 65536"; else echo "0: x 9 9"; ' +
            'echo "1: x 200000 70000"; fi; echo $1 >> ' + str(ordinary / "asked"))  # fmt: skip
    found = usermaps.choose()
    assert found.way == "mapped" and not found.reason
    assert found.users == (Extent(0, 4242, 1), Extent(1, 200000, 65536))
    assert found.groups == (Extent(0, 4343, 1), Extent(1, 300000, 65536))
    # The user has no name in /etc/passwd, so getsubids gets the user's number.
    assert (ordinary / "asked").read_text() == "4242\n-g\n"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("0: x 200000 1000", "has 1000 numbers of 65536 that are needed; `usermod --add-subuids"),
        ("Error fetching ranges", "has no range for this user; `usermod --add-subuids"),
        ("0: x 200000 65536\nexit 1", ""),
        ("yes 0: x 1 1 | head -c 3000000", "numbers of 65536"),
    ],
)
def test_unusable_ranges(ordinary: Path, answer: str, why: str) -> None:
    for name in ("newuidmap", "newgidmap"):
        program(ordinary, name)
    command = answer if answer.startswith("yes") else f"echo '{answer}'".replace("\n", "'\n'")
    program(ordinary, "getsubids", f"PATH=/usr/bin:/bin; {command}")
    if why:
        with pytest.raises(MapError, match=why.replace("`", ".")):
            usermaps.choose()
    else:
        assert usermaps.choose().way == "mapped"


@pytest.mark.parametrize(
    ("outer", "way"),
    [
        ("0 0 4294967295", "real"),
        ("0 1000 1\n1 100000 65536", "real"),
        ("1 100000 65535\n0 1000 1", "real"),
        ("0 1000 1\n1 100000 65534", ""),
        ("0 1000 1\n2 100000 65536", ""),
        ("0 0 1", ""),
    ],
)
def test_root_of_a_namespace_needs_all_65536_numbers(monkeypatch: pytest.MonkeyPatch, outer: str, way: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: outer)
    if way:
        found = usermaps.choose()
        assert (found.way, found.users, found.groups) == ("real", (Extent(0, 0, 65536),), (Extent(0, 0, 65536),))
    else:
        with pytest.raises(MapError, match="has less than 65536 users"):
            usermaps.choose()


def test_each_kind_of_user_map_is_explained_in_one_sentence() -> None:
    assert usermaps.explain("real").startswith("real: the users of images are this machine's users")
    assert usermaps.explain("mapped").startswith("mapped: ")
    assert usermaps.explain("one", "why").endswith(": why")


def test_a_program_runs_in_a_namespace() -> None:
    code = "import os; assert os.getuid() == os.getgid() == 0; print('x', file=__import__('sys').stderr); os._exit(7)"
    try:
        done = usermaps.run([sys.executable, "-c", code], timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no user namespaces here: {error}")
    if done.returncode == 1:
        pytest.skip(f"no user namespaces here: {done.stderr}")
    assert (done.returncode, done.stderr) == (7, "x\n")
