"""Ctrl-C at any moment ends a command with exit code 130 and prints nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A program that runs a command and interrupts itself when the command imports the module with this name.
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
    """Interrupt a command while it imports `module`; return its exit code, standard output and standard error."""
    command = [sys.executable, "-c", PROGRAM, module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # click writes a line break, because a terminal shows ^C on the present line.
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
        # This module is imported only after the command has begun its work.
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
    """A shell starts background jobs with SIGINT ignored; the command continues."""
    ignoring = PROGRAM.replace("signal.default_int_handler)", "signal.SIG_IGN)")
    command = [sys.executable, "-c", ignoring, "click", "version", "-o", "name"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
