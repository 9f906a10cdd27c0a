"""The lines of several logs at once: each printed line has the name of its pod."""

from __future__ import annotations

import pytest

from hatchway.cli.logs import LogPrinter
from hatchway.remote.podlogs import LogSource

ONE, OTHER = LogSource("web-0", "c"), LogSource("web-1", "c")


def test_a_line_interrupted_by_another_log_continues_after_its_prefix(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    printer = LogPrinter(prefix=True)
    printer.print(ONE, b"half", True)
    printer.print(OTHER, b"whole\n", True)
    printer.print(ONE, b" and half\n", False)
    printer.print(ONE, b"next", True)
    printer.print(ONE, b" line\n", False)
    assert capfdbinary.readouterr().out.decode().splitlines() == [
        "[web-0/c] half",
        "[web-1/c] whole",
        "[web-0/c]  and half",
        "[web-0/c] next line",
    ]
