"""A streaming lexer of JavaScript: finds the bytes that are code, and the words in the code that have rules.

RE2 finds all words, in code or not, in one fast pass. Between two words a single match of `jstokens.PLAIN` skips
strings, comments and other tokens that are certain. The match stops at text that needs more checks: an uncertain slash,
a template with code in it, a string that contains a word. A string that does not end on its line shows that the lexer
has made a mistake, or that the text is not JavaScript. The text from that string on is not changed.

Every decision reads at most `AHEAD` bytes forward and `BEHIND` bytes back. This many bytes are kept in memory, so the
result does not depend on how the input is cut into pieces. The rules decide how words are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from hatchway.rewrite.jstokens import (
    AHEAD,
    BEFORE_A_CONDITION,
    BEHIND,
    CHAIN_LIMIT,
    FLAGS,
    LINE_END,
    MARK,
    MARK_OR_BRACE,
    MEMBER_NEXT,
    OPERATORS,
    PART_OF_A_NAME,
    PLAIN,
    PLAIN_WITHOUT_BRACES,
    REGEX_LIMIT,
    STRING_PIECE,
    TEMPLATE_PIECE,
    Literals,
    Parentheses,
    last_word,
)
from hatchway.rewrite.jswindow import CodeWindow

WordRule = Callable[[int, int], None]

_NO_BEGINNING: Final = PART_OF_A_NAME | frozenset(b"#@")
# Longer parts of code are skipped in several steps, so that few bytes must be kept for reading back.
_LONGEST_SKIP: Final = 4 * 1024

# All decisions together may read `_STEPS_PER_BYTE` bytes for each byte of the script, and `_STEPS_AT_ONCE` more.
_STEPS_PER_BYTE: Final = 32
_STEPS_AT_ONCE: Final = 512 * 1024


class _LexicalState(IntEnum):
    CODE = 0
    STRING = 1
    TEMPLATE = 2
    LINE_COMMENT = 3
    BLOCK_COMMENT = 4
    OPAQUE = 5  # nothing is changed from here on


@lru_cache(maxsize=4)
def _finder(words: tuple[bytes, ...]) -> Any:
    """Compile a pattern that finds any of the words. No word may end with the beginning of another one."""
    # Imported here, so that the API server and the door start faster.
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    return re2.compile(b"|".join(word.replace(b"[", rb"\[") for word in words), options)


class Lexer:
    """Calls the rule of every word in `words` that is found in the code, and of every string in `keys`.

    A rule is called with the beginning and the end of its word in the window's text. It may change text from
    `window.written` on, and move `window.at` forward from the word's end.

    words: a rule for each word; a word that ends with "[" is found only before an index.
    keys: a rule for each string that may name a property (`x["location"]`). Each of these strings is also in `words`.
        The rule gets the offsets of the string with its quotes.
    """

    def __init__(
        self,
        window: CodeWindow,
        words: Mapping[bytes, WordRule],
        keys: Mapping[bytes, WordRule],
    ) -> None:
        self._window = window
        self._finder = _finder(tuple(words))
        self._words = words
        self._keys = keys
        # Text to insert after the next string.
        self.after_string = b""
        self._state = _LexicalState.CODE
        self._quote = b""
        # For each surrounding template literal: how many braces are open in its expression.
        self._braces: list[int] = []
        # The words in the rest of this piece, the last one first.
        self._hits: list[tuple[int, bytes]] | None = None
        # Both objects find the ends of regular expressions. `_near_literals` searches only near a slash, to distinguish
        # a regular expression from a division.
        self._literals = Literals(REGEX_LIMIT)
        self._near_literals = Literals(AHEAD)
        # True while the end of a regular expression has not arrived.
        self._waits_for_literal = False
        self._parentheses = Parentheses()
        # Each byte of the script allows some cost. `_allowed_for` is the offset up to which the allowed cost was
        # subtracted. `_is_over_limit` is True when the cost is too high; then nothing more is changed.
        self._allowed_for = 0
        self._is_over_limit = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return the output that no longer depends on later bytes."""
        if self._state == _LexicalState.OPAQUE:
            return data
        window = self._window
        window.text = window.text + data if window.text else data
        if self._waits_for_literal:
            if self._literals.find_end(window.text, window.at, final=False) is None:
                return b""
            self._waits_for_literal = False
        self._run(final=False)
        return self._flush(final=False)

    def finish(self) -> bytes:
        """End the input; return the output that was held back."""
        if self._state == _LexicalState.OPAQUE:
            return b""
        self._run(final=True)
        return self._flush(final=True)

    def _flush(self, *, final: bool) -> bytes:
        window = self._window
        whole = final or self._state == _LexicalState.OPAQUE
        done = len(window.text)
        if not whole:
            done = window.at
            if self._state == _LexicalState.CODE:
                # Names at the end may begin a chain of names (`a.b.c`). A rule may insert text before the whole chain.
                done = max(window.written, window.at - 2 * CHAIN_LIMIT - 2)
        before = window.dropped
        out = window.flush(done, whole=whole)
        cut = window.dropped - before
        if cut:
            self._literals.cut(cut)
            self._near_literals.cut(cut)
            self._parentheses.cut(window.dropped)
        return out

    def _run(self, *, final: bool) -> None:
        self._hits = None
        window = self._window
        while window.at < len(window.text) or final:
            before = (window.at, self._state, len(self._braces))
            more = self._step(final)
            if self._is_over_limit:
                self._state = _LexicalState.OPAQUE
            if self._state == _LexicalState.OPAQUE or not more or before == (window.at, self._state, len(self._braces)):
                return

    def _step(self, final: bool) -> bool:
        """Advance to the next change of the state. Return False when more input is needed."""
        match self._state:
            case _LexicalState.CODE:
                return self._in_code(final)
            case _LexicalState.STRING:
                return self._in_string(final)
            case _LexicalState.TEMPLATE:
                return self._in_template()
            case _LexicalState.LINE_COMMENT:
                return self._in_line_comment()
            case _:
                return self._in_block_comment()

    def _find(self, end: int) -> list[tuple[int, bytes]]:
        """Return the offsets of the words that begin before `end`, in code or not, the last one first."""
        window = self._window
        if window.at >= end:
            return []
        text = window.text
        spans = [found.span() for found in self._finder.finditer(text, window.at, min(len(text), end + 16))]
        hits = [(start, text[start:done]) for start, done in spans if start < end]
        hits.reverse()
        return hits

    def _in_code(self, final: bool) -> bool:
        window = self._window
        text = window.text
        # A rule reads the text after its word, so a word is only found when `AHEAD` bytes follow it.
        end = len(text) if final else len(text) - AHEAD
        if self._hits is None:
            self._hits = self._find(end)
        hits = self._hits
        plain = PLAIN_WITHOUT_BRACES if self._braces else PLAIN
        while (at := window.at) < end:
            while hits and hits[-1][0] < at:
                hits.pop()
            target = hits[-1][0] if hits else end
            while at < target and not self.after_string:
                step = min(target, at + _LONGEST_SKIP)
                found = plain.match(text, at, step)
                assert found is not None  # it also matches the empty text
                if found.lastindex is not None:
                    window.skip(found)
                window.at = at = found.end()
                if at < step:
                    break
            if at < target:
                if not self._skip_token(final):
                    return False
                if self._state != _LexicalState.CODE:
                    return True
            elif hits:
                self._call_rule(*hits.pop())
                if self._is_over_limit:
                    return False
        return False

    def _skip_token(self, final: bool) -> bool:
        """Skip the token at this position, or change the state. Return False when more input is needed."""
        window = self._window
        text, start = window.text, window.at
        found = (MARK_OR_BRACE if self._braces else MARK).match(text, start)
        assert found is not None  # no other token is possible
        done, mark = found.end(), text[start]
        if done - start > 1:
            if mark == 0x2F:
                window.before = window.significant(start)[-32:]
                window.at = done
                window.resume(b"")
                return True
            self._skip_whole_string(start, done)
            if window.at <= done:
                window.at = done
                window.resume(b'"')
                self._string_ends()
        elif mark == 0x2F:
            return self._slash(final)
        elif mark == 0x7B:
            self._braces[-1] += 1
            window.at += 1
        elif mark == 0x7D:
            window.at += 1
            if self._braces[-1]:
                self._braces[-1] -= 1
            else:
                self._braces.pop()
                self._state = _LexicalState.TEMPLATE
        else:
            window.at += 1
            self._quote = text[start : start + 1]
            self._state = _LexicalState.TEMPLATE if mark == 0x60 else _LexicalState.STRING
        return True

    def _call_rule(self, start: int, word: bytes) -> None:
        """Call the rule of a word that was found in code, unless it is a part of a longer word."""
        text = self._window.text
        end = start + len(word)
        if (start and text[start - 1] in _NO_BEGINNING) or (
            end < len(text) and word[-1] in PART_OF_A_NAME and text[end] in PART_OF_A_NAME
        ):
            return
        if self._is_allowed(start):
            self._window.at = end
            self._words[word](start, end)

    def _skip_whole_string(self, start: int, end: int) -> None:
        """Skip a string and the words in it. If a word is the whole string, call its rule in `keys`."""
        hits = self._hits
        while hits and hits[-1][0] < end:
            at, word = hits.pop()
            key = self._keys.get(word)
            if key is not None and at == start + 1 and at + len(word) == end - 1 and self._is_allowed(at):
                key(start, end)

    def _is_allowed(self, at: int) -> bool:
        """Update the cost of all decisions; return True while the cost is allowed for a script of this length."""
        effort = self._window.effort
        if effort.spent and not self._is_over_limit:
            position = self._window.dropped + at
            effort.spent = max(0, effort.spent - _STEPS_PER_BYTE * (position - self._allowed_for))
            self._allowed_for = position
            self._is_over_limit = effort.spent > _STEPS_AT_ONCE
        return not self._is_over_limit

    def _in_string(self, final: bool) -> bool:
        """Skip the rest of a string that arrived in pieces."""
        window = self._window
        match = STRING_PIECE[self._quote].match(window.text, window.at)
        assert match is not None  # the pattern also matches the empty text
        window.at = match.end()
        rest = window.text[window.at : window.at + 2]
        if rest[:1] == self._quote:
            window.at += 1
            self._resume(b'"')
            self._string_ends()
            return True
        if rest in (b"\\", b"\\\r") and not final:
            return False
        if rest:
            self._state = _LexicalState.OPAQUE  # a line end, so this is not a string
        return False

    def _string_ends(self) -> None:
        if self.after_string:
            self._window.replace(self._window.at, self._window.at, self.after_string)
            self.after_string = b""

    def _in_template(self) -> bool:
        window = self._window
        match = TEMPLATE_PIECE.match(window.text, window.at)
        assert match is not None
        window.at = match.end()
        rest = window.text[window.at : window.at + 2]
        if rest[:1] == b"`":
            window.at += 1
            self._resume(b'"')
            return True
        if rest == b"${":
            window.at += 2
            self._braces.append(0)
            self._resume(b"+")  # an expression begins
            return True
        return False

    def _in_line_comment(self) -> bool:
        window = self._window
        found = LINE_END.search(window.text, window.at)
        if found is None:
            # U+2028 may be cut in two.
            window.at = max(window.at, len(window.text) - 2)
            return False
        window.at = found.start()
        self._resume(b"")
        return True

    def _in_block_comment(self) -> bool:
        window = self._window
        found = window.text.find(b"*/", window.at)
        if found < 0:
            window.at = max(window.at, len(window.text) - 1)
            return False
        window.at = found + 2
        self._resume(b"")
        return True

    def _resume(self, before: bytes) -> None:
        self._state = _LexicalState.CODE
        self._window.resume(before)

    def _slash(self, final: bool) -> bool:
        """Skip a comment, a regular expression or a division."""
        window = self._window
        text, at = window.text, window.at
        following = text[at + 1 : at + 2]
        if following in (b"/", b"*") and following:
            window.before = window.significant(at)[-32:]
            window.at += 2
            window.code_start = window.at
            self._state = _LexicalState.LINE_COMMENT if following == b"/" else _LexicalState.BLOCK_COMMENT
            return True
        if self._divides(at):
            window.at += 1
            return True
        found = self._literals.find_end(text, at, final=final)
        if found is None:
            self._waits_for_literal = True
            return False
        if found:
            flags = FLAGS.match(text, found)
            end = flags.end() if flags is not None else found
            if final or end < len(text):
                window.at = end
                window.resume(b")")  # a slash after a value divides
                return True
            return False
        window.at += 1  # it can only be a division
        return True

    def _divides(self, at: int) -> bool:
        window = self._window
        before = window.significant(at)
        if not before:
            return False
        last = before[-1:]
        if last == b")":
            closes = self._closes_a_condition(at) if before is not window.before else _closes_a_condition(before)
            return not closes or not self._near_literals.find_end(window.text, at, final=True)
        if last == b"}":
            end = self._near_literals.find_end(window.text, at, final=True)
            if not end:
                return True
            flags = FLAGS.match(window.text, end)
            return MEMBER_NEXT.match(window.text, flags.end() if flags is not None else end) is None
        if last in b']"':
            return True
        word = last_word(before)
        if word:
            return word not in OPERATORS or before[: -len(word)].rstrip()[-1:] == b"."
        return before.endswith((b"++", b"--"))

    def _closes_a_condition(self, at: int) -> bool:
        """Return True when the ")" before `at` ends the condition of an `if (...)` or the like, at most BEHIND away."""
        window = self._window
        opened = self._parentheses.match_up_to(window.text, window.dropped, window.code_start, at)
        if opened < max(window.code_start, at - BEHIND):
            return False
        before = window.text[max(window.code_start, opened - BEHIND) : opened].rstrip()
        return last_word(before) in BEFORE_A_CONDITION


def _closes_a_condition(text: bytes) -> bool:
    """Return True when the ")" at the end of a short text ends the condition of an `if (...)` or the like."""
    depth = 0
    for position in range(len(text) - 1, -1, -1):
        if text[position] == 0x29:
            depth += 1
        elif text[position] == 0x28:
            depth -= 1
            if not depth:
                return last_word(text[:position].rstrip()) in BEFORE_A_CONDITION
    return False
