"""All commands of `hatchway`."""

from __future__ import annotations

from typing import Annotated

import typer

from hatchway import __version__
from hatchway.cli import down, forward, info, ls, password, proxy, status, token, up, url
from hatchway.cli import open as opening

app = typer.Typer(
    name="hatchway",
    help="Reach what runs inside a Kubernetes cluster from outside it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hatchway {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


for command in (
    up.up,
    status.status,
    down.down,
    proxy.proxy,
    ls.ls,
    url.url,
    info.info,
    token.token,
    password.password,
):
    app.command()(command)
app.command("open")(opening.open_target)
# The portal shows its lines already.
app.command("forward", hidden=True)(forward.forward)
