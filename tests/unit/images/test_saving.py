"""Saving images, for Hatchway itself and for skopeo and Podman."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatchway.images.archives.loading import load_archive
from hatchway.images.archives.saving import save
from hatchway.images.contents import BadImage, Image
from hatchway.images.reference import Reference, parse
from hatchway.images.store.store import ImageStore
from tests.images.making import make_image


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def saved(store: ImageStore, *images: tuple[Image, list[Reference]]) -> bytes:
    out = io.BytesIO()
    save(store, images, out)
    return out.getvalue()


def test_a_saved_image_is_equal_after_loading(store: ImageStore, tmp_path: Path) -> None:
    base = {"base": "b" * 10_000}
    web = make_image(store, "web:1", base, {"a": "1"}, Cmd=["x"])
    db = make_image(store, "localhost:5000/db:2", base, {"b": "2"}, docker=True)
    data = saved(store, (web, [parse("web:1"), parse("web:latest")]), (db, [parse("localhost:5000/db:2")]))
    other = ImageStore(tmp_path / "other")
    loaded = load_archive(other, io.BytesIO(data))
    assert [one.image.manifest_digest for one in loaded] == [web.manifest_digest, db.manifest_digest]
    assert [name.familiar for one in loaded for name in one.names] == ["web:1", "web:latest", "localhost:5000/db:2"]
    assert [one.image.layers for one in loaded] == [web.layers, db.layers]


def test_the_same_images_give_the_same_archive(store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"})
    assert saved(store, (web, [parse("web:1")])) == saved(store, (web, [parse("web:1")]))


def test_docker_finds_every_file_that_its_manifest_names(store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1"}, {"b": "1"})
    with tarfile.open(fileobj=io.BytesIO(saved(store, (web, [parse("web:1")])))) as archive:
        names = archive.getnames()
        listed = json.load(archive.extractfile("manifest.json") or io.BytesIO())
    assert len(names) == len(set(names))
    assert listed[0]["RepoTags"] == ["docker.io/library/web:1"]
    assert {listed[0]["Config"], *listed[0]["Layers"], "oci-layout", "index.json"} <= set(names)


def test_an_image_without_a_name_is_saved_without_one(store: ImageStore, tmp_path: Path) -> None:
    web = make_image(store, None, {"a": "1"})
    loaded = load_archive(ImageStore(tmp_path / "other"), io.BytesIO(saved(store, (web, []))))
    assert loaded[0].names == () and loaded[0].image.image_id == web.image_id


def test_a_damaged_layer_is_not_saved(store: ImageStore) -> None:
    web = make_image(store, "web:1", {"a": "1" * 1000}, compression="")
    path = store.path / "blobs/sha256" / web.layers[0].digest[7:]
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadImage, match="is damaged; pull or load the image again"):
        saved(store, (web, []))
    # The image and the damaged blob are removed, so that the next pull downloads them.
    assert store.find(parse("web:1")) is None and not path.exists()


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_skopeo_reads_saved_images(store: ImageStore, tmp_path: Path, form: str) -> None:
    web = make_image(store, "web:1", {"base": "b" * 10_000}, {"a": "1"}, Cmd=["x"], Labels={"l": "v"})
    (tmp_path / "web.tar").write_bytes(saved(store, (web, [parse("web:1")])))
    command = ["skopeo", "--insecure-policy", "inspect", f"{form}:{tmp_path / 'web.tar'}"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    assert found["Labels"] == {"l": "v"}
    expected = [layer.digest for layer in web.layers] if form == "oci-archive" else list(web.config.diff_ids)
    assert found["Layers"] == expected


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a short path, because Podman refuses a runroot of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="hw-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
def test_podman_reads_saved_images_and_archives_of_podman_are_loaded(
    store: ImageStore, tmp_path: Path, short_path: Path
) -> None:
    web = make_image(store, "example.com/web:1", {"etc/motd": "hello"}, Cmd=["x"])
    other = make_image(store, "other:1", {"etc/motd": "other"})
    data = saved(store, (web, [parse("example.com/web:1")]), (other, [parse("other:1")]))
    (tmp_path / "web.tar").write_bytes(data)
    podman = ["podman", "--root", str(tmp_path / "root"), "--runroot", str(short_path), "--storage-driver", "vfs"]
    done = subprocess.run(
        [*podman, "load", "-i", str(tmp_path / "web.tar")], capture_output=True, text=True, timeout=90
    )
    if "Loaded image" not in done.stdout:
        pytest.skip(f"podman does not work here: {done.stderr.strip()[-200:]}")
    assert "example.com/web:1" in done.stdout and "docker.io/library/other:1" in done.stdout
    for form in ("docker-archive", "oci-archive"):
        target = tmp_path / f"{form}.tar"
        subprocess.run(
            [*podman, "save", "--format", form, "-o", str(target), "example.com/web:1"], check=True, timeout=90
        )
        with target.open("rb") as archive:
            loaded = load_archive(ImageStore(tmp_path / form), archive)
        assert [name.familiar for name in loaded[0].names] == ["example.com/web:1"]
        assert loaded[0].image.config.diff_ids == web.config.diff_ids
