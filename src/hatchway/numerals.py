r"""Parses numbers in text from other programs: ASCII digits only, 19 at most.

Python's `int`, `str.isdigit` and `\d` accept more: digits of other scripts (`٣`), superscripts that `int` then refuses
(`²`), underscores (`8_0`), blanks, and from 4,301 digits on `int` raises. Go's `strconv` accepts none of these.
"""

from __future__ import annotations

import re

__all__ = ["is_digits", "parse_int"]

_digits = re.compile(r"[0-9]{1,19}").fullmatch
_integer = re.compile(r"[+-]?[0-9]{1,19}").fullmatch
_INT64 = 2**63


def is_digits(text: str) -> bool:
    """Return True when `text` is a number of 1 to 19 ASCII digits."""
    return _digits(text) is not None


def parse_int(text: object) -> int | None:
    """Return the 64-bit number that `text` spells, with or without a sign; None when it spells none."""
    if not isinstance(text, str) or _integer(text) is None:
        return None
    number = int(text)
    return number if -_INT64 <= number < _INT64 else None
