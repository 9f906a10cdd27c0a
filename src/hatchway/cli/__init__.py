"""The command line: one file per command, no logic of its own."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the console script `hatchway`.

    Errors for people are one line and a hint on standard error. Exit codes: 1 for what failed, 2 for a command line that
    cannot be understood, 130 after Ctrl-C.
    """
    import click

    from hatchway.cli.app import PROGRAM, app
    from hatchway.cli.usage import explain
    from hatchway.errors import HatchwayError
    from hatchway.files import NO_ROOM

    try:
        status = app.main(sys.argv[1:], prog_name=PROGRAM, standalone_mode=False)
    except click.UsageError as error:
        _complain(*explain(error))
        sys.exit(2)
    except click.ClickException as error:
        _complain(error.format_message(), "")
        sys.exit(1)
    except HatchwayError as error:
        _complain(error.message, error.hint)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`head`, a pager) has left: nothing more can be printed.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _complain(f"cannot write {error.filename or 'to the disk'}: {error.strerror}", "")
        sys.exit(1)
    # A command that ends with an exit code of its own (`Context.exit`).
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str, hint: str) -> None:
    print(f"hatchway: {message}", file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)
