"""A group of commands that are imported when they are used."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from hatchway.cli import interrupts, usage


class LazyGroup(click.Group):
    """A group that imports a command only when it is used, because importing all of them takes long."""

    def __init__(
        self,
        *args: Any,
        table: Mapping[str, tuple[str, str]] | None = None,
        other_names: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Make a group.

        table: maps each command's name to its module in this package and the name of the function in it; in the order
            of the help.
        other_names: maps names of commands in other tools to the names here, for error messages.
        """
        super().__init__(*args, **options)
        self._table = table or {}
        self._other_names = other_names or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands that the help shows, in its order."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with this name, or None. Its parameters refuse empty values (`usage.Text`)."""
        if cmd_name not in self._table:
            return None
        file, name = self._table[cmd_name]
        with interrupts.quitting():
            command = getattr(import_module(f"hatchway.cli.{file}"), name)
        assert isinstance(command, click.Command)
        usage.refuse_empty_values(command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. A usage error that has no context gets the command's context."""
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
            [self._other_names[name]]
            if name in self._other_names
            else difflib.get_close_matches(name, self.list_commands(ctx))
        )
        question = f"; did you mean {' or '.join(meant)}?" if meant else ""
        raise click.UsageError(f'there is no command "{self._full_name(ctx, name)}"{question}', ctx)

    def _full_name(self, ctx: click.Context, name: str) -> str:
        """Return the command's name with the names of its groups before it, without the program's name: `image ls`."""
        parents = ctx.command_path.split()[1:]
        return " ".join([*parents, name])


def leaf_commands(group: click.Group, ctx: click.Context) -> list[tuple[str, click.Context]]:
    """Return (full name, context) of each command in a group and its subgroups, in the order of the help.

    A group itself is not returned. A full name is, for example, `image ls`.
    """
    found: list[tuple[str, click.Context]] = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, click.Group):
            found += [(f"{name} {below}", inner) for below, inner in leaf_commands(command, context)]
        else:
            found.append((name, context))
    return found
