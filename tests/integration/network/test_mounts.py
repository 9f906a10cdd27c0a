"""Mounts of host files: read-only mounts without mount_setattr(2), and mounts of files that were replaced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.network.conftest import why_not_private

SCRIPT = """
import os, sys
from hatchway.cluster.network import mounts, linuxnamespaces, syscalls as linux
pid, _ = linuxnamespaces.enter_namespaces()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
place = sys.argv[1]
kept = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
linux.mount("tmpfs", place, "tmpfs", kept)
os.mkdir(place + "/with space")
linux.mount("tmpfs", place + "/with space", "tmpfs", kept)
os.mkdir(place + "-not")
linux.mount("tmpfs", place + "-not", "tmpfs", kept)
mounts.remount_read_only(place)
for path in (place, place + "/with space"):
    flags = os.statvfs(path).f_flag
    assert flags & os.ST_RDONLY and flags & os.ST_NOSUID and flags & os.ST_NODEV and flags & os.ST_NOEXEC, (path, flags)
assert not os.statvfs(place + "-not").f_flag & os.ST_RDONLY
"""


def test_remounting_keeps_the_other_flags(tmp_path: Path) -> None:
    if sys.platform != "linux" or why_not_private():
        pytest.skip(why_not_private())
    place = tmp_path / "mount"
    place.mkdir()
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(place)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


_REPLACED = """
import os, shutil
from hatchway.cluster.network import mounts
with open("file", "w") as file:
    file.write("old")
os.makedirs("directory/sub")
mounts.bind("file", "bound")
mounts.bind("directory/sub", "bound-directory")
with open("new", "w") as file:
    file.write("new")
os.rename("new", "file")
shutil.rmtree("directory")
mounts.bind("bound", "again")
mounts.bind("bound-directory", "again-directory")
print(open("again").read(), os.path.isdir("again-directory"))
"""


def test_a_host_file_that_was_replaced_can_still_be_mounted(tmp_path: Path) -> None:
    """After an installation on the host has replaced a file such as /etc/group, pods can still start."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _REPLACED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if "unshare" in done.stderr:
        pytest.skip("no user namespaces on this machine")
    assert done.stdout == "old True\n", done.stderr
