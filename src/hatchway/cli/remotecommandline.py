"""Parses a command line that has a remote command after `--`."""

from __future__ import annotations

import click

from hatchway.cli.usage import GoFlagsCommand

# The key in `click.Context.meta` for the arguments after `--`.
_KEY = "hatchway.cli.remotecommandline"


class RemoteCommandLine(GoFlagsCommand):
    """`hatchway exec [OPTIONS] TARGET -- COMMAND`: only the part before `--` is parsed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments before `--`. `behind_dashes` returns the arguments after it."""
        at = args.index("--") if "--" in args else len(args)
        ctx.meta[_KEY] = args[at + 1 :]
        try:
            return super().parse_args(ctx, args[:at])
        except click.UsageError as error:
            if at == len(args) and "unexpected extra argument" in error.message:
                raise click.UsageError("the command must follow `--`: TARGET -- COMMAND", ctx) from error
            raise

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the pieces of the usage line."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND..."]


def behind_dashes(ctx: click.Context) -> list[str]:
    """Return the arguments after `--`."""
    found: list[str] = ctx.meta[_KEY]
    return found
