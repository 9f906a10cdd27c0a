"""Finds the tokens of JavaScript that a rewriter must know: strings, templates, comments, regular expressions.

Sources: ECMA-262 chapter 12 (lexical grammar). There, the grammar decides whether a slash divides or begins a regular
expression; here, the text before the slash does, as in all lexers without a parser.

Hostile scripts must not take longer than about one pass. So the result of a search from one slash is kept for the next
slashes (`Literals`), and the bytes that are read to decide about words are counted (`Effort`). No pattern has
possessive quantifiers or atomic groups: Python 3.11.0 to 3.11.2 get them wrong.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hatchway.rewrite import vocabulary

# The most bytes after and before a word that a decision reads. As many are kept in memory, so that the result does
# not depend on how the input is cut into pieces.
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
# A whole string, plain template or comment is one mark. A single slash or quote needs a further check.
_MARKS: Final = _STRING + rb"|`[^`\\$]*`|" + _COMMENT + rb"|[\"'`/]"
MARK: Final = re.compile(_MARKS)
MARK_OR_BRACE: Final = re.compile(_MARKS + rb"|[{}]")

# A template whose expressions have no quotes, slashes or braces in them.
_SIMPLE_TEMPLATE: Final = rb"`[^`\\$]*(?:(?:\\[\s\S]|\$\{[^\"'`/{}\\]*\}|\$(?=[^{]))[^`\\$]*)*`"
# A slash right after a bracket, a digit, or a name that is not an operator, as its last (or only) letter shows.
_CERTAIN_DIVISION: Final = rb"(?:(?<=[abcghijklmpqruvxyzA-Z0-9_$\]])|(?<=[^\w$\\\x80-\xff][efdnwost]))/(?=[^/*])"
# A short regular expression right after a token that can only be before an operand. Both limits together are below
# `REGEX_LIMIT`.
_CERTAIN_REGEX: Final = (
    rb"(?<=[=(,:;!&|?{\[])/(?![*/])(?:[^/\\\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r]){0,100}\]){1,100}/"
    rb"[A-Za-z]*(?=[^A-Za-z])"
)


def _plain(code: bytes) -> re.Pattern[bytes]:
    """Compile a pattern for code with its certain tokens. code: the pattern of the bytes between tokens.

    The pattern always matches. Its groups are empty; they are at the end of the last string or template (1), comment
    (2) and regular expression (3). A group is set at the end of a whole token, so a failed attempt does not set one.
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
# Also U+2028 and U+2029.
LINE_END: Final = re.compile(rb"[\n\r]|\xe2\x80[\xa8\xa9]")

_WORD_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$" + bytes(range(0x80, 0x100))
# Only the end of a longer word is read, because no word with a rule is as long.
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

    def look(self, text: bytes) -> None:
        """Count the reading of a text. Each slash in it may cause one more search that reads all of it."""
        self.spent += len(text) * (1 + text.count(b"/") // 4)

    def token(self) -> None:
        """Count one bracket or word that was found in the text."""
        self.spent += _STEPS_PER_TOKEN


def last_word(text: bytes) -> bytes:
    """Return the word at the end of a text, b"" for none; of a very long word, only the end."""
    near = text[-_WORD_LIMIT:]
    return near[len(near.rstrip(_WORD_BYTES)) :]


def ends_of_tokens(text: bytes, start: int, end: int) -> Iterator[int]:
    """Yield the offset after each token in a part of a script that `PLAIN` has matched."""
    # One byte more, because some tokens are recognized by the next byte.
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
    """Return the last code, without white space at its end, in a part of a script that has only code and comments."""
    found = b""
    # One byte more, for the line break after a comment.
    for comment in _COMMENTS.finditer(text, start, end + 1):
        found = text[max(start, comment.start() - BEHIND) : comment.start()].rstrip() or found
        start = comment.end()
    return found


class Literals:
    """Finds the ends of regular expressions, at most `limit` bytes away, and reads each byte only a few times.

    The scan from one slash may pass other slashes, escaped or in a class. A scan that begins at such a slash can differ
    only up to the first bracket; from there on both scans are equal, so the end is known.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # The last scan: the offset that it has reached, and the literal's end; 0 for no literal.
        self._until = 0
        self._end = 0
        # A scan from a slash before this offset meets a bracket before it can end.
        self._same = 0

    def end(self, buffer: bytes, at: int, *, final: bool) -> int | None:
        """Find the end of the literal that begins at `at`, without its flags, and keep what the scan has found.

        Return 0 when no literal begins there, None when more input is needed. final: True if there is no more input.
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
    """Matches the parentheses in a stretch of code, each one once. Positions count from the script's beginning."""

    def __init__(self) -> None:
        self._open: list[int] = []
        # The beginning of the stretch, and the place up to which its parentheses were matched.
        self._begun = 0
        self._until = 0

    def opener(self, text: bytes, gone: int, begun: int, at: int) -> int:
        """Match the parentheses up to `at`; return the offset in `text` that the last closing one before `at` closes.

        The result is negative, or more than `BEHIND` bytes away, when the opening one is not known.

        gone: the number of bytes that came before `text`.
        begun: the offset where the code around `at` begins; 0 when that is before `text`.
        """
        begin = begun + gone
        if self._begun != begin and (begun or self._begun > begin):
            self._begun = self._until = begin
            self._open.clear()
        # Parentheses that are farther away are ignored, and so are those that are closed in between.
        self._until = max(self._until, gone + at - BEHIND)
        opened = -1
        for found in _PARENTHESIS.finditer(text, max(0, self._until - gone), at):
            if found[0] == b"(":
                self._open.append(gone + found.start())
            else:
                opened = self._open.pop() - gone if self._open else -1
        self._until = gone + at
        return opened

    def cut(self, gone: int) -> None:
        """Drop the open parentheses before this position."""
        if self._open:
            del self._open[: bisect_left(self._open, gone)]
