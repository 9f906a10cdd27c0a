"""Read-only mounts on kernels that have no mount_setattr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.network.conftest import why_not_private

SCRIPT = """
import os, sys
from hatchway.cluster.network import namespaces, rootfs, syscalls as linux
pid = namespaces.enter_namespaces()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
place = sys.argv[1]
kept = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
linux.mount("tmpfs", place, "tmpfs", kept)
os.mkdir(place + "/with space")
linux.mount("tmpfs", place + "/with space", "tmpfs", kept)
os.mkdir(place + "-not")
linux.mount("tmpfs", place + "-not", "tmpfs", kept)
rootfs.remount_read_only(place)
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
