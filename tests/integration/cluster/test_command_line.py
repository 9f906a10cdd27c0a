"""The command line as people and scripts use it: its output, its errors, and shell completion."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from hatchway import __version__
from hatchway.cli.app import app
from hatchway.cli.commandgroup import leaf_commands
from tests.conftest import BIN, Cluster
from tests.descriptors import is_readable

COMMANDS = [name for name, _ in leaf_commands(app, click.Context(app)) if name != "version"] + ["image"]


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
        (("up", "--node", "1"), "`hatchway up` has no option --node", "did you mean --nodes?"),
        (("proxy", "--bogus"), "`hatchway proxy` has no option --bogus", "  `hatchway proxy --help` shows"),
        (
            ("ls", "-o", "xml"),
            '--output: "xml" is not known; choose text, wide, name, hosts, json or yaml',
            "ls --help",
        ),
        (("ls", "-w", "-o", "yaml"), "--output: yaml is not for --watch", "ls --help"),
        (("open", "web", "--timeout", "nan"), '--timeout: "nan" is not a number of seconds', "open --help"),
        (("url",), "`hatchway url` needs TARGET", "url --help"),
        (("completion", "tcsh"), 'SHELL: "tcsh" is not known; choose bash, zsh or fish', "completion --help"),
        (("token", "--duration", "1y"), '--duration: "1y" is not a duration', "token --help"),
        (("proxy", "--disable-filter=maybe"), '--disable-filter: "maybe" is neither true nor false', "proxy --help"),
        (("stats",), 'there is no command "stats"; did you mean status?', "`hatchway --help`"),
        (("start",), 'there is no command "start"; did you mean up?', "`hatchway --help`"),
        (("pull", "nginx"), 'there is no command "pull"; did you mean image pull?', "`hatchway --help`"),
        (("forward", "--stop"), "--stop needs a value", "`hatchway forward --help`"),
        (("exec", "web", "ls"), "the command must follow `--`: TARGET -- COMMAND", "exec --help"),
        (("--frob",), "`hatchway` has no option --frob", "`hatchway --help`"),
    ],
    ids=range(18),
)
def test_invalid_arguments(arguments: tuple[str, ...], message: str, hint: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("hatchway: ")
    assert message in first
    assert hint in second


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    assert f"    hatchway {command}" in done.stdout.partition("Examples:")[2]


def test_the_manual_page_has_all_commands() -> None:
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
    """Return the completions that bash gets for the last word."""
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
    # If there is no cluster, there are no completions, and nothing is printed into the shell.
    assert completed("hatchway url web", KUBECONFIG=str(tmp_path / "none")) == []


def environment_of(cluster: Cluster) -> dict[str, str]:
    return {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": f"{BIN}:{os.environ['PATH']}"}


def test_fish_completes(cluster: Cluster) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    words = ["hatchway st", "hatchway url -n kube-system kube-d", "hatchway url node/node-", "hatchway url --cli"]
    asked = "; ".join(f"complete -C '{word}'; echo ---" for word in words)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"hatchway completion fish | source; {asked}"],
        capture_output=True,
        text=True,
        env=environment_of(cluster),
        timeout=60,
    )
    status, service, nodes, option = [part.split("\n")[:-1] for part in done.stdout.split("---\n")[:-1]]
    assert status == ["status\tSay what runs and how well."]
    assert service == ["kube-dns"]
    assert nodes == ["node/node-1", "node/node-2"]
    # Descriptions are not cut at commas.
    assert "--clients\tLines for programs that do not resolve the host name: wget, Python ..." in option
    assert done.stderr == ""


def test_zsh_completes(cluster: Cluster) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], {**environment_of(cluster), "TERM": "dumb"})
    shown = b""

    def read(until: bytes) -> None:
        nonlocal shown
        while until not in shown:
            assert is_readable(terminal, 60), f"no {until!r} in {shown!r}"
            shown += os.read(terminal, 65536)

    try:
        begin = "autoload -U compinit; compinit -u -D; source <(hatchway completion zsh); print -r -- all''read\n"
        os.write(terminal, begin.encode())
        read(b"allread\r\n")
        os.write(terminal, b"hatchway url -n kube-system kube-d\t")
        read(b"kube-dns")
        # Ctrl-U empties the line. If several completions match, they are listed.
        os.write(terminal, b"\x15hatchway url node/node-\t")
        read(b"node/node-2")
        assert b"not found" not in shown
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_versions() -> None:
    assert run("version", "-o", "name").stdout.strip() == __version__
    found = json.loads(run("version", "-o", "json").stdout)
    assert found["hatchway"] == __version__
    assert found == yaml.safe_load(run("version", "-o", "yaml").stdout)
    assert run("--version").stdout.strip() == f"hatchway {__version__}"


def test_output_as_json_for_programs(cluster: Cluster) -> None:
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
    # The printed names are valid arguments of the other commands.
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

    def rows() -> dict[str, tuple[str | None, ...]]:
        found = json.loads(run("list", "--state-dir", str(cluster.base), "-o", "json").stdout)
        return {one["name"]: (one["status"], one["server"], one["context"]) for one in found}

    assert rows()["listed"] == ("running", server, "hatchway-listed")
    assert set(rows()) == {"listed", "damaged"}
    cluster.hatchway("down")
    # A context that `down` has removed from the kubeconfig is not shown.
    assert rows()["listed"] == ("stopped", None, None)
    where = {"HATCHWAY_STATE_DIR": str(cluster.base), "KUBECONFIG": str(cluster.kubeconfig)}
    assert run("ls", "--name", "listed", **where).stderr == (
        'hatchway: cluster "listed" is not running\n  `hatchway up --name listed` starts it\n'
    )
    assert run("list", "--state-dir", str(cluster.base), "-o", "name").stdout.split() == ["damaged", "listed"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_state_directory_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    done = run("list", "--state-dir", str(closed))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"hatchway: cannot read the state directory {closed}: Permission denied\n  `ls -ld {closed}` shows its owner\n"
    )


def test_a_file_in_place_of_the_state_directory(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    done = run("list", "--state-dir", str(place))
    assert done.returncode == 1
    assert f"cannot read the state directory {place}: Not a directory" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", [["list"], ["--version"], ["man"]])
def test_output_that_cannot_be_written_is_one_line(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "cluster.json").write_text("{}")
    environment = {**os.environ, "HATCHWAY_STATE_DIR": str(tmp_path)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [BIN / "hatchway", *command], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == "hatchway: cannot write the output: No space left on device\n"


def test_the_variable_names_the_cluster_of_every_command(cluster: Cluster, tmp_path: Path) -> None:
    """The variable also names the cluster of `up` and `down`; an option that chooses a cluster overrides it."""
    where = {"HATCHWAY_STATE_DIR": str(cluster.base), "KUBECONFIG": str(cluster.kubeconfig)}
    assert "port" in run("ls", "-A", "-o", "json", HATCHWAY_NAME="shared", **where).stdout
    for command in (["ls"], ["open", "web"], ["url", "web"]):
        done = run(*command, HATCHWAY_NAME="nope", **where)
        assert f'there is no cluster "nope" in {cluster.base}' in done.stderr
    for options in (["--name", "shared"], ["--context", "hatchway-shared"], ["--kubeconfig", str(cluster.kubeconfig)]):
        assert run("ls", "-A", *options, HATCHWAY_NAME="nope", **where).returncode == 0, options


def test_a_name_that_no_cluster_has(cluster: Cluster, tmp_path: Path) -> None:
    """Errors after `--name` are about clusters, not about contexts."""
    where = {"HATCHWAY_STATE_DIR": str(cluster.base), "KUBECONFIG": str(cluster.kubeconfig)}
    for command in (["ls"], ["info"], ["url", "web"], ["proxy", "--port", "0"]):
        assert run(*command, "--name", "nope", **where).stderr == (
            f'hatchway: there is no cluster "nope" in {cluster.base}\n'
            "  --name takes shared (running); `hatchway up --name nope` makes another one\n"
        )
    # The cluster runs, but its context is in another kubeconfig.
    elsewhere = run("ls", "--name", "shared", "--kubeconfig", str(tmp_path / "none"), **where).stderr
    assert elsewhere == (
        f'hatchway: there is no context "hatchway-shared" of cluster "shared" in {tmp_path / "none"}\n'
        f"  it is in another file: add --kubeconfig {cluster.kubeconfig}\n"
    )
    assert run("ls", "-A", "--name", "shared", **where).returncode == 0


@pytest.mark.parametrize(
    "command", [["url", "web"], ["url", "web", "--all"], ["info"], ["ls"], ["proxy", "--port", "0"]]
)
def test_without_a_cluster_the_reason_is_printed_once(command: list[str], tmp_path: Path) -> None:
    done = run(*command, KUBECONFIG=str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"hatchway: no cluster to talk to: there is no kubeconfig {tmp_path / 'none'}\n"
        "  `hatchway up` starts a cluster and writes one\n"
    )


def test_urls_of_a_service_with_several_ports(cluster: Cluster) -> None:
    ports = [("http", 80, "TCP"), ("metrics", 9090, "TCP"), ("secure", 8443, "TCP"), ("dns", 53, "UDP")]
    spec = {"ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in ports]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "several"}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(service))
    path = "/api/v1/namespaces/default/services"
    one = cluster.hatchway("url", "several")
    assert one.stdout == f"{cluster.server}{path}/several:http/proxy/\n"
    assert one.stderr == (
        "note: this is port http (80), which most likely speaks HTTP; there is also metrics (9090) as `svc/several:metrics` or secure (8443) as "
        "`svc/several:secure`; --all prints all of them\n"
    )
    assert cluster.hatchway("url", "several:metrics").stderr == ""
    every = cluster.hatchway("url", "several", "x", "--path", "--all")
    assert every.stderr == ""
    assert every.stdout.splitlines() == [
        f"{path}/several:http/proxy/x",
        f"{path}/several:metrics/proxy/x",
        f"{path}/https:several:secure/proxy/x",
    ]
    assert cluster.hatchway("url", "several", "--host", "--all").stdout.splitlines() == [
        "http://several.default.svc.localhost:8001/",
        "http://metrics.several.default.svc.localhost:8001/",
        "http://secure.several.default.svc.localhost:8001/",
    ]
    listed = json.loads(cluster.hatchway("url", "several", "--all", "-o", "json").stdout)
    assert [item["port"] for item in listed] == ["http", "metrics", "secure"]
    # If the argument names a port, the output is a list with one item.
    assert len(json.loads(cluster.hatchway("url", "several:http", "--all", "-o", "json").stdout)) == 1
    cluster.kubectl("delete", "service", "several")
