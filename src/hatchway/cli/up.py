"""`hatchway up`: starts an embedded cluster."""

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
from hatchway.cluster import commandorder, inventory, kubecontext, lifecycle, settingsreport
from hatchway.cluster.addonnames import ADDONS, ALL, NONE, parse_list
from hatchway.cluster.cleanup import clean_up
from hatchway.cluster.network.egress import tools
from hatchway.cluster.serverlog import log_hint
from hatchway.cluster.startoptions import Options, check_host_paths, check_publish
from hatchway.cluster.state import DEFAULT_NAME, ClusterConfig, StateDir
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files
from hatchway.printable import printable, printable_lines


class _AddonList(click.ParamType):  # type: ignore[type-arg]
    """A list of add-ons: names with commas between them, `all` or `none`."""

    name = "addons"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the list as `parse_list` does. Raises click.BadParameter."""
        if isinstance(value, list):
            return value
        try:
            return parse_list(str(value))
        except HatchwayError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the placeholder for the value in the help."""
        return "LIST"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return the lists that begin with `incomplete` and have one more name."""
        from click.shell_completion import CompletionItem

        before, comma, word = incomplete.rpartition(",")
        known = before.split(",") if comma else []
        words = ADDONS if comma else (*ADDONS, ALL, NONE)
        found = [name for name in words if name.startswith(word) and name not in known]
        return [CompletionItem(f"{before}{comma}{name}") for name in found]


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
@options.kubeconfig()
@click.option(
    "--api-port",
    type=Number(0, 65535, "port"),
    show_default="6443, or a free one",
    help="The API server's port, 0 for any.",
)
@click.option("--nodes", type=Number(0, 50), show_default="2", help="The number of workers beside the control plane.")
@click.option(
    "--addons",
    type=_AddonList(),
    is_flag=False,
    flag_value=ALL,
    show_default="all",
    help=f"The add-ons that run: all, none, or names separated by commas: {', '.join(ADDONS)}.",
)
@click.option("--no-addons", is_flag=True, help="The same as --addons none.")
@click.option("--detach", "-d", is_flag=True, help="Run the cluster in the background.")
@click.option("--ephemeral", is_flag=True, help="Delete the cluster's objects and data when it stops; images stay.")
@click.option(
    "--network",
    type=Choice("auto", "private", "loopback"),
    show_default="auto",
    help="auto: a private network where this machine allows it, else loopback addresses.",
)
@click.option(
    "--rewrite",
    type=Choice("full", "kubernetes", "off"),
    show_default="full",
    help="What the proxy verb changes in answers: full makes web applications work, kubernetes is what kube-apiserver "
    "does, off changes nothing.",
)
@click.option(
    "--host-path",
    multiple=True,
    metavar="DIR",
    show_default="none: nodes have a file system of their own",
    help='Open a directory of this machine to hostPath volumes, writable; may be repeated. "none" closes all of them.',
)
@click.option(
    "--publish",
    multiple=True,
    metavar="ADDRESS",
    show_default="127.0.0.1 only",
    help='Open node ports also on this address of this machine; may be repeated. "none" removes all such addresses.',
)
@click.option(
    "--host-programs/--no-host-programs",
    default=None,
    show_default="only that of hatchway/host",
    help="Run each container that has the field `command` with this machine's programs, whatever its image is; for "
    "machines without a registry.",
)
@click.option(
    "--egress",
    type=Choice(*tools.CHOICES),
    show_default="auto",
    help="How pods reach other networks: auto uses pasta or slirp4netns where one is installed, none keeps pods inside "
    "the cluster.",
)
@click.option(
    "--egress-to-host/--no-egress-to-host",
    default=None,
    help="Pods may also reach this machine's own addresses (never its loopback).  [default: no-egress-to-host]",
)
@options.output("text", "name", "json", "yaml")
def up(
    name: str,
    state_dir: str | None,
    kubeconfig: str | None,
    api_port: int | None,
    nodes: int | None,
    addons: list[str] | None,
    no_addons: bool,
    detach: bool,
    ephemeral: bool,
    network: str | None,
    rewrite: str | None,
    host_path: tuple[str, ...],
    publish: tuple[str, ...],
    host_programs: bool | None,
    egress: str | None,
    egress_to_host: bool | None,
    output: str,
) -> None:
    """Start a cluster in seconds: API server, nodes, DNS, logging, metrics, dashboards. Ctrl-C ends it.

    With -o name, json or yaml the only output is a description of the cluster, which is printed when it is ready.
    """
    if no_addons and addons:
        raise HatchwayError("--addons and --no-addons exclude each other")
    state = StateDir.for_name(inventory.check_name(name), state_dir)
    path = kubeconfig_files.default_path(kubeconfig)
    # Checked before anything is started: the cluster's context must be written into this file later.
    kubeconfig_files.check(path)
    asked = Options(
        api_port=api_port,
        workers=nodes,
        addons=[] if no_addons else addons,
        network=network,
        rewrite=rewrite,
        ephemeral=ephemeral,
        host_paths=check_host_paths(state, list(host_path)) if host_path else None,
        publish=check_publish(list(publish)) if publish else None,
        host_programs=host_programs,
        egress=egress,
        egress_to_host=egress_to_host,
    )
    report = _StartPrinter(state, path, output, _down(name, state_dir))
    with commandorder.starting(state, lambda what: report.say(f"  {what} ...")):
        run = commandorder.settle(state)
        if run is not None:
            report.print_runs_already(asked)
            report.ready(run)
            return
        # SIGTERM (`kill`) and SIGHUP (a closed terminal) stop the cluster in the same way as Ctrl-C.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            running = lifecycle.start(state, asked, attached=not detach, progress=report.progress)
        except KeyboardInterrupt as interrupt:
            click.echo(f'hatchway: cluster "{name}" was interrupted while it was starting', err=True)
            # 128 + the signal's number, as in shells.
            click.get_current_context().exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))
        try:
            # Under the lock: another command that starts or stops the cluster would also change the kubeconfig.
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
        _end(state, None, report, ephemeral=ephemeral)
        if code:
            raise HatchwayError(f'cluster "{name}" ended by itself (exit code {code})', log_hint(state))
        report.say(f'cluster "{name}" was stopped')
    except KeyboardInterrupt:
        # A second Ctrl-C must not interrupt the clean-up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        report.say("\n  stopping ...")
        _end(state, running, report, ephemeral=ephemeral)


def _end(state: StateDir, running: lifecycle.Running | None, report: _StartPrinter, *, ephemeral: bool) -> None:
    """Stop the cluster that this command has started (None if it has ended), and remove its kubeconfig context."""
    with commandorder.ending(state):
        if running is not None:
            running.stop()
        if state.running() or state.starter() is not None:
            # Another command has started the cluster again, so the context and the state belong to that command now.
            return
        failure = clean_up(state, delete=ephemeral)
        if ephemeral:
            report.say(f"  {settingsreport.removed(state)}")
        if failure is not None:
            raise failure


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


def _down(name: str, state_dir: str | None) -> str:
    own = "" if name == DEFAULT_NAME else f" --name {name}"
    return f"hatchway down{own}" + (f" --state-dir {state_dir}" if state_dir else "")


class _StartPrinter:
    """Prints the progress for users; for programs, prints one document when the cluster is ready.

    path: the kubeconfig to which the cluster's context is written.
    output: text, name, or a format of `print_data`.
    down: the command that ends the cluster.
    """

    def __init__(self, state: StateDir, path: Path, output: str, down: str) -> None:
        self._state = state
        self._down = down
        self._path = path
        self._output = output
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line for users; on standard error when standard output is for a program."""
        if self._output == "text":
            say(text)
        else:
            click.echo(printable_lines(text), err=True)

    def print_runs_already(self, asked: Options) -> None:
        """Print that the cluster is already running, and which of the given options have no effect."""
        self.say(f'  cluster "{self._state.path.name}" runs already; `{self._down}` ends it')
        config = self._state.load_config()
        if config is not None and (differing := asked.differing(config)):
            self.say(f"  {', '.join(differing)}: not changed while it runs")

    def progress(self, event: dict[str, Any]) -> None:
        """Print an event that the control plane reports while it starts (`lifecycle.Progress`)."""
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
            case "removed":
                self.say(f"  {tick()} switched off    {', '.join(event['names'])}: their objects were removed")
            case "built-in":
                self.say(f"  {tick()} built-in        {', '.join(event['names'])}")
            case "first-use":
                self.say(f"  - on first use    {', '.join(event['names'])}")

    def ready(self, run: dict[str, Any]) -> None:
        """Write the kubeconfig, and print the addresses of the cluster and its services."""
        context = kubecontext.write_kubeconfig(self._state, self._path, run["server"])
        shown = options.shown_path(self._path)
        config = self._state.load_config()
        if config is not None:
            self._print_settings(config)
        self.say(f'  kubeconfig        context "{context}" written to {shown} and made current')
        if self._output == "text":
            say(f"  Kubernetes control plane is running at {run['server']}")
            for found in run["built_in"]:
                what = "starts on first use" if found["starts_on_first_use"] else "is running"
                say(f"  {found['name']} {what} at {found['url']}")
            for problem in run.get("problems", ()):
                say(f"  problem: {printable(problem)}")
        elif self._output == "name":
            say(self._state.path.name)
        else:
            found = {
                "name": self._state.path.name,
                "server": run["server"],
                "context": context,
                "kubeconfig": str(self._path),
                "state": str(self._state.path),
                **(settingsreport.settings(config) if config is not None else {}),
                "addons": run["addons"],
                "built_in": run["built_in"],
                "problems": run.get("problems", []),
            }
            print_data(found, self._output)
            sys.stdout.flush()

    def _print_settings(self, config: ClusterConfig) -> None:
        """Print the settings of the cluster that its users must know of (`settingsreport`)."""
        told = settingsreport.lines(settingsreport.settings(config))
        if egress := settingsreport.egress_at_start(self._state.load_egress(), config):
            told.append(("egress", egress))
        for label, text in told:
            self.say(f"  {label:<17} {printable(text)}")
