"""Terminals, standard input and loopback ports of processes, with namespaces and without."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable

import pytest

from tests.integration.network.conftest import Run

MakeRun = Callable[..., Run]
both = pytest.mark.parametrize("mode", ["private", "loopback"])


@both
def test_a_terminal_controls_its_process_and_is_resized(make_run: MakeRun, mode: str) -> None:
    found = make_run(mode, "terminals").result()
    assert "33 101" in found["resized"]
    lines = found["exec"].split("\r\n")
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:4] == ["leads", "controls", "0 0"]
    assert lines[-2:] == ["got hello", ""]
    assert found["exit"] == 0
    assert found["sized"] == "33 101\r\n"
    assert found["interrupted"] == signal.SIGINT
    assert found["hung up"] == signal.SIGHUP
    assert found["no program"] == 'exec: "no-such-program": executable file not found in $PATH'
    assert found["open"] == 1
    assert found["container hung up"] == 9


def test_a_container_cannot_replace_the_terminal_by_a_file(make_run: MakeRun) -> None:
    moved, message = make_run("private", "replaced_terminals").result()
    assert moved == "moved\n"
    assert message == "cannot make the process's terminal: inappropriate ioctl for device"


@both
def test_standard_input_is_a_pipe_or_empty(make_run: MakeRun, mode: str) -> None:
    found = make_run(mode, "standard_input").result()
    assert found["nothing"] == [0, "0\n"]
    assert found["exec"] == [0, "some text"]
    assert found["end"] == 0
    assert found["after"] == "the container is not running"


@both
def test_an_exec_ends_with_its_container(make_run: MakeRun, mode: str) -> None:
    ends = make_run(mode, "execs_end_with_their_container").result()
    assert ends == [signal.SIGKILL] * 4


@both
def test_a_port_on_a_pods_own_loopback_is_reached(make_run: MakeRun, mode: str) -> None:
    found = make_run(mode, "loopback_ports").result()
    assert (found["one"], found["two"]) == ("one", "two")
    assert found["one error"] == found["two error"] == errno.ECONNREFUSED
    assert found["removed"] == errno.ENETDOWN
