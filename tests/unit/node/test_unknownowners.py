"""Finding files of users that a user namespace does not have, as after a change from many mapped users to one user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hatchway.cluster.node import unknownowners
from hatchway.cluster.node.unknownowners import has_unknown_owner

_CODE = """
import os, sys
from hatchway.cluster.node.unknownowners import has_unknown_owner
for path in sys.argv[1:]:
    print(has_unknown_owner(os.open(path, os.O_PATH)))
"""


def in_namespace_with_one_user(*paths: Path) -> list[str]:
    """Call `has_unknown_owner` in a user namespace in which only this user exists; return its result."""
    argv = ["unshare", "-U", "-r", sys.executable, "-c", _CODE, *map(str, paths)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("no user namespace can be made here")
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can give files to other users")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is missing")
def test_files_of_users_that_do_not_exist_in_the_namespace(tmp_path: Path) -> None:
    own, top, inner, deep, hidden, link = (
        tmp_path / name for name in ("own", "top", "inner", "deep", "hidden", "link")
    )
    for path in (own, top, inner / "pgdata", deep / "sub" / "base", hidden / "a" / "b" / "c", link):
        path.mkdir(parents=True)
    (own / "file").write_text("x")
    for path in (top, inner / "pgdata", deep / "sub" / "base", hidden / "a" / "b" / "c"):
        os.chown(path, 100998, 100998)
    (link / "to").symlink_to(top)
    found = in_namespace_with_one_user(own, top, inner, deep, hidden, link)
    # Only the first levels of directories are examined.
    assert found == ["False", "True", "True", "True", "False", "False"]


def test_nothing_is_reported_if_all_users_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknownowners, "_unknown_user", lambda: -1)
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not has_unknown_owner(directory)
        monkeypatch.setattr(unknownowners, "_unknown_user", os.geteuid)
        assert has_unknown_owner(directory)
    finally:
        os.close(directory)


def test_large_volumes_are_not_examined_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknownowners, "_unknown_user", lambda: 1 << 30)
    monkeypatch.setattr(unknownowners, "_MOST_FILES", 10)
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    before = len(os.listdir("/proc/self/fd"))
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert not has_unknown_owner(directory)
    finally:
        os.close(directory)
    assert len(os.listdir("/proc/self/fd")) == before
