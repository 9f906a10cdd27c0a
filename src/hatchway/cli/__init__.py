"""The command line: one file per command, no logic of its own.

The console script imports this file first. It imports nothing at module level, so that `main` can handle Ctrl-C early,
and so that the plain `hatchway exec POD -- COMMAND` does not wait for imports of other commands
(`remote/quickexec.py`).
"""


def main() -> None:
    """Run the console script `hatchway`.

    An error is printed on standard error as one line and a hint. Exit codes: 1 when the command failed, 2 when the
    command line is not valid, 130 after Ctrl-C.
    """
    import sys

    status: int | None = None
    try:
        if sys.argv[1:2] == ["exec"]:
            from hatchway.remote import quickexec

            status = quickexec.run(sys.argv[2:])
            if status is not None:
                # End at once, because Python's normal exit takes as long as the command. This is safe: no thread, open
                # file or child process is left.
                import os

                sys.stderr.flush()
                os._exit(status)
        if status is None:
            from hatchway.cli import interrupts

            with interrupts.quitting():
                from hatchway.cli.run import run
            status = run()
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
