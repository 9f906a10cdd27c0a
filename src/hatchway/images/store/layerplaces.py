"""The directories of unpacked layers: `layers/USERS/CHAIN/` has `fs/`, and the file `complete` when `fs/` is complete.

Several processes may use the store. A process that writes or removes a layer holds a lock on its directory (flock(2));
the kernel releases the lock when the process ends. A directory without `complete` (the mark) and without a lock was
left by a killed process.

After a crash of the machine, files that were written shortly before may be empty. So a mark holds the boot ID of the
machine, and whether the layer was synced to disk. A layer of an earlier boot that was not synced is unpacked again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from hatchway.images.contents import BadImage, Image
from hatchway.images.reference import is_digest
from hatchway.removal import remove_owned

UsersWay = Literal["real", "mapped", "one"]
USERS_WAYS: Final[tuple[UsersWay, ...]] = get_args(UsersWay)

# Names in a layer's directory: its files, and its mark; and the maximum number of bytes of a mark.
FILES: Final = "fs"
_MARK: Final = "complete"
_LONGEST_MARK: Final = 4096
# The most compressed layers that a mark names.
_MOST_BLOBS: Final = 20
# The maximum number of layers that one process locks at a time; each lock takes a descriptor.
_MOST_LOCKED: Final = 100
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class LayerMark:
    """The information in the mark of a complete layer.

    diff_id: the digest of its uncompressed archive. hides_all: True when it hides all layers below it.
    is_synced: True when all its files are synced to disk, so that they survive a crash of the machine.
    blobs: the digests of compressed layers that were verified to have this content; () in marks of earlier releases.
    """

    diff_id: str
    hides_all: bool = False
    is_synced: bool = False
    blobs: tuple[str, ...] = ()

    def with_blob(self, digest: str) -> LayerMark:
        """Return the mark with one more compressed layer; only the latest `_MOST_BLOBS` are kept."""
        return replace(self, blobs=(*self.blobs, digest)[-_MOST_BLOBS:])


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain ids of layers, the lowest first (image-spec `config.md`, "Layer ChainID"). Raises BadImage."""
    found: list[str] = []
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise BadImage(f"{diff_id[:100]!r} in the image's configuration is not a digest")
        chain = f"{found[-1]} {diff_id}" if found else diff_id
        found.append(f"sha256:{hashlib.sha256(chain.encode()).hexdigest()}" if found else diff_id)
    return tuple(found)


class LayerPlaces:
    """The directories of layers that were unpacked for one kind of user map.

    All methods may block, and raise OSError.
    """

    def __init__(self, store: Path, users: UsersWay) -> None:
        """Use the image store in the directory `store`. users: the kind of user map (`usermaps.py`)."""
        self.path = store / "layers" / users

    def place(self, chain_id: str) -> Path:
        """Return the path of a layer's directory, which may not exist."""
        return self.path / chain_id.replace(":", "-")

    def read_mark(self, place: Path) -> LayerMark | None:
        """Return the mark of a layer; None when the layer is not complete."""
        try:
            with open(place / _MARK, "rb") as file:
                found = json.loads(file.read(_LONGEST_MARK))
            blobs = tuple(map(str, found.get("blobs", ())))
            mark = LayerMark(str(found["diff_id"]), bool(found["hides_all"]), bool(found["is_synced"]), blobs)
            return mark if mark.is_synced or found["boot"] == _boot_id() else None
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def write_mark(self, place: Path, mark: LayerMark) -> None:
        """Mark a layer as complete."""
        text = json.dumps({**asdict(mark), "boot": _boot_id()})
        new = place / f".{_MARK}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            if mark.is_synced:
                file.flush()
                os.fsync(descriptor)
        os.replace(new, place / _MARK)

    def make(self) -> None:
        """Make the directory of all layers."""
        for directory in (self.path.parent, self.path):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def hold(self) -> int:
        """Protect the layers of this kind of user map from `formerlayers.py`, until the returned descriptor is closed.

        Wait while `formerlayers.py` removes these layers.
        """
        self.make()
        directory = os.open(self.path, _DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_SH)
        except BaseException:
            os.close(directory)
            raise
        return directory

    @contextlib.contextmanager
    def locked(self, place: Path) -> Iterator[int]:
        """Make a layer's directory, and lock it; wait while another process has it locked. Yields its descriptor."""
        while True:
            with contextlib.suppress(FileExistsError):
                place.mkdir(mode=0o700)
            try:
                directory = os.open(place, _DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                if not _is_at(directory, place):
                    # The other process has removed the directory.
                    continue
                yield directory
                return
            finally:
                os.close(directory)

    def remove_unneeded(self, needed_images: Callable[[], Iterable[Image]]) -> int:
        """Remove the layers that no image needs; return how many. Layers that another process has locked are left.

        needed_images: returns all images whose layers are needed now (`ImageStore.needed_images`). It is called twice
            for each batch of layers.

        A process that wants to use a layer first marks its image as used, then looks for the layer's mark. So this
        method deletes the marks, calls `needed_images` again, and restores the marks of layers that have become needed.
        Thus no layer is removed that another process has found complete.
        """
        places = self._places()
        batches = [places[at : at + _MOST_LOCKED] for at in range(0, len(places), _MOST_LOCKED)]
        return sum(self._remove_unneeded(batch, needed_images) for batch in batches)

    def _remove_unneeded(self, places: Sequence[Path], needed_images: Callable[[], Iterable[Image]]) -> int:
        removed = 0
        with contextlib.ExitStack() as held:
            taken: dict[Path, tuple[int, LayerMark | None]] = {}
            needed = _chain_ids_of(needed_images())
            for place in places:
                if _chain_id(place) not in needed:
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                        directory = held.enter_context(self._locked_now(place))
                        if directory is not None:
                            taken[place] = directory, self.read_mark(place)
            if not taken:
                return 0
            for place in taken:
                (place / _MARK).unlink(missing_ok=True)
            needed = _chain_ids_of(needed_images())
            for place, (directory, mark) in taken.items():
                if mark is not None and _chain_id(place) in needed:
                    self.write_mark(place, mark)
                    continue
                self.empty(directory)
                place.rmdir()
                removed += 1
        return removed

    def empty(self, directory: int) -> None:
        """Remove the content of a layer's directory, the mark first. This process must have it locked."""
        for name in sorted(os.listdir(directory), key=lambda name: name != _MARK):
            remove_owned(directory, name)

    def sweep(self) -> None:
        """Remove incomplete layers of killed processes."""
        for place in self._places():
            if self.read_mark(place) is None:
                with (
                    contextlib.suppress(FileNotFoundError, NotADirectoryError),
                    self._locked_now(place) as directory,
                ):
                    if directory is not None and self.read_mark(place) is None:
                        self.empty(directory)
                        place.rmdir()

    def _places(self) -> list[Path]:
        try:
            return sorted(self.path.iterdir())
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _locked_now(self, place: Path) -> Iterator[int | None]:
        """Lock a layer's directory; yields None when another process has it. Raises FileNotFoundError."""
        directory = os.open(place, _DIRECTORY)
        try:
            yield directory if _try_lock(directory) and _is_at(directory, place) else None
        finally:
            os.close(directory)


def _try_lock(directory: int) -> bool:
    """Try to lock a directory; return False when another process keeps it locked.

    It tries several times, because `sync_layers` locks a layer only for a moment.
    """
    for wait in (0.0, 0.01, 0.02, 0.05):
        time.sleep(wait)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _chain_ids_of(images: Iterable[Image]) -> set[str]:
    """Return the chain ids of all layers of some images."""
    return {chain_id for image in images for chain_id in chain_ids(image.config.diff_ids)}


def _chain_id(place: Path) -> str:
    """Return the chain id of the layer at a place."""
    return place.name.replace("-", ":")


def _is_at(directory: int, place: Path) -> bool:
    """Return True when the path still leads to the open directory."""
    try:
        found = os.lstat(place)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(found.st_mode) and os.path.samestat(found, os.fstat(directory))


@functools.cache
def _boot_id() -> str:
    """Return the kernel's boot ID; "" where the system has none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""
