"""Regular expressions in Go's syntax (`regexp/syntax`), which is what the flags of `kubectl proxy` take.

RE2 has the same grammar and matches in linear time. What it reads otherwise than Go 1.26 is translated here, and refused
where there is no equal: an expression never gets another meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import re2

# Go's limit is 128 MiB of program; one of this size holds every repetition of 1000 that people write.
_MEMORY = 64 << 20
_NAME = re.compile("[0-9A-Za-z_]+")
_INVALID_UTF8 = re.compile("[\ud800-\udfff]")
# General categories but C ("other"), to which Go counts the unassigned code points (Cn) and RE2 does not.
_ASSIGNED = ("L", "M", "N", "P", "S", "Z")
_OTHER = ("Cc", "Cf", "Co", "Cs")
# Names that Go 1.25 and later know and RE2 does not (Unicode's PropertyValueAliases.txt), as they are compared: first
# letter large, the others small, without underscores, blanks and hyphens.
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


class ExpressionError(ValueError):
    """Why an expression is refused."""


class Expression:
    """A compiled expression. source: as it was written."""

    def __init__(self, source: str) -> None:
        """Raises ExpressionError."""
        self.source = source
        options = re2.Options()
        options.max_mem = _MEMORY
        options.log_errors = False
        options.never_capture = True
        try:
            self._search: Callable[[str], object] = re2.compile(_Translation(source).text, options).search
        except re2.error as error:
            why = error.args[0] if error.args else error
            raise ExpressionError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from error

    def matches(self, text: str) -> bool:
        """Whether it matches somewhere in `text` (Go's MatchString). Bytes that are no UTF-8 (surrogate escapes) are
        U+FFFD each, as Go sees them."""
        if not text.isascii():
            text = _INVALID_UTF8.sub("�", text)
        return self._search(text) is not None

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"


class _Translation:
    """One walk over an expression in Go's syntax; `text` is the same expression in RE2's."""

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
        """Copy so many characters as they are."""
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
        """Copy a class in brackets, from its first to its last one."""
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
    """RE2's spelling of a Unicode class. bracketed: it stands between brackets. whole: as it was written."""
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
            return _class("\\x00-\\x7F", negative, bracketed, whole)
        case _:
            # Scripts of two words have their underscore in RE2.
            single = name if "_" in name else folded
            return f"\\{'P' if negative else 'p'}{{{single}}}"
    return _class("".join(f"\\p{{{member}}}" for member in members), negative, bracketed, whole)


def _class(items: str, negative: bool, bracketed: bool, whole: str) -> str:
    if not bracketed:
        return f"[{'^' if negative else ''}{items}]"
    if negative:
        raise ExpressionError(f"{whole} is not supported between brackets; write it outside of them, with |")
    return items
