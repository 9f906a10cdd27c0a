"""Images made from directories and from wheels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from hatchway.images.building.building import ImageSettings, build_from_directory, build_from_wheels
from hatchway.images.building.layersources import directory_sources, write_layer
from hatchway.images.contents import BadImage, Image
from hatchway.images.layers.layerstore import LayerStore
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore
from tests.images.making import make_image

_NONE = ImageSettings()


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    (root / "run").write_text("#!/bin/sh\necho hello\n")
    (root / "run").chmod(0o755)
    (root / "sub" / "data").write_text("data")
    os.link(root / "sub" / "data", root / "sub" / "same")
    (root / "link").symlink_to("sub/data")
    (root / "__pycache__").mkdir()
    (root / "__pycache__" / "x.pyc").write_text("x")
    return root


def entries_of(store: ImageStore, image: Image, number: int = -1) -> dict[str, tarfile.TarInfo]:
    with store.open_blob(image.layers[number].digest) as file, tarfile.open(fileobj=file) as archive:
        return {entry.name: entry for entry in archive}


def test_an_image_of_a_directory_has_its_files(store: ImageStore, files: Path) -> None:
    settings = ImageSettings(
        entrypoint=("/app/run",), cmd=("x",), env={"A": "b"}, user="7", working_dir="/app", ports=("80",)
    )
    image = build_from_directory(store, files, settings, place="/opt/app", ignore=["__pycache__"], name=parse("app:1"))
    assert store.find(parse("app:1")) == image
    found = entries_of(store, image)
    assert list(found) == [
        "opt", "opt/app", "opt/app/link", "opt/app/run", "opt/app/sub", "opt/app/sub/data", "opt/app/sub/same",
    ]  # fmt: skip
    assert found["opt/app/run"].mode == 0o755 and found["opt/app/sub/data"].mode == 0o644
    assert found["opt/app/link"].linkname == "sub/data"
    assert found["opt/app/sub/same"].islnk() and found["opt/app/sub/same"].linkname == "opt/app/sub/data"
    assert {(entry.uid, entry.gid, entry.mtime) for entry in found.values()} == {(0, 0, 315532800)}
    config = image.config
    assert (config.entrypoint, config.command, config.env) == (("/app/run",), ("x",), ("A=b",))
    assert (config.user, config.working_dir, config.exposed_ports, config.os) == ("7", "/app", ("80/tcp",), "linux")


async def test_an_image_of_a_directory_can_be_unpacked(store: ImageStore, files: Path) -> None:
    base = make_image(store, "base:1", {"etc/motd": "base", "run": "old"})
    image = build_from_directory(store, files, _NONE, base=base)
    layers = LayerStore(store.path, "one")
    top, bottom = await layers.unpack(image)
    await layers.close()
    assert Path(top, "run").read_text() == (files / "run").read_text() and os.access(Path(top, "run"), os.X_OK)
    assert Path(bottom, "etc/motd").read_text() == "base"
    assert os.readlink(Path(top, "link")) == "sub/data"


def test_the_same_files_give_the_same_digests_whenever_they_were_written(tmp_path: Path, files: Path) -> None:
    first = build_from_directory(ImageStore(tmp_path / "a"), files, ImageSettings(cmd=("x",), env={"A": "b", "C": "d"}))
    for path in files.rglob("*"):
        os.utime(path, (time.time() - 1000, time.time() - 1000), follow_symlinks=False)
    (files / "sub" / "data").chmod(0o664)
    second = build_from_directory(
        ImageStore(tmp_path / "b"), files, ImageSettings(cmd=("x",), env={"A": "b", "C": "d"})
    )
    assert first == second
    (files / "sub" / "data").write_text("other")
    third = build_from_directory(ImageStore(tmp_path / "c"), files, ImageSettings(cmd=("x",), env={"A": "b", "C": "d"}))
    assert third.image_id != first.image_id


def test_settings_of_the_base_are_kept_unless_replaced(store: ImageStore, files: Path) -> None:
    base = make_image(
        store, "base:1", {"a": "1"}, Entrypoint=["/old"], Cmd=["old"], Env=["A=1", "B=2"], User="5", Labels={"x": "y"},
        whole_config={"history": [{"created_by": "somebody"}]},
    )  # fmt: skip
    same = build_from_directory(store, files, ImageSettings(env={"B": "3"}), base=base).config
    assert (same.entrypoint, same.command, same.user, same.labels) == (("/old",), ("old",), "5", {"x": "y"})
    assert same.env == ("A=1", "B=3") and same.diff_ids[:1] == base.config.diff_ids
    new = build_from_directory(store, files, ImageSettings(entrypoint=("/new",)), base=base).config
    assert (new.entrypoint, new.command) == (("/new",), ())


def test_modes_and_times_of_the_files_are_kept(store: ImageStore, files: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "tmp").mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc" / "passwd").chmod(0o664)
    os.utime(root / "etc" / "passwd", (1_000_000_000, 1_000_000_000))
    os.mkfifo(root / "fifo")
    image = build_from_directory(store, files, _NONE, base=root)
    found = entries_of(store, image, 0)
    assert found["tmp"].mode == 0o1777 and "fifo" not in found
    assert (found["etc/passwd"].mode, found["etc/passwd"].mtime) == (0o664, 1_000_000_000)
    assert len(image.layers) == 2


@pytest.mark.parametrize("what", ["fifo", "whiteout", "missing", "outside", "bytes"])
def test_files_that_an_image_cannot_have_are_refused(store: ImageStore, files: Path, what: str) -> None:
    place, directory = "/", files
    if what == "fifo":
        os.mkfifo(files / "x")
    elif what == "whiteout":
        (files / ".wh.run").write_text("")
    elif what == "bytes":
        (files / os.fsdecode(b"\xff")).write_text("")
    elif what == "missing":
        directory = files / "nowhere"
    else:
        place = "/../x"
    with pytest.raises(BadImage, match=r"cannot have|deleted file|no directory|not a path|not UTF-8"):
        build_from_directory(store, directory, _NONE, place=place)
    store.collect_garbage()
    assert store.images() == [] and store.prune(every=True).blobs == 0


def test_a_file_that_changes_while_it_is_read_is_an_error(store: ImageStore, files: Path) -> None:
    sources = list(directory_sources(files))
    (files / "run").write_text("another length")
    with pytest.raises(BadImage, match="run changed while it was read"):
        write_layer(store, sources)


# -- wheels ------------------------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str = "greeter", **files: str) -> Path:
    """Write a wheel with a package, a console entry point, a script and more files."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    contents = {
        f"{name}/__init__.py": "def main():\n    import sys\n    print('hello', *sys.argv[1:])\n    return 3\n",
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main [extra]\n[other]\na = b:c\n",
        f"{name}-1.0.data/scripts/{name}-script": "#!python\nprint('script')\n",
        f"{name}-1.0.data/purelib/{name}_pure.py": "WHERE = 'pure'\n",
        f"{name}-1.0.data/data/share/doc.txt": "not unpacked",
        **files,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in contents.items():
            archive.writestr(member, text)
    return path


def test_wheels_are_installed_where_python_finds_them(store: ImageStore, tmp_path: Path) -> None:
    base = make_image(
        store, "python:3", {"usr/bin/python3": "#!x"}, Env=["PATH=/usr/bin", "PYTHONPATH=/mine"], User="9"
    )
    wheel(tmp_path / "wheels")
    wheel(tmp_path / "wheels", "other")
    image = build_from_wheels(store, [tmp_path / "wheels"], ImageSettings(cmd=("greeter-run",)), base=base)
    assert image.config.env == ("PATH=/opt/wheels/bin:/usr/bin", "PYTHONPATH=/opt/wheels/site:/mine")
    assert image.config.command == ("greeter-run",) and image.config.user == "9"
    with store.open_blob(image.layers[-1].digest) as file, tarfile.open(fileobj=file) as archive:
        archive.extractall(tmp_path / "root")
    place = tmp_path / "root/opt/wheels"
    assert sorted(path.name for path in (place / "bin").iterdir()) == [
        "greeter-run", "greeter-script", "other-run", "other-script",
    ]  # fmt: skip
    assert not list(place.rglob("doc.txt"))
    environment = {
        "PYTHONPATH": str(place / "site"),
        "PATH": f"{place / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    done = subprocess.run(["greeter-run", "you"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "hello you\n")
    assert subprocess.check_output(["other-script"], env=environment, text=True) == "script\n"
    code = "import greeter_pure, importlib.metadata as m; print(greeter_pure.WHERE, m.version('other'))"
    assert subprocess.check_output(["python3", "-c", code], env=environment, text=True) == "pure 1.0\n"


def test_the_same_wheels_give_the_same_image(tmp_path: Path) -> None:
    images = []
    for name in ("a", "b"):
        store = ImageStore(tmp_path / name)
        base = make_image(store, "python:3", {"x": "1"})
        found = wheel(tmp_path / f"wheels-{name}")
        images.append(build_from_wheels(store, [found], _NONE, base=base, python="/usr/bin/python3"))
    assert images[0].image_id == images[1].image_id


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../evil.py": ""}, "has a file outside itself"),
        ({"/etc/evil.py": ""}, "has a file outside itself"),
        ({"greeter-1.0.data/scripts/../../evil": ""}, "has a file outside itself"),
        ({"greeter-1.0.data/evil/x": ""}, "files of an unknown kind"),
        ({"greeter-1.0.dist-info/entry_points.txt": "[console_scripts]\n../evil = a:b\n"}, "an unknown form"),
        ({"greeter-1.0.dist-info/entry_points.txt": "[console_scripts]\nrun = a:b; import os\n"}, "an unknown form"),
        ({"greeter-1.0.dist-info/entry_points.txt": "[console_scripts\n"}, "cannot be read"),
    ],
)
def test_a_wheel_with_odd_files_is_refused(
    store: ImageStore, tmp_path: Path, files: dict[str, str], message: str
) -> None:
    base = make_image(store, "python:3", {"x": "1"})
    with pytest.raises(BadImage, match=message):
        build_from_wheels(store, [wheel(tmp_path / "wheels", **files)], _NONE, base=base)


def test_files_that_are_not_wheels_for_linux_are_refused(store: ImageStore, tmp_path: Path) -> None:
    base = make_image(store, "python:3", {"x": "1"})
    found = wheel(tmp_path / "wheels")
    again = wheel(tmp_path / "more")
    mac = found.with_name("mac-1.0-cp311-cp311-macosx_11_0_arm64.whl")
    mac.write_bytes(found.read_bytes())
    broken = found.with_name("broken-1.0-py3-none-any.whl")
    broken.write_bytes(b"no zip")
    (tmp_path / "empty").mkdir()
    for paths, message in (
        ([found, again], "two wheels of greeter"),
        ([mac], "is not made for Linux"),
        ([broken], "is damaged"),
        ([tmp_path / "empty"], "there is no wheel in"),
        ([tmp_path / "setup.py"], "is not a wheel"),
    ):
        with pytest.raises(BadImage, match=message):
            build_from_wheels(store, paths, _NONE, base=base)


def test_the_configuration_has_the_fields_that_other_tools_need(store: ImageStore, files: Path) -> None:
    image = build_from_directory(store, files, ImageSettings(cmd=("x",)))
    document = json.loads(store.read_blob(image.image_id, 1 << 20))
    assert document["rootfs"] == {"type": "layers", "diff_ids": list(image.config.diff_ids)}
    assert document["created"] == "1980-01-01T00:00:00Z" and "history" not in document
