"""Regular expressions in Go's syntax (`regexp/syntax`), for flags of `kubectl proxy` and for PromQL.

RE2 has the same grammar and matches in linear time. Syntax that has another meaning in RE2 than in Go 1.26 is
translated; where this is not possible, the expression is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import re2

# The maximum number of bytes of a compiled program. Go allows 128 MiB; this limit is enough for repetitions in practice
# (`{1000}`).
_MEMORY = 64 << 20
_NAME = re.compile("[0-9A-Za-z_]+")
_INVALID_UTF8 = re.compile("[\ud800-\udfff]")
# All general categories except C ("other"): Go counts unassigned code points (Cn) as C, and RE2 does not.
_ASSIGNED = ("L", "M", "N", "P", "S", "Z")
_OTHER = ("Cc", "Cf", "Co", "Cs")
# Names that Go 1.25 and later have and RE2 does not (Unicode's PropertyValueAliases.txt). They are normalized for
# comparison: only the first letter is a capital; underscores, blanks and hyphens are removed.
_ALIASES = {
    "Casedletter": "Lc", "Closepunctuation": "Pe", "Connectorpunctuation": "Pc", "Control": "Cc", "Cntrl": "Cc",
    "Currencysymbol": "Sc", "Dashpunctuation": "Pd", "Decimalnumber": "Nd", "Digit": "Nd", "Enclosingmark": "Me",
    "Finalpunctuation": "Pf", "Format": "Cf", "Initialpunctuation": "Pi", "Letter": "L", "Letternumber": "Nl",
    "Lineseparator": "Zl", "Lowercaseletter": "Ll", "Mark": "M", "Combiningmark": "M", "Mathsymbol": "Sm",
    "Modifierletter": "Lm", "Modifiersymbol": "Sk", "Nonspacingmark": "Mn", "Number": "N", "Openpunctuation": "Ps",
    "Other": "C", "Otherletter": "Lo", "Othernumber": "No", "Otherpunctuation": "Po", "Othersymbol": "So",
    "Paragraphseparator": "Zp", "Privateuse": "Co", "Punctuation": "P", "Punct": "P", "Separator": "Z",
    "Spaceseparator": "Zs", "Spacingmark": "Mc", "Surrogate": "Cs", "Symbol": "S", "Titlecaseletter": "Lt",
    "Unassigned": "Cn", "Uppercaseletter": "Lu",
}  # fmt: skip
# Maps RE2's messages to (Go's message, True if Go's message shows the whole expression).
_GO_WORDS = {
    "missing )": ("missing closing )", True),
    "unexpected )": ("unexpected )", True),
    "missing ]": ("missing closing ]", False),
    "no argument for repetition operator": ("missing argument to repetition operator", False),
    "bad repetition operator": ("invalid nested repetition operator", False),
    "invalid repetition size": ("invalid repeat count", False),
    "invalid perl operator": ("invalid or unsupported Perl syntax", False),
}


class ExpressionError(ValueError):
    """An expression that is malformed or not supported; the text says why, in Go's words if Go refuses it, too."""


class Expression:
    """A compiled expression.

    source: the expression as it was written.
    steps: the length of the compiled program. The time for matching one character grows with it.
    """

    def __init__(self, source: str, *, capture: bool = False, memory: int = _MEMORY) -> None:
        """Compile an expression.

        Args:
            source: the expression.
            capture: True to record what its groups match, for `groups`.
            memory: the maximum number of bytes for the compiled program. While an expression is compiled, no other
                Python code runs: for up to a second with the default of 64 MiB.

        Raises:
            ExpressionError: the expression is malformed or not supported.
        """
        self.source = source
        options = re2.Options()
        options.max_mem = memory
        options.log_errors = False
        options.never_capture = not capture
        try:
            compiled = re2.compile(_Translation(source).text, options)
        except ExpressionError as error:
            raise ExpressionError(_in_go_words(str(error), source)) from error
        except re2.error as error:
            why = error.args[0] if error.args else error
            text = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
            raise ExpressionError(_in_go_words(text, source)) from error
        self._search: Callable[[str], object] = compiled.search
        self._each: Callable[[str], Iterator[Any]] = compiled.finditer
        self.steps: int = compiled.programsize

    def matches(self, text: str) -> bool:
        """Return True when the expression matches somewhere in `text` (Go's MatchString).

        Bytes that are not UTF-8 (surrogate escapes) count as U+FFFD each, as in Go.
        """
        if not text.isascii():
            text = _INVALID_UTF8.sub("�", text)
        return self._search(text) is not None

    def each(self, text: str) -> Iterator[str]:
        """Yield the texts that the expression matches in `text` one after another (Go's FindAllString)."""
        for match in self._each(_INVALID_UTF8.sub("\ufffd", text)):
            yield match.group()

    def groups(self, text: str) -> list[tuple[str, str]] | None:
        """Return (number, text) of each group of the first match, then (name, text) of named ones. None: no match.

        Group 0 is the whole match. A group that matched nothing has the text "".
        """
        found: Any = self._search(_INVALID_UTF8.sub("\ufffd", text))
        if found is None:
            return None
        numbered = [(str(number), found.group(number) or "") for number in range(len(found.groups()) + 1)]
        return numbered + [(name, value or "") for name, value in found.groupdict().items()]

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"


def _in_go_words(message: str, source: str) -> str:
    """Return Go's form (`regexp/syntax`) of an error message of RE2 (`words: where`)."""
    words, colon, where = message.partition(": ")
    if not colon:
        return message
    shown, all_of_it = _GO_WORDS.get(words, (words, False))
    return f"{shown}: `{source if all_of_it else where}`"


class _Translation:
    """Translates an expression from Go's syntax; `text` is the expression in RE2's syntax."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._out: list[str] = []
        if _INVALID_UTF8.search(source):
            raise ExpressionError("invalid UTF-8")
        while self._at < len(source):
            self._outside()
        self.text = "".join(self._out)

    def _take(self, length: int) -> None:
        """Copy the next `length` characters as they are."""
        self._out.append(self._source[self._at : self._at + length])
        self._at += length

    def _starts(self, text: str) -> bool:
        return self._source.startswith(text, self._at)

    def _outside(self) -> None:
        """Copy one element outside brackets."""
        if self._starts(r"\Q"):
            end = self._source.find(r"\E", self._at + 2)
            self._take((end + 2 if end >= 0 else len(self._source)) - self._at)
        elif self._starts("\\"):
            self._escape(bracketed=False)
        elif self._starts("["):
            self._brackets()
        elif self._starts("(?P<") or self._starts("(?<"):
            self._group()
        else:
            self._take(1)

    def _group(self) -> None:
        begin = self._source.index("<", self._at) + 1
        name, closed, _ = self._source[begin:].partition(">")
        if not closed or not _NAME.fullmatch(name):
            raise ExpressionError(f"invalid named capture or look-behind: {self._source[self._at : begin + len(name)]}")
        self._take(begin + len(name) + 1 - self._at)

    def _brackets(self) -> None:
        """Copy a class in brackets, with its brackets."""
        self._take(2 if self._starts("[^") else 1)
        first = True
        while self._at < len(self._source) and (first or not self._starts("]")):
            first = False
            end = self._source.find(":]", self._at + 2)
            if self._starts("[:") and end >= 0:
                self._take(end + 2 - self._at)
            elif self._starts("\\"):
                self._escape(bracketed=True)
            else:
                self._take(1)
        self._take(1)

    def _escape(self, *, bracketed: bool) -> None:
        letter = self._source[self._at + 1 : self._at + 2]
        if letter == "C":
            raise ExpressionError(r"invalid escape sequence: \C")
        if letter not in ("p", "P"):
            self._take(2)
            return
        begin = self._at + 2
        if self._source[begin : begin + 1] == "{":
            end = self._source.find("}", begin)
            name, after = self._source[begin + 1 : end], end + 1
        else:
            end, name, after = begin, self._source[begin : begin + 1], begin + 1
        whole = self._source[self._at : after]
        if end < 0 or not name:
            raise ExpressionError(f"invalid character class range: {self._source[self._at :]}")
        negative = (letter == "P") != name.startswith("^")
        self._out.append(_unicode_class(name.removeprefix("^"), negative, bracketed, whole))
        self._at = after


def _unicode_class(name: str, negative: bool, bracketed: bool, whole: str) -> str:
    """Return RE2's spelling of a Unicode class. bracketed: True inside brackets. whole: the class as it was written."""
    folded = re.sub("[-_ ]", "", name).capitalize()
    folded = _ALIASES.get(folded, folded)
    members: tuple[str, ...]
    match folded:
        case "C":
            members, negative = _ASSIGNED, not negative
        case "Cn":
            members, negative = (*_ASSIGNED, *_OTHER), not negative
        case "Assigned":
            members = (*_ASSIGNED, *_OTHER)
        case "Lc":
            members = ("Lu", "Ll", "Lt")
        case "Ascii":
            return _class("\\x{80}-\\x{10FFFF}" if negative else "\\x00-\\x7F", False, bracketed, whole)
        case _:
            # RE2 requires the underscore in the names of scripts with two words. Categories have one or two letters.
            single = name if "_" in name and len(folded) > 2 else folded
            return f"\\{'P' if negative else 'p'}{{{single}}}"
    return _class("".join(f"\\p{{{member}}}" for member in members), negative, bracketed, whole)


def _class(items: str, negative: bool, bracketed: bool, whole: str) -> str:
    if not bracketed:
        return f"[{'^' if negative else ''}{items}]"
    if negative:
        raise ExpressionError(f"{whole} is not supported between brackets; write it outside of them, with |")
    return items
