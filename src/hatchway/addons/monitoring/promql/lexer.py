"""Splits PromQL into tokens, with the tokens and the error texts of `promql/parser/lex.go`.

Each token is made when the parser requests it. So the first error in the text is raised, whether the lexer or the
parser finds it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hatchway.addons.monitoring.promql.errors import QueryParseError
from hatchway.addons.monitoring.promql.golang import quote

AGGREGATORS = frozenset(
    {
        "avg", "bottomk", "count", "count_values", "group", "max", "min", "quantile", "stddev", "stdvar", "sum", "topk",
    }
)  # fmt: skip
KEYWORDS = frozenset({"bool", "by", "group_left", "group_right", "ignoring", "offset", "on", "without"})
PREPROCESSORS = frozenset({"start", "end"})
SET_OPERATORS = frozenset({"and", "or", "unless"})
OPERATORS = frozenset({"+", "-", "*", "/", "%", "^", "==", "!=", "<=", "<", ">=", ">", "=~", "!~", "atan2", "@"})
_WORDS = AGGREGATORS | KEYWORDS | PREPROCESSORS | SET_OPERATORS | {"atan2"}
_ERROR = "error"

_spaces = re.compile(r"[ \t\n\r]*").match
_comment = re.compile(r"#[^\r\n]*").match
_word = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*").match
_identifier = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*").match
_duration = re.compile(r"[smhdwy]s?(?:[0-9]+[smhdw]s?)*").match
_partial = re.compile(r"[smhdwy]s?(?:[0-9]+[smhdw]s?)*(?:[0-9]+)?").match
_number = re.compile(
    r"0[xX][0-9a-fA-F]*(?:\.[0-9a-fA-F]*)?(?:[eE][+-]?[0-9]*)?|[0-9]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?"
).match
_escape = re.compile(
    r"[abfnrtv\\]|(?P<octal>[0-7]{3})|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
).match
_SINGLE = frozenset("*/%+-^,@")


@dataclass(frozen=True, slots=True)
class QueryToken:
    """A token.

    kind: the symbol or the keyword in lower case; or `number`, `duration`, `string`, `identifier`,
        `metric identifier`, `end of input`.
    position: the offset in the query, in characters.
    text: the token's text in the query.
    """

    kind: str
    position: int
    text: str

    @property
    def end(self) -> int:
        """Return the offset after the token."""
        return self.position + len(self.text)

    def describe(self) -> str:
        """Return the token's name in error messages."""
        if self.kind == "end of input":
            return self.kind
        if self.kind in ("identifier", "metric identifier"):
            return f"{self.kind} {quote(self.text)}"
        if self.kind in KEYWORDS:
            return f"<{self.text}>"
        if self.kind in OPERATORS or self.kind in SET_OPERATORS:
            return f"<op:{self.text}>"
        if self.kind in AGGREGATORS:
            return f"<aggr:{self.text}>"
        shown = f"{quote(self.text[:10])}..." if len(self.text.encode(errors="replace")) > 10 else quote(self.text)
        return f"{self.kind} {shown}" if self.kind in ("number", "duration", "string") else shown


class QueryLexer:
    """Splits a query into tokens.

    Raises (from `next`):
        QueryParseError: a character or a number that PromQL does not have.
    """

    def __init__(self, query: str) -> None:
        self.query = query
        self._at = 0
        self._depth = 0
        self._braces = False
        self._bracket = False
        self._colon = False
        self._expects_duration = False

    def next(self) -> QueryToken:
        """Read the next token, and return it; at the end, `end of input` every time."""
        query = self.query
        self._skip()
        start = self._at
        char = query[start : start + 1]
        if self._braces:
            return self._in_braces(start, char)
        if self._expects_duration:
            self._expects_duration = False
            return self._duration(start)
        if not char:
            if self._depth:
                raise self._error(start, "unclosed left parenthesis")
            if self._bracket:
                raise self._error(start, "unclosed left bracket")
            return QueryToken("end of input", start, "")
        if char in _SINGLE:
            return self._take(char, 1)
        if char in "=!<>":
            return self._comparison(start, char)
        if (char.isascii() and char.isdigit()) or (char == "." and self._digit(start + 1)):
            return self._number(start)
        if char in "\"'`":
            return self._string(start, char)
        if char.isascii() and (char.isalpha() or char in "_:"):
            return self._words(start, char)
        return self._bracketing(start, char)

    def _skip(self) -> None:
        while True:
            found = _spaces(self.query, self._at)
            self._at = found.end() if found else self._at
            comment = None if self._expects_duration else _comment(self.query, self._at)
            if comment is None or self._braces:
                return
            self._at = comment.end()

    def _error(self, position: int, message: str) -> QueryParseError:
        return QueryParseError(self.query, position, message)

    def _take(self, kind: str, length: int) -> QueryToken:
        token = QueryToken(kind, self._at, self.query[self._at : self._at + length])
        self._at += length
        return token

    def _digit(self, at: int) -> bool:
        char = self.query[at : at + 1]
        return char.isascii() and char.isdigit()

    def _rune(self, at: int) -> str:
        """Return the character at an offset as Go's `%q` prints a rune; U+FFFD at the end of the input."""
        char = self.query[at : at + 1]
        return quote(char, "'") if char else "'�'"

    def _comparison(self, start: int, char: str) -> QueryToken:
        following = self.query[start + 1 : start + 2]
        if char == "=":
            if following == "~":
                raise self._error(start, "unexpected character after '=': '~'")
            return self._take("==", 2) if following == "=" else self._take("=", 1)
        if char == "!":
            if following != "=":
                raise self._error(start, f"unexpected character after '!': {self._rune(start + 1)}")
            return self._take("!=", 2)
        return self._take(f"{char}=", 2) if following == "=" else self._take(char, 1)

    def _bracketing(self, start: int, char: str) -> QueryToken:
        match char:
            case "(":
                self._depth += 1
            case ")":
                self._depth -= 1
                if self._depth < 0:
                    raise self._error(start + 1, "unexpected right parenthesis ')'")
            case "{":
                self._braces = True
            case "[":
                if self._bracket:
                    raise self._error(start, "unexpected left bracket '['")
                self._bracket, self._colon, self._expects_duration = True, False, True
            case "]":
                if not self._bracket:
                    raise self._error(start, "unexpected right bracket ']'")
                self._bracket = False
            case _:
                raise self._error(start, f"unexpected character: {self._rune(start)}")
        return self._take(char, 1)

    def _words(self, start: int, char: str) -> QueryToken:
        if self._bracket:
            if self._colon:
                raise self._error(start, f"unexpected colon {self._rune(start)}")
            if char != ":":
                raise self._error(start, f"unexpected character: {self._rune(start)}, expected ':'")
            self._colon = True
            return self._take(":", 1)
        found = _word(self.query, start)
        word = found.group() if found else ""
        lower = word.lower()
        if lower in _WORDS:
            return self._take(lower, len(word))
        if lower in ("inf", "nan"):
            return self._take("number", len(word))
        return self._take("metric identifier" if ":" in word else "identifier", len(word))

    def _scan_number(self, start: int) -> tuple[int, bool]:
        """Return (the end of a number, True when it is valid)."""
        found = _number(self.query, start)
        end = found.end() if found else start
        following = self.query[end : end + 1]
        good = not ((following.isascii() and following.isalnum()) or following == "_")
        return end, good

    def _number(self, start: int) -> QueryToken:
        end, good = self._scan_number(start)
        if good:
            return self._take("number", end - start)
        found = _duration(self.query, end)
        if found:
            following = self.query[found.end() : found.end() + 1]
            if not ((following.isascii() and following.isalnum()) or following == "_"):
                return self._take("duration", found.end() - start)
        raise self._error(start, f"bad number or duration syntax: {quote(self.query[start : self._bad_end(end)])}")

    def _duration(self, start: int) -> QueryToken:
        end, good = self._scan_number(start)
        if good:
            raise self._error(start, "missing unit character in duration")
        found = _duration(self.query, end)
        if found:
            following = self.query[found.end() : found.end() + 1]
            if not ((following.isascii() and following.isalnum()) or following == "_"):
                return self._take("duration", found.end() - start)
        raise self._error(start, f"bad duration syntax: {quote(self.query[start : self._bad_end(end)])}")

    def _bad_end(self, at: int) -> int:
        """Return the end of the text that an error message about a malformed duration shows."""
        found = _partial(self.query, at)
        if found is None:
            return at
        whole = _duration(self.query, at)
        return found.end() + 1 if whole is not None and whole.end() == found.end() else found.end()

    def _string(self, start: int, mark: str) -> QueryToken:
        at = start + 1
        query = self.query
        while True:
            char = query[at : at + 1]
            if char == mark:
                return self._take("string", at + 1 - start)
            if mark == "`":
                if not char:
                    raise self._error(start, "unterminated raw string")
            elif not char or char == "\n":
                raise self._error(start, "unterminated quoted string")
            elif char == "\\":
                at = self._escape(start, at + 1, mark)
                continue
            if char == "�" or "\ud800" <= char <= "\udfff":
                raise self._error(start, "invalid UTF-8 rune")
            at += 1

    def _escape(self, start: int, at: int, mark: str) -> int:
        """Return the end of an escape sequence. at: the offset after its backslash."""
        char = self.query[at : at + 1]
        if char == mark:
            return at + 1
        found = _escape(self.query, at)
        if found is None:
            if char not in "01234567xuU":
                shown = f"U+{ord(char):04X} '{char}'" if char.isprintable() else f"U+{ord(char):04X}"
                raise self._error(start, f"unknown escape sequence {shown}")
            limits = {"x": (1, 2, 16), "u": (1, 4, 16), "U": (1, 8, 16)}
            skip, length, base = limits.get(char, (0, 3, 8))
            for place in range(at + skip, at + skip + length):
                digit = self.query[place : place + 1]
                if not digit:
                    break
                if digit not in "0123456789abcdefABCDEF" or int(digit, 16) >= base:
                    shown = f"U+{ord(digit):04X} '{digit}'" if digit.isprintable() else f"U+{ord(digit):04X}"
                    raise self._error(start, f"illegal character {shown} in escape sequence")
            raise self._error(start, "escape sequence not terminated")
        octal, code = found.group("octal"), found.group("u") or found.group("U")
        number = int(octal, 8) if octal else int(code, 16) if code else 0
        if (octal and number > 255) or (code and (number > 0x10FFFF or 0xD800 <= number < 0xE000)):
            raise self._error(start, "escape sequence is an invalid Unicode code point")
        return found.end()

    def _in_braces(self, start: int, char: str) -> QueryToken:
        if not char:
            raise self._error(start, "unexpected end of input inside braces")
        if char.isascii() and (char.isalpha() or char == "_"):
            found = _identifier(self.query, start)
            return self._take("identifier", found.end() - start if found else 1)
        following = self.query[start + 1 : start + 2]
        match char:
            case ",":
                return self._take(",", 1)
            case '"' | "'" | "`":
                return self._string(start, char)
            case "=":
                return self._take("=~", 2) if following == "~" else self._take("=", 1)
            case "!":
                if following not in ("~", "=") or not following:
                    shown = self._rune(start + 1)
                    raise self._error(start, f"unexpected character after '!' inside braces: {shown}")
                return self._take(f"!{following}", 2)
            case "{":
                raise self._error(start, "unexpected left brace '{'")
            case "}":
                self._braces = False
                return self._take("}", 1)
        raise self._error(start, f"unexpected character inside braces: {self._rune(start)}")
