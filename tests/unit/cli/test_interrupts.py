"""Ctrl-C at any moment ends a command with exit code 130 and prints nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Interrupts the process as soon as it looks for a module of this name, then runs the command line.
PROGRAM = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[0]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
sys.argv = sys.argv[1:]
from hatchway.cli import main
main()
"""


def interrupted(module: str, *arguments: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command that is interrupted while it imports `module`."""
    command = [sys.executable, "-c", PROGRAM, module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # click ends the line on which a terminal shows ^C.
    return done.returncode, done.stdout, done.stderr.strip()


@pytest.mark.parametrize(
    "module",
    [
        "hatchway.cli.interrupts",
        "hatchway.cli.run",
        "click",
        "hatchway.errors",
        "hatchway.cli.ls",
        "hatchway.kube.overrides",
        # Imported when the command is at work.
        "hatchway.kube.connection",
        "asyncio",
    ],
)
def test_while_a_module_is_imported(module: str) -> None:
    assert interrupted(module, "ls", "--kubeconfig", "/nonexistent") == (130, "", "")


@pytest.mark.parametrize("command", ["up", "down", "status", "list", "url", "open", "info", "token", "man", "version"])
def test_of_any_command(command: str) -> None:
    module = {"open": "open", "list": "clusters"}.get(command, command)
    assert interrupted(f"hatchway.cli.{module}", command) == (130, "", "")


def test_a_background_job_ignores_it() -> None:
    """Background jobs of a shell ignore SIGINT, and continue."""
    ignoring = PROGRAM.replace("signal.default_int_handler)", "signal.SIG_IGN)")
    command = [sys.executable, "-c", ignoring, "click", "version", "-o", "name"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
