"""The table of `hatchway`'s commands: which file has which command."""

from __future__ import annotations

import difflib
from importlib import import_module

import click

from hatchway import __version__
from hatchway.cli import interrupts

PROGRAM = "hatchway"

# In the order of the help: the file of this package and the name of the command in it.
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
    "info": ("info", "info"),
    "token": ("token", "token"),
    "password": ("password", "password"),
    "completion": ("completion", "completion"),
    "man": ("man", "man"),
    "version": ("version", "version"),
}
# Commands of other tools, and ours for them.
_OTHER_NAMES = {
    "start": "up",
    "stop": "down",
    "delete": "down",
    "clusters": "list",
    "cluster-info": "info",
    "get": "ls",
}


class Commands(click.Group):
    """The commands, each imported only when it is used: importing all would take longer than most commands run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that the help shows, in its order."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, None where there is none."""
        if cmd_name not in _COMMANDS:
            return None
        file, name = _COMMANDS[cmd_name]
        with interrupts.quitting():
            command = getattr(import_module(f"hatchway.cli.{file}"), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An error in its options belongs to it, also where click's parser does not say so."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            name = ctx.invoked_subcommand
            if error.ctx is None and name and (command := self.get_command(ctx, name)) is not None:
                error.ctx = click.Context(command, parent=ctx, info_name=name)
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return (name, command, the other arguments). Raises click.UsageError with what may have been meant."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is not None:
            return name, command, args[1:]
        if name.startswith("-"):
            raise click.NoSuchOption(name, ctx=ctx)
        meant = (
            [_OTHER_NAMES[name]] if name in _OTHER_NAMES else difflib.get_close_matches(name, self.list_commands(ctx))
        )
        question = f"; did you mean {' or '.join(meant)}?" if meant else ""
        raise click.UsageError(f'there is no command "{name}"{question}', ctx)


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    name=PROGRAM,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`hatchway COMMAND --help` has examples. `hatchway man` prints a manual page of all of it.",
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
