"""Options that several commands share, and what they complete to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hatchway.cli.usage import Choice, Number

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Function = TypeVar("_Function", bound=Callable[..., Any])

# A shell waits for its completions: a cluster that does not answer soon completes to nothing.
_PATIENCE = 2.0


def examples(text: str) -> str:
    """Return a help text's examples: one command a line, blank lines and indentation of the source left out."""
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in inspect.cleandoc(text).splitlines())


def _complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from hatchway.cluster import lifecycle

    found = lifecycle.known(ctx.params.get("state_dir"))
    return [CompletionItem(state.path.name) for state in found if state.path.name.startswith(incomplete)]


def _complete_context(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from hatchway.errors import HatchwayError
    from hatchway.kube import kubeconfig

    try:
        contexts = kubeconfig.read(ctx.params.get("kubeconfig")).get("contexts") or []
    except HatchwayError:
        return []
    names = [str(context.get("name", "")) for context in contexts if isinstance(context, dict)]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _complete_namespace(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete_objects(ctx, "namespaces", "", incomplete, namespaced=False)


def complete_target(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the services, or with `pod/` or `node/` the pods or nodes, that begin like `incomplete`."""
    kind = incomplete.partition("/")[0] if "/" in incomplete else ""
    kinds = {"svc": "services", "service": "services", "pod": "pods", "node": "nodes", "": "services"}
    if kind not in kinds or ":" in incomplete:
        return []
    prefix = f"{kind}/" if kind else ""
    return _complete_objects(ctx, kinds[kind], prefix, incomplete, namespaced=kind != "node")


def _complete_objects(
    ctx: click.Context, kind: str, prefix: str, incomplete: str, *, namespaced: bool
) -> list[CompletionItem]:
    """Return the names of a cluster's objects of one kind, `prefix` before each, that begin like `incomplete`."""
    import asyncio

    from click.shell_completion import CompletionItem

    from hatchway.errors import ApiError, HatchwayError
    from hatchway.kube.connection import Connection

    async def ask() -> list[str]:
        connection = Connection.load(
            ctx.params.get("kubeconfig"), context_of(ctx.params.get("name"), ctx.params.get("context"))
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                space = (ctx.params.get("namespace") or connection.namespace) if namespaced else None
                return [prefix + found["metadata"]["name"] for found in await connection.client.list(kind, space)]
        finally:
            await connection.aclose()

    try:
        names = asyncio.run(ask())
    except (HatchwayError, ApiError, TimeoutError):
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


own_name = click.option(
    "--name",
    default="hatchway",
    envvar="HATCHWAY_NAME",
    show_default=True,
    shell_complete=_complete_name,
    help="The cluster's name. [env: HATCHWAY_NAME]",
)
state_dir = click.option(
    "--state-dir",
    metavar="DIRECTORY",
    envvar="HATCHWAY_STATE_DIR",
    show_default="~/.local/state/hatchway",
    help="Where clusters keep their state. [env: HATCHWAY_STATE_DIR]",
)
kubeconfig = click.option(
    "--kubeconfig",
    metavar="FILE",
    show_default="$KUBECONFIG or ~/.kube/config",
    help="The kubeconfig file.",
)
namespace = click.option(
    "--namespace",
    "-n",
    metavar="NAMESPACE",
    show_default="the context's",
    shell_complete=_complete_namespace,
    help="The target's namespace.",
)
door_port = click.option(
    "--port", type=Number(1, 65535, "port"), default=8001, show_default=True, help="The door's port."
)


def of_cluster(function: _Function) -> _Function:
    """Add the options that choose a cluster of the kubeconfig: --kubeconfig, --context, --name."""
    for option in (
        click.option(
            "--name",
            shell_complete=_complete_name,
            help="The embedded cluster of this name; instead of --context.",
        ),
        click.option(
            "--context",
            show_default="the current one",
            shell_complete=_complete_context,
            help="The kubeconfig's context.",
        ),
        kubeconfig,
    ):
        function = option(function)
    return function


def output(*formats: str) -> Callable[[_Function], _Function]:
    """Add -o; formats: the words that it takes, the first is the default."""
    return click.option(
        "--output", "-o", type=Choice(*formats), default=formats[0], show_default=True, help="How to print."
    )


def context_of(name: str | None, context: str | None) -> str | None:
    """Return the kubeconfig's context of the embedded cluster `name`, or `context` when no name is given."""
    if not name:
        return context
    from hatchway.cluster import lifecycle

    return lifecycle.context_name(lifecycle.check_name(name))


def shown_path(path: Path) -> str:
    """Return the path with the home directory written as ~."""
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home + "/") else str(path)
