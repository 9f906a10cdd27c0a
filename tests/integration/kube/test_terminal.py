"""An interactive plugin gets the terminal, if there is one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.kube.world import FakePlugin, write_kubeconfig

PROGRAM = """
import asyncio, sys
from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection

async def main():
    connection = Connection.load(sys.argv[1])
    try:
        await connection.ready()
        print(connection.fields()[0][1].decode())
    except HatchwayError as error:
        print(error.message, "|", error.hint)

asyncio.run(main())
"""


@pytest.fixture
def config(plugin: FakePlugin, tmp_path: Path) -> Path:
    """Write a kubeconfig whose plugin uses a line from its standard input as the token."""
    plugin.script.write_text(
        "#!/bin/sh\n"
        f'echo "$KUBERNETES_EXEC_INFO" >>{plugin.directory}/runs\necho "touch your key" >&2\nread line\n'
        'echo "{\\"kind\\": \\"ExecCredential\\", \\"apiVersion\\": \\"client.authentication.k8s.io/v1\\", '
        '\\"status\\": {\\"token\\": \\"said-$line\\"}}"\n'
    )
    return tmp_path / "config"


def run(config: Path, mode: str, plugin: FakePlugin, terminal: bool) -> subprocess.CompletedProcess[str]:
    user = plugin.user
    user["exec"]["interactiveMode"] = mode
    write_kubeconfig(config, {"server": "https://127.0.0.1:1"}, user)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"yes\n")
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, config],
            stdin=theirs if terminal else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("mode", "terminal", "token"),
    [
        ("IfAvailable", True, "Bearer said-yes"),
        ("Always", True, "Bearer said-yes"),
        ("Never", True, "Bearer said-"),
        ("IfAvailable", False, "Bearer said-"),
    ],
)
def test_plugins_that_get_the_terminal(plugin: FakePlugin, config: Path, mode: str, terminal: bool, token: str) -> None:
    done = run(config, mode, plugin, terminal)
    assert done.stdout.strip() == token
    # The messages for the user are printed.
    assert done.stderr == "touch your key\n"
    assert plugin.runs[0]["spec"]["interactive"] is token.endswith("yes")


def test_a_plugin_that_must_ask_says_so_without_a_terminal(plugin: FakePlugin, config: Path) -> None:
    done = run(config, "Always", plugin, terminal=False)
    assert "needs a terminal, and standard input is not one | run this in a terminal" in done.stdout
    assert plugin.runs == []
