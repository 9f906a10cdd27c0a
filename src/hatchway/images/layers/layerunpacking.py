"""Unpack an image's layers in this process, the lowest first. This blocks; it runs in the process of `unpack.py`.

While a layer is written, its directory is also the root directory of this process, where the system allows that. So
even an error in the code that follows paths could not reach files outside of this directory. Docker does the same
(`chrootarchive`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final

from hatchway.images.layers.fileattributes import AttributeWriter
from hatchway.images.layers.layererrors import BadLayer, NoRoomForLayer, UnpackLimits
from hatchway.images.layers.layerstream import LayerStream
from hatchway.images.layers.layertar import LayerTar
from hatchway.images.layers.layerwriter import LayerWriter
from hatchway.images.layers.lowerlayers import LowerLayers
from hatchway.images.store.blobs import BlobFiles
from hatchway.images.store.layerplaces import FILES, LayerMark, LayerPlaces, UsersWay, chain_ids

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The fraction of the disk that unpacking leaves free, unless the limits set a size.
_RESERVE: Final = 50


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer to unpack. digest: its blob's digest. diff_id: the digest of its uncompressed archive."""

    digest: str
    diff_id: str


def unpack_layers(store: Path, users: UsersWay, layers: Sequence[PackedLayer], limits: UnpackLimits) -> list[Path]:
    """Unpack the layers that are not unpacked yet; return their directories.

    After an error no incomplete layer is left.

    Raises BadImage; NoRoomForLayer when the disk is full; OSError.
    """
    places = LayerPlaces(store, users)
    places.make()
    places.sweep()
    blobs = BlobFiles(store)
    new: list[Path] = []
    lowers: list[Path] = []
    chains = chain_ids([layer.diff_id for layer in layers])
    for layer, chain_id in zip(layers, chains, strict=True):
        place = places.place(chain_id)
        mark = places.read_mark(place)
        if mark is None or layer.digest not in mark.blobs:
            with places.locked(place) as directory:
                # Another process may have unpacked the layer while this process waited.
                mark = places.read_mark(place)
                if mark is None:
                    mark = _unpack(blobs, places, place, directory, layer, lowers, users, limits)
                    new.append(place)
                elif layer.digest not in mark.blobs:
                    _verify(blobs, directory, layer, limits)
                    mark = mark.with_blob(layer.digest)
                    places.write_mark(place, mark)
        lowers = [place / FILES] if mark.hides_all else [place / FILES, *lowers]
    return new


def sync_layers(store: Path, users: UsersWay, new: Sequence[Path]) -> None:
    """Sync new layers to disk, and record that in their marks. Raises OSError."""
    if not new:
        return
    places = LayerPlaces(store, users)
    _sync_disk(places.path)
    for place in new:
        if places.read_mark(place) is None:
            continue
        with places.locked(place):
            mark = places.read_mark(place)
            if mark is not None:
                places.write_mark(place, replace(mark, is_synced=True))


def _sync_disk(path: Path) -> None:
    """Sync the file system of a path to disk (syncfs(2))."""
    directory = os.open(path, _DIRECTORY)
    try:
        if sys.platform != "linux" or ctypes.CDLL(None).syncfs(ctypes.c_int(directory)):
            os.sync()
    finally:
        os.close(directory)


def _unpack(
    blobs: BlobFiles,
    places: LayerPlaces,
    place: Path,
    directory: int,
    layer: PackedLayer,
    lowers: Sequence[Path],
    users: UsersWay,
    limits: UnpackLimits,
) -> LayerMark:
    places.empty(directory)
    try:
        os.mkdir(FILES, 0o700, dir_fd=directory)
        root = os.open(FILES, _DIRECTORY, dir_fd=directory)
        try:
            with blobs.open(layer.digest) as blob, LowerLayers(lowers) as below, _root_directory(root):
                attributes = AttributeWriter(keeps_owners=users != "one")
                hides_all = write_layer(root, blob, layer.diff_id, below, attributes, limits)
        finally:
            os.close(root)
        mark = LayerMark(layer.diff_id, hides_all, blobs=(layer.digest,))
        places.write_mark(place, mark)
        return mark
    except BaseException as error:
        with contextlib.suppress(OSError):
            places.empty(directory)
            place.rmdir()
        if isinstance(error, BadLayer):
            raise _unusable(blobs, layer, error) from error
        if isinstance(error, NoRoomForLayer):
            raise NoRoomForLayer(f"the layer {layer.digest} cannot be unpacked: {error}") from error
        raise


def _verify(blobs: BlobFiles, directory: int, layer: PackedLayer, limits: UnpackLimits) -> None:
    """Verify that a blob has the content that was unpacked before. Raises BadLayer, NoRoomForLayer, OSError."""
    disk = os.fstatvfs(directory)
    # Nothing is written, so free space does not matter; the unpacked layer was not larger than the disk.
    largest = replace(limits, size=limits.size or disk.f_blocks * disk.f_frsize)
    try:
        with blobs.open(layer.digest) as blob, LayerStream(blob, layer.diff_id, largest) as stream:
            stream.verify()
    except BadLayer as error:
        raise _unusable(blobs, layer, error) from error


def _unusable(blobs: BlobFiles, layer: PackedLayer, error: BadLayer) -> BadLayer:
    """Return the error of a layer. If the cause is that the blob's file is damaged, the file is deleted."""
    if blobs.delete_if_damaged(layer.digest):
        return BadLayer(
            f"the file of the layer {layer.digest} was damaged and is deleted; pull or load the image again"
        )
    return BadLayer(f"the layer {layer.digest} cannot be unpacked: {error}")


def write_layer(
    root: int, blob: BinaryIO, diff_id: str, lowers: LowerLayers, attributes: AttributeWriter, limits: UnpackLimits
) -> bool:
    """Write a layer below the open, empty directory `root`. Return True when it hides all layers below.

    After an error, the caller removes the written files. Raises BadLayer, NoRoomForLayer, OSError.
    """
    limits = _limits_of_disk(root, limits)
    with LayerStream(blob, diff_id, limits) as stream:
        writer = LayerWriter(root, lowers, attributes, limits)
        try:
            writer.write_all(LayerTar(stream.read, limits))
        finally:
            writer.close()
        stream.verify()
        return writer.hides_all


def _limits_of_disk(root: int, limits: UnpackLimits) -> UnpackLimits:
    """Return the limits; a `size` of 0 is replaced by the free space of the disk."""
    disk = os.fstatvfs(root)
    room = max(0, (disk.f_bavail - disk.f_blocks // _RESERVE) * disk.f_frsize)
    is_of_disk = not limits.size or room < limits.size
    # Some file systems allocate inodes on demand, and report 0.
    entries = min(limits.entries, disk.f_favail) if disk.f_files else limits.entries
    return replace(limits, size=room if is_of_disk else limits.size, entries=entries, is_of_disk=is_of_disk)


@contextlib.contextmanager
def _root_directory(root: int) -> Iterator[None]:
    """Within the block, make a directory this process's root directory, where the system allows that."""
    before = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    current = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(root)
        try:
            os.chroot(".")
        except PermissionError:
            os.fchdir(current)
            yield
            return
        try:
            yield
        finally:
            os.fchdir(before)
            os.chroot(".")
            os.fchdir(current)
    finally:
        os.close(current)
        os.close(before)
