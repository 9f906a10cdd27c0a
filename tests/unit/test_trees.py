"""Deleting and measuring directory trees of containers, with any content."""

from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from hatchway import beneath, trees


def remove(path: Path) -> None:
    with beneath.closing(beneath.open_directory(path.parent)) as parent:
        trees.remove_tree(parent, path.name)


def test_everything_in_a_tree_is_deleted_and_nothing_outside(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    volume.mkdir()
    for name in ("a\nb", "-rf", "*", "\udcff", " ", "..data"):
        (volume / name).mkdir()
        (volume / name / "link").symlink_to(outside)
        (volume / name / "file").symlink_to(outside / "kept")
    os.mkfifo(volume / "pipe")
    os.link(outside / "kept", volume / "hard link")
    here = os.getcwd()
    os.chdir(volume)
    try:
        # The tree is so deep that its paths are longer than the system allows.
        for _ in range(80):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
    finally:
        os.chdir(here)
    locked = volume / "locked" / "inner"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    for path in (locked, locked.parent):
        path.chmod(0)
    remove(volume)
    assert not volume.exists()
    assert (outside / "kept").read_text() == "kept"
    assert os.stat(outside / "kept").st_nlink == 1


def test_a_link_is_deleted_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    remove(tmp_path / "missing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete everything")
def test_files_that_cannot_be_deleted_cause_an_error(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").touch()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            remove(tmp_path / "volume")
    finally:
        tmp_path.chmod(0o700)


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    for number in range(3000):
        (volume / f"{number:0200}").touch()
    tracemalloc.start()
    try:
        measure(volume)
        remove(volume)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All names together take six times as much memory.
    assert peak < 128 << 10
    assert not volume.exists()


def test_files_made_during_the_removal_are_removed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "volume" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    made, rmdir = [3], os.rmdir

    def made_meanwhile(name: str, *, dir_fd: int) -> None:
        if made and name == "inner":
            made[0] -= 1
            (inner / f"late-{made[0]}").touch()
            if not made[0]:
                made.clear()
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", made_meanwhile)
    remove(tmp_path / "volume")
    assert not (tmp_path / "volume").exists()


def measure(path: Path) -> int:
    with beneath.closing(beneath.open_directory(path)) as directory:
        return trees.measure_tree(directory)


def test_a_tree_is_measured_as_du_does(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    (volume / "inner").mkdir(parents=True)
    outside.write_bytes(b"x" * (4 << 20))
    (volume / "inner" / "link").symlink_to(outside)
    os.mkfifo(volume / "pipe")
    empty = measure(volume)
    assert empty < 1 << 20
    (volume / "inner" / "file").write_bytes(b"x" * (1 << 20))
    full = measure(volume)
    assert 1 << 20 <= full - empty < 2 << 20
    for number in range(10):
        os.link(volume / "inner" / "file", volume / f"{number}")
    assert full - 4096 <= measure(volume) < full + (1 << 20)
    with open(volume / "sparse", "wb") as file:
        file.truncate(1 << 30)
    assert measure(volume) < full + (1 << 20)


def test_a_file_counts_completely_if_its_other_names_are_too_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "_MEASURE_DEPTH", 3)
    monkeypatch.setattr(trees, "_MEASURE_LINKED", 1)
    deep = tmp_path / "volume" / "1" / "2" / "3"
    deep.mkdir(parents=True)
    empty = measure(tmp_path / "volume")

    def make(name: str) -> None:
        (tmp_path / "volume" / name).write_bytes(b"x" * (1 << 20))
        for number in range(7):
            os.link(tmp_path / "volume" / name, deep / f"{name}-{number}")

    make("first")
    assert 1 << 20 <= measure(tmp_path / "volume") - empty < 5 << 18
    # The measurement cannot remember a second file with several names, so it counts this file at one of its eight
    # names.
    make("second")
    assert 9 << 17 <= measure(tmp_path / "volume") - empty < 10 << 17


def test_files_that_disappear_meanwhile_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "volume" / "inner").mkdir(parents=True)
    open_ = os.open

    def gone(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if path == "inner":
            raise FileNotFoundError(errno.ENOENT, "gone")
        return open_(path, flags, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", gone)
    assert measure(tmp_path / "volume") < 1 << 20
