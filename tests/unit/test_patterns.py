"""Regular expressions in the source mean the same in the oldest and in the newest supported Python.

CPython 3.11.0 to 3.11.2 (Debian 12 has 3.11.2) match some patterns with possessive quantifiers and atomic groups
wrongly: a match is silently missed (python/cpython issues 100061 and 101955).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

SOURCES = Path(__file__).parents[2] / "src"

# An escape or a character class, in which the characters of `_UNRELIABLE` have no special meaning.
_LITERAL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_UNRELIABLE = re.compile(r"\(\?>|[*+?]\+|\{\d*,?\d*\}\+")


def constants(code: CodeType) -> Iterator[tuple[int, str]]:
    """Yield every constant text, with the first line of the function or class that contains it.

    This function reads compiled code instead of a syntax tree: `ast.parse` of CPython 3.11 fails (SystemError,
    python/cpython issue 106905) when a collection of garbage during it formats a traceback.
    """
    waiting: list[object] = list(code.co_consts)
    while waiting:
        constant = waiting.pop()
        if isinstance(constant, CodeType):
            yield from constants(constant)
        elif isinstance(constant, tuple | frozenset):
            waiting += constant
        elif isinstance(constant, str | bytes):
            yield code.co_firstlineno, constant if isinstance(constant, str) else constant.decode("latin-1")


def is_unreliable(text: str) -> bool:
    """Return True if `text` is (a part of) a regular expression with a possessive quantifier or an atomic group."""
    return any(mark in text for mark in ("\\", "[", "(?")) and _UNRELIABLE.search(_LITERAL.sub("a", text)) is not None


def test_no_source_has_unreliable_expressions() -> None:
    found = [
        f"{path.relative_to(SOURCES)}:{line}: {text!r}"
        for path in sorted(SOURCES.rglob("*.py"))
        for line, text in constants(compile(path.read_bytes(), str(path), "exec"))
        if is_unreliable(text)
    ]
    assert found == []


def test_constants_are_found_in_all_places() -> None:
    source = (
        'A = "one"\nB = ("two", b"three")\ndef f(x=4):\n    """doc"""\n    return x in {"five", "six"} or f"se{x}ven"\n'
    )
    found = {text for _line, text in constants(compile(source, "source", "exec"))}
    assert {"one", "two", "three", "doc", "five", "six", "se", "ven"} <= found


@pytest.mark.parametrize(
    "text", [r"\s*+", r"(?:x|y)++", r"(?>a)", r"[\w$]?+", r"\d{1,2}+", r"(?:a*+", r"[*+]++", r"\s*+="]
)
def test_unreliable_expressions_are_found(text: str) -> None:
    assert is_unreliable(text)


@pytest.mark.parametrize("text", [r"[a]+", r"[*+]", r"\++", r"[\w+]+\+", "i++", "++", r"[^\]*+]+", ":@!$&'()*+,;="])
def test_other_texts_are_not_reported(text: str) -> None:
    assert not is_unreliable(text)
