"""`LayerStore`: a separate process unpacks layers, each completely or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hatchway.images.contents import BadImage, Image
from hatchway.images.layers.layercopies import copy_layers
from hatchway.images.layers.layererrors import BadLayer, UnpackLimits
from hatchway.images.layers.layerstore import LayerStore
from hatchway.images.layers.layerunpacking import PackedLayer
from hatchway.images.layers.unpack import UnpackRequest
from hatchway.images.store.layerplaces import LayerPlaces, UsersWay, chain_ids
from hatchway.images.store.store import ImageStore
from tests.conftest import wait_for
from tests.images.making import Entry, directory, hardlink, make_image, opaque, symlink, whiteout
from tests.images.unpacking import IS_ROOT, file, listed

WAY: UsersWay = "real" if IS_ROOT else "one"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store")


@pytest.fixture
async def layers(store: ImageStore) -> AsyncIterator[LayerStore]:
    opened = LayerStore(store.path, WAY)
    yield opened
    await opened.close()


def _left(store: ImageStore) -> list[str]:
    """Return the names of unpacked layers, complete or not."""
    return sorted(path.name for path in (store.path / "layers").glob("*/*"))


async def test_an_image_is_unpacked_once(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(store, "web:1", {"etc/a": "1", "etc/b": "2"}, [whiteout("etc/a"), hardlink("c", "etc/b")])
    assert layers.directories(image) is None
    found = await layers.unpack(image)
    assert [listed(Path(path)) for path in found] == [
        {"c": b"2", "etc": None, "etc/a": "whiteout"},
        {"etc": None, "etc/a": b"1", "etc/b": b"2"},
    ]
    assert layers.directories(image) == found == await layers.unpack(image)


async def test_images_share_their_lower_layers(store: ImageStore, layers: LayerStore) -> None:
    base = {"base": "x"}
    one, two = make_image(store, "one", base, {"a": ""}), make_image(store, "two", base, {"b": ""})
    first, second = await layers.unpack(one), await layers.unpack(two)
    assert first[1] == second[1] and first[0] != second[0]


async def test_a_layer_is_unpacked_again_above_other_layers(store: ImageStore, layers: LayerStore) -> None:
    """A hard link in the layer may lead to a file of the layer below, so the result differs."""
    link = [hardlink("link", "a")]
    one, two = make_image(store, "one", {"a": "1"}, link), make_image(store, "two", {"a": "2"}, link)
    contents = [Path(found[0], "link").read_text() for found in (await layers.unpack(one), await layers.unpack(two))]
    assert contents == ["1", "2"]


async def test_layers_that_are_hidden_entirely_are_left_out(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(store, "web", {"a": ""}, [Entry(".wh..wh..opq"), file("b")], {"c": ""})
    found = await layers.unpack(image)
    assert [list(listed(Path(path))) for path in found] == [["c"], ["b"]]
    assert layers.directories(image) == found


async def test_other_users_cannot_enter_the_layers_cve_2021_41091(store: ImageStore, layers: LayerStore) -> None:
    await layers.unpack(make_image(store, "web", [file("su", mode=0o4755)]))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (store.path / "layers").glob("**") if "fs" not in path.parts}
    assert modes == {0o700}


async def test_a_bad_layer_leaves_nothing(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(store, "web", {"a": "1"}, [file("d/ok"), directory("d/e", 0o500), file("../out")])
    with pytest.raises(BadLayer) as caught:
        await layers.unpack(image)
    assert str(caught.value) == (
        f'the layer {image.layers[1].digest} cannot be unpacked: "../out": the name leads out of the root directory'
    )
    assert _left(store) == [image.config.diff_ids[0].replace(":", "-")]
    assert layers.directories(image) is None


async def test_a_layer_whose_digest_differs_from_the_configuration(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(
        store, "web", {"a": "1"}, whole_config={"rootfs": {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}}
    )
    with pytest.raises(BadLayer, match="has the digest"):
        await layers.unpack(image)
    assert _left(store) == []


async def test_an_image_that_claims_the_layers_of_another_one(store: ImageStore, layers: LayerStore) -> None:
    """The layers must be refused: a pod could read the files of a private image whose configuration it knows."""
    image = make_image(store, "private", {"secret": "1"}, {"more": "2"})
    claims = {"rootfs": {"type": "layers", "diff_ids": image.config.diff_ids}}
    thief = make_image(store, "thief", {"a": ""}, {"b": ""}, whole_config=claims)
    found = await layers.unpack(image)
    assert layers.directories(thief) is None
    with pytest.raises(BadLayer, match="cannot be unpacked: its content has the digest"):
        await layers.unpack(thief)
    assert layers.directories(thief) is None and layers.directories(image) == found
    # The same content in another compression is the same layer.
    same = make_image(store, "same", {"secret": "1"}, {"more": "2"}, compression="")
    assert layers.directories(same) is None
    assert await layers.unpack(same) == found == layers.directories(same) == layers.directories(image)


async def test_layers_that_an_earlier_release_has_unpacked_are_verified_once(
    store: ImageStore, layers: LayerStore
) -> None:
    image = make_image(store, "web", {"a": "1"})
    found = await layers.unpack(image)
    await layers.close()
    place = Path(found[0]).parent
    mark = json.loads((place / "complete").read_text())
    del mark["blobs"]
    (place / "complete").write_text(json.dumps(mark))
    before = os.stat(found[0])
    assert layers.directories(image) is None
    assert await layers.unpack(image) == found == layers.directories(image)
    assert os.stat(found[0]).st_ino == before.st_ino, "it is not unpacked again"


async def test_limits_are_obeyed_in_the_process(store: ImageStore) -> None:
    layers = LayerStore(store.path, WAY, UnpackLimits(entries=2))
    with pytest.raises(BadLayer, match="more than 2 entries"):
        await layers.unpack(make_image(store, "web", [file("a"), file("b"), file("c")]))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HATCHWAY_LAYER_ENTRIES", "2", "there are more than 2 entries"),
        ("HATCHWAY_LAYER_BYTES", "1000", "it has more than 1000 bytes, which is the limit of a layer"),
        ("HATCHWAY_LAYER_BYTES", "-1", "HATCHWAY_LAYER_BYTES is '-1', which is not a positive number"),
    ],
)
async def test_limits_come_from_the_environment(
    store: ImageStore, layers: LayerStore, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadImage, match=words):
        await layers.unpack(make_image(store, "web", [file("a"), file("b"), file("c")]))


async def test_two_processes_unpack_the_same_image_at_once(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(store, "web", {f"d{number}/f": "x" for number in range(500)}, {"b": ""})
    others = [LayerStore(store.path, WAY) for _ in range(3)]
    found = await asyncio.gather(*(each.unpack(image) for each in (layers, *others)))
    assert len(set(found)) == 1 and len(listed(Path(found[0][1]))) == 1000
    await asyncio.gather(*(each.close() for each in others))


class _Blocked:
    """An unpacking process that waits in the middle of a layer, because the layer's blob is a pipe."""

    def __init__(self, store: ImageStore, image: Image) -> None:
        blob = store.path / "blobs" / image.layers[0].digest.replace(":", "/")
        self._content = blob.read_bytes()
        blob.unlink()
        os.mkfifo(blob)
        request = UnpackRequest(
            store=str(store.path),
            users=WAY,
            layers=(PackedLayer(image.layers[0].digest, image.config.diff_ids[0]),),
            limits=UnpackLimits(),
            parent=os.getpid(),
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hatchway.images.layers.unpack"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        self.process.stdin.write(request.encode())
        self.process.stdin.close()
        self._pipe = open(blob, "wb", buffering=0)  # noqa: SIM115
        self._pipe.write(self._content[: len(self._content) - 10])
        self._blob = blob

    def restore(self) -> None:
        """Replace the pipe with the blob's file."""
        self._pipe.close()
        self._blob.unlink()
        self._blob.write_bytes(self._content)

    def close(self) -> None:
        self._pipe.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def big(store: ImageStore) -> Image:
    """Return an image whose layer is larger than one read."""
    return make_image(
        store,
        "big",
        [directory("d", 0o500), *(file(f"d/{n}", os.urandom(9000).hex()) for n in range(60))],
        compression="",
    )


async def _until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition)


async def test_the_next_process_removes_the_files_of_a_killed_one(
    store: ImageStore, layers: LayerStore, big: Image
) -> None:
    blocked = _Blocked(store, big)
    with contextlib.closing(blocked):
        await _until(lambda: any((store.path / "layers").rglob("fs/d/*")))
        blocked.process.send_signal(signal.SIGKILL)
        blocked.process.wait()
        blocked.restore()
        assert layers.directories(big) is None and len(_left(store)) == 1
        other = make_image(store, "other", {"a": ""})
        await layers.unpack(other)
        assert _left(store) == [other.config.diff_ids[0].replace(":", "-")]
        assert len(listed(Path((await layers.unpack(big))[0]))) == 61


async def test_a_process_that_is_stopped_removes_what_it_has_written(store: ImageStore, big: Image) -> None:
    blocked = _Blocked(store, big)
    with contextlib.closing(blocked):
        await _until(lambda: any((store.path / "layers").rglob("fs/d/*")))
        blocked.process.terminate()
        blocked._pipe.close()
        blocked.process.wait()
    assert _left(store) == []


async def test_the_unpacking_process_ends_with_its_parent(store: ImageStore) -> None:
    request = UnpackRequest(store=str(store.path), users=WAY, layers=(), limits=UnpackLimits(), parent=os.getpid() + 1)
    command = [sys.executable, "-m", "hatchway.images.layers.unpack"]
    done = await asyncio.to_thread(subprocess.run, command, input=request.encode(), capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")


async def test_a_second_process_waits_for_the_first(store: ImageStore, layers: LayerStore, big: Image) -> None:
    blocked = _Blocked(store, big)
    with contextlib.closing(blocked):
        await _until(lambda: any((store.path / "layers").rglob("fs/d/*")))
        waiting = asyncio.create_task(layers.unpack(big))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        assert LayerPlaces(store.path, WAY).remove_unneeded(list) == 0
        blocked._pipe.write(blocked._content[-10:])
        blocked._pipe.close()
        assert len(listed(Path((await waiting)[0]))) == 61


async def test_a_cancelled_call_leaves_nothing(store: ImageStore, layers: LayerStore, big: Image) -> None:
    blob = store.path / "blobs" / big.layers[0].digest.replace(":", "/")
    content = blob.read_bytes()
    blob.unlink()
    os.mkfifo(blob)
    task = asyncio.create_task(layers.unpack(big))
    with await asyncio.to_thread(open, blob, "wb", buffering=0) as pipe:
        await asyncio.to_thread(pipe.write, content[:-10])
        await _until(lambda: any((store.path / "layers").rglob("fs/d/*")))
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _left(store) == []


async def test_layers_that_no_image_needs_are_removed(store: ImageStore, layers: LayerStore) -> None:
    base = {"base": "x"}
    one = make_image(store, "one", base, [directory("ro", 0o500), file("ro/a", uid=1234), symlink("b", "/etc")])
    two = make_image(store, "two", base, {"b": ""})
    await layers.unpack(one)
    await layers.unpack(two)
    await layers.close()
    assert LayerPlaces(store.path, WAY).remove_unneeded(store.needed_images) == 0
    with store.use(one, "pod default/web"):
        store.remove(one)
        assert LayerPlaces(store.path, WAY).remove_unneeded(store.needed_images) == 0
    assert LayerPlaces(store.path, WAY).remove_unneeded(store.needed_images) == 1
    assert layers.directories(one) is None and layers.directories(two) is not None
    assert store.remove(two).layers == 2
    assert _left(store) == []


async def test_a_layer_that_becomes_needed_meanwhile_stays(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(store, "web", {"a": ""})
    found = await layers.unpack(image)
    answers: list[list[Image]] = [[], [image]]
    assert LayerPlaces(store.path, WAY).remove_unneeded(lambda: answers.pop(0)) == 0
    assert layers.directories(image) == found


async def test_hundreds_of_layers_are_unpacked_and_removed(store: ImageStore, layers: LayerStore) -> None:
    image = make_image(store, "web", *({"name": str(number)} for number in range(250)), compression="")
    found = await layers.unpack(image)
    await layers.close()
    assert len(found) == 250 and Path(found[0], "name").read_text() == "249"
    (store.path / "layers" / WAY / "stray file").write_text("")
    assert LayerPlaces(store.path, WAY).remove_unneeded(list) == 250
    assert _left(store) == ["stray file"]


async def test_after_a_crash_of_the_machine_only_layers_on_the_disk_count(
    store: ImageStore, layers: LayerStore
) -> None:
    image = make_image(store, "web", {"a": ""})
    await layers.unpack(image)
    await layers.close()
    places = LayerPlaces(store.path, WAY)
    mark = places.place(chain_ids(image.config.diff_ids)[0]) / "complete"
    text = json.loads(mark.read_text())
    assert text["is_synced"] is True
    mark.write_text(json.dumps({**text, "boot": "another"}))
    assert layers.directories(image) is not None
    mark.write_text(json.dumps({**text, "boot": "another", "is_synced": False}))
    assert layers.directories(image) is None
    mark.write_text("")
    assert layers.directories(image) is None
    assert await layers.unpack(image)


def _in_namespaces(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of a new mount namespace; skip the test where that is impossible."""
    unshare = ["unshare", "--mount"] if IS_ROOT else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    return subprocess.run([*unshare, "sh", "-ec", script, "sh", *arguments], capture_output=True, text=True)


def test_a_full_disk_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    image = make_image(store, "web", [file(f"d/{n}", "x" * 100_000) for n in range(40)])
    program = (
        "import asyncio, sys; from pathlib import Path; from hatchway.images.layers.layerstore import LayerStore\n"
        "from hatchway.images.layers.layererrors import NoRoomForLayer, UnpackLimits; from hatchway.images.store.store import ImageStore\n"
        "store = ImageStore(Path(sys.argv[1])); (image,) = store.images()\n"
        "for limits in (UnpackLimits(), UnpackLimits(size=1 << 40)):\n"
        "    try: print(asyncio.run(LayerStore(store.path, sys.argv[2], limits).unpack(image)))\n"
        "    except NoRoomForLayer as error: print(error)\n"
        "print([path.name for path in (store.path / 'layers').glob('*/*')])\n"
    )
    done = _in_namespaces(
        'mount -t tmpfs -o size=2m tmpfs "$1"; cp -r "$2"/. "$1"; exec "$3" -c "$4" "$1" "$5"',
        str(tmp_path), str(shutil.copytree(store.path, tmp_path.parent / f"{tmp_path.name}-copy")), sys.executable, program, WAY,
    )  # fmt: skip
    shutil.rmtree(tmp_path.parent / f"{tmp_path.name}-copy")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith(f"the layer {image.layers[0].digest} cannot") for line in lines[:2])
    assert "the disk has room for" in lines[0] and lines[2] == "[]"


async def test_copied_layers_equal_an_overlay_of_them(store: ImageStore, tmp_path: Path) -> None:
    layers = LayerStore(store.path, WAY)
    image = make_image(
        store,
        "web",
        {"a/1": "1", "a/2": "2", "b/1": "", "c/1": "", "d": "file", "e/f/g": "deep", "h": "gone", "i/1": "low"},
        [whiteout("a/1"), opaque("b"), file("b/2"), file("c"), file("d/x"), hardlink("a/link", "e/f/g"), whiteout("h")],
        [
            directory("e", 0o2750, mtime=77),
            symlink("i", "a"),
            file("run", mode=0o4711),
            hardlink("run2", "run"),
            whiteout("c"),
            file("j/k", pax={"SCHILY.xattr.user.a": "b"}),
        ],
        {"h/new": "x", "c/again": "y"},
    )
    directories = await layers.unpack(image)
    await layers.close()
    target = tmp_path / "copy"
    copy_layers(directories, str(target))
    (tmp_path / "merged").mkdir()
    show = "find . -mindepth 1 -printf '%p %y %m %U %G %T@ %l\\n' | sort; find . -type f | sort | xargs sha256sum"
    done = _in_namespaces(
        'mount -t overlay -o "userxattr,lowerdir=$1" overlay "$2"; cd "$2"; ' + show,
        ":".join(directories), str(tmp_path / "merged"),
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this machine mounts no overlay: {done.stderr.strip()}")
    ours = _in_namespaces('cd "$1"; ' + show, str(target))
    assert ours.stdout == done.stdout
    assert "./i l" in ours.stdout and "./b/2" in ours.stdout and "./b/1" not in ours.stdout
    assert (target / "run").samefile(target / "run2") and os.getxattr(target / "j/k", "user.a") == b"b"
    assert not any(
        name.startswith("user.overlay") for path in target.rglob("*") if path.is_dir() for name in os.listxattr(path)
    )


async def test_a_copy_shares_nothing_with_the_layers(store: ImageStore, tmp_path: Path) -> None:
    layers = LayerStore(store.path, WAY)
    image = make_image(store, "web", [file("a", "layer"), Entry("hole", b"", pax={
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "", "GNU.sparse.size": str(1 << 24)})])  # fmt: skip
    directories = await layers.unpack(image)
    await layers.close()
    copy_layers(directories, str(tmp_path / "copy"))
    (tmp_path / "copy/a").write_text("changed")
    assert Path(directories[0], "a").read_text() == "layer"
    assert (tmp_path / "copy/hole").stat().st_size == 1 << 24 and (tmp_path / "copy/hole").stat().st_blocks < 100
