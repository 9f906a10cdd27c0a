"""What stands in an image's place: the images that Hatchway ships, and the host's programs for everything else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatchway import __version__

# By name without tag and digest.
SHIPPED: Mapping[str, Sequence[str]] = {
    "hatchway/dns": (sys.executable, "-m", "hatchway.cluster.addons.dns"),
    "hatchway/logging": (sys.executable, "-m", "hatchway.cluster.addons.logging"),
    "hatchway/echo": (sys.executable, "-m", "hatchway.cluster.node.echo"),
}


class ImageError(Exception):
    """The image cannot be run; the message says why and what to do. reason: ErrImagePull or InvalidImageName."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Resolved:
    """argv: the whole command, not yet expanded. image_id: the status' imageID. note: what to say of it in an event."""

    argv: list[str]
    image_id: str
    note: str


def repository(image: str) -> str:
    """The name without registry's default, tag and digest: `docker.io/hatchway/dns:1.0` is `hatchway/dns`."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    return name.removeprefix("docker.io/")


def resolve(
    image: str, command: Sequence[str], args: Sequence[str], extra: Mapping[str, Sequence[str]] | None = None
) -> Resolved:
    """What to run for a container: its command as it is, or the shipped image's with the container's args.

    extra: more shipped images. Raises ImageError.
    """
    if not image or any(character.isspace() for character in image):
        raise ImageError("InvalidImageName", f'Failed to apply default image tag "{image}": invalid reference format')
    name = repository(image)
    shipped = (extra or {}).get(name) or SHIPPED.get(name)
    if command:
        if shipped is None:
            note = f'Container image "{image}" is not pulled: the command runs with this machine\'s programs'
            return Resolved([*command, *args], "hatchway://host-programs", note)
        argv = [*command, *args]
    elif shipped is not None:
        argv = [*shipped, *args]
    else:
        raise ImageError(
            "ErrImagePull",
            f'Failed to pull image "{image}": Hatchway has no container images: a pod\'s containers are processes of '
            "this machine's programs. Say what to run in the container's `command`, or use one of the shipped "
            f"images ({', '.join(sorted({*SHIPPED, *(extra or {})}))})",
        )
    return Resolved(argv, f"hatchway://{name}@{__version__}", f'Container image "{image}" already present on machine')
