"""`hatchway man`: prints the manual page, which is made from the texts of --help."""

from __future__ import annotations

import re

import click

from hatchway import __version__
from hatchway.cli import options
from hatchway.cli.app import PROGRAM, app
from hatchway.cli.commandgroup import leaf_commands
from hatchway.cli.usage import own_options_first


@click.command(
    short_help="Print the manual page.",
    epilog=options.examples("""
    hatchway man | man -l -
    hatchway man >~/.local/share/man/man1/hatchway.1
    """),
)
def man() -> None:
    """Print the manual page, as roff: every command with its options and examples."""
    click.echo(manual())


def manual() -> str:
    """Return the page of all commands, in man(7) format."""
    root = click.Context(app, info_name=PROGRAM)
    summary = (app.help or "").strip().rstrip(".")
    lines = [
        f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}" "User Commands"',
        ".SH NAME",
        f"{PROGRAM} \\- {_escaped(summary)}",
        ".SH SYNOPSIS",
        f".B {PROGRAM}",
        "COMMAND [OPTIONS] [ARGUMENTS]",
        ".SH COMMANDS",
    ]
    for name, context in leaf_commands(app, root):
        lines += _command(name, context)
    lines += [
        ".SH FILES",
        ".TP",
        "~/.local/state/hatchway/NAME/",
        "The data of the embedded cluster NAME; --state-dir and $HATCHWAY_STATE_DIR choose another place.",
        ".TP",
        "~/.local/state/hatchway/.images/",
        "The images that `hatchway image` shows, for all clusters; in the same place.",
        ".TP",
        "~/.kube/config",
        "The kubeconfig with the contexts; `hatchway up` writes to it. --kubeconfig and $KUBECONFIG choose others.",
        ".SH EXIT STATUS",
        "0 on success, 1 when the command failed, 2 when the command line is not valid, 130 after Ctrl\\-C; "
        "`hatchway status` has its own codes.",
    ]
    return "\n".join(lines)


def _command(name: str, ctx: click.Context) -> list[str]:
    command = ctx.command
    arguments = " ".join(command.collect_usage_pieces(ctx))
    lines = [f".SS {PROGRAM} {name} {_escaped(arguments)}"]
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        lines += [_escaped(" ".join(paragraph.split())), ".PP"]
    for parameter in own_options_first(command.params):
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            lines += [".TP", f".B {_escaped(record[0])}", _escaped(" ".join(record[1].split()))]
    found = re.search(r"\x08\n(.*)", command.epilog or "", re.DOTALL)
    if found:
        lines += [".PP", "Examples:", ".PP", ".nf"]
        lines += [_escaped(line) for line in found[1].splitlines()]
        lines += [".fi"]
    return lines


def _escaped(text: str) -> str:
    """Return the text with everything escaped that roff would interpret (backslashes, hyphens, a dot at the start)."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
