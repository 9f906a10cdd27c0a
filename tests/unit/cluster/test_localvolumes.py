"""The directories of provisioned volumes: making and removing them does not follow links that pods have made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hatchway.cluster.localvolumes import ROOT, LocalVolumes


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").write_text("kept")
    return tmp_path / "nodes"


def test_every_user_of_a_container_may_write_to_a_new_directory(nodes: Path) -> None:
    volumes = LocalVolumes(nodes)
    volumes.make("node-1", "pvc-1_ns_data")
    made = nodes / "node-1" / ROOT[1:] / "pvc-1_ns_data"
    assert made.stat().st_mode & 0o777 == 0o777
    (made / "file").write_text("x")
    made.chmod(0o750)
    volumes.make("node-1", "pvc-1_ns_data")
    assert (made / "file").read_text() == "x"
    assert made.stat().st_mode & 0o777 == 0o750, "a directory that is there keeps its mode"
    volumes.remove("node-1", "pvc-1_ns_data")
    assert not made.exists()
    volumes.remove("node-1", "pvc-1_ns_data")
    volumes.remove("node-2", "pvc-1_ns_data")


@pytest.mark.parametrize("link", ["/var", "/var/local-path-provisioner", "/var/local-path-provisioner/pvc-1"])
def test_links_are_not_followed(nodes: Path, link: str) -> None:
    outside = nodes.parent / "outside"
    (outside / "pvc-1").mkdir()
    (outside / "local-path-provisioner/pvc-1").mkdir(parents=True)
    at = nodes / "node-1" / link[1:]
    at.parent.mkdir(parents=True)
    at.symlink_to(outside)
    volumes = LocalVolumes(nodes)
    before = sorted(outside.rglob("*"))
    if link.endswith("pvc-1"):
        # A link in place of the volume's directory is not followed, either.
        with pytest.raises(OSError, match=r"directory|symbolic"):
            volumes.make("node-1", "pvc-1")
    else:
        # The link leads to a path in the node's own file system.
        volumes.make("node-1", "pvc-1")
    volumes.remove("node-1", "pvc-1")
    assert sorted(outside.rglob("*")) == before
    assert not at.is_symlink() or not link.endswith("pvc-1")


def test_relative_links_end_at_the_node(nodes: Path) -> None:
    (nodes / "node-1/var").mkdir(parents=True)
    (nodes / "node-1/var/local-path-provisioner").symlink_to("../../../outside")
    LocalVolumes(nodes).make("node-1", "pvc-1")
    assert os.listdir(nodes.parent / "outside") == ["kept"]
    assert (nodes / "node-1/outside/pvc-1").is_dir()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b", "x" * 256])
@pytest.mark.parametrize("bad", ["node", "name"])
def test_invalid_names(nodes: Path, name: str, bad: str) -> None:
    place = (name, "pvc-1") if bad == "node" else ("node-1", name)
    with pytest.raises(ValueError, match="not a volume's directory"):
        LocalVolumes(nodes).make(*place)
    with pytest.raises(ValueError, match="not a volume's directory"):
        LocalVolumes(nodes).remove(*place)
    assert list(nodes.iterdir()) == []


@pytest.mark.parametrize(
    ("shared", "free"),
    [("/", False), ("/var", False), (ROOT, False), (ROOT + "/", False), ("/var/local-path", True), ("/home/a", True)],
)
def test_host_paths_that_overlap_the_volumes_are_refused(nodes: Path, shared: str, free: bool) -> None:
    volumes = LocalVolumes(nodes, ["/srv", shared])
    assert (volumes.problem() == "") == free
    if not free:
        with pytest.raises(ValueError, match="--host-path"):
            volumes.remove("node-1", "pvc-1")
