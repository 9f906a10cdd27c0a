"""`hatchway logs`: prints the logs of a pod, or of all pods of a service or workload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.printing import note
from hatchway.cli.usage import GoFlagsCommand, Number
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.remote.podlogs import LogSource


@click.command(
    cls=GoFlagsCommand,
    short_help="Print the logs of all pods of a target.",
    epilog=options.examples("""
    hatchway logs web
    hatchway logs deploy/web -f --tail 20
    hatchway logs svc/web -n shop --since 10m
    hatchway logs pod/web-0 -c sidecar --previous
    hatchway logs job/import -f
    """),
)
@click.argument("target", shell_complete=options.complete_workload)
@options.namespace
@click.option("--follow", "-f", is_flag=True, help="Print new lines as they are written, also those of new pods.")
@click.option(
    "--tail",
    type=Number(-1, 1 << 31, "number of lines"),
    default=-1,
    show_default="all",
    help="The last N lines of each log.",
)
@click.option("--since", default="", metavar="TIME", help="Only lines that are not older than TIME, like 30s or 1h30m.")
@options.container
@click.option("--all-containers", is_flag=True, help="All containers of each pod.")
@click.option("--previous", "-p", is_flag=True, help="The log of the container's previous run.")
@click.option("--timestamps", is_flag=True, help="Print the time before each line.")
@click.option(
    "--prefix/--no-prefix",
    default=None,
    show_default="with several pods",
    help="Print pod and container before each line.",
)
@clusterflags.cluster_options
def logs(
    target: str,
    namespace: str | None,
    follow: bool,
    tail: int,
    since: str,
    container: str,
    all_containers: bool,
    previous: bool,
    timestamps: bool,
    prefix: bool | None,
    cluster: ChosenCluster,
) -> None:
    """Print the logs of a target: of one pod, or of all pods of a service or workload at once.

    TARGET: web, pod/web-0, svc/web, deploy/web, sts/db, job/import, web.shop. With -f, pods that are created later are
    followed, too, and the command continues when a container or the API server restarts.
    """
    if all_containers and container:
        raise click.BadParameter("choose this one or --container", param_hint="--all-containers")
    if follow and previous:
        raise click.BadParameter("the log of a run that has ended cannot be followed", param_hint="--previous")
    import asyncio
    import math

    from hatchway.cli.clusterchoice import duration
    from hatchway.kube.connection import Connection
    from hatchway.kube.workload import find_pods, parse_workload
    from hatchway.remote.podlogs import LogFollower, LogOptions

    seconds = math.ceil(duration("--since", since)) if since else 0
    asked = LogOptions(
        container=container,
        every_container=all_containers,
        previous=previous,
        tail=None if tail < 0 else tail,
        since=seconds or None,
        timestamps=timestamps,
    )
    connection = Connection.load(*cluster)
    workload = parse_workload(target, namespace, connection.namespace)

    async def run() -> None:
        try:
            pods = await find_pods(connection.client, workload)
            several = not pods.is_one_pod or all_containers
            printer = LogPrinter(prefix=several if prefix is None else prefix)
            follower = LogFollower(connection.client, pods, asked, printer.print, printer.note)
            if not follow:
                await follower.print_once()
                return
            files = asyncio.create_task(connection.watch_files())
            try:
                await follower.follow()
            finally:
                files.cancel()
        finally:
            await connection.aclose()

    asyncio.run(run())


# Colours of a terminal that are readable on a dark and on a light background.
_COLOURS = (36, 33, 32, 35, 34, 31)


class LogPrinter:
    """Prints pieces of lines. A prefix with pod and container is put before each line."""

    def __init__(self, *, prefix: bool) -> None:
        import os
        import sys

        self._out = sys.stdout.buffer
        self._prefix = prefix
        self._coloured = prefix and sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._prefixes: dict[LogSource, bytes] = {}
        # The source of an unfinished line.
        self._open: LogSource | None = None

    def print(self, source: LogSource, piece: bytes, begins: bool) -> None:
        """Print a piece. If a line of another source is unfinished, end that line first."""
        if self._open is not None and (self._open != source or begins):
            self._out.write(b"\n")
        # A line that continues after a line of another source gets the prefix, too.
        begins = begins or self._open != source
        if begins and self._prefix:
            self._out.write(self._prefix_of(source))
        self._out.write(piece)
        self._open = None if piece.endswith(b"\n") else source
        self._out.flush()

    def note(self, text: str) -> None:
        """Print a message that is not a line of a log."""
        note(text)

    def _prefix_of(self, source: LogSource) -> bytes:
        found = self._prefixes.get(source)
        if found is None:
            text = printable(f"[{source.pod}/{source.container}]")
            if self._coloured:
                text = f"\x1b[{_COLOURS[len(self._prefixes) % len(_COLOURS)]}m{text}\x1b[0m"
            found = self._prefixes[source] = f"{text} ".encode()
        return found
