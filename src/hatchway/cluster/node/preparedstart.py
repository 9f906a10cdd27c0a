"""Prepares one attempt of a container: its program, its environment, its mounts (`kuberuntime_container.go`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hatchway.cluster.node.attempt import TERMINAL_ENVIRONMENT
from hatchway.cluster.node.containerstreams import ContainerStreams
from hatchway.cluster.node.oomscore import oom_score
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.programs import ContainerProgram, prepare_program
from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, Mount
from hatchway.kube.api import Object


@dataclass(frozen=True, slots=True)
class PreparedStart:
    """The prepared start of one attempt. image: the image in the container's spec when the attempt began."""

    image: str
    program: ContainerProgram
    argv: list[str]
    environment: dict[str, str]
    mounts: list[Mount]

    def config(
        self,
        context: PodContext,
        spec: Object,
        streams: ContainerStreams,
        *,
        group: str,
        user: str,
        processes_of: ContainerProcess | None,
    ) -> ContainerConfig:
        """Return the configuration with which the runtime starts the container's process.

        group: the path of its control group.
        user: the user to run as; "" for the user of the image or of the security context.
        processes_of: the process whose PID namespace the container joins; None for a PID namespace of its own.
        """
        security = spec.get("securityContext") or {}
        return ContainerConfig(
            name=spec["name"],
            argv=self.argv,
            env={**self.environment, **TERMINAL_ENVIRONMENT} if streams.has_terminal else self.environment,
            stdout=streams.stdout,
            stderr=streams.stderr,
            stdin=streams.stdin,
            terminal=streams.has_terminal,
            cwd=self.program.cwd or None,
            mounts=self.mounts,
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            oom_score=oom_score(context.pod, spec, context.node.allocatable),
            processes_of=processes_of,
            root=self.program.root,
            privileges=replace(self.program.privileges, user=user or self.program.privileges.user),
            group=group,
        )


async def prepare_start(context: PodContext, spec: Object) -> PreparedStart:
    """Get everything that a container's next attempt needs. The caller closes the program.

    Raises:
        ImageError: the image cannot be used now.
        CreateError: the container cannot be created.
        ConfigError: the container must not run with this configuration.
        ApiError: an object that the environment refers to cannot be read.
    """
    program = await prepare_program(context, spec)
    try:
        own = await context.environment(spec)
        mounts = context.prepare_mounts(spec, program.variables(own))
        return PreparedStart(spec.get("image", ""), program, program.argv(own), {**program.base, **own}, mounts)
    except BaseException:
        program.close()
        raise
