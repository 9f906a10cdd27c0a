"""The table of `hatchway`'s commands."""

from __future__ import annotations

import click

from hatchway import __version__
from hatchway.cli.commandgroup import LazyGroup

PROGRAM = "hatchway"

# Maps each command's name to its module in this package and the name of the function in it; in the order of the help.
_COMMANDS = {
    "up": ("up", "up"),
    "status": ("status", "status"),
    "list": ("clusters", "list_clusters"),
    "down": ("down", "down"),
    "proxy": ("proxy", "proxy"),
    "forward": ("forward", "forward"),
    "ls": ("ls", "ls"),
    "url": ("url", "url"),
    "open": ("open", "open_target"),
    "socks": ("socks", "socks"),
    "expose": ("expose", "expose"),
    "exposure": ("exposure", "exposure"),
    "logs": ("logs", "logs"),
    "exec": ("exec", "exec_command"),
    "shell": ("shell", "shell"),
    "cp": ("cp", "cp"),
    "image": ("image", "image"),
    "info": ("info", "info"),
    "token": ("token", "token"),
    "password": ("password", "password"),
    "completion": ("completion", "completion"),
    "man": ("man", "man"),
    "version": ("version", "version"),
}
# Maps names of commands in other tools to Hatchway's names.
_OTHER_NAMES = {
    "start": "up",
    "stop": "down",
    "delete": "down",
    "clusters": "list",
    "cluster-info": "info",
    "get": "ls",
    "images": "image ls",
    "pull": "image pull",
    "load": "image load",
    "save": "image save",
    "tag": "image tag",
    "rmi": "image rm",
    "prune": "image prune",
    "port-forward": "forward",
}


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    table=_COMMANDS,
    other_names=_OTHER_NAMES,
    name=PROGRAM,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`hatchway COMMAND --help` has examples. `hatchway man` prints a manual page of all commands.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """Reach what runs inside a Kubernetes cluster from outside it."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
