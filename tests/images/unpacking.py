"""Unpack layers for tests in this process, and check that no file outside of them is used."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hatchway.images.layers.fileattributes import AttributeWriter
from hatchway.images.layers.layererrors import BadLayer, UnpackLimits
from hatchway.images.layers.layerunpacking import write_layer
from hatchway.images.layers.lowerlayers import LowerLayers
from tests.images.making import Entry, Layer, layer_of

IS_ROOT = os.geteuid() == 0


def unpack(
    root: Path,
    layer: Layer,
    *,
    lowers: Sequence[Path] = (),
    limits: UnpackLimits | None = None,
    keeps_owners: bool = IS_ROOT,
) -> bool:
    """Write one layer into the new directory `root`; return True if it hides all lower layers."""
    root.mkdir(parents=True)
    data = layer_of(layer)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with LowerLayers(lowers) as below:
            return write_layer(
                descriptor,
                io.BytesIO(data),
                f"sha256:{hashlib.sha256(data).hexdigest()}",
                below,
                AttributeWriter(keeps_owners=keeps_owners),
                limits or UnpackLimits(size=1 << 30),
            )
    finally:
        os.close(descriptor)


def unpack_all(path: Path, *layers: Layer, **options: Any) -> list[Path]:
    """Write layers, the lowest first, below `path`; return their directories, the topmost first."""
    roots: list[Path] = []
    for index, layer in enumerate(layers):
        root = path / str(index)
        hides_all = unpack(root, layer, lowers=roots, **options)
        roots = [root] if hides_all else [root, *roots]
    return roots


def listed(root: Path) -> dict[str, Any]:
    """Return path -> content of a file, target of a link, or None for a directory, below a directory."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        if stat.S_ISLNK(status.st_mode):
            found[name] = f"-> {os.readlink(path)}"
        elif stat.S_ISDIR(status.st_mode):
            found[name] = None
        elif stat.S_ISREG(status.st_mode):
            found[name] = path.read_bytes()
        else:
            found[name] = "whiteout" if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 else "special"
    return found


class Guard:
    """A directory beside the layer; any use of it is detected.

    Its files were never read: reading one would change its access time (relatime, mount(8)).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "etc").mkdir(parents=True)
        (path / "etc/passwd").write_text("secret")
        (path / "etc/shadow").write_text("secret")
        (path / "etc/shadow").chmod(0o600)
        (path / "empty").mkdir(mode=0o700)
        (path / "link").symlink_to("etc/passwd")
        for name in ("etc/passwd", "etc/shadow"):
            os.utime(path / name, ns=(1_000_000_000, 2_000_000_000))
        self._before = self._state()

    def check(self, root: Path) -> None:
        """Fail if a file was changed or read, or if the layer's directory has content of it."""
        assert self._state() == self._before
        numbers = {(number[0], number[1]) for number in self._before.values()}
        for path in [root, *root.rglob("*")] if root.exists() else []:
            status = path.lstat()
            assert (status.st_dev, status.st_ino) not in numbers, path
            if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20:
                assert b"secret" not in path.read_bytes(), path
        for path in root.parent.iterdir():
            assert path in (root, self.path), f"{path} was made beside the layer's directory"

    def _state(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for path in [self.path, *sorted(self.path.rglob("*"))]:
            status = path.lstat()
            read = status.st_atime_ns if stat.S_ISREG(status.st_mode) else 0
            found[str(path)] = (
                status.st_dev, status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_nlink,
                status.st_size, status.st_mtime_ns, status.st_ctime_ns, read,
            )  # fmt: skip
        return found


def file(name: str, content: str = "new", **more: Any) -> Entry:
    """Return a file's entry."""
    return Entry(name, content.encode(), **more)


class Attack:
    """Unpacks a layer beside a guarded directory, and then checks the guarded directory."""

    def __init__(self, tmp_path: Path, guard: Guard) -> None:
        self.root = tmp_path / "layer"
        self._guard = guard

    def run(self, layer: Layer, **options: object) -> dict[str, object]:
        """Unpack a layer, which must be accepted; return its files."""
        unpack(self.root, layer, **options)  # type: ignore[arg-type]
        self._guard.check(self.root)
        return listed(self.root)

    def refused(self, layer: Layer, words: str, **options: object) -> None:
        """Unpack a layer, which must be refused with this message."""
        with pytest.raises(BadLayer, match=words):
            unpack(self.root, layer, **options)  # type: ignore[arg-type]
        self._guard.check(self.root)
