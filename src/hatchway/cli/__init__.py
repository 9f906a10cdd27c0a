"""The command line: one file per command, no logic of its own."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script `hatchway`. Errors for people are one line and a hint on standard error, exit code 1."""
    from hatchway.cli.app import make_app
    from hatchway.errors import HatchwayError
    from hatchway.files import NO_ROOM

    try:
        make_app(sys.argv[1] if len(sys.argv) > 1 else "")(prog_name="hatchway")
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
