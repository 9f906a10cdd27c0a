"""Options that several commands share, and their shell completions."""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from hatchway.cli.relayconsent import RelayRequest
from hatchway.cli.usage import Choice, Number
from hatchway.route.relayoptions import DEFAULT_IMAGE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_Function = TypeVar("_Function", bound=Callable[..., Any])

# The maximum number of seconds that completion waits for the cluster, because the shell waits meanwhile.
_PATIENCE = 2.0


def examples(text: str) -> str:
    """Return the examples of a help text: one command per line, without the indentation of the source."""
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in inspect.cleandoc(text).splitlines())


def complete_name(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of this machine's embedded clusters that begin with `incomplete`."""
    from click.shell_completion import CompletionItem

    from hatchway.cluster import inventory
    from hatchway.errors import HatchwayError

    try:
        found = inventory.known(ctx.params.get("state_dir"))
    except HatchwayError:
        return []
    return [CompletionItem(state.path.name) for state in found if state.path.name.startswith(incomplete)]


def complete_context(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the kubeconfig's contexts that begin with `incomplete`; none when the file cannot be read."""
    from click.shell_completion import CompletionItem

    from hatchway.errors import HatchwayError
    from hatchway.kube import kubeconfig

    try:
        contexts = kubeconfig.read(ctx.params.get("kubeconfig")).get("contexts") or []
    except HatchwayError:
        return []
    names = [str(context.get("name", "")) for context in contexts if isinstance(context, dict)]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_namespace(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the cluster's namespaces that begin with `incomplete`; none when the cluster does not answer soon."""
    return _complete_objects(ctx, "namespaces", "", incomplete, namespaced=False)


def complete_target(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the services that begin with `incomplete`; after `pod/` or `node/` the pods or nodes."""
    kind = incomplete.partition("/")[0] if "/" in incomplete else ""
    kinds = {"svc": "services", "service": "services", "pod": "pods", "node": "nodes", "": "services"}
    if kind not in kinds or ":" in incomplete:
        return []
    prefix = f"{kind}/" if kind else ""
    return _complete_objects(ctx, kinds[kind], prefix, incomplete, namespaced=kind != "node")


def complete_workload(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the pods that begin with `incomplete`; after `svc/`, `deploy/` ... the objects of that kind."""
    return _complete_with_pods(ctx, incomplete, "pods")


def complete_forwarded(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the services that begin with `incomplete`; after `pod/`, `deploy/` ... the objects of that kind."""
    return _complete_with_pods(ctx, incomplete, "services")


def _complete_with_pods(ctx: click.Context, incomplete: str, alone: str) -> list[CompletionItem]:
    from hatchway.kube.workload import KINDS

    kind, slash, _rest = incomplete.partition("/")
    resource = KINDS.get(kind) if slash else alone
    if resource is None or ":" in incomplete:
        return []
    return _complete_objects(ctx, resource, f"{kind}/" if slash else "", incomplete, namespaced=True)


def _complete_objects(
    ctx: click.Context, kind: str, prefix: str, incomplete: str, *, namespaced: bool
) -> list[CompletionItem]:
    """Return `prefix` + NAME for a cluster's objects of one kind; only texts that begin with `incomplete`."""
    import asyncio

    from click.shell_completion import CompletionItem

    from hatchway.cli.clusterchoice import choose_cluster
    from hatchway.errors import ApiError, HatchwayError
    from hatchway.kube.connection import Connection

    async def ask() -> list[str]:
        connection = Connection.load(*choose_cluster(dict(ctx.params)))
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
    metavar="NAME",
    envvar="HATCHWAY_NAME",
    show_default=True,
    shell_complete=complete_name,
    help="The cluster's name. [env: HATCHWAY_NAME]",
)
state_dir = click.option(
    "--state-dir",
    metavar="DIRECTORY",
    envvar="HATCHWAY_STATE_DIR",
    show_default="~/.local/state/hatchway",
    help="Where clusters keep their state. [env: HATCHWAY_STATE_DIR]",
)


def kubeconfig(cls: type[click.Option] = click.Option) -> Callable[[Any], Any]:
    """Return the decorator that adds --kubeconfig. cls: the option's class."""
    return click.option(
        "--kubeconfig",
        cls=cls,
        metavar="FILE",
        show_default="$KUBECONFIG or ~/.kube/config",
        help="The kubeconfig file.",
    )


namespace = click.option(
    "--namespace",
    "-n",
    metavar="NAMESPACE",
    show_default="the context's",
    shell_complete=complete_namespace,
    help="The namespace.",
)
container = click.option(
    "--container",
    "-c",
    default="",
    metavar="NAME",
    show_default="the pod's default one, or its first",
    help="The container.",
)
door_port = click.option(
    "--port", type=Number(1, 65535, "port"), default=8001, show_default=True, help="The door's port."
)


def output(*formats: str) -> Callable[[_Function], _Function]:
    """Add the option -o. formats: its values; the first is the default."""
    return click.option(
        "--output", "-o", type=Choice(*formats), default=formats[0], show_default=True, help="How to print."
    )


def shown_path(path: Path) -> str:
    """Return the path with the home directory written as ~."""
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home + "/") else str(path)


def ssh_options(function: _Function) -> _Function:
    """Add `--ssh` and `--ssh-jump`, which become the argument `ssh`: an SshDestination, or None."""

    @functools.wraps(function)
    def parsed(*args: Any, ssh: str, ssh_jump: str, **rest: Any) -> Any:
        from hatchway.errors import HatchwayError
        from hatchway.route.sshdestination import SshDestination

        if ssh_jump and not ssh:
            raise HatchwayError("--ssh-jump needs a node to log in to", "add --ssh USER@HOST")
        if ssh and importlib.util.find_spec("asyncssh") is None:
            raise HatchwayError("--ssh needs the package asyncssh", "install it: pip install asyncssh")
        return function(*args, ssh=SshDestination.parse(ssh, ssh_jump) if ssh else None, **rest)

    for option in (
        click.option(
            "--ssh-jump", metavar="[USER@]HOST[:PORT]", default="", help="Log in to the node through this host."
        ),
        click.option(
            "--ssh",
            metavar="[USER@]HOST[:PORT]",
            default="",
            help="Reach targets from this node, by SSH, with your ~/.ssh/config, keys, agent and known_hosts.",
        ),
    ):
        parsed = option(parsed)
    return cast(_Function, parsed)


def relay_options(function: _Function) -> _Function:
    """Add `--relay` and its further options, which become the argument `relay`: a RelayRequest, or None.

    As a decorator it must be written above `ssh_options`, because it reads the argument `ssh`.
    """

    @functools.wraps(function)
    def parsed(
        *args: Any, relay: bool, relay_image: str, relay_namespace: str, yes: bool, ssh: str, **rest: Any
    ) -> Any:
        from hatchway.errors import HatchwayError

        if relay and ssh:
            raise HatchwayError("--relay and --ssh cannot be used together", "leave one of them out")
        if not relay and (relay_image or relay_namespace or yes):
            raise HatchwayError("--relay-image, --relay-namespace and --yes need --relay", "add --relay")
        wanted = RelayRequest(relay_image, relay_namespace, yes) if relay else None
        return function(*args, relay=wanted, ssh=ssh, **rest)

    for option in (
        click.option("--yes", "-y", is_flag=True, help="Make the relay pod without asking."),
        click.option(
            "--relay-namespace",
            metavar="NAMESPACE",
            default="",
            show_default="that of -n",
            shell_complete=complete_namespace,
            help="Where the relay pod is made.",
        ),
        click.option(
            "--relay-image",
            metavar="IMAGE",
            default="",
            show_default=f"{DEFAULT_IMAGE}; in an embedded cluster hatchway/host",
            help="The relay pod's image; it needs python3, 3.8 or later.",
        ),
        click.option(
            "--relay",
            is_flag=True,
            help="Reach targets from a small pod that is made in the cluster, and removed at the end.",
        ),
    ):
        parsed = option(parsed)
    return cast(_Function, parsed)
