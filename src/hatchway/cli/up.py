"""`hatchway up`: start an embedded cluster."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import click

from hatchway.cli import options
from hatchway.cli.printing import print_data, say, tick
from hatchway.cli.usage import Choice, Number
from hatchway.cluster import lifecycle
from hatchway.cluster.state import DEFAULT_NAME, StateDir
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files


@click.command(
    short_help="Start a cluster in seconds.",
    epilog=options.examples("""
    hatchway up
    hatchway up --detach --name test --nodes 1
    hatchway up --detach -o json
    """),
)
@options.own_name
@options.state_dir
@options.kubeconfig
@click.option(
    "--api-port",
    type=Number(0, 65535, "port"),
    show_default="6443, or a free one",
    help="The API server's port, 0 for any.",
)
@click.option("--nodes", type=Number(0, 50), show_default="2", help="Workers beside the control plane.")
@click.option("--addons/--no-addons", default=None, show_default="addons", help="DNS and logging.")
@click.option("--detach", "-d", is_flag=True, help="Leave it running and return.")
@click.option("--ephemeral", is_flag=True, help="Keep nothing when it stops.")
@click.option(
    "--network",
    type=Choice("auto", "private", "loopback"),
    show_default="auto",
    help="private, loopback, or auto: private where this machine allows it.",
)
@click.option(
    "--rewrite",
    type=Choice("full", "kubernetes", "off"),
    show_default="full",
    help="Answers of the proxy verb: full makes web applications work, kubernetes is what kube-apiserver does, off.",
)
@click.option(
    "--host-path",
    multiple=True,
    metavar="DIR",
    show_default="none: nodes have a file system of their own",
    help="Open a directory of this machine to hostPath volumes, writable; may be repeated.",
)
@options.output("text", "name", "json", "yaml")
def up(
    name: str,
    state_dir: str | None,
    kubeconfig: str | None,
    api_port: int | None,
    nodes: int | None,
    addons: bool | None,
    detach: bool,
    ephemeral: bool,
    network: str | None,
    rewrite: str | None,
    host_path: tuple[str, ...],
    output: str,
) -> None:
    """Start a cluster in seconds: API server, nodes, DNS and logging. Ctrl-C ends it.

    With -o name, json or yaml what was started is printed once all of it is ready, and nothing else on standard output.
    """
    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    path = kubeconfig_files.default_path(kubeconfig)
    # Before anything is started: a file that cannot be merged into is a reason not to begin.
    kubeconfig_files.check(path)
    asked = lifecycle.Options(
        api_port=api_port,
        workers=nodes,
        addons=addons,
        network=network,
        rewrite=rewrite,
        ephemeral=ephemeral,
        host_paths=lifecycle.check_host_paths(state, list(host_path)) if host_path else None,
    )
    report = _Report(state, path, output)
    with lifecycle.starting(state, lambda: report.say("  another `hatchway up` is starting it ...")):
        run = lifecycle.settle(state)
        if run is not None:
            report.runs_already(asked)
            report.ready(run)
            return
        # kill and a closed terminal end it as cleanly as Ctrl-C does.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            running = lifecycle.start(state, asked, attached=not detach, progress=report.progress)
        except KeyboardInterrupt:
            raise HatchwayError(f'cluster "{name}" was interrupted while it was starting') from None
        try:
            # Before anybody else may start or end it, since that changes the kubeconfig, too.
            report.ready(running.run)
        except BaseException:
            running.stop()
            raise
    try:
        if detach:
            running.detach()
            report.say(f"  `{_down(name, state_dir)}` ends it")
            return
        report.say("  Ctrl-C ends it")
        code = running.wait()
        if code:
            raise HatchwayError(f'cluster "{name}" ended by itself (exit code {code})', f"see {state.server_log}")
        report.say(f'cluster "{name}" was stopped')
    except KeyboardInterrupt:
        # A second Ctrl-C must not leave things half done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        report.say("\n  stopping ...")
        running.stop()
    finally:
        if not detach:
            lifecycle.restore_kubeconfig(state)
            if ephemeral:
                lifecycle.delete(state)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _down(name: str, state_dir: str | None) -> str:
    own = "" if name == DEFAULT_NAME else f" --name {name}"
    return f"hatchway down{own}" + (f" --state-dir {state_dir}" if state_dir else "")


class _Report:
    """Prints what happens: for people as it happens, for programs once, when all is ready.

    path: the kubeconfig that the cluster's context is written to.
    output: text, or what `print_data` knows, or name.
    """

    def __init__(self, state: StateDir, path: Path, output: str) -> None:
        self._state = state
        self._path = path
        self._output = output
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line for people: on standard error when standard output is for a program."""
        if self._output == "text":
            say(text)
        else:
            click.echo(text, err=True)

    def runs_already(self, asked: lifecycle.Options) -> None:
        self.say(f'  cluster "{self._state.path.name}" runs already; `hatchway down` ends it')
        config = self._state.load_config()
        if config is not None and (differing := asked.differing(config)):
            self.say(f"  {', '.join(differing)}: not changed while it runs")

    def progress(self, event: dict[str, Any]) -> None:
        """Print what the control plane says while it starts (`lifecycle.Progress`)."""
        match event["event"]:
            case "api":
                seconds = time.monotonic() - self._began
                self.say(f"  {tick()} API server      {event['server']}      {seconds:.1f} s")
                if event["instead_of"]:
                    taken = f"port {event['instead_of']} is taken; this cluster keeps this one from now on"
                    self.say(f"                    {taken}")
            case "nodes":
                self.say(f"  {tick()} nodes           {', '.join(event['names'])}")
                if event["limits"]:
                    self.say(f"                    {event['limits']}")
            case "built-in":
                self.say(f"  {tick()} built-in        {', '.join(event['names'])}")

    def ready(self, run: dict[str, Any]) -> None:
        """Write the kubeconfig, and print where everything is."""
        context = lifecycle.write_kubeconfig(self._state, self._path, run["server"])
        shown = options.shown_path(self._path)
        self.say(f'  kubeconfig        context "{context}" written to {shown} and made current')
        if self._output == "text":
            say(f"  Kubernetes control plane is running at {run['server']}")
            for found in run["built_in"]:
                say(f"  {found['name']} is running at {found['url']}")
            for problem in run.get("problems", ()):
                say(f"  not as it should be: {problem}")
        elif self._output == "name":
            say(self._state.path.name)
        else:
            found = {
                "name": self._state.path.name,
                "server": run["server"],
                "context": context,
                "kubeconfig": str(self._path),
                "state": str(self._state.path),
                "built_in": run["built_in"],
                "problems": run.get("problems", []),
            }
            print_data(found, self._output)
            sys.stdout.flush()
