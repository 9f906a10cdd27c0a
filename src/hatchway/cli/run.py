"""Runs one command line, and prints a message and a hint when it fails."""

from __future__ import annotations

import errno
import os
import re
import sys

import click

from hatchway.cli import interrupts, printing
from hatchway.cli.app import PROGRAM, app
from hatchway.cli.usage import explain
from hatchway.errors import HatchwayError
from hatchway.files import NO_ROOM

# Flags whose values are secrets, and a pattern for URLs that contain a password.
_SECRETS = ("--token", "--password")
_USERINFO = re.compile(r"://[^/]*@")
_WHOSE_FILE = {
    errno.EACCES: "`ls -ld` shows its owner",
    errno.EPERM: "`ls -ld` shows its owner",
    errno.ENOTDIR: "there is a file in place of a directory",
    errno.EISDIR: "there is a directory in place of a file",
}


def run() -> int:
    """Run the command line in `sys.argv` and return its exit code."""
    try:
        status = app.main(sys.argv[1:], prog_name=PROGRAM, standalone_mode=False)
        # Flush now, so that an error is reported here and not by Python at exit.
        sys.stdout.flush()
        # The command has set its exit code (`Context.exit`).
        return status if isinstance(status, int) else 0
    except click.UsageError as error:
        _complain(*explain(error))
        return 2
    except click.ClickException as error:
        _complain(error.format_message(), "")
        return 1
    except HatchwayError as error:
        hints = (error.hint, _how_to_try_again() if error.passing else "")
        _complain(error.message, "\n  ".join(hint for hint in hints if hint))
        return 1
    except (KeyboardInterrupt, click.Abort):
        return interrupts.EXIT_CODE
    except BrokenPipeError:
        # The reader (`head`, a pager) has closed its end, so nothing more can be printed.
        printing.drop_output()
        sys.stderr.close()
        return 1
    except OSError as error:
        if error.errno in NO_ROOM:
            _complain(f"cannot write {error.filename or 'the output'}: {error.strerror}", "")
            printing.drop_output()
            return 1
        if error.filename is None:
            raise
        # This error is no fault of Hatchway: the file was named on the command line, or is in a directory of the user.
        _complain(f"cannot use {os.fsdecode(error.filename)}: {error.strerror}", _WHOSE_FILE.get(error.errno or 0, ""))
        return 1
    finally:
        interrupts.leave_quietly()


def _how_to_try_again() -> str:
    """Return the hint to run the command again."""
    import shlex

    # Arguments that may contain a secret are not printed, because the output may be stored in logs and reports.
    if any(argument.startswith(_SECRETS) or _USERINFO.search(argument) for argument in sys.argv[1:]):
        return "to try again, run the same command"
    return f"to try again: {shlex.join(['hatchway', *sys.argv[1:]])}"


def _complain(message: str, hint: str) -> None:
    print(f"hatchway: {printing.explained(message, hint)}", file=sys.stderr)
