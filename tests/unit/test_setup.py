"""`scripts/setup` makes .venv: after an interruption, and with a Python chosen by the caller."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SETUP = Path(__file__).parents[2] / "scripts/setup"
# A Python that records how it was called. The .venv that it makes has a Python with pip, which installs nothing.
_PYTHON = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$*" in
  -V) echo "Python 3.11.2" ;;
  "-m venv .venv")
    mkdir -p .venv/bin
    if [ -p "$HOLD" ]; then
      # The half of a .venv, as after the first second.
      printf '#!/bin/sh\\nexit 1\\n' >.venv/bin/python
      chmod +x .venv/bin/python
      # Python itself says that it is held: it has begun to heed SIGINT.
      exec "$REAL" -S -c 'import os, time; open(os.environ["HOLD"], "w").write("made"); time.sleep(600)'
    fi
    printf '#!/bin/sh\\nexit 0\\n' >.venv/bin/python
    chmod +x .venv/bin/python ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(_SETUP, tmp_path / "scripts/setup")
    (tmp_path / "pyproject.toml").write_text("")
    python = tmp_path / "python"
    python.write_text(_PYTHON)
    python.chmod(0o755)
    return tmp_path


def _environment(clone: Path, python: str) -> dict[str, str]:
    own = {"PYTHON": python, "CALLS": f"{clone}/calls", "HOLD": f"{clone}/hold", "REAL": sys.executable}
    return {**os.environ, **own, "TMPDIR": str(clone)}


def _set_up(clone: Path, python: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "scripts/setup"],
        env=_environment(clone, python or f"{clone}/python"),
        capture_output=True,
        text=True,
        timeout=60,
    )


def _made(clone: Path) -> int:
    """Return how many times .venv was made."""
    return (clone / "calls").read_text().splitlines().count("-m venv .venv")


def test_a_venv_that_is_complete_is_kept(clone: Path) -> None:
    assert _set_up(clone).returncode == 0
    (clone / "pyproject.toml").write_text("# changed")
    (clone / ".venv/mark").touch()
    assert _set_up(clone).returncode == 0
    assert (_made(clone), (clone / ".venv/mark").exists()) == (1, True)


def test_a_venv_without_pip_is_made_again(clone: Path) -> None:
    old = clone / ".venv/bin"
    old.mkdir(parents=True)
    (old / "python").write_text("#!/bin/sh\nexit 1\n")
    (old / "python").chmod(0o755)
    (old / "left").touch()
    done = _set_up(clone)
    assert done.returncode == 0, done.stderr
    assert "there is no pip in .venv: it is made again" in done.stderr
    assert (_made(clone), (old / "left").exists()) == (1, False)


def test_ctrl_c_while_the_venv_is_made(clone: Path) -> None:
    os.mkfifo(clone / "hold")
    with subprocess.Popen(
        [clone / "scripts/setup"],
        env=_environment(clone, f"{clone}/python"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell ignores SIGINT in background jobs, and the tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert (clone / "hold").read_text() == "made"
        # A terminal sends the signal to the whole foreground process group.
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.endswith("setup: interrupted; run this again to go on\n")
    assert not list(clone.glob("tmp.*")), "temporary files"
    (clone / "hold").unlink()
    done = _set_up(clone)
    assert done.returncode == 0, done.stderr
    assert _made(clone) == 2


def test_a_chosen_python_is_not_replaced_by_another(clone: Path) -> None:
    done = _set_up(clone, "/nope/python3")
    assert done.returncode == 1
    assert "PYTHON=/nope/python3 is not a Python of version 3.11 or newer" in done.stderr
    assert not (clone / ".venv").exists()
