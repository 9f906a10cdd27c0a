"""The command line: one file per command, no logic of its own."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script `hatchway`. Errors for people are one line and a hint on standard error, exit code 1."""
    from hatchway.cli.app import make_app
    from hatchway.errors import HatchwayError
    from hatchway.files import NO_ROOM

    command, *arguments = sys.argv[1:] or [""]
    if command == "proxy":
        arguments = _switched(arguments)
    try:
        make_app(command)([command, *arguments] if command else [], prog_name="hatchway")
    except HatchwayError as error:
        print(f"hatchway: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`head`, a pager) has left: nothing more to say, and nobody to say it to.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"hatchway: cannot write {error.filename or 'to the disk'}: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _switched(arguments: list[str]) -> list[str]:
    """`--disable-filter=true` and `=false` as Go's flags know them; what is neither is left for the parser to refuse."""
    from hatchway.cli.proxy import SWITCHES

    kept = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in SWITCHES and value.lower() in ("true", "t", "1", "false", "f", "0"):
            if value.lower() in ("true", "t", "1"):
                kept.append(name)
        else:
            kept.append(argument)
    return kept
