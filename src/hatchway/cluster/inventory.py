"""The embedded clusters of this machine: checks their names, lists them, and finds their contexts and states."""

from __future__ import annotations

import contextlib
import re
import shlex
from typing import Any

from hatchway.cluster.state import DEFAULT_NAME, StateDir
from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?\Z")


def context_name(name: str) -> str:
    """Return the kubeconfig context of a cluster: `hatchway` for the default cluster, `hatchway-NAME` for others."""
    return name if name == DEFAULT_NAME else f"{DEFAULT_NAME}-{name}"


def check_name(name: str) -> str:
    """Check a cluster's name, and return it. Raises HatchwayError.

    The name must be a DNS label, because it becomes the name of a directory and of a kubeconfig context.
    """
    if not _NAME.match(name):
        raise HatchwayError(f'"{name}" cannot be a cluster\'s name', "use small letters, digits and hyphens")
    return name


def require(state: StateDir) -> None:
    """Raise HatchwayError when there is no such cluster."""
    if not state.config_file.exists():
        raise missing(state)


def known(state_dir: str | None = None) -> list[StateDir]:
    """Return the clusters that have state, sorted by name.

    Args:
        state_dir: the directory of the clusters' state; None for the default (`StateDir.for_name`).

    Raises:
        HatchwayError: the directory exists, but cannot be read.
    """
    base = StateDir.for_name(DEFAULT_NAME, state_dir).path.parent
    try:
        return [state for path in sorted(base.iterdir()) if (state := StateDir(path)).config_file.exists()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HatchwayError(
            f"cannot read the state directory {base}: {error.strerror}", f"`ls -ld {base}` shows its owner"
        ) from error


def summary(state: StateDir) -> dict[str, Any]:
    """Return the entry of a cluster in `hatchway list`.

    Returns:
        name: its name.
        status: "running", "stopped", "changing" (it is starting or stopping) or "unreadable" (its files are damaged).
        server: the URL of its API server; None unless it runs.
        context: its context in the kubeconfig; None without one.
        directory: the directory of its state.
        ephemeral: whether `hatchway down` removes its state; None when its configuration is not readable.
    """
    server = context = ephemeral = None
    try:
        running = state.running()
        run = state.load_run() if running else None
        status = "stopped" if not running else "changing" if run is None or state.is_ending() else "running"
        server = run.get("server") if run else None
        context = (state.load_kubeconfig() or {}).get("context")
        ephemeral = (config := state.load_config()) is not None and config.ephemeral
    except HatchwayError:
        # The other clusters are listed even if one of them is damaged.
        status = "unreadable"
    return {
        "name": state.path.name,
        "status": status,
        "server": server,
        "context": context,
        "directory": str(state.path),
        "ephemeral": ephemeral,
    }


def find_context(name: str, kubeconfig: str | None = None) -> str:
    """Return the kubeconfig context of the cluster `name`.

    Args:
        kubeconfig: the kubeconfig file; None for $KUBECONFIG, or else ~/.kube/config.

    Raises:
        HatchwayError: the kubeconfig has no such context. The message says why: there is no such cluster, it does not
            run, or its context is in another file.
    """
    context = context_name(check_name(name))
    files = kubeconfig_files.sources(kubeconfig)
    if any(path.exists() for path in files) and any(
        item.get("name") == context for item in kubeconfig_files.read(kubeconfig)["contexts"]
    ):
        return context
    state = StateDir.for_name(name)
    require(state)
    known = state.load_kubeconfig() if state.running() else None
    if known is None:
        raise HatchwayError(f'cluster "{name}" is not running', f"`{command('up', state)}` starts it")
    raise HatchwayError(
        f'there is no context "{context}" of cluster "{name}" in {" or ".join(map(str, files))}',
        f"it is in another file: add --kubeconfig {shlex.quote(known['path'])}",
    )


def missing(state: StateDir) -> HatchwayError:
    """Return the error for a cluster that does not exist. The hint names the clusters that exist."""
    up = command("up", state)
    hint = f"`{up}` makes one"
    with contextlib.suppress(OSError, HatchwayError):
        if others := known(str(state.path.parent)):
            names = ", ".join(f"{one.path.name} ({'running' if one.running() else 'stopped'})" for one in others)
            hint = f"--name takes {names}; `{up}` makes another one"
    return HatchwayError(f'there is no cluster "{state.path.name}" in {state.path.parent}', hint)


def command(verb: str, state: StateDir) -> str:
    """Return a command line for hints, such as `hatchway up --name shop`. verb: the command, such as "up"."""
    name = state.path.name
    line = f"hatchway {verb}" + ("" if name == DEFAULT_NAME else f" --name {name}")
    usual = StateDir.for_name(name).path == state.path
    return line if usual else f"{line} --state-dir {shlex.quote(str(state.path.parent))}"
