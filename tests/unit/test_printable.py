"""Texts from other programs in Hatchway's messages are readable, and cannot control the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cli import printing
from hatchway.printable import LONGEST, printable, printable_lines

HOSTILE = "bad \x1b]0;title\x07\x9b2J\u202e\nhatchway: all well\r"
SHOWN = "bad ?]0;title??2J??hatchway: all well?"


@given(st.text(st.characters()), st.integers(0, 50))
def test_any_text_becomes_one_line_without_controls(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert shown.isprintable()
    assert len(shown) <= longest + 3
    if len(text) <= longest:
        assert all(one in (other, "?") for one, other in zip(shown, text, strict=True))


def test_letters_of_all_languages_are_kept_and_the_length_is_limited() -> None:
    assert printable("Ünïcode, 日本語, файл, 🙂") == "Ünïcode, 日本語, файл, 🙂"
    assert printable("a\udc9bb") == "a?b"
    assert printable(HOSTILE) == SHOWN
    long = printable("x" * 16_384 + ": it is too long")
    assert long.startswith("xxx") and long.endswith("x: it is too long")
    assert len(long) == LONGEST + 3


def test_line_breaks_of_long_texts_are_kept() -> None:
    assert printable_lines("rules:\n- \x1b[1m" + "x" * 9000) == "rules:\n- ?[1m" + "x" * 9000


def test_the_output_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    printing.warn(HOSTILE)
    printing.note(HOSTILE)
    printing.say("first\n\x1b[2Jsecond")
    captured = capsys.readouterr()
    assert captured.err == f"warning: {SHOWN}\nnote: {SHOWN}\n"
    assert captured.out == "first\n?[2Jsecond\n"
    assert printing.explained(HOSTILE, "allow it:\n---\n\x1b[2J") == f"{SHOWN}\n  allow it:\n---\n?[2J"
    assert printing.explained("no hint", "") == "no hint"


def test_cells_of_tables() -> None:
    rows = [["NAME", "STATUS"], ["web\x1b[2J", HOSTILE]]
    assert printing.aligned(rows) == ["NAME      STATUS", f"web?[2J   {SHOWN}"]
    assert printing.fitted(rows) == printing.aligned(rows)
