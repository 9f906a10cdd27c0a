"""`hatchway shell`: opens a shell in a container, or in a small new pod."""

from __future__ import annotations

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.usage import GoFlagsCommand
from hatchway.kube.overrides import ChosenCluster
from hatchway.remote.shellimage import SHELL_IMAGE


@click.command(
    cls=GoFlagsCommand,
    short_help="Open a shell in a pod, or in a new pod.",
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
    default="",
    show_default=f"{SHELL_IMAGE}; in an embedded cluster hatchway/host",
    metavar="IMAGE",
    help="The image of a new pod or ephemeral container.",
)
@click.option(
    "--deadline",
    default="4h",
    show_default=True,
    metavar="TIME",
    help="The time after which Kubernetes ends a new pod.",
)
@click.option("--debug", is_flag=True, help="Always add an ephemeral container, even if the container has a shell.")
@clusterflags.cluster_options
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
    """Open a shell in a container of TARGET: bash, zsh, ash or sh.

    If the container has no shell, an ephemeral container is added to the pod. It sees the container's processes, and
    cannot be removed from the pod again. Without TARGET the shell runs in a small new pod, which is removed at the end.
    If this command is killed, the pod ends at its deadline, and the next such command removes it.
    """
    if debug and not target:
        raise click.BadParameter("an ephemeral container needs a TARGET", param_hint="--debug")
    import asyncio

    from hatchway.cli.clusterchoice import duration
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
