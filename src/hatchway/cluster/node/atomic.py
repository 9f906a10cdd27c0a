"""Files that change all at once (`pkg/volume/util/atomic_writer.go`).

A volume's directory holds `..data`, a link to a directory with a time for its name, and a link through `..data` for
each name that is seen. A new payload goes to a new directory; replacing `..data` shows all of it in one step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_DATA, _DATA_NEW = "..data", "..data_tmp"


@dataclass(frozen=True, slots=True)
class Content:
    """A file: what is in it and its permission bits."""

    data: bytes
    mode: int = 0o644


Payload = Mapping[str, Content]


def check_path(path: str) -> None:
    """Raise ValueError unless `path` stays inside its volume (validatePath)."""
    parts = path.split("/")
    if not path or path.startswith(("/", "..")) or ".." in parts:
        raise ValueError(f"invalid path {path!r}: it must be relative, inside the volume and not start with ..")


def write_payload(directory: Path, payload: Payload) -> bool:
    """Make `directory` show exactly `payload` (by relative path). Returns whether anything changed.

    Raises ValueError (a path that leaves the volume) or OSError.
    """
    for path in payload:
        check_path(path)
    link = directory / _DATA
    old = os.readlink(link) if link.is_symlink() else ""
    if old and _same(directory / old, payload):
        return False
    name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + str(time.time_ns() % 10**9)
    fresh = directory / name
    fresh.mkdir(mode=0o755)
    for path, content in payload.items():
        target = fresh / path
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        target.write_bytes(content.data)
        target.chmod(content.mode)
    _replace_link(directory / _DATA_NEW, link, name)
    shown = {path.split("/", 1)[0] for path in payload}
    for first in shown:
        if not (directory / first).is_symlink():
            os.symlink(f"{_DATA}/{first}", directory / first)
    for entry in list(os.scandir(directory)):
        if entry.name.startswith(".."):
            continue
        if entry.is_symlink() and entry.name not in shown:
            os.unlink(entry.path)
    for entry in list(os.scandir(directory)):
        # Whatever an interrupted write has left behind goes too.
        if entry.name.startswith("..") and entry.name not in (_DATA, name):
            _remove(Path(entry.path))
    return True


def _replace_link(temporary: Path, link: Path, target: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    os.symlink(target, temporary)
    os.replace(temporary, link)


def _same(directory: Path, payload: Payload) -> bool:
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
    if found != set(payload):
        return False
    for path, content in payload.items():
        file = directory / path
        if file.stat().st_mode & 0o777 != content.mode & 0o777 or file.read_bytes() != content.data:
            return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()
