"""The result of a deletion in an image store."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.images.contents import Image


@dataclass(slots=True)
class Garbage:
    """The deleted images and the freed space.

    images: the removed images. blobs: the number of blobs. size: the bytes of all deleted blobs and parts of downloads.
    layers: the number of unpacked layers. problems: sentences that say why other layers could not be deleted.
    """

    images: tuple[Image, ...] = ()
    blobs: int = 0
    size: int = 0
    layers: int = 0
    problems: tuple[str, ...] = ()
