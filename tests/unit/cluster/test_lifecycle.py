"""The end of a control plane that does not react, the identity of processes, and unusable state directories."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hatchway.cluster import cleanup, commandorder, lifecycle
from hatchway.cluster.process import Process
from hatchway.cluster.startoptions import Options, configure
from hatchway.cluster.state import ClusterConfig, Holder, StateDir
from hatchway.errors import HatchwayError

# A control plane that takes the lock, reports this, and then behaves as its argument says.
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
def test_any_control_plane_ends(state: StateDir, how: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "_HEAR_SECONDS", 5.0 if how == "hears" else 0.2)
    monkeypatch.setattr(lifecycle, "_STOP_SECONDS", 5.0 if how == "ends" else 0.5)
    process = hold(state, how)
    assert lifecycle.stop(state)
    assert process.wait(10) == code
    assert not state.running()
    assert not lifecycle.stop(state)


def test_a_control_plane_stopped_by_a_signal_is_continued_and_ends(state: StateDir) -> None:
    process = hold(state, "ends")
    process.send_signal(signal.SIGSTOP)
    assert lifecycle.stop(state)
    assert process.wait(10) == 0


def test_a_remaining_process_of_the_network_is_ended_too(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = state.lock()
    assert lock is not None
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]) as left:
        state.note(lock, Holder(Process(2**22 - 1, "gone"), Process.of(left.pid)))
        os.close(lock)
        monkeypatch.setattr(Process, "wait", lambda self, seconds: False)
        with pytest.raises(HatchwayError, match="cannot be ended"):
            # The process does not end during the wait, but it was sent a signal.
            lifecycle.end_remains(state)
        assert left.wait(10) == -signal.SIGKILL


def test_another_process_with_the_same_id_gets_no_signal(state: StateDir) -> None:
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
def test_an_unreadable_lock_file_names_no_process(state: StateDir, note: bytes) -> None:
    state.lock_file.write_bytes(note)
    assert state.holder() is None
    assert not lifecycle.stop(state)


def test_only_one_command_starts_a_cluster(state: StateDir) -> None:
    waited = []
    with state.starting() as alone:
        assert alone
        assert state.starter() == Process.of(os.getpid())
        with state.starting() as again:
            assert not again
    assert state.starter() is None
    assert not state.start_file.exists()
    with commandorder.starting(state, waited.append):
        pass
    assert not waited


def test_up_and_down_wait_for_each_other(state: StateDir) -> None:
    """`up` waits for a `down` that was started before, and the reverse."""
    waited = []
    with contextlib.ExitStack() as ending:
        ending.enter_context(commandorder.ending(state))
        assert state.is_ending()
        with state.ending() as again:
            assert not again

        def told(what: str) -> None:
            waited.append(what)
            assert state.starter() is None, "`down` would take this file for a start in progress"
            ending.close()

        with commandorder.starting(state, told):
            assert not state.is_ending()
    assert waited == ["it is being stopped"]
    assert not state.stop_file.exists()


def test_a_control_plane_that_is_ending_does_not_count_as_running(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.save_run({"pid": 1})
    lock = state.lock()
    assert lock is not None
    holder = Holder(Process.of(os.getpid()))
    state.note(lock, holder)
    assert commandorder.settle(state) == {"pid": 1}
    state.note(lock, replace(holder, stopping=True))
    assert state.is_ending()
    # The process ends during the wait.
    monkeypatch.setattr(commandorder.time, "sleep", lambda _: os.close(lock))
    assert commandorder.settle(state) is None


def test_a_cluster_can_be_ended_on_a_disk_without_locks(state: StateDir) -> None:
    state.stop_file = state.path / "nowhere" / "stop"
    with commandorder.ending(state):
        assert not state.is_ending()


def test_a_start_without_a_control_plane_is_ended(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_file_in_place_of_the_state_directory_is_an_error(tmp_path: Path) -> None:
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
def test_a_state_directory_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(HatchwayError, match="Permission denied"):
        StateDir(tmp_path / "c").create()


def test_a_stored_configuration_with_wrong_types_is_an_error(state: StateDir) -> None:
    state.save_config(ClusterConfig(api_port=None))
    assert state.load_config() == ClusterConfig(api_port=None)
    for wrong in ({"workers": "2"}, {"workers": True}, {"network": None}, {"api_port": 1.5}):
        state.config_file.write_text(json.dumps(wrong))
        with pytest.raises(HatchwayError, match="has a wrong type"):
            state.load_config()


@pytest.mark.parametrize("there", [True, False])
def test_a_hint_names_only_files_that_exist(state: StateDir, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of an ephemeral cluster that cannot start is deleted with its directory."""
    code = f"""
import json, shutil
if not {there}:
    shutil.rmtree({str(state.path)!r})
print(json.dumps({{"event": "error", "message": "no", "hint": "see {state.server_log}"}}), flush=True)
"""
    program = state.path.parent / "program"
    program.write_text(f"#!{sys.executable}\n{code}")
    program.chmod(0o700)
    monkeypatch.setattr(lifecycle.sys, "executable", str(program))
    with pytest.raises(HatchwayError, match="no") as caught:
        lifecycle.start(state, Options(ephemeral=True), attached=False, progress=lambda _: None)
    assert caught.value.hint == (f"see {state.server_log}" if there else "")


def test_the_hint_shows_how_to_list_the_owner_of_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names a directory that exists, because the cluster's own directory has not been made yet."""

    def mkdir(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(HatchwayError) as caught:
        StateDir(tmp_path / "state" / "c").create()
    assert caught.value.hint.startswith(f"`ls -ld {tmp_path}` shows its owner")


def test_a_directory_without_the_right_to_search_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for an ordinary user with HATCHWAY_STATE_DIR=/root/x: the first step, the search for `down`'s file, fails."""
    state = StateDir(tmp_path / "x" / "c")
    opened = os.open

    def refuse(path: Path, *rest: int, **more: int) -> int:
        if Path(path).is_relative_to(tmp_path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(HatchwayError) as caught, commandorder.starting(state, lambda _: None):
        pass
    assert caught.value.message.startswith(f"cannot use the state directory {tmp_path / 'x'}: ")
    assert caught.value.message.endswith("Permission denied")
    assert "--state-dir" in caught.value.hint


def test_a_cluster_keeps_host_programs_until_the_option_changes(state: StateDir) -> None:
    assert not configure(state, Options()).host_programs
    assert configure(state, Options(host_programs=True)).host_programs
    assert configure(state, Options()).host_programs
    config = state.load_config()
    assert config is not None and config.host_programs
    assert Options(host_programs=False).differing(config) == ["--host-programs"]
    assert not configure(state, Options(host_programs=False)).host_programs


def test_the_error_about_other_users_files_says_who_can_remove_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", "fs")

    monkeypatch.setattr(cleanup, "remove_path", refuse)
    state = StateDir(tmp_path / "mapped")
    with pytest.raises(HatchwayError, match="Operation not permitted") as caught:
        cleanup.clean_up(state, delete=True)
    assert caught.value.message == f"cannot remove {state.path}: Operation not permitted"
    assert "/etc/subuid" in caught.value.hint and "root" in caught.value.hint
