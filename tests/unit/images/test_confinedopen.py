"""Directories are opened below a root, with openat2(2) and without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatchway.images.layers import confinedopen
from hatchway.images.layers.confinedopen import open_real_directory
from tests.images.making import symlink
from tests.images.unpacking import Attack, Guard, file


@pytest.fixture(params=[True, False], ids=["openat2", "one by one"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    if request.param and not confinedopen.HAS_OPENAT2:
        pytest.skip("this kernel has no openat2")
    monkeypatch.setattr(confinedopen, "HAS_OPENAT2", request.param)
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to("a")
    (tmp_path / "root/a/out").symlink_to("/")
    (tmp_path / "root/a/file").write_text("")
    descriptor = os.open(tmp_path / "root", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(("path", "real"), [(b"", ""), (b"a", "a"), (b"a/b", "a/b")])
def test_directories_below_the_root_are_opened(root: int, tmp_path: Path, path: bytes, real: str) -> None:
    opened = open_real_directory(root, path)
    try:
        assert os.path.samestat(os.fstat(opened), (tmp_path / "root" / real).stat())
    finally:
        os.close(opened)


@pytest.mark.parametrize(
    "path", [b"..", b"a/../..", b"link", b"link/b", b"a/out", b"a/out/etc", b"a/file", b"x", b"a/\0"]
)
def test_other_paths_are_refused(root: int, path: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        open_real_directory(root, path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_hostile_links_without_openat2(attack: Attack, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinedopen, "HAS_OPENAT2", False)
    found = attack.run([symlink("etc", f"{guard.path}/etc"), file("etc/passwd", "inside"), file("a/b/c")])
    assert found[f"{guard.path}/etc/passwd".lstrip("/")] == b"inside" and found["a/b/c"] == b"new"
