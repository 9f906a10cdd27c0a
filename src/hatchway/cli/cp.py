"""`hatchway cp`: copies files and directories into and out of containers."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.usage import GoFlagsCommand
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.remote.copying import CopyProgress


@click.command(
    cls=GoFlagsCommand,
    short_help="Copy files into and out of a pod.",
    epilog=options.examples("""
    hatchway cp web-0:/var/log/app.log .
    hatchway cp ./site deploy/web:/srv/site
    hatchway cp shop/db-0:/data ./data -c backup
    """),
)
@click.argument("source")
@click.argument("destination")
@options.namespace
@options.container
@click.option(
    "--resume", is_flag=True, help="Skip files that exist with the same size and time; complete interrupted ones."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress, and no notes.")
@clusterflags.cluster_options
def cp(
    source: str,
    destination: str,
    namespace: str | None,
    container: str,
    resume: bool,
    quiet: bool,
    cluster: ChosenCluster,
) -> None:
    """Copy a file or a directory between this machine and a container.

    One of SOURCE and DESTINATION is TARGET:PATH (TARGET as for `hatchway exec`) or NAMESPACE/POD:PATH.
    A path that begins with / or . is a path of this machine. The container needs tar; without it only single files can
    be copied. Modes, times and links are preserved; links that lead out of the copied directory, devices and owners are
    not. If the connection is lost, it is made again, and the copy continues. After Ctrl-C, or any other interruption,
    the same command with --resume continues the copy.
    """
    import asyncio

    from hatchway.remote.copyspec import RemotePath, parse_path

    there, here = parse_path(source), parse_path(destination)
    if isinstance(there, RemotePath) == isinstance(here, RemotePath):
        what = "both are on this machine" if isinstance(there, str) else "both are in pods"
        raise click.UsageError(f"one path must be in a pod (TARGET:PATH) and one on this machine; {what}")
    remote = there if isinstance(there, RemotePath) else here
    assert isinstance(remote, RemotePath)
    if remote.namespace and namespace not in (None, remote.namespace):
        raise click.UsageError(f'{source} has the namespace "{remote.namespace}", but -n says "{namespace}"')
    asyncio.run(
        _copy(
            there,
            here,
            remote.target,
            remote.namespace or namespace,
            container,
            cluster,
            _ProgressLine(quiet=quiet),
            resume=resume,
        )
    )


async def _copy(
    source: object,
    destination: object,
    target: str,
    namespace: str | None,
    container: str,
    cluster: ChosenCluster,
    screen: _ProgressLine,
    *,
    resume: bool,
) -> None:
    import asyncio

    from hatchway.kube.connection import Connection
    from hatchway.kube.workload import parse_workload
    from hatchway.remote.console import ending_signals
    from hatchway.remote.copying import Container
    from hatchway.remote.copyspec import RemotePath
    from hatchway.remote.download import download
    from hatchway.remote.podcontainer import find_pod_container
    from hatchway.remote.upload import upload

    connection = Connection.load(*cluster)
    try:
        workload = parse_workload(target, namespace, connection.namespace)
        chosen = await find_pod_container(connection.client, workload, container)
        if chosen.note:
            screen.note(chosen.note)
        with ending_signals():
            try:
                pod = Container(connection, chosen)
                if isinstance(source, RemotePath):
                    done = await download(pod, source.path, str(destination), screen.show, screen.warn, resume=resume)
                else:
                    assert isinstance(destination, RemotePath)
                    done = await upload(pod, str(source), destination.path, screen.show, screen.warn, resume=resume)
            except asyncio.CancelledError:
                screen.warn("ended before everything was copied; the same command with --resume continues the copy")
                raise
            finally:
                screen.clear()
        screen.finish(done)
    finally:
        await connection.aclose()


class _ProgressLine:
    """Shows the progress of a copy in one line of the terminal."""

    _PAUSE = 0.2

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty() and not quiet
        self._begun = time.monotonic()
        self._next = self._begun + self._PAUSE
        self._shown = False

    def show(self, progress: CopyProgress) -> None:
        """Draw the line again, at most every `_PAUSE` seconds."""
        now = time.monotonic()
        if not self._live or now < self._next:
            return
        import shutil

        from hatchway.cli.printing import size

        self._next = now + self._PAUSE
        rate = progress.size / max(now - self._begun, 0.001)
        share = f" of {size(progress.total)}" if progress.total else ""
        line = f"{size(progress.size)}{share}, {size(int(rate))}/s  {printable(progress.current)}"
        sys.stderr.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False

    def note(self, text: str) -> None:
        """Print which pod or container was chosen, on a terminal."""
        if self._live:
            from hatchway.cli.printing import note

            note(text)

    def warn(self, text: str) -> None:
        """Print a warning about a file that was not copied."""
        self.clear()
        if not self._quiet:
            from hatchway.cli.printing import warn

            warn(text)

    def finish(self, progress: CopyProgress) -> None:
        """Print how much was copied, on a terminal."""
        if self._live:
            from hatchway.cli.printing import counted, size

            seconds = time.monotonic() - self._begun
            complete = f" ({progress.complete} more were already complete)" if progress.complete else ""
            click.echo(f"{counted(progress.files, 'file')}{complete}, {size(progress.size)}, {seconds:.1f} s", err=True)
