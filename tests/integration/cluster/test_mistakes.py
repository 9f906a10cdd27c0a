"""Mistakes that the parser cannot find: the user gets one line with the error, and one with a remedy."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import commands


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HATCHWAY_", "KUBE", "XDG_"))}
    return commands.run_text(arguments, env={**kept, "HOME": str(home)}, cwd=home)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("forward", "web", "--timeout", "3"), "--timeout has an effect only with --wait", "add --wait"),
        (("forward", "web", "--yes"), "--relay-image, --relay-namespace and --yes need --relay", "add --relay"),
        (("forward", "web", "--ssh-jump", "host"), "--ssh-jump needs a node", "add --ssh USER@HOST"),
        (("logs", "web", "--since", "5"), '--since: "5" is not a duration', "write it like 30s or 1m30s"),
        (("forward", "web", "--address", "x"), '--address: "x" is not an IP address', "write 127.0.0.1"),
        (("up", "--state-dir", "file/below"), "cannot use the state directory", "choose another directory"),
    ],
    ids=range(6),
)
def test_options_that_do_not_fit(tmp_path: Path, arguments: tuple[str, ...], message: str, hint: str) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("hatchway: ") and message in first
    assert hint in second


def test_a_directory_that_cannot_be_made_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("")
    done = run(tmp_path, "forward", "web", "--detach")
    assert done.returncode == 1
    assert done.stderr == (
        f"hatchway: cannot use {tmp_path}/.local/state/hatchway-forward: Not a directory\n"
        "  there is a file in place of a directory\n"
    )


def test_the_status_of_a_stopped_cluster_says_how_it_is_started(tmp_path: Path) -> None:
    kept = tmp_path / ".local/state/hatchway/kept"
    kept.mkdir(parents=True)
    (kept / "cluster.json").write_text("{}")
    done = run(tmp_path, "status", "--name", "kept")
    assert done.returncode == 3
    assert done.stdout == 'cluster "kept" is not running\n  `hatchway up --name kept` starts it\n'


def test_a_hint_names_the_state_directory_of_the_cluster(tmp_path: Path) -> None:
    """Without `--state-dir`, the hint's command would create another cluster in the default directory."""
    kept = tmp_path / "a place/kept"
    kept.mkdir(parents=True)
    (kept / "cluster.json").write_text("{}")
    named = "--name", "kept", "--state-dir", str(kept.parent)
    done = run(tmp_path, "status", *named)
    assert (
        done.stdout
        == f"cluster \"kept\" is not running\n  `hatchway up --name kept --state-dir '{kept.parent}'` starts it\n"
    )
