"""`hatchway exec`: runs a command in a container."""

from __future__ import annotations

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.remotecommandline import RemoteCommandLine, behind_dashes
from hatchway.kube.overrides import ChosenCluster


@click.command(
    "exec",
    cls=RemoteCommandLine,
    short_help="Run a command in a pod.",
    epilog=options.examples("""
    hatchway exec web-0 -- ls /srv
    hatchway exec -it deploy/web -- sh
    hatchway exec -i db-0 -n shop -- psql <dump.sql
    hatchway exec svc/web -c sidecar -- env
    """),
)
@click.argument("target", shell_complete=options.complete_workload)
@options.namespace
@options.container
@click.option("--stdin", "-i", is_flag=True, help="Pass standard input to the command.")
@click.option("--tty", "-t", is_flag=True, help="Give the command a terminal.")
@click.option("--quiet", "-q", is_flag=True, help="Do not print which pod and container were chosen.")
@clusterflags.cluster_options
@click.pass_context
def exec_command(
    ctx: click.Context,
    target: str,
    namespace: str | None,
    container: str,
    stdin: bool,
    tty: bool,
    quiet: bool,
    cluster: ChosenCluster,
) -> None:
    """Run COMMAND in a container, and end with its exit code.

    TARGET: web-0, pod/web-0; or svc/web, deploy/web, sts/db ... to use one of its ready pods. COMMAND is not passed to
    a shell; for pipes and variables use: -- sh -c '...'.
    """
    command = behind_dashes(ctx)
    if not command:
        raise click.UsageError("there is no command; write it after the target: -- COMMAND")
    import asyncio

    from hatchway.cli.remoterun import run_in_pod

    ctx.exit(asyncio.run(run_in_pod(target, namespace, container, command, cluster, stdin=stdin, tty=tty, quiet=quiet)))
