"""The part of a script that is in memory, with the lexer's position in it, and the output.

Positions are offsets into `text`. The lexer moves `at` forward. Rules read the text around a word and replace ranges,
in ascending order. Text before `written` is output already, and can no longer be changed.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

from hatchway.rewrite import vocabulary
from hatchway.rewrite.jscontext import OpenConstructs, open_constructs
from hatchway.rewrite.jstokens import (
    AHEAD,
    BEHIND,
    CHAIN_LIMIT,
    OPERATORS,
    Effort,
    code_before_comments,
    ends_of_tokens,
    last_word,
)

KEYWORDS: Final = vocabulary.words(vocabulary.KEYWORDS)
_NO_VALUE_OF: Final = vocabulary.words(vocabulary.NO_VALUE_OF)
# After these characters (and after keywords on the same line) an operand is expected, so a parenthesis may follow.
_EXPECTING: Final = frozenset(b"=([,:?&|!+-*%<>^~{;")
# Matched backwards: names that dots join.
_CHAIN_BACKWARD = re.compile(rb"[\w$]*[A-Za-z_$](?:\s*\.(?:\?|(?!\.))\s*[\w$]*[A-Za-z_$])*")
_NAME = re.compile(rb"[\w$]+")

_ADDRESS: Final = b"globalThis.__hatchway"
GUARDED_ADDRESS: Final = b"(globalThis.__hatchway||(_=>_))"


class CodeWindow:
    """A part of a script: `BEHIND` bytes that are output already, and bytes that are not decided yet.

    text: the bytes.
    at: the offset up to which the lexer has read.
    written: the offset up to which the text was output.
    code_start: the offset after the last string, comment or regular expression before `at`.
    before: the end of the code before that token. If the token is a value, one character that stands for the token.
    dropped: how many bytes of the script came before `text`.
    effort: counts the cost of decisions.
    """

    __slots__ = (
        "_before",
        "_comments",
        "_out",
        "_resumed",
        "_skipped",
        "at",
        "code_start",
        "dropped",
        "effort",
        "text",
        "written",
    )

    def __init__(self, effort: Effort, before: bytes = b"") -> None:
        self.text = b""
        self.at = 0
        self.written = 0
        self.code_start = 0
        self._before = before
        # `before` is computed only when it is needed: from the code and comments between these two offsets.
        self._comments: tuple[int, int] | None = None
        self.dropped = 0
        self.effort = effort
        self._out: list[bytes] = []
        # The offsets, ascending, where code continues after a string, a comment and the like; and (beginning, end) of
        # parts in which the lexer has not recorded these offsets.
        self._resumed: list[int] = []
        self._skipped: list[tuple[int, int]] = []

    @property
    def before(self) -> bytes:
        """Return the end of the code before `code_start`."""
        if self._comments is not None:
            self._before = code_before_comments(self.text, *self._comments)[-32:] or self._before
            self._comments = None
        return self._before

    @before.setter
    def before(self, value: bytes) -> None:
        self._before = value
        self._comments = None

    def resume(self, before: bytes) -> None:
        """Continue with code at `at`. before: the new value of `before`; b"" after a comment, to keep the old value."""
        if before:
            self.before = before
        self.code_start = self.at
        self._resumed.append(self.at)

    def skip(self, found: re.Match[bytes]) -> None:
        """Record the tokens in a match of `jstokens.PLAIN` at `at`."""
        self._skipped.append(found.span())
        value, comment, regex = found.end(1), found.end(2), found.end(3)
        last = max(value, regex)
        if last >= 0:
            self.before = b'"' if value > regex else b")"
        if comment > last:
            self._comments = (self._comments[0] if self._comments else max(self.code_start, last), comment)
        self.code_start = max(last, comment)

    def replace(self, start: int, end: int, new: bytes) -> None:
        """Output everything before `start`, then `new` instead of the text up to `end`."""
        self._out.append(self.text[self.written : start])
        self._out.append(new)
        self.written = end

    def wrap(self, start: int, end: int, more: bytes = b"") -> None:
        """Pass an expression through the address function of the browser's script. more: text after the call."""
        name = GUARDED_ADDRESS if self.is_expected(start) else _ADDRESS
        self.replace(start, end, name + b"(" + self.text[start:end] + b")" + more)
        self.at = max(self.at, end)

    def flush(self, done: int, *, whole: bool) -> bytes:
        """Return the output up to `done`, and drop text that decisions no longer need. whole: drop all text."""
        self._out.append(self.text[self.written : done])
        self.written = done
        self.before = self.before
        cut = len(self.text) if whole else min(self.written, self.at) - BEHIND
        if cut > 0 and not whole:
            self._skipped = [one for one in self._skipped if one[1] > cut]
            if self._skipped:
                cut = min(cut, self._skipped[0][0])
        if cut > 0:
            self.text = self.text[cut:]
            self.at -= cut
            self.written -= cut
            self.code_start = max(0, self.code_start - cut)
            self.dropped += cut
            self._resumed = [one - cut for one in self._resumed[bisect_left(self._resumed, cut) :]]
            self._skipped = [(start - cut, end - cut) for start, end in self._skipped]
        found = b"".join(self._out)
        self._out.clear()
        return found

    # Text around a position

    def ahead(self, end: int) -> bytes:
        """Return the text after a position, as far as decisions may read."""
        return self.text[end : end + AHEAD - 64]

    def code_before(self, end: int, limit: int = CHAIN_LIMIT) -> bytes:
        """Return the code before a position, back to the last token that is not code, at most `limit` bytes."""
        return self.text[max(self.code_start, end - limit) : end]

    def significant(self, position: int) -> bytes:
        """Return the code before a position without white space at its end, or `before` when there is none."""
        return self.text[max(self.code_start, position - BEHIND) : position].rstrip() or self.before

    def open_constructs(self, position: int) -> OpenConstructs:
        """Return the constructs that are open at a position, as far as the code before it is in memory."""
        floor = position - BEHIND
        if self._skipped:
            for start, end in self._skipped:
                if end > floor:
                    self._resumed += ends_of_tokens(self.text, start, end)
            self._skipped.clear()
            self._resumed.sort()
        at = bisect_left(self._resumed, floor)
        del self._resumed[:at]
        begin = self._resumed[0] if self._resumed and self._resumed[0] <= position else max(0, floor)
        return open_constructs(self.text[begin:position], self.effort)

    def root(self, chain: int, end: int) -> bytes:
        """Return the first name of a chain."""
        found = _NAME.match(self.text, chain, end)
        return found[0] if found is not None else b""

    def chain(self, end: int) -> int | None:
        """Return the beginning of the chain of names that ends at `end`; None when no chain there may be changed."""
        floor = max(self.code_start, self.written, end - CHAIN_LIMIT)
        text = self.text[floor:end]
        # From the last name backwards, as far as dots join the names.
        found = _CHAIN_BACKWARD.match(text[::-1])
        if found is None:
            return None
        position = end - found.end()
        before = self.significant(position)
        if position == floor and floor not in (self.code_start, 0) and floor >= end - CHAIN_LIMIT:
            return None  # the chain may begin before the text in memory
        last = before[-1:]
        if last and (last in b"#@\\" or last >= b"\x80"):
            return None
        if last == b"." and before[-3:] != b"...":
            return None
        if before[-2:] in (b"++", b"--"):
            return None
        root = _NAME.match(self.text, position, end)
        if root is None or root[0] in KEYWORDS:
            return None
        if last_word(before) in _NO_VALUE_OF:
            return None
        return position

    def is_expected(self, position: int) -> bool:
        """Return True when an opening parenthesis at this position always begins an operand."""
        before = self.significant(position)
        if not before:
            return False
        if before[-1] in _EXPECTING:
            return before[-2:] not in (b"++", b"--")
        between = self.text[max(self.code_start, position - BEHIND) : position]
        if b"\n" in between[len(between.rstrip()) :] or b"\r" in between[len(between.rstrip()) :]:
            return False
        word = last_word(before)
        if word not in OPERATORS or not between.strip():
            return False
        return before[: -len(word)].rstrip()[-1:] != b"."
