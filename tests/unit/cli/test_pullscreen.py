from __future__ import annotations

import io
import re

import pytest

from hatchway.cli import pullscreen
from hatchway.cli.pullscreen import PullScreen
from hatchway.images.pulling.pull import Progress

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pulled(screen: PullScreen) -> None:
    """Report a pull of three layers: one is stored already, and the download of another is interrupted once."""
    for progress in (
        Progress("", "waiting", note="registry.test"),
        *(Progress(digest, "waiting", 0, 2 << 20) for digest in (A, B, C)),
        Progress(A, "exists", 2 << 20, 2 << 20),
        Progress(B, "downloading", 1 << 20, 2 << 20),
        Progress(C, "downloading", 0, 2 << 20),
        Progress(B, "retrying", 1 << 20, 2 << 20, "EOF\x1b[31m"),
        Progress(B, "downloading", 3 << 19, 2 << 20),
        Progress(B, "complete", 2 << 20, 2 << 20),
    ):
        screen.show(progress)


def test_lines_without_a_terminal() -> None:
    out = io.StringIO()
    screen = PullScreen("web:1", quiet=False, stream=out)
    pulled(screen)
    screen.close()
    assert out.getvalue().splitlines() == [
        "aaaaaaaaaaaa: already there",
        "bbbbbbbbbbbb: EOF?[31m; trying again",
        "bbbbbbbbbbbb: fetched, 2.0 MiB",
    ]
    # The first half was stored before.
    assert screen.fetched == 1 << 20


def test_quiet() -> None:
    out = Terminal()
    screen = PullScreen("web:1", quiet=True, stream=out)
    pulled(screen)
    screen.close()
    assert out.getvalue() == ""


def last_drawing(out: Terminal) -> list[str]:
    """Return the lines of the last drawing, as a terminal shows them."""
    *_, drawing = re.split(r"\r(?:\x1b\[\d+A)?\x1b\[K", out.getvalue())
    return drawing.replace("\x1b[K", "").replace("\x1b[J", "").splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr(pullscreen, "_PAUSE", 0.0)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    return Terminal()


def test_a_bar_for_each_layer_on_a_terminal(terminal: Terminal) -> None:
    screen = PullScreen("web:1", quiet=False, stream=terminal)
    pulled(screen)
    screen.show(Progress(C, "downloading", 1 << 20, 2 << 20))
    lines = last_drawing(terminal)
    assert lines[:3] == [
        "aaaaaaaaaaaa  already there",
        "bbbbbbbbbbbb  fetched   2.0 MiB",
        "cccccccccccc  [============>           ] 1.0 MiB of 2.0 MiB",
    ]
    assert lines[3].startswith("web:1: 5.0 MiB of 6.0 MiB, ")
    assert "\x1b[31m" not in terminal.getvalue()
    screen.close()
    assert terminal.getvalue().endswith("\r\x1b[4A\x1b[J")


def test_more_layers_than_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "5")
    screen = PullScreen("web:1", quiet=False, stream=terminal)
    for number in range(60):
        screen.show(Progress(f"sha256:{number:064x}", "waiting", 0, 10))
    screen.show(Progress(C, "downloading", 5, 10))
    lines = last_drawing(terminal)
    assert len(lines) == 2
    assert lines[0].startswith("cccccccccccc  [")


def test_a_narrow_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    screen = PullScreen("registry.test/a/very/long/name/of/an/image:1", quiet=False, stream=terminal)
    pulled(screen)
    assert max(map(len, last_drawing(terminal))) < 30
