"""The command line as people and scripts use it: what it prints, how it fails, what a shell completes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hatchway import __version__
from tests.conftest import BIN, Cluster

COMMANDS = ("up", "status", "list", "down", "proxy", "ls", "url", "open", "info", "token", "password", "completion")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "hatchway", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("up", "--nodes", "99"), "--nodes: 99 is out of range; choose from 0 to 50", "`hatchway up --help`"),
        (("up", "--nodes", "٣"), '--nodes: "٣" is not a number; write a number from 0 to 50', "`hatchway up --help`"),
        (("up", "--nodes", "9" * 5000), "out of range; choose from 0 to 50", "`hatchway up --help`"),
        (("up", "--node", "1"), "`hatchway up` has no option --node", "did you mean --name or --nodes?"),
        (("ls", "-o", "xml"), '--output: "xml" is not known; choose text, wide, name, json or yaml', "ls --help"),
        (("ls", "-w", "-o", "yaml"), "--output: yaml is not for --watch", "ls --help"),
        (("open", "web", "--timeout", "nan"), '--timeout: "nan" is not a number of seconds', "open --help"),
        (("url",), "`hatchway url` needs TARGET", "url --help"),
        (("completion", "tcsh"), 'SHELL: "tcsh" is not known; choose bash, zsh or fish', "completion --help"),
        (("token", "--duration", "1y"), '--duration: "1y" is not a duration', "token --help"),
        (("proxy", "--disable-filter=maybe"), '--disable-filter: "maybe" is neither true nor false', "proxy --help"),
        (("stats",), 'there is no command "stats"; did you mean status?', "`hatchway --help`"),
        (("start",), 'there is no command "start"; did you mean up?', "`hatchway --help`"),
        (("--frob",), "`hatchway` has no option --frob", "`hatchway --help`"),
    ],
    ids=range(14),
)
def test_what_cannot_be_understood(arguments: tuple[str, ...], message: str, hint: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("hatchway: ")
    assert message in first
    assert hint in second


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert f"    hatchway {command}" in done.stdout.partition("Examples:")[2]


def test_the_manual_page_has_all_of_it() -> None:
    page = run("man").stdout
    for command in COMMANDS:
        assert f"\n.SS hatchway {command} " in page
    assert "\\-\\-host\\-path DIR" in page
    if shutil.which("man") is not None:
        shown = subprocess.run(["man", "--warnings", "-l", "-"], input=page, capture_output=True, text=True, timeout=60)
        assert shown.stderr == ""
        assert "hatchway up --detach --name test --nodes 1" in shown.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_read_by_their_shells(shell: str) -> None:
    script = run("completion", shell).stdout
    assert "_HATCHWAY_COMPLETE" in script
    if (found := shutil.which(shell)) is not None:
        subprocess.run([found, "-n"], input=script, text=True, check=True, timeout=30)


def completed(words: str, **environment: str) -> list[str]:
    """What bash is offered for the last word."""
    found = run(COMP_WORDS=words, COMP_CWORD=str(words.count(" ")), _HATCHWAY_COMPLETE="bash_complete", **environment)
    return [line.partition(",")[2] for line in found.stdout.splitlines() if line]


def test_completions(cluster: Cluster, tmp_path: Path) -> None:
    here = {"KUBECONFIG": str(cluster.kubeconfig), "HATCHWAY_STATE_DIR": str(cluster.base)}
    assert completed("hatchway st") == ["status"]
    assert completed("hatchway ls -o ya") == ["yaml"]
    assert completed("hatchway completion z") == ["zsh"]
    assert completed(f"hatchway down --state-dir {cluster.base} --name sh") == ["shared"]
    assert completed("hatchway ls --context hatchway-s", **here) == ["hatchway-shared"]
    assert completed("hatchway ls --namespace kube-sys", **here) == ["kube-system"]
    assert completed("hatchway url -n kube-system kube-d", **here) == ["kube-dns"]
    assert completed("hatchway url node/node-", **here) == ["node/node-1", "node/node-2"]
    # A cluster that is not there completes to nothing, and prints nothing into the shell.
    assert completed("hatchway url web", KUBECONFIG=str(tmp_path / "none")) == []


def test_versions() -> None:
    assert run("version", "-o", "name").stdout.strip() == __version__
    found = json.loads(run("version", "-o", "json").stdout)
    assert found["hatchway"] == __version__
    assert found == yaml.safe_load(run("version", "-o", "yaml").stdout)
    assert run("--version").stdout.strip() == f"hatchway {__version__}"


def test_what_programs_read(cluster: Cluster) -> None:
    again = cluster.hatchway("up", "-o", "json")
    found = json.loads(again.stdout)
    assert (found["name"], found["server"], found["context"]) == (cluster.name, cluster.server, "hatchway-shared")
    assert "runs already" in again.stderr
    assert cluster.hatchway("up", "-o", "name").stdout.strip() == cluster.name
    for command in ("status", "info", "token"):
        text = cluster.hatchway(command, "-o", "json").stdout
        assert yaml.safe_load(cluster.hatchway(command, "-o", "yaml").stdout).keys() == json.loads(text).keys()
    names = cluster.hatchway("ls", "-A", "-o", "name").stdout.splitlines()
    assert {"svc/kube-dns -n kube-system", "node/node-1"} <= set(names)
    # What is printed is what the other commands take.
    for name in names:
        kind, *scope = name.split()
        assert cluster.hatchway("url", kind, *scope, "--path").stdout.startswith("/api/v1/")
    assert cluster.hatchway("url", "svc/kube-dns:dns", "-n", "kube-system", "-o", "name").stdout.strip() == (
        "svc/kube-dns:dns -n kube-system"
    )


def test_the_list_of_clusters(make_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    assert run("list", "--state-dir", str(tmp_path / "none")).stderr == (
        "there are no clusters yet; `hatchway up` makes one\n"
    )
    cluster = make_cluster("listed", "--no-addons", "--nodes", "0", "--network", "loopback")
    server = cluster.server
    damaged = cluster.base / "damaged"
    damaged.mkdir()
    (damaged / "cluster.json").write_text("{")
    (damaged / "lock").mkdir()

    def rows() -> dict[str, tuple[str, str | None]]:
        found = json.loads(run("list", "--state-dir", str(cluster.base), "-o", "json").stdout)
        return {one["name"]: (one["status"], one["server"]) for one in found}

    assert rows()["listed"] == ("running", server)
    assert set(rows()) == {"listed", "damaged"}
    cluster.hatchway("down")
    assert rows()["listed"] == ("stopped", None)
    assert run("list", "--state-dir", str(cluster.base), "-o", "name").stdout.split() == ["damaged", "listed"]
