"""`hatchway image`: the commands for container images. Each is in its own file."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.commandgroup import LazyGroup

# Maps each command's name to its module in this package and the name of the function in it; in the order of the help.
_COMMANDS = {
    "pull": ("imagepull", "pull"),
    "load": ("imageload", "load"),
    "ls": ("imagels", "ls"),
    "inspect": ("imageinspect", "inspect"),
    "tag": ("imagetag", "tag"),
    "save": ("imagesave", "save"),
    "rm": ("imagerm", "rm"),
    "prune": ("imageprune", "prune"),
}
# Other names of the commands, as in Docker and Podman.
_OTHER_NAMES = {"list": "ls", "images": "ls", "import": "load", "remove": "rm", "rmi": "rm", "export": "save"}


@click.group(
    cls=LazyGroup,
    table=_COMMANDS,
    other_names=_OTHER_NAMES,
    invoke_without_command=True,
    short_help="Pull, load, list, save and remove container images.",
    epilog=options.examples("""
    hatchway image pull nginx:1.27
    hatchway image load web.tar
    hatchway image ls
    hatchway image rm web:1
    """),
)
@click.pass_context
def image(ctx: click.Context) -> None:
    """Pull, load, list, save and remove the container images of this machine's user. All embedded clusters use them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
