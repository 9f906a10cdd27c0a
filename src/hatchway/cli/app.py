"""All commands of `hatchway`, by the file that each stands in."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from hatchway import __version__

# In the order of the help. Each is a file of this package, with a function of the second name.
_COMMANDS = {
    "up": "up",
    "status": "status",
    "down": "down",
    "proxy": "proxy",
    "ls": "ls",
    "url": "url",
    "info": "info",
    "token": "token",
    "password": "password",
    "open": "open_target",
    "forward": "forward",
}
# The portal shows its lines already.
_HIDDEN = frozenset({"forward"})


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hatchway {__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def make_app(argument: str = "") -> typer.Typer:
    """The application; with only the one command that the first argument names, where it names one.

    To import and prepare the others would take longer than most commands run.
    """
    app = typer.Typer(
        name="hatchway",
        help="Reach what runs inside a Kubernetes cluster from outside it.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_main)
    for name in [argument] if argument in _COMMANDS else _COMMANDS:
        app.command(name, hidden=name in _HIDDEN)(getattr(import_module(f"hatchway.cli.{name}"), _COMMANDS[name]))
    return app
