"""A cluster whose disk is full: writes fail with a clear error, reads work, and it recovers when there is space again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hatchway.cluster.network import launcher
from tests.conftest import BIN, Cluster, wait_for

MakeCluster = Callable[..., Cluster]

_ON_SMALL_DISK = 'mount -t tmpfs -o size=8m small "$1" && shift && exec "$@"'


class Small:
    """A cluster on a small file system, which only its processes can see."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.disk = cluster.base / "disk"
        self.disk.mkdir()
        self.process = subprocess.Popen(
            [
                *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _ON_SMALL_DISK, "sh", self.disk),
                *(BIN / "hatchway", "up", "--name", "full", "--state-dir", self.disk),
                *("--kubeconfig", cluster.kubeconfig, "--api-port", "0", "--nodes", "1", "--no-addons"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break

    @property
    def seen(self) -> Path:
        """Return the path of the small file system for processes outside its mount namespace."""
        return Path(f"/proc/{self.process.pid}/root{self.disk}")

    def fill(self) -> None:
        with open(self.seen / "fill", "ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))

    def hatchway(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command line in the mount namespace of the small file system."""
        inside = ("nsenter", f"--target={self.process.pid}", "--user", "--mount", "--preserve-credentials")
        return subprocess.run([*inside, BIN / "hatchway", *arguments], capture_output=True, text=True, timeout=60)

    def status(self) -> subprocess.CompletedProcess[str]:
        return self.hatchway("status", "--name", "full", "--state-dir", self.disk)

    def make_room(self) -> None:
        (self.seen / "fill").unlink()

    def close(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture(scope="module")
def small(make_cluster: MakeCluster) -> Iterator[Small]:
    if sys.platform != "linux" or shutil.which("unshare") is None or launcher.why_unavailable():
        pytest.skip("this machine does not allow mounting a file system")
    made = Small(make_cluster("full", up=False))
    yield made
    # The cluster ends without an error, although its disk was full.
    assert made.close() == 0


def test_writes_fail_clearly_and_reads_go_on(small: Small) -> None:
    assert small.process.poll() is None, small.said
    cluster = small.cluster
    cluster.kubectl("create", "configmap", "before", "--from-literal=a=b")
    small.fill()
    large = "--from-literal=a=" + "x" * 100_000
    assert "the disk is full" in cluster.kubectl("create", "configmap", "during", large, check=False)
    assert "configmap/before" in cluster.kubectl("get", "configmaps", "-o", "name")
    assert len(cluster.kubectl("get", "nodes", "-o", "name").split()) == 2
    assert "etcd failed" in cluster.kubectl("get", "--raw", "/readyz", check=False)
    status = small.status()
    assert status.returncode == 1
    assert "disk            0 bytes free: " in status.stdout
    assert "disk is full" in status.stdout
    small.make_room()

    wait_for(lambda: "created" in cluster.kubectl("create", "configmap", "after", large, check=False))
    wait_for(lambda: cluster.kubectl("get", "--raw", "/readyz", check=False) == "ok")
    names = cluster.kubectl("get", "configmaps", "-o", "name").split()
    assert names == ["configmap/after", "configmap/before", "configmap/kube-root-ca.crt"]
    status = small.status()
    assert status.returncode == 0
    assert "MiB free, and changes cannot be stored when it is full" in status.stdout
    cluster.kubectl("run", "pod", "--image=hatchway/host", "--command", "--", "sleep", "1000")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/pod", "--timeout=30s")


def test_a_start_on_a_full_disk_is_one_line(small: Small) -> None:
    small.fill()
    own = ["--name", "other", "--state-dir", small.disk, "--kubeconfig", small.cluster.kubeconfig]
    done = small.hatchway("up", "--detach", "--api-port", "0", *own)
    assert done.returncode == 1
    place = small.disk / "other/cluster.json"
    assert done.stderr == (
        f"hatchway: cannot write {place}: No space left on device\n"
        "  free some space there, or choose another directory with --state-dir\n"
    )
    small.make_room()


def test_a_cluster_is_ended_and_deleted_on_a_full_disk(small: Small) -> None:
    own = ["--name", "other", "--state-dir", small.disk]
    there = small.disk / "kubeconfig"
    up = ("up", "--detach", *own, "--kubeconfig", there, "--api-port", "0", "--no-addons", "--nodes", "0")
    started = small.hatchway(*up)
    assert started.returncode == 0, started.stderr
    small.fill()

    ended = small.hatchway("down", *own)
    assert ended.stdout == 'cluster "other" stopped\n'
    assert ended.returncode == 1
    assert ended.stderr == (
        f"hatchway: cannot write the kubeconfig {there}: No space left on device; "
        'the context "hatchway-other" is still in it\n  free some space there\n'
    )
    deleted = small.hatchway("down", "--delete", *own)
    assert deleted.returncode == 0, deleted.stderr
    assert deleted.stdout == f'cluster "other" was not running\nremoved {small.disk}/other\n'
    assert not (small.seen / "other").exists()
    assert "hatchway-other" not in (small.seen / "kubeconfig").read_text()
    small.make_room()
