"""Chooses the program to run for an image: a program that Hatchway ships, or one of this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatchway import __version__

# The commands of shipped images, by the image's name without tag and digest.
SHIPPED: Mapping[str, Sequence[str]] = {
    "hatchway/dns": (sys.executable, "-m", "hatchway.addons.dns"),
    "hatchway/ingress": (sys.executable, "-m", "hatchway.addons.ingress"),
    "hatchway/logging": (sys.executable, "-m", "hatchway.addons.logging"),
    "hatchway/metrics-server": (sys.executable, "-m", "hatchway.addons.metrics"),
    "hatchway/monitoring": (sys.executable, "-m", "hatchway.addons.monitoring"),
    "hatchway/echo": (sys.executable, "-m", "hatchway.cluster.node.echo"),
    "hatchway/shell": ("sh",),
}
# Images without an entry point, like busybox: `args` replace the command, unless they begin with an option.
_WITHOUT_ENTRYPOINT = frozenset({"hatchway/shell"})


class ImageError(Exception):
    """The image cannot be run. The message says why, and what to do.

    reason: ErrImagePull or InvalidImageName.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """The program to run for an image.

    argv: the command line; references to variables are not expanded yet.
    image_id: the imageID in the status.
    note: the message of the event.
    """

    argv: list[str]
    image_id: str
    note: str


def repository(image: str) -> str:
    """Return an image's name without default registry, tag and digest: `docker.io/hatchway/dns:1` is `hatchway/dns`."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    return name.removeprefix("docker.io/")


def resolve(
    image: str, command: Sequence[str], args: Sequence[str], extra: Mapping[str, Sequence[str]] | None = None
) -> ResolvedImage:
    """Return the command for a container: the container's own, or the shipped image's with the container's args.

    extra: more shipped images. Raises ImageError.
    """
    if not image or any(character.isspace() for character in image):
        raise ImageError("InvalidImageName", f'Failed to apply default image tag "{image}": invalid reference format')
    name = repository(image)
    shipped = (extra or {}).get(name) or SHIPPED.get(name)
    if command:
        if shipped is None:
            note = f'Container image "{image}" is not pulled: the command runs with this machine\'s programs'
            return ResolvedImage([*command, *args], "hatchway://host-programs", note)
        argv = [*command, *args]
    elif shipped is not None:
        replaced = name in _WITHOUT_ENTRYPOINT and args and not args[0].startswith("-")
        argv = [*args] if replaced else [*shipped, *args]
    else:
        # `kubectl run NAME --image=IMAGE -- PROGRAM` sets only `args`.
        how = " (with `kubectl run`: --command before the `--`)" if args else ""
        raise ImageError(
            "ErrImagePull",
            f'Failed to pull image "{image}": Hatchway has no container images: a pod\'s containers are processes of '
            f"this machine's programs. Say what to run in the container's `command`{how}, or use one of the shipped "
            f"images ({', '.join(sorted({*SHIPPED, *(extra or {})}))})",
        )
    return ResolvedImage(
        argv, f"hatchway://{name}@{__version__}", f'Container image "{image}" already present on machine'
    )
