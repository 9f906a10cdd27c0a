"""Finds the level of a log line, in the forms in which common programs and libraries write it. Pure.

{"level":"warn", ...}   level=warn   severity: WARNING        keys of JSON, logfmt and YAML-like lines; pino's numbers
E1129 10:00:00.000000   1 main.go:7] ...                      klog
2026-01-01 ... WARN ..., [error], ERROR:root:, error: ...     a word near the line's beginning
"""

from __future__ import annotations

import re

# The most severe first.
LEVELS = ("fatal", "error", "warn", "info", "debug", "trace")

_NAMES = {
    "fatal": "fatal", "panic": "fatal", "dpanic": "fatal", "emerg": "fatal", "emergency": "fatal", "alert": "fatal",
    "critical": "fatal", "crit": "fatal", "severe": "error", "error": "error", "err": "error", "warn": "warn",
    "warning": "warn", "wrn": "warn", "info": "info", "information": "info", "inf": "info", "notice": "info",
    "log": "info", "debug": "debug", "dbg": "debug", "fine": "debug", "verbose": "trace", "trace": "trace",
    "trc": "trace", "finest": "trace",
    # pino and bunyan, klog
    "10": "trace", "20": "debug", "30": "info", "40": "warn", "50": "error", "60": "fatal",
    "i": "info", "w": "warn", "e": "error", "f": "fatal", "d": "debug",
}  # fmt: skip
# How many characters of a line are searched: for a key, and for a word without a key.
_KEY_WITHIN, _WORD_WITHIN = 4096, 100
_KEY = re.compile(
    r'(?<![A-Za-z0-9_.-])"?(?:level|lvl|severity|loglevel|log_level|levelname|level_name|log\.level|severityText)"?'
    r'\s?[=:]\s?"?([A-Za-z]{1,11}|[1-6]0)(?![A-Za-z0-9_])',
    re.IGNORECASE,
)
_KLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_UPPER = r"TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|SEVERE|CRITICAL|CRIT|FATAL|PANIC|EMERG|ALERT|LOG|WRN|INF|DBG"
# A word counts when it is in capital letters, when it is in brackets, or at the line's beginning before a colon.
_WORD = re.compile(
    rf"(?<![A-Za-z0-9_/.-])(?:({_UPPER})(?=$|[\s:|\]\[(),])|[\[<(]((?i:{_UPPER}))[\]>)]|^((?i:{_UPPER})):)"
)


def level_of(text: str) -> str | None:
    """Return the level of a line, one of LEVELS; None when the line does not contain its level."""
    match = _KLOG.match(text)
    if match is None:
        for match in _KEY.finditer(text, 0, _KEY_WITHIN):
            known = _NAMES.get(match[1].lower())
            if known is not None:
                return known
        match = _WORD.search(text, 0, _WORD_WITHIN)
    return None if match is None else _NAMES[match[match.lastindex or 1].lower()]
