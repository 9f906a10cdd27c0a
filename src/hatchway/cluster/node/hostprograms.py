"""Chooses the program of this machine for `hatchway/host`, and for the images that are part of Hatchway. Pure.

All other names mean container images (`imagemanager.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hatchway import __version__
from hatchway.cluster.node.containersecurity import CreateError

# The image whose containers run a command with this machine's programs.
HOST = "hatchway/host"
# The imageID of containers whose own command runs with this machine's programs.
HOST_PROGRAMS_ID = "hatchway://host-programs"
# The commands of Hatchway's own images, by the image's name without tag and digest.
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


@dataclass(frozen=True, slots=True)
class HostProgram:
    """A program of this machine.

    argv: the command line; references to variables are not expanded yet.
    image_id: the imageID in the container's status.
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


def why_not_pulled(image: str) -> str:
    """Return why an image with this name is never pulled; "" when it may be.

    Names below `hatchway/` without a registry mean Hatchway's own images. At Docker Hub these names may belong to
    somebody else, so a mistyped name must not be looked up there.
    """
    if not image.startswith("hatchway/"):
        return ""
    known = ", ".join(sorted((HOST, *SHIPPED)))
    return (
        f"Hatchway's own images are {known}; they are not pulled. An image of this name at Docker Hub is "
        f"docker.io/{image}"
    )


def is_host_image(
    image: str, command: Sequence[str], extra: Mapping[str, Sequence[str]], *, host_programs: bool
) -> bool:
    """Return True when a container runs a program of this machine.

    extra: further images of this kind. host_programs: True if commands of all images are programs of this machine
    (`hatchway up --host-programs`).
    """
    name = repository(image)
    return name == HOST or name in extra or name in SHIPPED or (host_programs and bool(command))


def host_program(
    image: str, command: Sequence[str], args: Sequence[str], extra: Mapping[str, Sequence[str]]
) -> HostProgram:
    """Return the command for a container for which `is_host_image` is true.

    This is the container's own command, or the image's command with the container's args. Raises CreateError when there
    is none.
    """
    name = repository(image)
    shipped = extra.get(name) or SHIPPED.get(name)
    present = f'Container image "{image}" already present on machine and can be accessed by the pod'
    if shipped is None:
        argv = [*command, *args]
        if not argv:
            raise CreateError(
                "failed to generate container spec: no command specified: the image has none, so the container needs "
                "a `command` or `args`, which run with this machine's programs"
            )
        note = present
        if name != HOST:
            note = f'Container image "{image}" is not pulled: the command runs with this machine\'s programs'
        return HostProgram(argv, HOST_PROGRAMS_ID, note)
    if command:
        argv = [*command, *args]
    else:
        replaced = name in _WITHOUT_ENTRYPOINT and args and not args[0].startswith("-")
        argv = [*args] if replaced else [*shipped, *args]
    return HostProgram(argv, f"hatchway://{name}@{__version__}", present)
