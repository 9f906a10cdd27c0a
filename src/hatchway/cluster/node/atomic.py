"""Writes a volume's files so that all of them change at once (`pkg/volume/util/atomic_writer.go`).

A volume's directory contains the link `..data`, which leads to a directory that is named after a time. For each visible
name, it contains a link through `..data`. A new payload is first written to a directory outside the volume. When it is
complete, that directory is moved into the volume. Then `..data` is replaced, so that all files change at once. All
paths are opened with directory descriptors, and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hatchway import beneath, trees
from hatchway.cluster.node.volumeownership import VolumeOwnership

_DATA, _DATA_NEW = "..data", "..data_tmp"
_PATH_BYTES, _DEPTH = 4096, 256
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Content:
    """A file's content, permission bits and owner. user: the owner; None for the node agent's user."""

    data: bytes
    mode: int = 0o644
    user: int | None = None


Payload = Mapping[str, Content]


def check_path(path: str) -> None:
    """Raise ValueError unless `path` stays inside its volume (validatePath)."""
    parts = path.split("/")
    if not path or path.startswith(("/", "..")) or ".." in parts or not path.strip("/."):
        raise ValueError(f"invalid path {path!r}: it must be relative, inside the volume and not start with ..")
    if len(parts) > _DEPTH or len(os.fsencode(path)) > _PATH_BYTES or len(os.fsencode(max(parts, key=len))) > 255:
        raise ValueError(f"invalid path {path[:40]!r}...: it is too long")


def write_payload(directory: Path, payload: Payload, *, staging: Path, owner: VolumeOwnership | None = None) -> bool:
    """Make the volume's `directory` show exactly `payload` (by relative path). Return True when anything changed.

    staging: a directory on the same file system; it is created if it is missing. owner: the owner of the files.

    No other process may change the paths of the two directories. Raises ValueError for a path that leaves the volume;
    OSError.
    """
    owner = owner or VolumeOwnership()
    for path in payload:
        check_path(path)
    payload = {path: replace(content, mode=owner.file_mode(content.mode)) for path, content in payload.items()}
    staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _directory(directory) as shown, _directory(staging) as stage:
        old = _current(shown)
        if old and _same(shown, old, payload):
            return False
        name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime()) + str(time.time_ns() % 10**9)
        try:
            _write(stage, name, payload, owner)
            os.rename(name, name, src_dir_fd=stage, dst_dir_fd=shown)
        finally:
            trees.remove_tree(stage, name)
        trees.remove_tree(shown, _DATA_NEW)
        os.symlink(name, _DATA_NEW, dir_fd=shown)
        os.rename(_DATA_NEW, _DATA, src_dir_fd=shown, dst_dir_fd=shown)
        _show(shown, name, {path.split("/", 1)[0] for path in payload})
    return True


@contextlib.contextmanager
def _directory(path: str | Path, parent: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with beneath.closing(os.open(path, flags, dir_fd=parent)) as descriptor:
        yield descriptor


def _current(shown: int) -> str:
    """Return the name of the directory to which `..data` leads; "" when there is none."""
    try:
        name = os.readlink(_DATA, dir_fd=shown)
    except OSError:
        return ""
    return name if "/" not in name else ""


def _write(stage: int, name: str, payload: Payload, owner: VolumeOwnership) -> None:
    with beneath.closing(_make_directory(stage, name, owner)) as fresh:
        for path, content in payload.items():
            *above, last = path.split("/")
            place = os.dup(fresh)
            try:
                for part in above:
                    if part not in ("", "."):
                        inner = _make_directory(place, part, owner)
                        os.close(place)
                        place = inner
                with open(os.open(last, _NEW_FILE, 0o600, dir_fd=place), "wb") as file:
                    file.write(content.data)
                    if owner.has_groups:
                        _give(file.fileno(), content.user, owner.group)
                    os.fchmod(file.fileno(), content.mode)
            finally:
                os.close(place)


def _make_directory(parent: int, name: str, owner: VolumeOwnership) -> int:
    made = beneath.make_directory(parent, name)
    _give(made, None, owner.payload_group)
    os.fchmod(made, owner.directory_mode(0o755))
    return made


def _give(file: int, user: int | None, group: int | None) -> None:
    """Change the user and the group of an open file. None: do not change the user or the group."""
    if user is not None or group is not None:
        os.fchown(file, -1 if user is None else user, -1 if group is None else group)


def _show(shown: int, current: str, names: set[str]) -> None:
    """Make a link for each of the names, and remove files of earlier or interrupted writes."""
    for name in names:
        if not _is_link(shown, name):
            os.symlink(f"{_DATA}/{name}", name, dir_fd=shown)
    for entry in os.listdir(shown):
        if entry.startswith(".."):
            if entry not in (_DATA, current):
                trees.remove_tree(shown, entry)
        elif entry not in names and _is_link(shown, entry):
            os.unlink(entry, dir_fd=shown)


def _is_link(directory: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _same(shown: int, current: str, payload: Payload) -> bool:
    """Return True when the visible files equal the payload. An entry that is not a regular file is never equal."""
    try:
        with _directory(current, shown) as directory:
            found = dict(_files(directory, ""))
    except OSError:
        return False
    wanted = {os.path.normpath(path): (content.mode & 0o777, content.data) for path, content in payload.items()}
    return found == wanted


def _files(directory: int, prefix: str) -> Iterator[tuple[str, tuple[int, bytes]]]:
    for name in os.listdir(directory):
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            with _directory(name, directory) as inner:
                yield from _files(inner, f"{prefix}{name}/")
        else:
            with open(os.open(name, _OLD_FILE, dir_fd=directory), "rb") as file:
                yield prefix + name, (mode & 0o777, file.read())
