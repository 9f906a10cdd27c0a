"""The command line: one file per command, no logic of its own.

The console script imports this file before anything else. It imports nothing itself, so that Ctrl-C finds `main` ready,
and so that the plain `hatchway exec POD -- COMMAND` need not wait for what others need (`remote/quickexec.py`).
"""


def main() -> None:
    """Run the console script `hatchway`.

    Errors for people are one line and a hint on standard error. Exit codes: 1 for what failed, 2 for a command line
    that cannot be understood, 130 after Ctrl-C.
    """
    import sys

    status: int | None = None
    try:
        if sys.argv[1:2] == ["exec"]:
            from hatchway.remote import quickexec

            status = quickexec.run(sys.argv[2:])
            if status is not None:
                # No thread, no file and no child is left; tidying up would take as long as the command did.
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
