"""Platforms of images, and the choice of an index's entry for one of them. Pure, except for `this_machine`.

Names, normal forms and the order of preference are those of `github.com/containerd/platforms` (`database.go`,
`compare.go`).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hatchway.images.contents import BadImage
from hatchway.images.documents import IndexEntry

_WORD = re.compile(r"[a-z0-9_.-]{1,64}")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "loongarch64": "loong64",
}
_VARIANTS = {"armhf": "v7", "armel": "v6", "armv6l": "v6", "armv7l": "v7", "armv8l": "v7"}
# For each architecture: the default variant, and the number of the lowest variant.
_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_LOWEST_VARIANTS = {"arm": 5, "arm64": 8, "amd64": 1}
# How many platforms an error message lists.
_MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform. os, architecture: Go's words (`linux`, `amd64`). variant: such as `v7`, or ""."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """Return the platform as `--platform` takes it: `linux/arm/v7`."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Return the platform that a person has written: `linux/arm64`, `arm64`, `linux/arm/v7`.

    Raises:
        ValueError: it is no platform of Linux.
    """
    parts = text.strip().lower().split("/")
    if len(parts) > 3 or not all(_WORD.fullmatch(part) for part in parts):
        raise ValueError(f'"{text}" is not a platform; write it as linux/amd64 or linux/arm/v7')
    if len(parts) == 1 and parts[0] != "linux":
        parts = ["linux", *parts]
    if parts[0] != "linux":
        raise ValueError(f'images of the operating system "{parts[0]}" cannot be used; only those of linux')
    if len(parts) == 1:
        return this_machine()
    return normal(Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else ""))


def this_machine() -> Platform:
    """Return the platform of this machine; the operating system is always linux, because containers run on Linux."""
    return normal(Platform("linux", platform.machine().lower()))


def normal(found: Platform) -> Platform:
    """Return the platform with Go's name of its architecture, and with a variant if the architecture has several."""
    architecture = _ARCHITECTURES.get(found.architecture, found.architecture)
    variant = found.variant or _VARIANTS.get(found.architecture, "") or _DEFAULT_VARIANTS.get(architecture, "")
    if variant.isdigit():
        variant = f"v{variant}"
    return Platform(found.os, architecture, variant)


def accepted(wanted: Platform) -> list[Platform]:
    """Return the platforms whose images run on `wanted`, the best one first: arm v7 also runs v6 and v5."""
    wanted = normal(wanted)
    lowest = _LOWEST_VARIANTS.get(wanted.architecture)
    number = wanted.variant.removeprefix("v")
    if lowest is None or not (number.isascii() and number.isdigit() and len(number) == 1):
        return [wanted]
    return [Platform(wanted.os, wanted.architecture, f"v{n}") for n in range(int(number), lowest - 1, -1)] or [wanted]


def matches(wanted: Platform, os: str, architecture: str, variant: str = "") -> bool:
    """Return True when an image of this platform runs on `wanted`. Empty parts, as in old images, match anything."""
    if os not in ("", wanted.os):
        return False
    return not architecture or normal(Platform(wanted.os, architecture, variant)) in accepted(wanted)


def choose(entries: Sequence[IndexEntry], wanted: Platform) -> IndexEntry:
    """Return the entry of an index whose image suits `wanted` best. Attestations are ignored.

    As in containerd, an entry that names no platform is used when no other entry suits.

    Raises:
        BadImage: no entry suits.
    """
    images = [entry for entry in entries if not entry.is_attestation]
    for platform_ in accepted(wanted):
        for entry in images:
            if normal(Platform(entry.os, entry.architecture, entry.variant)) == platform_:
                return entry
    for entry in images:
        if not entry.os and not entry.architecture:
            return entry
    names = dict.fromkeys(
        str(Platform(entry.os, entry.architecture, entry.variant))
        for entry in images
        if entry.os not in ("", "unknown")
    )
    listed = ", ".join(list(names)[:_MOST_LISTED]) + (" ..." if len(names) > _MOST_LISTED else "")
    raise BadImage(
        f"no match for platform in manifest: the image is not made for {wanted}"
        + (f", but for {listed}" if listed else "")
    )
