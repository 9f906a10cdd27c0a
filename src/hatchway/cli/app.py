"""The table of `hatchway`'s commands."""

from __future__ import annotations

import difflib
from importlib import import_module

import click

from hatchway import __version__
from hatchway.cli import interrupts

PROGRAM = "hatchway"

# From each command's name to its module in this package and the name of the function in it; in the order of the help.
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
# From names of commands in other tools to Hatchway's names.
_OTHER_NAMES = {
    "start": "up",
    "stop": "down",
    "delete": "down",
    "clusters": "list",
    "cluster-info": "info",
    "get": "ls",
}


class Commands(click.Group):
    """The commands. Each is imported only when it is used: to import all takes longer than most commands run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that the help shows, in its order."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name; None when there is none."""
        if cmd_name not in _COMMANDS:
            return None
        file, name = _COMMANDS[cmd_name]
        with interrupts.quitting():
            command = getattr(import_module(f"hatchway.cli.{file}"), name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Set the command's context in usage errors for which click's parser has not set it."""
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
        """Return (name, command, the other arguments). Raises click.UsageError, which suggests similar commands."""
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
