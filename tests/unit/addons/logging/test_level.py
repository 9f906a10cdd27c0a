"""The level of a log line, in the formats of real programs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.logging.level import LEVELS, level_of


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ('{"level":"error","msg":"x"}', "error"),
        ('{"ts": 1, "severity": "WARNING", "message": "x"}', "warn"),
        ('{"level":30,"time":1531171074631,"msg":"hello","pid":657}', "info"),
        ('{"log.level":"debug","@timestamp":"2026-01-01T00:00:00Z"}', "debug"),
        ('time="2026-01-01T00:00:00Z" level=fatal msg="no route"', "fatal"),
        ("ts=2026-01-01 caller=main.go:1 level=warn msg=x", "warn"),
        ("I1129 10:00:00.000000       1 main.go:7] Starting", "info"),
        ("E1129 10:00:00.000000       1 main.go:7] INFO it is not", "error"),
        ("2026/01/01 10:00:00 [error] 31#31: *1 open() failed", "error"),
        ("2026-01-01 10:00:00,123 WARN  [main] o.a.k.Server - slow", "warn"),
        ("2026-01-01 10:00:00.123  INFO 1 --- [main] c.e.App : up", "info"),
        ("ERROR:root:no such thing", "error"),
        ("INFO:     Uvicorn running on http://0.0.0.0:8000", "info"),
        ("error: cannot open it", "error"),
        ("2026-01-01 10:00:00.000 UTC [1] FATAL:  password authentication failed", "fatal"),
        ("panic: runtime error: index out of range", "fatal"),
        ("[2026-01-01T00:00:00Z DEBUG app::server] accepted", "debug"),
        ("GET /error HTTP/1.1 200", None),
        ("no error happened", None),
        ("the INFORMATION desk", None),
        ("toplevel=error", None),
        ("", None),
    ],
)
def test_real_lines(line: str, level: str | None) -> None:
    assert level_of(line) == level


@given(st.text())
def test_any_line(line: str) -> None:
    assert level_of(line) in (None, *LEVELS)
