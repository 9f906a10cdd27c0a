"""Images that a test process loads: their names and their removal."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore
from hatchway.testing import Cluster, ClusterError
from hatchway.testing.images import LoadedImages, from_directory, from_wheels
from tests.images.making import built, docker_archive, make_image, oci_directory
from tests.unit.images.test_building import wheel


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "My App").mkdir()
    (tmp_path / "My App" / "run").write_text("#!/bin/sh\n")
    return tmp_path / "My App"


def test_an_image_has_a_unique_name_until_the_end_of_the_process(store: ImageStore, app: Path) -> None:
    loaded = LoadedImages(store, "tests")
    name = loaded.load(from_directory(app, entrypoint=["/run"]))
    image = store.find(parse(name))
    assert image is not None and name == f"hatchway.test/my-app:{image.image_id[7:23]}"
    assert image.config.entrypoint == ("/run",) and store.users(image) == ["tests"]
    assert loaded.load(from_directory(app, entrypoint=["/run"])) == name
    loaded.close()
    assert store.images() == []


def test_an_image_used_by_another_process_is_kept(store: ImageStore, app: Path) -> None:
    one, two = LoadedImages(store, "one"), LoadedImages(ImageStore(store.path), "two")
    name = one.load(from_directory(app))
    assert two.load(from_directory(app)) == name
    one.close()
    assert store.find(parse(name)) is not None
    two.close()
    assert store.find(parse(name)) is None


def test_an_image_with_a_chosen_name_is_kept(store: ImageStore, app: Path, tmp_path: Path) -> None:
    loaded = LoadedImages(store, "tests")
    assert loaded.load(from_directory(app), "mine:1") == "mine:1"
    assert loaded.load(docker_archive(tmp_path / "web.tar", built("web:1", {"a": "1"}))) == "web:1"
    unnamed = loaded.load(oci_directory(tmp_path / "layout", built("", {"a": "2"})))
    assert unnamed.startswith("hatchway.test/layout:")
    loaded.close()
    assert sorted(tag for image in store.images() for tag in image.tags) == [
        "docker.io/library/mine:1",
        "docker.io/library/web:1",
    ]


def test_a_base_is_an_image_or_a_directory(store: ImageStore, tmp_path: Path) -> None:
    base = make_image(store, "python:3", {"usr/bin/python3": "x"}, Cmd=["python3"])
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/motd").write_text("x")
    wheels = wheel(tmp_path / "wheels").parent
    loaded = LoadedImages(store, "tests")
    on_image = store.find(parse(loaded.load(from_wheels(wheels, base="python:3"))))
    assert on_image is not None and on_image.config.diff_ids[:1] == base.config.diff_ids
    assert on_image.config.command == ("python3",)
    on_directory = store.find(parse(loaded.load(from_wheels(wheels, base=root, cmd=["greeter-run"]))))
    assert on_directory is not None and len(on_directory.layers) == 2
    loaded.close()
    assert [image.image_id for image in store.images()] == [base.image_id]


def test_errors_of_making_images(store: ImageStore, app: Path, tmp_path: Path) -> None:
    loaded = LoadedImages(store, "tests")
    for source, name, message in (
        (from_directory(tmp_path / "nowhere"), "", "the image cannot be loaded: there is no directory"),
        (from_directory(tmp_path, base="python:3"), "", 'there is no image "python:3"'),
        (from_directory(tmp_path, base="PYTHON"), "", 'the base "PYTHON" is not the name of an image'),
        (from_wheels(base=app), "", "there is no wheel"),
        (tmp_path / "missing.tar", "", "No such file or directory"),
        (from_directory(tmp_path), "UPPER", "repository name must be lowercase"),
    ):
        with pytest.raises(ClusterError, match=message):
            loaded.load(source, name)


def test_images_cannot_be_loaded_into_other_clusters(app: Path, tmp_path: Path) -> None:
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
        "current-context": "c",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    cluster = Cluster(tmp_path / "kubeconfig", timeout=1)
    try:
        with pytest.raises(ClusterError, match="only into a cluster that the tests have started"):
            cluster.load_image(from_directory(app))
    finally:
        cluster.close()


def test_images_of_killed_processes_are_removed_after_a_day(
    store: ImageStore, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_image(store, "hatchway.test/old:1", {"a": "1"})
    make_image(store, "mine:1", {"a": "2"})
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    LoadedImages(store, "tests")
    assert [image.tags for image in store.images()] == [("docker.io/library/mine:1",)]


def test_the_names_do_not_depend_on_the_process(store: ImageStore, app: Path, tmp_path: Path) -> None:
    other = LoadedImages(ImageStore(tmp_path / "other"), f"process {os.getpid()}")
    assert other.load(from_directory(app)) == LoadedImages(store, "tests").load(from_directory(app))
