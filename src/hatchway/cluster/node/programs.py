"""Prepares a container's program: its image's program, or a program of this machine (`kuberuntime_container.go`)."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from hatchway.cluster.node import hostprograms
from hatchway.cluster.node.containersecurity import CreateError, check_non_root, privileges_of
from hatchway.cluster.node.env import base_environment, expand
from hatchway.cluster.node.imagemanager import get_image, image_names, parse_image
from hatchway.cluster.node.imagestock import UnpackedImage
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.stopsignals import stop_signal
from hatchway.cluster.runtime import ImageRoot, Privileges
from hatchway.images.contents import ImageConfig
from hatchway.kube.api import Object

__all__ = ["ContainerProgram", "prepare_program", "runs_host_program"]

# The PATH for images that set none, as in containerd (`pkg/oci/spec_opts.go`).
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ContainerProgram:
    """The program of an attempt of a container.

    image, image_id: for the container's status.
    fixed, own: the two parts of the command line: the image's, then the container's, in which `$(VAR)` is expanded.
    base: variables with lower priority than the container's own. expands_base: whether `$(VAR)` may name them.
    cwd: the working directory; "" is the root directory.
    stop_signal: the number of the signal that ends it.
    root: the image's file system; None for a program of this machine. opened: the image; None for such a program.
    """

    image: str
    image_id: str
    fixed: tuple[str, ...]
    own: tuple[str, ...]
    base: Mapping[str, str]
    cwd: str
    stop_signal: int
    expands_base: bool = False
    privileges: Privileges = field(default_factory=Privileges)
    root: ImageRoot | None = None
    opened: UnpackedImage | None = None

    def variables(self, own: Mapping[str, str]) -> Mapping[str, str]:
        """Return the variables that `$(VAR)` may name. own: the container's own environment."""
        return {**self.base, **own} if self.expands_base else own

    def argv(self, own: Mapping[str, str]) -> list[str]:
        """Return the command line. own: the container's own environment."""
        known = self.variables(own)
        return [*self.fixed, *(expand(part, known) for part in self.own)]

    def close(self) -> None:
        """Allow the removal of the image from the store, after the container's end."""
        if self.opened is not None:
            self.opened.close()


def runs_host_program(context: PodContext, container: Object) -> bool:
    """Return True when a container runs a program of this machine."""
    config = context.node.config
    return hostprograms.is_host_image(
        container.get("image") or "",
        container.get("command") or (),
        config.images,
        host_programs=config.host_programs,
    )


async def prepare_program(context: PodContext, container: Object) -> ContainerProgram:
    """Get a container's image, and return its program. The caller closes it.

    Raises:
        ImageError: the image cannot be used now.
        ConfigError: the container must not run with this configuration.
        CreateError: the container cannot be created.
    """
    parse_image(context, container)
    if runs_host_program(context, container):
        return _host_program(context, container)
    opened = await get_image(context, container)
    try:
        config = opened.image.config
        check_non_root(context.pod, container, config.user)
        fixed, own = _command(config, container)
        image, image_id = image_names(opened.image, parse_image(context, container))
        changes = await asyncio.to_thread(context.volumes.make_changes, container["name"])
        return ContainerProgram(
            image=image,
            image_id=image_id,
            fixed=fixed,
            own=own,
            base={"PATH": _PATH, "HOSTNAME": context.hostname(), **_variables(config)},
            cwd=container.get("workingDir") or config.working_dir,
            stop_signal=_stop_signal(container, config.stop_signal),
            privileges=privileges_of(context.pod, container, config.user),
            root=ImageRoot(opened.layers, changes, _volumes(config, container)),
            opened=opened,
        )
    except BaseException:
        opened.close()
        raise


def _host_program(context: PodContext, container: Object) -> ContainerProgram:
    image = container.get("image") or ""
    command, args = container.get("command") or (), container.get("args") or ()
    found = hostprograms.host_program(image, command, args, context.node.config.images)
    context.event("Normal", "Pulled", found.note, container["name"])
    return ContainerProgram(
        image=image,
        image_id=found.image_id,
        fixed=(),
        own=tuple(found.argv),
        base=base_environment(context.hostname()),
        cwd=container.get("workingDir") or "",
        stop_signal=_stop_signal(container, ""),
        expands_base=True,
    )


def _command(config: ImageConfig, container: Object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the parts `fixed` and `own` of the command line. Raises CreateError when both are empty.

    A command replaces ENTRYPOINT and CMD; args replace CMD.
    """
    command, args = tuple(container.get("command") or ()), tuple(container.get("args") or ())
    if command:
        fixed: tuple[str, ...] = ()
    elif args:
        fixed = config.entrypoint
    else:
        fixed = (*config.entrypoint, *config.command)
    if not (fixed or command or args):
        raise CreateError("failed to generate container spec: no command specified")
    return fixed, (*command, *args)


def _variables(config: ImageConfig) -> dict[str, str]:
    """Return the image's environment. Entries without `=` or without a name are ignored, like in containerd."""
    found = {}
    for entry in config.env:
        name, equals, value = entry.partition("=")
        if name and equals:
            found[name] = value
    return found


def _volumes(config: ImageConfig, container: Object) -> tuple[str, ...]:
    """Return the image's volumes, except at paths where the pod mounts a volume of its own."""
    mounted = {_normal(mount["mountPath"]) for mount in container.get("volumeMounts") or ()}
    paths = map(_normal, config.volumes)
    return tuple(dict.fromkeys(path for path in paths if path != "/" and path not in mounted))


def _normal(path: str) -> str:
    """Return an absolute path without `.`, `..` and repeated slashes."""
    return posixpath.normpath("/" + path.strip("/"))


def _stop_signal(container: Object, of_image: str) -> int:
    return stop_signal((container.get("lifecycle") or {}).get("stopSignal") or "", of_image)
