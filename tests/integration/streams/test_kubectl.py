"""exec, attach, run, debug, cp and port-forward with several releases of kubectl, each with its own protocols."""

from __future__ import annotations

import filecmp
import os
import re
import socket
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import wait_for
from tests.integration.streams.clients import Kubectl


def test_exec_gives_output_errors_environment_and_exit_code(kubectl: Kubectl) -> None:
    done = kubectl.run("exec", "pod", "-c", "main", "--", "sh", "-c", "echo $FOO; pwd; echo wrong >&2; exit 3")
    assert done.returncode == 3
    assert done.stdout == b"bar\n/tmp\n"
    assert b"wrong\n" in done.stderr and b"command terminated with exit code 3" in done.stderr


def test_exec_passes_standard_input_to_its_end(kubectl: Kubectl) -> None:
    data = os.urandom(3_000_000)
    done = kubectl.run("exec", "-i", "pod", "-c", "main", "--", "cat", stdin=data)
    assert done.returncode == 0, done.stderr
    assert done.stdout == data


def test_exec_does_not_wait_for_input_that_is_not_read(kubectl: Kubectl) -> None:
    done = kubectl.run("exec", "-i", "pod", "-c", "main", "--", "head", "-c", "5", stdin=b"12345" * 1_000_000)
    assert (done.returncode, done.stdout) == (0, b"12345")


def test_exec_in_a_terminal_is_resized_and_interrupted(kubectl: Kubectl) -> None:
    script = "stty size; tty; echo $TERM; trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done"
    with kubectl.in_terminal("exec", "-it", "pod", "-c", "main", "--", "sh", "-c", script) as terminal:
        assert re.match(r"24 80\r\n/dev/pts/\d+\r\nxterm\r\n", terminal.until("ready"))
        terminal.resize(40, 132)
        terminal.until("now 40 132")
        terminal.type("\x03")
        terminal.until("exit code 130")
        assert terminal.wait() == 130


def test_a_shell_in_a_terminal_ends_with_its_exit_code(kubectl: Kubectl) -> None:
    with kubectl.in_terminal("exec", "-it", "pod", "-c", "main", "--", "sh") as terminal:
        terminal.type("echo $((6 * 7)) is it; exit 7\n")
        terminal.until("42 is it")
        assert terminal.wait() == 7


def test_why_exec_is_refused(kubectl: Kubectl) -> None:
    def refusal(*arguments: str) -> str:
        done = kubectl.run("exec", *arguments)
        assert done.returncode == 1
        return done.stderr.decode()

    assert 'exec: "/nope": stat /nope: no such file or directory' in refusal("pod", "-c", "main", "--", "/nope")
    assert "container nope is not valid for pod pod" in refusal("pod", "-c", "nope", "--", "true")
    assert 'pods "nope" not found' in refusal("nope", "--", "true")


def test_attach_reaches_the_first_process(kubectl: Kubectl) -> None:
    word = uuid.uuid4().hex[:8]
    with kubectl.in_terminal("attach", "-it", "pod", "-c", "shell") as terminal:
        terminal.type(f"echo {word[:4]}''{word[4:]}\n")
        terminal.until(word)
        terminal.resize(50, 150)
        terminal.repeat("stty size\n", "50 150")
    assert word in kubectl.must("logs", "pod", "-c", "shell")


def test_attached_input_reaches_a_running_container(kubectl: Kubectl) -> None:
    word = uuid.uuid4().hex
    kubectl.must("attach", "-i", "pod", "-c", "reader", stdin=f"{word}\n".encode())
    wait_for(lambda: f"got {word}" in kubectl.must("logs", "pod", "-c", "reader"))
    assert "end" not in kubectl.must("logs", "pod", "-c", "reader")


def test_run_shows_a_programs_output_and_removes_the_pod(kubectl: Kubectl) -> None:
    name = f"run-{uuid.uuid4().hex[:8]}"
    options = ["-i", "--rm", "--image=hatchway/shell", "--restart=Never", "--command", "--"]
    done = kubectl.run("run", name, *options, "sh", "-c", "cat; sleep 0.3; exit 4", stdin=b"some input\n")
    assert done.returncode == 4, done.stderr
    assert done.stdout.startswith(b"some input\n")
    assert f'pod "{name}" deleted'.encode() in done.stdout
    assert kubectl.run("get", "pod", name).returncode == 1


def test_run_in_a_terminal(kubectl: Kubectl) -> None:
    name = f"run-{uuid.uuid4().hex[:8]}"
    with kubectl.in_terminal("run", name, "-it", "--rm", "--image=hatchway/shell", "--restart=Never") as terminal:
        terminal.until("press")
        terminal.type("echo $((6 * 7)) is it; exit\n")
        terminal.until("42 is it")
        terminal.until("deleted")
        assert terminal.wait() == 0


def test_debug_sees_the_processes_of_its_target(kubectl: Kubectl) -> None:
    arguments = ["debug", "-it", "pod", "--image=hatchway/shell", "--target=main"]
    with kubectl.in_terminal(*arguments) as terminal:
        terminal.until("press")
        terminal.type("cat /proc/1/cmdline | tr '\\0' ' '; echo; exit\n")
        terminal.until("sleep infinity")
        assert terminal.wait() == 0


def test_cp_of_a_directory_to_a_pod_and_back(kubectl: Kubectl, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for index in range(20):
        (source / "below" / f"file {index}").write_bytes(os.urandom(index * 5_000))
    (source / "program").write_text("#!/bin/sh\n")
    (source / "program").chmod(0o755)
    there = f"/tmp/{uuid.uuid4().hex}"
    kubectl.must("cp", str(source), f"pod:{there}", "-c", "main")
    kubectl.must("cp", "-c", "main", f"pod:{there}", str(tmp_path / "back"))
    assert _same(filecmp.dircmp(source, tmp_path / "back"))
    kubectl.must("exec", "pod", "-c", "main", "--", "test", "-x", f"{there}/program")


def _same(compared: filecmp.dircmp[str]) -> bool:
    names = [name for name in os.listdir(compared.left) if os.path.isfile(os.path.join(compared.left, name))]
    equal = filecmp.cmpfiles(compared.left, compared.right, names, shallow=False)[0] == names
    lonely = compared.left_only or compared.right_only or compared.funny_files
    return equal and not lonely and all(map(_same, compared.subdirs.values()))


@contextmanager
def _forwarded(kubectl: Kubectl, target: str, port: str) -> Iterator[int]:
    """Forward a port of `target`; yield the local port."""
    process = kubectl.popen("port-forward", target, f":{port}")
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> ", line)
        assert found, line
        yield int(found[1])
    finally:
        process.kill()
        process.communicate()


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def test_port_forward_to_a_pod_a_service_and_a_deployment(kubectl: Kubectl) -> None:
    for target, port in (("pod/pod", "8081"), ("service/service", "80"), ("deployment/deployment", "8081")):
        with _forwarded(kubectl, target, port) as local:
            assert "Directory listing" in _get(local)
            assert "Directory listing" in _get(local)


def test_port_forward_reaches_ports_on_the_pods_loopback(kubectl: Kubectl) -> None:
    for port in ("8080", "8082"):
        with _forwarded(kubectl, "pod/pod", port) as local:
            assert "Directory listing" in _get(local)


def test_port_forward_half_closes(kubectl: Kubectl) -> None:
    with _forwarded(kubectl, "pod/pod", "9000") as local, socket.create_connection(("127.0.0.1", local), 30) as sock:
        sock.sendall(b"x" * 2_000_000)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65536):
            received += data
        assert received == b"2000000 bytes"


def test_port_forward_says_that_nothing_listens(kubectl: Kubectl) -> None:
    process = kubectl.popen("port-forward", "pod/pod", ":9")
    try:
        assert process.stdout is not None
        found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", process.stdout.readline().decode())
        assert found
        with socket.create_connection(("127.0.0.1", int(found[1])), 30) as sock:
            assert sock.recv(1) == b""
        told = b""
        while b"refused" not in told:
            line = process.stdout.readline()
            assert line, told
            told += line
        assert b"error forwarding port 9 to pod pod, uid" in told
        assert b"dial tcp4 127.0.0.1:9: connect: connection refused" in told
    finally:
        process.kill()
        process.communicate()


def test_exec_ends_when_kubectl_is_killed(newest: Kubectl) -> None:
    """A process with a terminal gets SIGHUP; without one, its standard input ends."""
    marker = f"/tmp/{uuid.uuid4().hex}"
    script = f"trap 'echo hung up >{marker}; exit' HUP; echo ready; while :; do sleep 0.05; done"
    with newest.in_terminal("exec", "-it", "pod", "-c", "main", "--", "sh", "-c", script) as terminal:
        terminal.until("ready")
    wait_for(lambda: newest.run("exec", "pod", "-c", "main", "--", "cat", marker).stdout == b"hung up\n")

    process = subprocess.Popen(
        newest.argv("exec", "-i", "pod", "-c", "main", "--", "sh", "-c", f"echo ready; cat; echo ended >{marker}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    wait_for(lambda: newest.run("exec", "pod", "-c", "main", "--", "cat", marker).stdout == b"ended\n")
