"""`hatchway exec` with an independent API server, by both implementations (`remote/quickpod.py`, the full one)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.proxy.conftest import Authority
from tests.integration.remote.conftest import Run, Terminal
from tests.podserver import PodServer, make_pod

both = pytest.mark.parametrize("quick", [True, False], ids=["quick", "whole"])


@both
def test_output_errors_and_exit_code_are_the_commands_own(hatchway: Run, server: PodServer, quick: bool) -> None:
    done = hatchway("exec", "one", "--", "sh", "-c", "echo out; echo 'an error' >&2; exit 7", quick=quick)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"an error\n")
    assert len(server.requests) == (1 if quick else 2)


@both
def test_all_bytes_arrive(hatchway: Run, quick: bool) -> None:
    done = hatchway("exec", "one", "--", "seq", "300000", quick=quick)
    assert done.returncode == 0
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 300001))


@both
def test_arguments_arrive_as_they_are(hatchway: Run, quick: bool) -> None:
    odd = ["a b", "", "ü€", "%41+&=?#", "-n", "--", "$HOME", "\n"]
    done = hatchway("exec", "one", "--", "printf", r"%s|", *odd, quick=quick)
    assert done.stdout.decode() == "".join(f"{one}|" for one in odd)


@both
def test_a_command_that_is_not_there(hatchway: Run, quick: bool) -> None:
    done = hatchway("exec", "one", "--", "no-such-command", quick=quick)
    assert done.returncode == 1
    assert b'the container has no command "no-such-command"' in done.stderr


def test_the_default_container_is_the_annotated_one(hatchway: Run, server: PodServer) -> None:
    assert hatchway("exec", "two", "--", "true").returncode == 0
    assert "container=b" in server.requests[-1]
    # The quicker implementation sends its request at once. Only after a refusal, it reads the pod.
    paths = [path.partition("?")[0].rpartition("/")[2] for path in server.requests]
    assert paths == ["exec", "two", "exec"]
    assert hatchway("exec", "pod/two", "-c", "a", "--", "true").returncode == 0
    assert "container=a" in server.requests[-1]


def test_errors_name_the_missing_pod_or_command(hatchway: Run, server: PodServer) -> None:
    done = hatchway("exec", "nothing", "--", "true")
    assert b"there is no pod, service or workload nothing in namespace default" in done.stderr
    done = hatchway("exec", "one", "true")
    assert done.returncode == 2
    assert b"the command must follow `--`" in done.stderr
    assert b"it has a, b" in hatchway("exec", "two", "-c", "c", "--", "true").stderr
    server.forbidden.add("/api/v1/namespaces/default/pods/one/exec")
    done = hatchway("exec", "one", "--", "true")
    assert b"you may not run commands in pod one" in done.stderr
    assert b"an administrator of the cluster can allow it with:" in done.stderr
    assert b'resources: ["pods/exec"]' in done.stderr
    assert b'verbs: ["create", "get"]' in done.stderr
    assert b"there is no command" in hatchway("exec", "one").stderr


def test_a_command_that_may_have_started_is_not_requested_again(hatchway: Run, server: PodServer) -> None:
    server.dropped.add("/api/v1/namespaces/default/pods/one/exec")
    done = hatchway("exec", "one", "--", "true")
    assert done.returncode == 1
    assert b"whether the command runs is not known" in done.stderr
    assert len(server.requests) == 1


@both
def test_a_server_with_an_untrusted_certificate_gets_no_data(
    hatchway: Run, server: PodServer, tmp_path: Path, quick: bool
) -> None:
    stranger = Authority(tmp_path / "stranger")
    (server.directory / "tls/ca.crt").write_bytes(stranger.file.read_bytes())
    done = hatchway("exec", "one", "--", "true", quick=quick)
    assert done.returncode == 1
    assert b"certificate" in done.stderr
    assert not server.requests


@both
def test_a_server_with_another_name_is_sent_nothing(hatchway: Run, server: PodServer, quick: bool) -> None:
    # This form of 127.0.0.1 is not a name in the certificate.
    server.kubeconfig(host="127.1")
    done = hatchway("exec", "one", "--", "true", quick=quick)
    assert done.returncode == 1
    assert b"certificate" in done.stderr
    assert not server.requests


@pytest.mark.parametrize("server", [("v4.channel.k8s.io",)], indirect=True)
@both
def test_a_server_with_the_previous_protocol(hatchway: Run, server: PodServer, quick: bool) -> None:
    assert hatchway("exec", "one", "--", "sh", "-c", "echo out; exit 3", quick=quick).returncode == 3


def test_a_service_picks_a_ready_pod(hatchway: Run, server: PodServer) -> None:
    waiting = make_pod("web-a", labels={"app": "web"})
    waiting["status"]["conditions"] = []
    server.add(waiting)
    server.add(make_pod("web-b", labels={"app": "web"}))
    server.add(
        {"kind": "Service", "metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}},
        "services",
    )
    # This server ignores selectors, so the pods that do not match are deleted.
    for name in ("one", "two"):
        del server.objects[f"/api/v1/namespaces/default/pods/{name}"]
    assert hatchway("exec", "svc/web", "--", "true").returncode == 0
    assert "/pods/web-b/exec" in server.requests[-1]
    assert any("labelSelector=app%3Dweb" in path for path in server.requests)


def test_input_and_its_end(hatchway: Run) -> None:
    sent = bytes(range(256)) * 8000
    done = hatchway("exec", "-i", "one", "--", "sh", "-c", "cat; echo end", stdin=sent)
    assert done.stdout == sent + b"end\n"


def test_a_connection_that_breaks_off(hatchway: Run, server: PodServer) -> None:
    for quick in (True, False):
        server.cut_after = 1000
        done = hatchway("exec", "one", "--", "seq", "1000000", quick=quick)
        assert done.returncode == 1
        assert b"was lost while the command ran" in done.stderr


def test_a_terminal_with_its_size_and_every_key(terminal: Callable[..., Terminal]) -> None:
    shell = terminal("hatchway", "exec", "-it", "one", "--", "sh", "-c", "PS1='$ ' exec sh -i")
    shell.expect("$ ")
    assert shell.is_raw()
    shell.type("stty size; echo $((40+2))\n")
    shell.expect("30 100")
    shell.expect("42")
    shell.resize(77, 11)
    shell.type("until stty size | grep -q '11 77'; do sleep 0.05; done; echo re'sized'\n")
    shell.expect("resized")
    # Ctrl-C is sent to the remote program. The test waits for its output first, because an earlier Ctrl-C would reach
    # the shell.
    shell.type("sh -c \"echo sl'eep'ing; exec sleep 100\"\n")
    shell.expect("sleeping")
    shell.type("\x03")
    shell.expect("$ ")
    shell.type("exit 9\n")
    assert shell.wait() == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_after_a_signal(terminal: Callable[..., Terminal], number: signal.Signals) -> None:
    shell = terminal("bash", "--norc", "-i")
    shell.type("set +o history; PS1=\n")
    shell.type("hatchway exec -it one -- sh -c \"echo be'gun'; exec sleep 100\"; echo code=$?\n")
    shell.expect("begun")
    assert shell.is_raw()
    os.kill(os.tcgetpgrp(shell.descriptor), number)
    shell.expect(f"code={128 + number}")
    shell.type("stty -a | grep -q ' icanon' && echo can'onical'\n")
    shell.expect("canonical")
    shell.type("exit\n")
    assert shell.wait() == 0
