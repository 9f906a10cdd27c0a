"""`hatchway completion`: prints the script with which a shell completes Hatchway's commands."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.app import PROGRAM, app
from hatchway.cli.usage import Choice

SHELLS = ("bash", "zsh", "fish")


@click.command(
    short_help="Print the completion script of a shell.",
    epilog=options.examples("""
    source <(hatchway completion bash)                                        # this shell
    hatchway completion bash >~/.local/share/bash-completion/completions/hatchway   # all later ones
    hatchway completion zsh >"${fpath[1]}/_hatchway"
    hatchway completion fish >~/.config/fish/completions/hatchway.fish
    """),
)
@click.argument("shell", type=Choice(*SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL (bash, zsh or fish): for commands, options, clusters, contexts and targets.

    The examples show where to put it.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    script = made(app, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source()
    # click's function cuts descriptions at their first comma.
    click.echo(script.replace('string split "," $completion', 'string split --max 1 "," -- $completion'))
