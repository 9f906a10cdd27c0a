"""Ending a control plane that does not listen, processes by identity, and state directories that cannot be used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hatchway.cluster import lifecycle
from hatchway.cluster.process import Process
from hatchway.cluster.state import ClusterConfig, Holder, StateDir
from hatchway.errors import HatchwayError

# A control plane that holds the lock, says so, and then does what it is told.
HOLDER = """
import os, signal, sys, time
from pathlib import Path
from hatchway.cluster.process import Process
from hatchway.cluster.state import Holder, StateDir
state = StateDir(Path(sys.argv[1]))
lock = state.lock()
holder = Holder(Process.of(os.getpid()))
state.note(lock, holder)
def hear(*_):
    state.note(lock, Holder(holder.process, None, True))
    if sys.argv[2] == "ends":
        sys.exit()
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[2] == "deaf" else hear)
print("held", flush=True)
while True:
    time.sleep(1000)
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    found = StateDir(tmp_path / "c")
    found.create()
    return found


def hold(state: StateDir, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(state.path), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(("how", "code"), [("ends", 0), ("deaf", -signal.SIGKILL), ("hears", -signal.SIGKILL)])
def test_it_ends_whatever_it_does(state: StateDir, how: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_HEAR_SECONDS", 5.0 if how == "hears" else 0.2)
    monkeypatch.setattr(lifecycle, "_STOP_SECONDS", 5.0 if how == "ends" else 0.5)
    process = hold(state, how)
    assert lifecycle.stop(state)
    assert process.wait(10) == code
    assert not state.running()
    assert not lifecycle.stop(state)


def test_one_that_is_stopped_is_woken_up_and_ends_by_itself(state: StateDir) -> None:
    process = hold(state, "ends")
    process.send_signal(signal.SIGSTOP)
    assert lifecycle.stop(state)
    assert process.wait(10) == 0


def test_what_is_left_of_its_network_ends_too(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = state.lock()
    assert lock is not None
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as left:
        state.note(lock, Holder(Process(2**22 - 1, "gone"), Process.of(left.pid)))
        os.close(lock)
        monkeypatch.setattr(Process, "wait", lambda self, seconds: not self.alive() or left.poll() is not None)
        with pytest.raises(HatchwayError, match="cannot be ended"):
            # The wait does not wait here: it has been sent a signal all the same.
            lifecycle.end_remains(state)
        assert left.wait(10) == -signal.SIGKILL


def test_a_process_id_of_another_one_is_left_alone(state: StateDir) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as other:
        stranger = Process(other.pid, "another start")
        assert Process.of(other.pid).alive()
        assert not stranger.alive()
        stranger.send(signal.SIGKILL)
        lock = state.lock()
        assert lock is not None
        state.note(lock, Holder(stranger, stranger))
        os.close(lock)
        assert not lifecycle.stop(state)
        assert other.poll() is None
        other.kill()
    assert not Process.of(other.pid).alive()


@pytest.mark.parametrize(
    "note", [b"", b"\0" * 400, b"[]", b'{"process": {"pid": 0, "started": ""}}', b'{"process": 3}']
)
def test_an_unreadable_note_is_none(state: StateDir, note: bytes) -> None:
    state.lock_file.write_bytes(note)
    assert state.holder() is None
    assert not lifecycle.stop(state)


def test_only_one_starts_a_cluster(state: StateDir) -> None:
    waited = []
    with state.starting() as alone:
        assert alone
        assert state.starter() == Process.of(os.getpid())
        with state.starting() as again:
            assert not again
    assert state.starter() is None
    assert not state.start_file.exists()
    with lifecycle.starting(state, lambda: waited.append(1)):
        pass
    assert not waited


def test_a_start_that_has_not_got_far_is_waited_for_and_ended(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_HEAR_SECONDS", 0.1)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom hatchway.cluster.state import StateDir\n"
        "with StateDir(Path(sys.argv[1])).starting():\n    print('held', flush=True)\n    time.sleep(1000)"
    )
    command = [sys.executable, "-c", code, str(state.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "held\n"
        assert lifecycle.stop(state)
        assert starter.wait(10) == -signal.SIGTERM


def test_a_file_in_its_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    for path in (tmp_path / "f", tmp_path / "f" / "below"):
        with pytest.raises(HatchwayError, match="there is a file in its place"):
            StateDir(path).create()
    with (
        pytest.raises(HatchwayError, match="there is a file in its place"),
        StateDir(tmp_path / "f" / "below").starting(),
    ):
        pass
    state = StateDir(tmp_path / "locked")
    state.create()
    state.lock_file.mkdir()
    with pytest.raises(HatchwayError, match="Is a directory"):
        state.lock()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(HatchwayError, match="Permission denied"):
        StateDir(tmp_path / "c").create()


def test_a_configuration_that_no_one_wrote(state: StateDir) -> None:
    state.save_config(ClusterConfig(api_port=None))
    assert state.load_config() == ClusterConfig(api_port=None)
    for wrong in ({"workers": "2"}, {"workers": True}, {"network": None}, {"api_port": 1.5}):
        state.config_file.write_text(json.dumps(wrong))
        with pytest.raises(HatchwayError, match="is not what it should be"):
            state.load_config()
