"""Tables on terminals of every width: no word is broken, and no text is omitted."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from hatchway.cli.printing import aligned, counted, fitted, size

TABLE = [
    ["NAME", "PORTS", "URL", "STATUS"],
    ["svc/web", "80", "http://web.default.svc.localhost:8001/", "Ready"],
    ["svc/db", "5432/TCP", "<none>", "no pod matches its selector app=db, which is a long story"],
]


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, *, terminal: bool = True) -> list[str]:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
    return fitted(TABLE)


def test_a_table_that_fits_or_is_not_on_a_terminal_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 200) == aligned(TABLE)
    assert shown(monkeypatch, 20, terminal=False) == aligned(TABLE)


@pytest.mark.parametrize("columns", range(10, 140, 5))
def test_no_text_is_omitted(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = " ".join(line.strip() for line in shown(monkeypatch, columns))
    for row in TABLE[1:]:
        for cell in row:
            assert cell == "<none>" or cell in text


def test_a_sentence_that_is_too_long_is_printed_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 90)
    assert lines[1].endswith("http://web.default.svc.localhost:8001/   Ready")
    assert lines[3] == "    no pod matches its selector app=db, which is a long story"


def test_urls_that_do_not_fit_are_printed_below_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 50)
    assert lines[0].split() == ["NAME", "PORTS", "STATUS"]
    assert lines[1].split() == ["svc/web", "80", "Ready"]
    assert lines[2] == "    http://web.default.svc.localhost:8001/"
    # A sentence is folded between its words.
    assert max(map(len, lines)) <= 50


def test_numbers_with_their_nouns() -> None:
    assert [counted(number, "pod") for number in (0, 1, 2)] == ["0 pods", "1 pod", "2 pods"]
    assert [counted(number, "process") for number in (1, 6)] == ["1 process", "6 processes"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1000, "1000 bytes"),
        (1536, "1.5 KiB"),
        (250 << 20, "250 MiB"),
        (3 << 30, "3.0 GiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text
