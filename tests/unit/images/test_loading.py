"""Loading images from archives and directories, as Docker, Podman and skopeo write them, and hostile ones."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.images.archives.loading import LoadedImage, load_archive, load_directory
from hatchway.images.contents import BadImage, PullGrant
from hatchway.images.platforms import Platform
from hatchway.images.reference import parse
from hatchway.images.store.store import BlobOrigin, ImageStore
from tests.images.making import (
    ARCHITECTURE,
    BuiltImage,
    Entry,
    built,
    compressed,
    digest_of,
    docker_archive,
    docker_files,
    hardlink,
    layer_of,
    make_image,
    oci_archive,
    oci_directory,
    oci_files,
    put_image,
    symlink,
    tar_of,
)

_WEB = built("web:1", {"base": "b" * 100_000}, {"etc/motd": "hello"}, Cmd=["cat", "/etc/motd"])
_DB = built("registry.example:5000/team/db:2", {"base": "b" * 100_000}, {"etc/db": "d"}, compression="")


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def load(store: ImageStore, data: bytes, **options: Any) -> list[LoadedImage]:
    return load_archive(store, io.BytesIO(data), **options)


def names_of(loaded: list[LoadedImage]) -> list[str]:
    return [name.familiar for one in loaded for name in one.names]


def blobs_on_disk(store: ImageStore) -> set[str]:
    folder = store.path / "blobs/sha256"
    return {f"sha256:{path.name}" for path in folder.iterdir()} if folder.exists() else set()


def is_empty(store: ImageStore) -> bool:
    """Return True if the store has no files."""
    partial = store.path / "partial"
    return not blobs_on_disk(store) and not (partial.exists() and any(partial.iterdir())) and store.images() == []


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
@pytest.mark.parametrize("write", [oci_archive, docker_archive])
def test_archives_of_both_formats_are_loaded(
    store: ImageStore, tmp_path: Path, write: Callable[..., Path], compression: str
) -> None:
    if compression == "zstd" and shutil.which("zstd") is None:
        pytest.skip("the program zstd is not installed")
    path = write(tmp_path / "images.tar", _WEB, _DB, compression=compression)
    with path.open("rb") as archive:
        loaded = load_archive(store, archive)
    assert names_of(loaded) == ["web:1", "registry.example:5000/team/db:2"]
    for one, source in zip(loaded, (_WEB, _DB), strict=True):
        assert one.image.image_id == source.config and one.image.config.diff_ids == source.diff_ids
        assert store.find(one.names[0]) == one.image
    if write is oci_archive:
        assert [one.image.manifest_digest for one in loaded] == [_WEB.manifest, _DB.manifest]
    needed = {digest for one in loaded for digest in (one.image.manifest_digest, one.image.image_id)}
    needed |= {layer.digest for one in loaded for layer in one.image.layers}
    assert blobs_on_disk(store) == needed


def test_a_directory_is_loaded(store: ImageStore, tmp_path: Path) -> None:
    loaded = load_directory(store, oci_directory(tmp_path / "layout", _WEB))
    assert names_of(loaded) == ["web:1"] and loaded[0].image.manifest_digest == _WEB.manifest


def test_archives_of_docker_25_keep_the_digests_of_manifests(store: ImageStore) -> None:
    files = oci_files(_WEB)
    files["manifest.json"] = json.dumps(
        [{"Config": f"blobs/{_WEB.config.replace(':', '/')}", "RepoTags": ["web:1"], "Layers": []}]
    ).encode()
    assert load(store, layer_of(files))[0].image.manifest_digest == _WEB.manifest


def test_layers_that_are_links_to_other_layers_are_loaded(store: ImageStore) -> None:
    """If a layer occurs twice, Docker before 25 writes the second as a link to the first."""
    files = docker_files(_WEB)
    listed = json.loads(files["manifest.json"])
    first, second = listed[0]["Layers"]
    listed[0]["Layers"] = ["one/layer.tar", "two/layer.tar"]
    files["manifest.json"] = json.dumps(listed).encode()
    links = [symlink("one/layer.tar", f"../{first}"), hardlink("two/layer.tar", f"./{second}")]
    entries = [*(Entry(f"./{name}", content) for name, content in files.items()), *links]
    assert load(store, tar_of(entries))[0].image.config.diff_ids == _WEB.diff_ids


def test_compressed_layers_in_dockers_format_are_not_changed(store: ImageStore) -> None:
    files = docker_files(_WEB)
    for name in json.loads(files["manifest.json"])[0]["Layers"]:
        files[name] = compressed(files[name], "gzip")
    image = load(store, layer_of(files))[0].image
    assert {layer.media_type for layer in image.layers} == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_the_same_archive_gives_the_same_digests(tmp_path: Path) -> None:
    path = docker_archive(tmp_path / "web.tar", _WEB)
    first, second = (load(ImageStore(tmp_path / name), path.read_bytes())[0].image for name in ("a", "b"))
    assert first == second


def test_the_image_of_the_wanted_platform_is_loaded(store: ImageStore) -> None:
    arm = built("", {"a": "arm"}, platform={"architecture": "arm64", "variant": "v8"})
    amd = built("", {"a": "amd"}, platform={"architecture": "amd64"})
    platforms = [{"os": "linux", "architecture": "arm64", "variant": "v8"}, {"os": "linux", "architecture": "amd64"}]
    attestation = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}, **amd.descriptor}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            attestation,
            *({**image.descriptor, "platform": place} for image, place in zip((arm, amd), platforms, strict=True)),
        ],
    }
    inner = json.dumps(index).encode()
    outer = {
        "mediaType": index["mediaType"],
        "digest": digest_of(inner),
        "size": len(inner),
        "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"},
    }
    files = {
        **oci_files(arm, amd),
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [outer]}).encode(),
        f"blobs/{digest_of(inner).replace(':', '/')}": inner,
    }
    for platform, wanted in ((Platform("linux", "arm64", "v8"), arm), (Platform("linux", "amd64", "v1"), amd)):
        loaded = load(store, layer_of(files), platform=platform)
        assert loaded[0].image.manifest_digest == wanted.manifest
        assert f"docker.io/library/multi@{digest_of(inner)}" in loaded[0].image.digests
    with pytest.raises(BadImage, match=r"no match for platform in manifest.*s390x"):
        load(store, layer_of(files), platform=Platform("linux", "s390x"))


def test_an_image_without_a_name_can_be_given_one(store: ImageStore) -> None:
    unnamed = built("", {"a": "1"})
    loaded = load(store, layer_of(oci_files(unnamed)))
    assert loaded[0].names == () and loaded[0].image.tags == ()
    loaded = load(store, layer_of(oci_files(unnamed)), name=parse("mine:1"))
    assert loaded[0].image.tags == ("docker.io/library/mine:1",)
    with pytest.raises(BadImage, match="it has 2 images, which cannot all be named mine:1"):
        load(store, layer_of(oci_files(_WEB, _DB)), name=parse("mine:1"))


def test_an_annotation_with_only_a_tag_gives_no_name(store: ImageStore) -> None:
    """Skopeo writes `1.0` for oci-archive:FILE:1.0."""
    files = oci_files(_WEB)
    index = json.loads(files["index.json"])
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "1.0"}
    files["index.json"] = json.dumps(index).encode()
    assert load(store, layer_of(files))[0].names == ()


def test_if_one_of_several_images_is_bad_none_is_loaded(store: ImageStore) -> None:
    files = oci_files(_WEB, _DB)
    del files[f"blobs/{_DB.layers[1].replace(':', '/')}"]
    with pytest.raises(BadImage, match=f"the archive has no blob {_DB.layers[1]}"):
        load(store, layer_of(files))
    assert is_empty(store)


@pytest.mark.parametrize("how", ["archive", "directory"])
@pytest.mark.parametrize("content", [None, b"something else"])
@pytest.mark.parametrize("state", ["in the store", "being pulled"])
def test_an_archive_that_names_layers_of_a_private_image_must_contain_them(
    store: ImageStore, tmp_path: Path, how: str, content: bytes | None, state: str
) -> None:
    """Otherwise everyone could use the blobs of an image that was pulled with a pod's Secret, under another name."""

    def load_files(files: dict[str, bytes]) -> list[LoadedImage]:
        if how == "archive":
            return load(store, layer_of(files))
        for name, data in files.items():
            (tmp_path / "layout" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "layout" / name).write_bytes(data)
        return load_directory(store, tmp_path / "layout")

    layer = _WEB.layers[1]
    with store.keep():
        store.put_blob(_WEB.blobs[layer], BlobOrigin("registry.example/team/web", is_private=True))
        if state == "in the store":
            put_image(store, dataclasses.replace(_WEB, name="registry.example/team/web:1"), PullGrant("uid-1", "hash"))
        files = oci_files(dataclasses.replace(_WEB, name="mine:1"))
        path = f"blobs/{layer.replace(':', '/')}"
        whole = files.pop(path)
        if content is not None:
            files[path] = content
        with pytest.raises(BadImage, match=r"no blob|no file|has another content|bytes instead of"):
            load_files(files)
        assert store.find(parse("mine:1")) is None
        assert names_of(load_files({**files, path: whole})) == ["mine:1"]
        image = store.find(parse("mine:1"))
        assert image is not None and image.may_use("docker.io/library/mine", [])


def test_a_refused_archive_does_not_change_earlier_images(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"mine": "1"})
    with pytest.raises(BadImage):
        load(store, layer_of({**oci_files(_WEB), "../x": b""}))
    assert store.images() == [image]
    assert blobs_on_disk(store) == {image.manifest_digest, image.image_id, image.layers[0].digest}


def _changed(name: str, change: Callable[[Any], Any]) -> bytes:
    """Return the archive of docker save with one document changed."""
    files = docker_files(_WEB)
    name = next(one for one in files if one.endswith(name))
    files[name] = json.dumps(change(json.loads(files[name]))).encode()
    return layer_of(files)


def _with(extra: list[Entry]) -> bytes:
    return tar_of([*(Entry(name, content) for name, content in oci_files(_WEB).items()), *extra])


def _first(**fields: Any) -> Callable[[Any], Any]:
    return lambda listed: [{**listed[0], **fields}]


_DIGITS = _WEB.layers[0].removeprefix("sha256:")
_HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "path above": (lambda: _with([Entry("../evil", b"x")]), "names a file outside itself"),
    "path above inside": (lambda: _with([Entry("a/../../evil", b"x")]), "names a file outside itself"),
    "absolute path": (lambda: _with([Entry("/etc/cron.d/evil", b"x")]), "names a file outside itself"),
    "link above": (lambda: _with([symlink("x", "../../etc/shadow")]), "names a file outside itself"),
    "absolute link": (lambda: _with([symlink("x", "/etc/shadow")]), "names a file outside itself"),
    "hard link above": (lambda: _with([hardlink("x", "../etc/shadow")]), "names a file outside itself"),
    "device": (lambda: _with([Entry("x", type=tarfile.CHRTYPE, device=(1, 3))]), "character device"),
    "fifo": (lambda: _with([Entry("index2.json", type=tarfile.FIFOTYPE)]), "fifo"),
    "two of a name": (lambda: _with([Entry("index.json", b"{}")]), "has two files 'index.json'"),
    "two of a name, spelled otherwise": (lambda: _with([Entry("./index.json", b"{}")]), "has two files 'index.json'"),
    "name that is not UTF-8": (lambda: tar_of([Entry("\udcff", b"")]), "not UTF-8"),
    "link to itself": (
        lambda: tar_of([symlink("index.json", "index.json"), symlink("manifest.json", "manifest.json")]),
        "too many links",
    ),
    "layer that is a link out of the list": (
        lambda: _changed("manifest.json", _first(Layers=["../../../etc/passwd", "x"])),
        "names a file outside itself",
    ),
    "config that is absolute": (lambda: _changed("manifest.json", _first(Config="/etc/passwd")), "outside itself"),
    "config that is missing": (lambda: _changed("manifest.json", _first(Config="x.json")), "has no file 'x.json'"),
    "config that is no text": (lambda: _changed("manifest.json", _first(Config=7)), "without Config"),
    "layers that are no list": (lambda: _changed("manifest.json", _first(Layers={"a": 1})), "Layers that are not a list"),
    "fewer layers": (lambda: _changed("manifest.json", _first(Layers=[])), "0 layers, but .* has 2"),
    "layers in another order": (
        lambda: _changed("manifest.json", lambda one: [{**one[0], "Layers": one[0]["Layers"][::-1]}]),
        "has another content than",
    ),
    "tags that are no list": (lambda: _changed("manifest.json", _first(RepoTags="web")), "not a list of names"),
    "tag that is no name": (lambda: _changed("manifest.json", _first(RepoTags=["UPPER"])), "manifest.json has an invalid name"),
    "no list": (lambda: _changed("manifest.json", lambda _: {}), "not a list of images"),
    "too many images": (lambda: _changed("manifest.json", lambda one: one * 1001), "1001 images; at most 1000"),
    "config without layers": (lambda: _changed(f"{_WEB.config[7:]}.json", lambda _: {}), "rootfs.diff_ids"),
    "deep JSON": (lambda: layer_of({"manifest.json": b"[" * 50_000}), "not valid JSON"),
    "deep index": (lambda: layer_of({"index.json": b'{"a":' * 15_000}), "not valid JSON"),
    "many values": (lambda: layer_of({"index.json": b"[" + b"[]," * 50_000 + b"[]]"}), "more than 20000 values"),
    "large index": (lambda: layer_of({"index.json": b" " * ((4 << 20) + 1)}), "larger than 4194304 bytes"),
    "blob with other content": (lambda: _with([Entry(f"blobs/sha256/{'0' * 64}", b"x")]), "another content"),
    "first blob with other content": (
        lambda: tar_of([Entry(f"blobs/sha256/{_DIGITS}", b"x"), *(Entry(*one) for one in oci_files(_WEB).items())]),
        "another content",
    ),
    "nothing": (lambda: tar_of([]), "neither index.json .* nor manifest.json"),
    "no tar": (lambda: b"#!/bin/sh\n" * 1000, "no tar archive"),
    "empty file": (lambda: b"", "it is empty"),
    "cut off": (lambda: layer_of(oci_files(_DB))[:-90_000], "cut off"),
    "damaged gzip": (lambda: compressed(layer_of(oci_files(_WEB)), "gzip")[:-100], "cut off|damaged"),
    "another compression": (lambda: b"BZh9" + bytes(600), "bzip2"),
    "schema 1 only": (lambda: layer_of({"repositories": b"{}"}), "Docker 1.9 or older"),
    "empty index": (lambda: layer_of({"index.json": b'{"schemaVersion":2,"manifests":[]}'}), "it has no image"),
    "index without digests": (lambda: layer_of({"index.json": b'{"manifests":[{"digest":"x"}]}'}), "no valid digest"),
    "negative size": (
        lambda: layer_of({"index.json": json.dumps({"manifests": [{**_WEB.descriptor, "size": -1}]}).encode()}),
        "no valid size",
    ),
    "sparse file": (
        lambda: _with(
            [Entry("x", b"1\n0\n512\n".ljust(512, b"\0") + b"y" * 512, pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                   "GNU.sparse.realsize": "9999999", "GNU.sparse.name": "x"})]
        ),
        "holes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_and_broken_archives_are_refused_and_leave_nothing(store: ImageStore, name: str) -> None:
    make, message = _HOSTILE[name]
    with pytest.raises(BadImage, match=message):
        load(store, make())
    assert is_empty(store)


def test_a_long_chain_of_indexes_is_not_followed(store: ImageStore) -> None:
    """A cycle is impossible, because each index contains the digest of the next."""
    files = oci_files(_WEB)
    descriptor = dict(_WEB.descriptor)
    for _ in range(20):
        text = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        files[f"blobs/{digest_of(text).replace(':', '/')}"] = text
        descriptor = {"digest": digest_of(text), "size": len(text)}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    with pytest.raises(BadImage, match="too deeply"):
        load(store, layer_of(files))


def test_a_file_with_a_size_larger_than_the_disk_is_refused_at_once(store: ImageStore) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        load(store, tar_of([Entry("layer.tar", b"x", pax={"size": str(1 << 60)})]))
    assert is_empty(store)


def test_only_regular_files_of_a_directory_are_opened(store: ImageStore, tmp_path: Path) -> None:
    layout = oci_directory(tmp_path / "layout", _WEB)
    blob = layout / "blobs/sha256" / _DIGITS
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(BadImage, match="is not a regular file"):
        load_directory(store, layout)
    blob.unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(_WEB.blobs[_WEB.layers[0]])
    blob.symlink_to(secret)
    with pytest.raises(BadImage, match="symbolic link"):
        load_directory(store, layout)
    blob.unlink()
    shutil.move(layout / "blobs", tmp_path / "blobs")
    (layout / "blobs").symlink_to(tmp_path / "blobs")
    (tmp_path / "blobs/sha256" / _DIGITS).write_bytes(_WEB.blobs[_WEB.layers[0]])
    with pytest.raises(BadImage, match="symbolic link"):
        load_directory(store, layout)
    assert is_empty(store)


def test_a_directory_without_a_layout_is_refused(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"neither index.json"):
        load_directory(store, tmp_path)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 20_000), change=st.binary(min_size=1, max_size=8))
def test_a_changed_archive_is_loaded_completely_or_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: int, change: bytes
) -> None:
    small = built("web:1", {"etc/motd": "hello"}, Cmd=["cat"])
    data = bytearray(layer_of(oci_files(small)))
    at = cut % len(data)
    data[at : at + len(change)] = change
    store = ImageStore(tmp_path_factory.mktemp("images"))
    try:
        loaded = load(store, bytes(data))
    except BadImage:
        assert is_empty(store)
        return
    for one in loaded:
        assert one.image.manifest_digest == small.manifest
        for layer in one.image.layers:
            assert digest_of(store.open_blob(layer.digest).read()) == layer.digest


def _skopeo(*arguments: str) -> None:
    subprocess.run(["skopeo", "--insecure-policy", *arguments], check=True, capture_output=True, timeout=60)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive", "oci"])
def test_archives_of_skopeo_are_loaded(store: ImageStore, tmp_path: Path, form: str) -> None:
    source = oci_archive(tmp_path / "source.tar", _WEB)
    target = tmp_path / "target"
    _skopeo("copy", f"oci-archive:{source}", f"{form}:{target}:docker.io/library/web:1")
    if form == "oci":
        loaded = load_directory(store, target)
    else:
        with target.open("rb") as archive:
            loaded = load_archive(store, archive)
    assert names_of(loaded) == ["web:1"]
    assert loaded[0].image.config.diff_ids == _WEB.diff_ids


def test_images_for_tests_are_for_this_machine() -> None:
    image: BuiltImage = _WEB
    assert json.loads(image.blobs[image.config])["architecture"] == ARCHITECTURE
