"""The errors of unpacking a layer, and the limits of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hatchway.images.contents import BadImage


class BadLayer(BadImage):
    """A layer is malformed, exceeds a limit, or holds something that cannot be unpacked. The message says what."""


class NoRoomForLayer(BadImage):
    """The disk is full, or the user's quota is used up."""


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """The limits of one layer.

    size: the maximum number of bytes of the uncompressed archive, and also of all its files together, including holes.
        0 means the free space of the disk minus a reserve of 2 %.
    is_of_disk: True when `size` was computed from the free space.
    entries: the maximum number of files, directories and links. depth: the maximum number of components of a path.
    steps: the most path components that are looked up in the layer; components of symbolic links' targets count, too.
    """

    size: int = 0
    entries: int = 1_000_000
    depth: int = 256
    steps: int = 20_000_000
    is_of_disk: bool = False

    def too_large(self) -> BadImage:
        """Return the error of a layer that exceeds `size`."""
        if self.is_of_disk:
            return NoRoomForLayer(f"it has more than the {self.size} bytes that the disk has room for")
        return BadLayer(f"it has more than {self.size} bytes, which is the limit of a layer")


def limits_of_environment(environment: Mapping[str, str]) -> UnpackLimits:
    """Return the limits that the variables HATCHWAY_LAYER_BYTES and HATCHWAY_LAYER_ENTRIES set. Raises BadImage."""
    found = UnpackLimits()
    return UnpackLimits(
        size=_positive(environment, "HATCHWAY_LAYER_BYTES", found.size),
        entries=_positive(environment, "HATCHWAY_LAYER_ENTRIES", found.entries),
    )


def _positive(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text)):
        raise BadImage(f"{name} is {text[:100]!r}, which is not a positive number")
    return int(text)
