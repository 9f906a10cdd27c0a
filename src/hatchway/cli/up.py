"""`hatchway up`: start an embedded cluster."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from hatchway.cli.options import Kubeconfig, Name, StatePath, say, tick
from hatchway.cluster import lifecycle
from hatchway.cluster.state import DEFAULT_NAME, StateDir
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files


def up(
    name: Name = DEFAULT_NAME,
    state_dir: StatePath = None,
    kubeconfig: Kubeconfig = None,
    api_port: Annotated[
        int | None,
        typer.Option(help="The API server's port, 0 for any.", min=0, max=65535, show_default="6443, or a free one"),
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(help="Workers beside the control plane.", min=0, max=50, show_default="2")
    ] = None,
    addons: Annotated[
        bool | None, typer.Option("--addons/--no-addons", help="DNS and logging.", show_default="addons")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running and return.")] = False,
    ephemeral: Annotated[bool, typer.Option(help="Keep nothing when it stops.")] = False,
    network: Annotated[
        str | None,
        typer.Option(help="private, loopback, or auto: private where this machine allows it.", show_default="auto"),
    ] = None,
    rewrite: Annotated[
        str | None,
        typer.Option(
            help="Answers of the proxy verb: full makes web applications work, kubernetes is what kube-apiserver does, off.",
            show_default="full",
        ),
    ] = None,
    host_path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="Open a directory of this machine to hostPath volumes, writable; may be repeated.",
            show_default="none: nodes have a file system of their own",
        ),
    ] = None,
) -> None:
    """Start a cluster in seconds: API server, nodes, DNS and logging. Ctrl-C ends it."""
    if network not in (None, "auto", "private", "loopback"):
        raise typer.BadParameter("choose auto, private or loopback", param_hint="--network")
    if rewrite not in (None, "full", "kubernetes", "off"):
        raise typer.BadParameter("choose full, kubernetes or off", param_hint="--rewrite")
    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    path = kubeconfig_files.default_path(kubeconfig)
    # Before anything is started: a file that cannot be merged into is a reason not to begin.
    kubeconfig_files.check(path)
    options = lifecycle.Options(
        api_port=api_port,
        workers=nodes,
        addons=addons,
        network=network,
        rewrite=rewrite,
        host_paths=lifecycle.check_host_paths(state, host_path) if host_path else None,
        ephemeral=ephemeral,
    )
    with lifecycle.starting(state, lambda: say("  another `hatchway up` is starting it ...")):
        run = lifecycle.settle(state)
        if run is not None:
            _already(state, options)
            _finish(state, path, run)
            return
        # kill and a closed terminal end it as cleanly as Ctrl-C does.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        began = time.monotonic()
        try:
            running = lifecycle.start(
                state, options, attached=not detach, progress=lambda event: _show(event, time.monotonic() - began)
            )
        except KeyboardInterrupt:
            raise HatchwayError(f'cluster "{name}" was interrupted while it was starting') from None
        try:
            # Before anybody else may start or end it, since that changes the kubeconfig, too.
            _finish(state, path, running.run)
        except BaseException:
            running.stop()
            raise
    try:
        if detach:
            running.detach()
            say(f"  `{_down(name, state_dir)}` ends it")
            return
        say("  Ctrl-C ends it")
        code = running.wait()
        if code:
            raise HatchwayError(f'cluster "{name}" ended by itself (exit code {code})', f"see {state.server_log}")
        say(f'cluster "{name}" was stopped')
    except KeyboardInterrupt:
        # A second Ctrl-C must not leave things half done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say("\n  stopping ...")
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


def _already(state: StateDir, options: lifecycle.Options) -> None:
    say(f'  cluster "{state.path.name}" runs already; `hatchway down` ends it')
    config = state.load_config()
    if config is not None and (differing := options.differing(config)):
        say(f"  {', '.join(differing)}: not changed while it runs")


def _show(event: dict[str, Any], seconds: float) -> None:
    match event["event"]:
        case "api":
            say(f"  {tick()} API server      {event['server']}      {seconds:.1f} s")
            if event["instead_of"]:
                say(f"                    port {event['instead_of']} is taken; this cluster keeps this one from now on")
        case "nodes":
            say(f"  {tick()} nodes           {', '.join(event['names'])}")
            if event["limits"]:
                say(f"                    {event['limits']}")
        case "built-in":
            say(f"  {tick()} built-in        {', '.join(event['names'])}")


def _finish(state: StateDir, path: Path, run: dict[str, Any]) -> None:
    context = lifecycle.write_kubeconfig(state, path, run["server"])
    home = str(Path.home())
    shown = str(path).replace(home, "~", 1) if str(path).startswith(home + "/") else str(path)
    say(f'  kubeconfig        context "{context}" written to {shown} and made current')
    say(f"  Kubernetes control plane is running at {run['server']}")
    for found in run["built_in"]:
        say(f"  {found['name']} is running at {found['url']}")
    for problem in run.get("problems", ()):
        say(f"  not as it should be: {problem}")
