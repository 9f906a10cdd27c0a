"""Finds the tokens of JavaScript that a rewriter must know: strings, templates, comments, regular expressions.

Sources: ECMA-262 chapter 12 (lexical grammar). There, the grammar decides whether a slash divides or begins a regular
expression; here, the text before the slash does, as in all lexers without a parser.

Hostile scripts must not take much longer than other scripts. So the result of a search from one slash is used for the
next slashes, too (`Literals`), and the bytes that are read to decide about words are counted (`Effort`). No pattern has
possessive quantifiers or atomic groups: Python 3.11.0 to 3.11.2 get them wrong.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hatchway.rewrite import vocabulary

# The maximum number of bytes after and before a word that a decision reads. This many bytes are kept in memory, so that
# the result does not depend on how the input is cut into pieces.
AHEAD: Final = 1024
BEHIND: Final = 1024
# The beginning of a chain of names (`a.b.c`) is searched in this many bytes before its end.
CHAIN_LIMIT: Final = 160
# A longer text between slashes does not count as a regular expression.
REGEX_LIMIT: Final = 16 * 1024

_ESCAPE: Final = rb"\\(?:\r\n|[^\r]|\r(?=[\s\S]))"
_DOUBLE: Final = rb"[^\"\\\n\r]*(?:" + _ESCAPE + rb"[^\"\\\n\r]*)*"
_SINGLE: Final = rb"[^'\\\n\r]*(?:" + _ESCAPE + rb"[^'\\\n\r]*)*"
_STRING: Final = rb"\"" + _DOUBLE + rb"\"|'" + _SINGLE + rb"'"
_COMMENT: Final = rb"//[^\n\r\xe2]*(?=[\n\r])|/\*[^*]*\*(?:[^*/][^*]*\*|\*)*/"
# This pattern matches a whole string, plain template or comment, or a single slash or quote that needs a further check.
_MARKS: Final = _STRING + rb"|`[^`\\$]*`|" + _COMMENT + rb"|[\"'`/]"
MARK: Final = re.compile(_MARKS)
MARK_OR_BRACE: Final = re.compile(_MARKS + rb"|[{}]")

# A template whose expressions have no quotes, slashes or braces in them.
_SIMPLE_TEMPLATE: Final = rb"`[^`\\$]*(?:(?:\\[\s\S]|\$\{[^\"'`/{}\\]*\}|\$(?=[^{]))[^`\\$]*)*`"
# A slash that divides: it is right after a bracket, a digit, or a name. The name's last (or only) letter shows that the
# name is not an operator like `typeof`.
_CERTAIN_DIVISION: Final = rb"(?:(?<=[abcghijklmpqruvxyzA-Z0-9_$\]])|(?<=[^\w$\\\x80-\xff][efdnwost]))/(?=[^/*])"
# A short regular expression, right after a token that must be followed by an operand. The pattern's two limits together
# are below `REGEX_LIMIT`.
_CERTAIN_REGEX: Final = (
    rb"(?<=[=(,:;!&|?{\[])/(?![*/])(?:[^/\\\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r]){0,100}\]){1,100}/"
    rb"[A-Za-z]*(?=[^A-Za-z])"
)


def _plain(code: bytes) -> re.Pattern[bytes]:
    """Compile a pattern for code with its certain tokens. code: the pattern of the bytes between tokens.

    The pattern always matches. Its groups match empty text at the end of the last string or template (1), of the last
    comment (2), and of the last regular expression (3). A group is set at the end of a whole token, so a failed attempt
    does not set one.
    """
    value = _STRING + b"|" + _SIMPLE_TEMPLATE
    tokens = rb"(?:" + value + rb")()|(?:" + _COMMENT + rb")()|" + _CERTAIN_DIVISION + b"|" + _CERTAIN_REGEX + b"()"
    return re.compile(code + rb"(?:(?:" + tokens + b")" + code + b")*")


PLAIN: Final = _plain(rb"[^\"'`/]*")
PLAIN_WITHOUT_BRACES: Final = _plain(rb"[^\"'`/{}]*")
# Code up to the next token, and the token; at the end only code.
_TOKEN: Final = re.compile(
    rb"[^\"'`/]*(?:(" + _STRING + rb"|" + _COMMENT + rb")|(" + _SIMPLE_TEMPLATE + rb")|" + _CERTAIN_DIVISION
    + rb"|(" + _CERTAIN_REGEX + rb")|)"
)  # fmt: skip
_COMMENTS: Final = re.compile(_COMMENT)

STRING_PIECE: Final = {b'"': re.compile(_DOUBLE), b"'": re.compile(_SINGLE)}
TEMPLATE_PIECE: Final = re.compile(rb"[^`\\$]*(?:(?:\\[\s\S]|\$(?=[^{]))[^`\\$]*)*")
_REGEX: Final = re.compile(rb"/(?![*/])(?:[^/\\\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r])*\])+/")
_REGEX_BEGINS: Final = re.compile(rb"/(?![*/])(?:[^/\\\[\]\n\r]|\\[^\n\r])*")
FLAGS: Final = re.compile(rb"[A-Za-z]*")
MEMBER_NEXT: Final = re.compile(rb"\.[A-Za-z]")
_PARENTHESIS: Final = re.compile(rb"[()]")
_LINE_BREAK: Final = re.compile(rb"[\n\r]")
# \n, \r, U+2028 and U+2029 end a line.
LINE_END: Final = re.compile(rb"[\n\r]|\xe2\x80[\xa8\xa9]")

_WORD_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$" + bytes(range(0x80, 0x100))
# Only the last bytes of a longer word are read, because no word with a rule is this long.
_WORD_LIMIT: Final = 64
PART_OF_A_NAME: Final = frozenset(_WORD_BYTES + b"\\")

# A slash after one of these operators begins a regular expression.
OPERATORS: Final = vocabulary.words(vocabulary.OPERATORS)
BEFORE_A_CONDITION: Final = frozenset((b"if", b"while", b"for", b"with"))

_STEPS_PER_TOKEN: Final = 8


@dataclass(slots=True)
class Effort:
    """Counts the cost of decisions about words, minus the cost that the script's length allows.

    spent: about the number of bytes read.
    """

    spent: int = 0

    def count_text(self, text: bytes) -> None:
        """Count the reading of a text. Each slash in the text may cause one more search through all of it."""
        self.spent += len(text) * (1 + text.count(b"/") // 4)

    def count_token(self) -> None:
        """Count one bracket or word that was found in the text."""
        self.spent += _STEPS_PER_TOKEN


def last_word(text: bytes) -> bytes:
    """Return the word at the end of a text, b"" for none; of a very long word, only the end."""
    near = text[-_WORD_LIMIT:]
    return near[len(near.rstrip(_WORD_BYTES)) :]


def ends_of_tokens(text: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the offset after each token in a part of a script that `PLAIN` has matched."""
    # `end + 1`, because some tokens are recognized by the byte after them.
    for found in _TOKEN.finditer(text, start, end + 1):
        group = found.lastindex
        if group is None:
            continue  # a division, or the end
        if group == 2:
            yield from _expressions(text, found.start(2) + 1, found.end())
        yield found.end()


def _expressions(text: bytes, at: int, end: int) -> Iterator[int]:
    """Yield the offsets where the expressions of a simple template begin."""
    while (piece := TEMPLATE_PIECE.match(text, at, end)) is not None and piece.end() < end - 1:
        yield piece.end() + 2
        at = text.index(b"}", piece.end()) + 1


def code_before_comments(text: bytes, start: int, end: int) -> bytes:
    """Return the last code that stands before a comment, without white space at its end; b"" if there is none.

    Between `start` and `end`, the text has only code and comments.
    """
    found = b""
    # `end + 1`, for the line break after a comment.
    for comment in _COMMENTS.finditer(text, start, end + 1):
        found = text[max(start, comment.start() - BEHIND) : comment.start()].rstrip() or found
        start = comment.end()
    return found


class Literals:
    """Finds the ends of regular expressions, at most `limit` bytes away, and reads each byte only a few times.

    The scan from one slash may pass other slashes, which are escaped or in a class. A scan that begins at such a slash
    can differ from the first scan only up to the next bracket, so after that bracket the end is known.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The last scan: the offset that it has reached, and the end of the regular expression; 0 for none.
        self._until = 0
        self._end = 0
        # Scans from slashes before this offset have the same end as the last scan.
        self._same = 0

    def find_end(self, buffer: bytes, at: int, *, final: bool) -> int | None:
        """Find the end of the regular expression that begins at `at`, without its flags, and keep the scan's result.

        Return 0 when none begins there, None when more input is needed. final: True if there is no more input.
        """
        if at >= self._until:
            match = _REGEX.match(buffer, at, at + self._limit)
            if match is not None:
                self._until, self._end = match.end() - 1, match.end()
            else:
                stop = at + self._limit
                line_end = _LINE_BREAK.search(buffer, at, stop)
                if line_end is not None:
                    stop = line_end.start()
                elif stop > len(buffer):
                    if not final:
                        return None
                    stop = len(buffer)
                self._until, self._end = stop, 0
            self._same = at
            return self._end
        if buffer[at + 1 : at + 2] in (b"/", b"*"):
            return 0
        if at >= self._same:
            match = _REGEX_BEGINS.match(buffer, at, self._until)
            assert match is not None
            stop = match.end()
            if stop < self._until and buffer[stop] == 0x2F:
                return stop + 1
            self._same = stop
        return self._end

    def cut(self, size: int) -> None:
        """Adjust the offsets after `size` bytes were removed at the beginning of the buffer."""
        self._until -= size
        self._end = max(0, self._end - size)
        self._same -= size


class Parentheses:
    """Matches the parentheses in a part of code, each one once. Positions are counted from the script's beginning."""

    def __init__(self) -> None:
        self._open: list[int] = []
        # The beginning of this part, and the position up to which its parentheses were matched.
        self._begun = 0
        self._until = 0

    def match_up_to(self, text: bytes, dropped: int, code_start: int, at: int) -> int:
        """Match the parentheses up to `at`. Return the offset in `text` at which the last matched pair opens.

        The offset is negative, or more than `BEHIND` bytes away, when that opening parenthesis is not known.

        dropped: the number of bytes that came before `text`.
        code_start: the offset where the code around `at` begins; 0 when that is before `text`.
        """
        begin = code_start + dropped
        if self._begun != begin and (code_start or self._begun > begin):
            self._begun = self._until = begin
            self._open.clear()
        # Parentheses that are more than `BEHIND` bytes away are ignored.
        self._until = max(self._until, dropped + at - BEHIND)
        opened = -1
        for found in _PARENTHESIS.finditer(text, max(0, self._until - dropped), at):
            if found[0] == b"(":
                self._open.append(dropped + found.start())
            else:
                opened = self._open.pop() - dropped if self._open else -1
        self._until = dropped + at
        return opened

    def cut(self, dropped: int) -> None:
        """Drop the open parentheses before this position."""
        if self._open:
            del self._open[: bisect_left(self._open, dropped)]
