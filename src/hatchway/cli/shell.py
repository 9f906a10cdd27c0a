"""`hatchway shell`: a shell in a container, or in a small pod of its own."""

from __future__ import annotations

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.usage import GoFlagsCommand
from hatchway.kube.overrides import ChosenCluster

# Small, known to every registry, and with the programs that one looks around with.
_IMAGE = "busybox:stable"


@click.command(
    cls=GoFlagsCommand,
    short_help="Open a shell in a pod, or in one of its own.",
    epilog=options.examples("""
    hatchway shell web
    hatchway shell deploy/web -c sidecar
    hatchway shell -n shop
    hatchway shell --image alpine -n shop
    echo 'nslookup web' | hatchway shell -n shop
    """),
)
@click.argument("target", default="", shell_complete=options.complete_workload)
@options.namespace
@options.container
@click.option(
    "--shell", default="", metavar="PROGRAM", show_default="the best one of the container", help="The shell to start."
)
@click.option(
    "--image",
    default=_IMAGE,
    show_default=True,
    metavar="IMAGE",
    help="The image, where a pod or an ephemeral container is made.",
)
@click.option(
    "--deadline",
    default="4h",
    show_default=True,
    metavar="TIME",
    help="After how long a pod that was made ends by itself.",
)
@click.option("--debug", is_flag=True, help="Always add an ephemeral container, also where the container has a shell.")
@clusterflags.of_cluster
@click.pass_context
def shell(
    ctx: click.Context,
    target: str,
    namespace: str | None,
    container: str,
    shell: str,
    image: str,
    deadline: str,
    debug: bool,
    cluster: ChosenCluster,
) -> None:
    """Open a shell in a container of TARGET: bash, zsh, ash or sh, whichever there is.

    A container without a shell gets an ephemeral container beside it, which sees its processes and stays in the pod's
    description. Without TARGET the shell runs in a small pod of its own, which is removed at the end; should this
    command be killed, the pod ends at its deadline, and the next such shell removes what is left of it.
    """
    if debug and not target:
        raise click.BadParameter("an ephemeral container needs a TARGET", param_hint="--debug")
    import asyncio

    from hatchway.cli.chosen import duration
    from hatchway.cli.remoterun import ShellRequest, open_shell, open_shell_pod

    seconds = int(duration("--deadline", deadline))
    if seconds < 1:
        raise click.BadParameter("it must be at least one second", param_hint="--deadline")
    asked = ShellRequest(shell, image, debug, seconds)
    work = (
        open_shell(target, namespace, container, asked, cluster)
        if target
        else open_shell_pod(namespace, asked, cluster)
    )
    ctx.exit(asyncio.run(work))
