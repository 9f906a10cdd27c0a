"""The image store: names, unused blobs, and blobs in use."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hatchway.images.contents import BadImage, Image
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore, StoreError, store_path
from tests.images.making import built, digest_of, make_image, put_image


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def files_of(store: ImageStore) -> set[str]:
    """Return the digests of the blobs that are on the disk."""
    return {f"sha256:{path.name}" for path in (store.path / "blobs/sha256").iterdir()}


def blobs_of(image: Image) -> set[str]:
    return {image.manifest_digest, image.image_id, *(layer.digest for layer in image.layers)}


def test_an_image_is_found_by_all_its_names(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"}, Cmd=["run", ""], Env=["A=b"], User="7:8", StopSignal="SIGQUIT")
    store.tag(image, parse("registry.example:5000/team/web"))
    digits = image.image_id.removeprefix("sha256:")
    for wanted in (
        parse("web:1"),
        parse("docker.io/library/web:1"),
        parse("registry.example:5000/team/web:latest"),
        parse(f"web@{image.manifest_digest}"),
        image.image_id,
        digits,
        digits[:12],
        digits[:4],
    ):
        found = store.find(wanted)
        assert found is not None and found.image_id == image.image_id
    for other in (parse("web:2"), parse("web"), parse("other:1"), parse(f"other@{image.manifest_digest}"), digits[:3]):
        assert store.find(other) is None
    assert image.config.command == ("run", "")
    assert (image.config.user, image.config.stop_signal, image.config.env) == ("7:8", "SIGQUIT", ("A=b",))
    assert image.size == sum(path.stat().st_size for path in (store.path / "blobs/sha256").iterdir())


def test_an_ambiguous_beginning_of_an_id_finds_no_image(store: ImageStore) -> None:
    by_start: dict[str, str] = {}
    for number in range(3000):
        image = built(f"n:{number}", {"a": "1"}, compression="", Labels={"n": str(number)})
        start = image.config[7:11]
        if start in by_start:
            put_image(store, built(by_start[start], {"a": "1"}, compression="", Labels={"n": by_start[start][2:]}))
            put_image(store, image)
            assert store.find(start) is None
            assert store.find(image.config[7:19]) is not None
            return
        by_start[start] = f"n:{number}"
    pytest.fail("no two configurations begin alike")


def test_a_tag_moves_to_the_image_that_gets_it_last(store: ImageStore) -> None:
    first = make_image(store, "web:1", {"a": "1"})
    second = make_image(store, "web:1", {"a": "2"})
    found = store.find(parse("web:1"))
    assert found is not None and found.image_id == second.image_id
    old = store.find(first.image_id)
    assert old is not None and old.tags == () and old.digests == first.digests


def test_an_image_that_is_added_again_keeps_its_names_and_its_date(store: ImageStore) -> None:
    first = make_image(store, "web:1", {"a": "1"})
    added = store.added_at(first)
    again = make_image(store, "web:2", {"a": "1"})
    assert again.tags == ("docker.io/library/web:1", "docker.io/library/web:2")
    assert store.added_at(again) == added
    assert len(store.images()) == 1


def test_an_image_from_an_index_has_both_digests(store: ImageStore) -> None:
    image = built("web:1", {"a": "1"})
    put_image(store, image)
    index = store.put_blob(json.dumps({"schemaVersion": 2, "manifests": [image.descriptor]}).encode())
    reference = parse("ghcr.io/org/web:1")
    found = store.add(reference, image.manifest, index)
    assert f"ghcr.io/org/web@{index}" in found.digests and f"ghcr.io/org/web@{image.manifest}" in found.digests
    by_digest = store.find(parse(f"ghcr.io/org/web@{index}"))
    assert by_digest is not None and by_digest.manifest_digest == image.manifest
    store.collect_garbage()
    assert store.has_blob(index)


def test_a_name_with_the_digest_of_another_image_is_refused(store: ImageStore) -> None:
    image = built("web:1", {"a": "1"})
    put_image(store, image)
    with pytest.raises(BadImage, match="is not the name of the manifest"):
        store.add(parse(f"web@sha256:{'0' * 64}"), image.manifest)


@pytest.mark.parametrize("missing", ["config", "layer"])
def test_an_image_is_added_only_when_all_its_blobs_are_there(store: ImageStore, missing: str) -> None:
    image = built("web:1", {"a": "1"})
    left_out = image.config if missing == "config" else image.layers[0]
    for digest, blob in image.blobs.items():
        if digest != left_out:
            store.put_blob(blob)
    with pytest.raises(BadImage, match="is not in the store"):
        store.add(parse("web:1"), image.manifest)
    assert store.images() == []


def test_a_manifest_with_a_wrong_size_or_number_of_layers_is_refused(store: ImageStore) -> None:
    image = built("web:1", {"a": "1"}, {"b": "2"})
    for blob in image.blobs.values():
        store.put_blob(blob)
    manifest = json.loads(image.blobs[image.manifest])
    manifest["layers"].pop()
    with pytest.raises(BadImage, match="the manifest has 1 layers, but the configuration 2"):
        store.add(None, store.put_blob(json.dumps(manifest).encode()))
    manifest["layers"] = json.loads(image.blobs[image.manifest])["layers"]
    manifest["layers"][0]["size"] += 1
    with pytest.raises(BadImage, match="another size"):
        store.add(None, store.put_blob(json.dumps(manifest).encode()))


def test_removing_an_image_deletes_blobs_that_no_other_image_needs(store: ImageStore) -> None:
    base = {"base": "x" * 1000}
    first = make_image(store, "one:1", base, {"a": "1"})
    second = make_image(store, "two:1", base, {"b": "2"})
    garbage = store.remove(first)
    assert files_of(store) == blobs_of(second)
    assert garbage.blobs == 3 and garbage.size > 0
    assert store.images() == [second]


def test_removing_a_tag_keeps_the_image_and_its_other_names(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"})
    store.tag(image, parse("web:2"))
    left = store.untag(parse("web:1"))
    assert left is not None and left.tags == ("docker.io/library/web:2",) and left.digests == image.digests
    last = store.untag(parse("web:2"))
    assert last is not None and (last.tags, last.digests) == ((), ())
    assert store.untag(parse("web:2")) is None
    assert store.find(image.image_id) == last


def test_prune_removes_untagged_images_and_with_every_all_images(store: ImageStore) -> None:
    old = make_image(store, "web:1", {"a": "1"})
    new = make_image(store, "web:1", {"a": "2"})
    garbage = store.prune()
    assert [image.image_id for image in garbage.images] == [old.image_id]
    assert files_of(store) == blobs_of(new)
    assert [image.image_id for image in store.prune(every=True).images] == [new.image_id]
    assert files_of(store) == set()


def test_an_image_in_use_is_not_pruned_and_keeps_its_files_without_a_name(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"})
    other = ImageStore(store.path)
    with store.use(image, "pod default/a"), store.use(image, "pod default/b"):
        assert sorted(other.users(image)) == ["pod default/a", "pod default/b"]
        assert other.prune(every=True).images == ()
        other.remove(image)
        assert other.find(parse("web:1")) is None
        assert files_of(store) == blobs_of(image)
        assert [one.image_id for one in other.needed_images()] == [image.image_id]
    assert other.users(image) == [] and other.needed_images() == []
    other.collect_garbage()
    assert files_of(store) == set()


def test_a_failure_to_record_a_use_changes_nothing(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk makes the new record fail; the earlier records can still be read."""
    image = make_image(store, "web:1", {"a": "1"})

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with store.use(image, "pod default/a"):
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            with pytest.raises(StoreError, match="No space left on device"):
                store.use(image, "pod default/b")
        assert store.users(image) == ["pod default/a"]
        assert ImageStore(store.path).prune(every=True).images == ()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StoreError, match="No space left on device"):
            store.use(image, "pod default/a")
    assert list((store.path / "uses").iterdir()) == []


def test_a_use_ends_with_its_process(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"})
    program = (
        "import sys\nfrom hatchway.images.store.store import ImageStore\nfrom pathlib import Path\n"
        "s = ImageStore(Path(sys.argv[1])); u = s.use(s.images()[0], 'pod default/a'); print('.', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert store.users(image) == ["pod default/a"]
        process.kill()
        process.wait()
    assert store.users(image) == []
    assert list((store.path / "uses").iterdir()) == []


def test_blobs_that_are_being_written_for_an_image_are_kept(store: ImageStore) -> None:
    kept, other = digest_of(b"kept"), ImageStore(store.path)
    store.put_blob(b"kept")
    with store.keep():
        # The blob is stored already. Within `keep`, a call of `has_blob` is enough to protect it.
        assert store.has_blob(kept)
        written = store.put_blob(b"written")
        assert other.collect_garbage().blobs == 0
        assert files_of(store) == {kept, written}
    assert other.collect_garbage().blobs == 2


def test_a_use_of_a_removed_image_is_refused(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"})
    store.remove(image)
    with pytest.raises(BadImage, match="no longer in the store"):
        store.use(image, "pod default/a")
    assert list((store.path / "uses").iterdir()) == []


def test_an_image_whose_files_are_damaged_is_not_listed(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"})
    whole = make_image(store, "web:2", {"a": "2"})
    path = store.path / "blobs/sha256" / image.image_id[7:]
    path.write_bytes(path.read_bytes().replace(b"linux", b"LINUX"))
    fresh = ImageStore(store.path)
    assert fresh.images() == [whole]
    assert fresh.find(parse("web:1")) is None
    with pytest.raises(BadImage, match="is damaged"):
        fresh.read_blob(image.image_id, 1 << 20)


def test_an_unreadable_index_file_is_an_error_and_nothing_is_deleted(store: ImageStore) -> None:
    make_image(store, "web:1", {"a": "1"})
    before = files_of(store)
    (store.path / "names.json").write_text('{"version": 1, "images": [{}]}')
    fresh = ImageStore(store.path)
    for act in (fresh.images, fresh.collect_garbage, fresh.prune):
        with pytest.raises(StoreError, match="cannot read the list of images"):
            act()
    assert files_of(store) == before


def test_nothing_is_deleted_if_a_record_of_a_use_cannot_be_read(store: ImageStore) -> None:
    image = make_image(store, "web:1", {"a": "1"})
    with store.use(image, "pod default/a"):
        use = next((store.path / "uses").iterdir())
        use.write_text("{")
        with pytest.raises(StoreError, match="cannot read what is in use"):
            store.prune(every=True)
    assert store.find(parse("web:1")) is not None


def test_a_stored_blob_is_read_only_up_to_a_limit(store: ImageStore) -> None:
    digest = store.put_blob(b"12345")
    assert store.read_blob(digest, 5) == b"12345"
    with pytest.raises(BadImage, match="larger than 4 bytes"):
        store.read_blob(digest, 4)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "", "x" * 9])
def test_texts_that_are_not_digests_name_no_file(store: ImageStore, digest: str) -> None:
    acts: list[Callable[[str], object]] = [store.has_blob, store.open_blob, lambda one: store.begin_blob(one, 1)]
    for act in acts:
        with pytest.raises(BadImage, match="is not a digest"):
            act(digest)


def test_files_of_the_store_are_private(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        with store.use(make_image(store, "web:1", {"a": "1"}), "pod default/a"):
            modes = {path.name: path.stat().st_mode & 0o777 for path in store.path.rglob("*") if path.is_file()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert store.path.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("HATCHWAY_STATE_DIR", "/tmp/elsewhere")
    assert store_path() == Path("/tmp/elsewhere/.images")
    assert store_path("/tmp/chosen") == Path("/tmp/chosen/.images")


def test_an_unusable_directory_is_an_error_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ImageStore(tmp_path / "file" / "images")
    with pytest.raises(StoreError, match=r"cannot read the list of images .*: Not a directory"):
        store.images()
    with pytest.raises(StoreError, match=r"cannot use the image store .*Not a directory"):
        make_image(store, "web:1", {"a": "1"})


def test_many_processes_add_use_and_remove_images_at_once(store: ImageStore) -> None:
    """Each process adds images with a common layer and removes them; the images that remain are complete."""
    program = """
import sys
from pathlib import Path
from hatchway.images.contents import BadImage
from hatchway.images.store.store import ImageStore
from tests.images.making import make_image
path, me = Path(sys.argv[1]), sys.argv[2]
store = ImageStore(path)
for number in range(8):
    image = make_image(store, f"common:{number}", {"base": "b" * 5000}, {"me": f"{number}"})
    with store.use(image, me):
        ImageStore(path).collect_garbage()
        for layer in image.layers:
            store.open_blob(layer.digest).close()
    mine = make_image(store, f"{me}:{number}", {"base": "b" * 5000}, {me: f"{number}"})
    if number % 2:
        store.remove(mine)
    else:
        store.prune()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(store.path), name], env=environment, stderr=subprocess.PIPE
        )
        for name in ("one", "two", "three")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors.decode()
    images = store.images()
    tags = {tag.rpartition("/")[2] for image in images for tag in image.tags}
    assert tags == {f"common:{number}" for number in range(8)} | {
        f"{name}:{number}" for name in ("one", "two", "three") for number in (0, 2, 4, 6)
    }
    assert files_of(store) == {digest for image in images for digest in blobs_of(image)}
    assert list((store.path / "uses").iterdir()) == []
