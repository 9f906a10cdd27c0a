"""Finds the role of a name in JavaScript from the text around the name: is it read or defined there?

`[location, x] = y` and `[location, x]` begin in the same way, and so do `(location) => 1` and `(location)`: the text
after the brackets decides. Nothing is parsed: a scan of at most some hundred bytes recognizes strings and brackets.
When that is not enough, the answer is "unknown", and the name should not be changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from hatchway.rewrite.jstokens import Effort

# "pattern": a pattern assigns to the name (`[location] = y`). `role_ahead` describes the other roles.
Role = Literal["read", "pattern", "parameters", "block", "statement", "unknown"]

SPACE: Final = rb"(?:\s|/\*[^*]*\*(?:[^*/][^*]*\*|\*)*/|//[^\n\r]*[\n\r])*"
# Every alternative begins with a different character, so that other characters are skipped quickly.
_TOKENS: Final = (
    rb"\"(?:[^\"\\\n]|\\[\s\S])*\"|'(?:[^'\\\n]|\\[\s\S])*'|`(?:[^`\\]|\\[\s\S])*`|//[^\n]*|/\*[^*]*\*(?:[^*/][^*]*\*|\*)*/"
    rb"|/(?<=[=(,:;!&|?{}\[]/)(?![*/])(?:[^/\\\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r])*\])+/|\(|\)|\[|\]|\{|\}|;"
)
BRACKETS: Final = re.compile(_TOKENS)
_BRACKETS_AND_WORDS: Final = re.compile(
    _TOKENS
    + b"|"
    + b"|".join(
        word[:1] + rb"(?<![\w$.\x80-\xff]" + word[:1] + b")" + word[1:] + rb"(?![\w$\x80-\xff])"
        for word in b"var let const return throw import export class".split()
    )
)
_OPEN = frozenset((b"(", b"[", b"{"))
_CLOSE = frozenset((b")", b"]", b"}"))
_DECLARES = frozenset((b"var", b"let", b"const"))
_AFTER = re.compile(
    SPACE + rb"(?:(?P<arrow>=>)|(?P<assigned>=(?!=))|(?P<each>(?:of|in)(?![\w$]))|(?P<inner>[,)\]}])|(?P<block>\{))"
)
_NEXT_LINE = re.compile(rb"[^\S\n\r]*[\n\r]\s*[\w$]")
_CONDITION = re.compile(rb"(?<![\w$.\x80-\xff])(?:if|while|for|switch|with|for\s+await)\s*\Z")
# The text before a brace that begins an object. (A brace after `=>` begins a block.)
_BEFORE_AN_OBJECT = re.compile(
    rb"(?:[(,=\[?&|+:!]|(?<![\w$.\x80-\xff])(?:return|typeof|in|of|void|throw|yield|await|case|default))\s*\Z"
)
_NAMES_OF_A_MODULE = re.compile(rb"(?<![\w$.\x80-\xff])(?:import|export)\s*(?:type\s+)?(?:[\w$]+\s*,\s*)?\Z")
_CLASS = re.compile(rb"(?<![\w$.\x80-\xff])class(?![\w$])[^{}()]*\Z")


def role_ahead(ahead: bytes, effort: Effort) -> tuple[Role, bytes]:
    """Return the role of a name, and the closing brackets that were read of the brackets around the name.

    The closing bracket of the innermost pair is the first one. "parameters": the name is in parentheses before `=>`.
    "block": the name is in parentheses before a brace, so it is a parameter or in a condition. "statement": a semicolon
    ends the name's statement before a bracket around the name is closed.

    ahead: the text after the name, which shows the role.
    """
    depth = 0
    closed = b""
    effort.count_text(ahead)
    for found in BRACKETS.finditer(ahead):
        effort.count_token()
        token = found[0]
        if token in _OPEN:
            depth += 1
        elif token in _CLOSE:
            if depth:
                depth -= 1
                continue
            closed += token
            after = _AFTER.match(ahead, found.end())
            kind = after.lastgroup if after is not None else None
            if token == b")":
                if kind == "arrow":
                    return "parameters", closed
                if kind == "block":
                    return "block", closed
                return ("pattern" if kind == "assigned" else "read"), closed
            if kind in ("assigned", "each"):
                return "pattern", closed
            if kind != "inner":
                return ("read" if found.end() < len(ahead) else "unknown"), closed
        elif token == b";" and not depth:
            return "statement", closed
    return "unknown", closed


@dataclass(slots=True)
class OpenConstructs:
    """The constructs that are open before a name.

    openers: the open brackets, the innermost last, each with the text before it.
    declares: True when the name is in a list of declarations.
    returns: True when the name is in a statement that returns a value.
    statement: True when the innermost bracket contains a statement, so that it is not an object's brace.
    """

    openers: list[tuple[bytes, bytes]]
    declares: bool = False
    returns: bool = False
    statement: bool = False

    def opener(self, depth: int = 1) -> tuple[bytes, bytes]:
        """Return (an open bracket, the text before it); (b"", b"") when the bracket is too far away.

        depth: 1 for the innermost bracket, 2 for the bracket around that one, and so on.
        """
        return self.openers[-depth] if depth <= len(self.openers) else (b"", b"")

    def is_condition(self, depth: int = 1) -> bool:
        """Return True when the parenthesis belongs to `if (...)` and the like."""
        return _CONDITION.search(self.opener(depth)[1]) is not None

    def is_object(self) -> bool:
        """Return True when the innermost bracket is the brace of an object (or of a pattern)."""
        opener, before = self.opener()
        if opener != b"{" or self.statement or before.endswith(b"=>"):
            return False
        return _BEFORE_AN_OBJECT.search(before) is not None and not self.is_class()

    def is_class(self) -> bool:
        """Return True when the innermost bracket is the brace of a class."""
        opener, before = self.opener()
        return opener == b"{" and _CLASS.search(before) is not None

    def names_a_module(self) -> bool:
        """Return True when the name is in `import {...}` or `export {...}`."""
        opener, before = self.opener()
        return opener == b"{" and _NAMES_OF_A_MODULE.search(before) is not None


def open_constructs(text: bytes, effort: Effort) -> OpenConstructs:
    """Return the constructs that are open at the end of `text`, which begins in code. Add the cost to `effort`."""
    stack: list[tuple[bytes, int]] = []
    # For each open bracket: `declares`, `returns` and `statement` of `OpenConstructs`.
    flags: list[list[bool]] = [[False, False, False]]
    effort.count_text(text)
    for found in _BRACKETS_AND_WORDS.finditer(text):
        effort.count_token()
        token = found[0]
        if token in _OPEN:
            stack.append((token, found.start()))
            flags.append([False, False, False])
        elif token in _CLOSE:
            if stack:
                stack.pop()
                flags.pop()
            else:
                flags = [[False, False, False]]
            if token == b"}" and flags[-1][0] and _ends_a_statement(text, found.end()):
                flags[-1] = [False, False, True]
        elif token == b";":
            flags[-1] = [False, False, True]
        elif token in _DECLARES:
            flags[-1] = [True, False, True]
        elif token in (b"return", b"throw"):
            flags[-1] = [False, True, True]
    openers = [(token, text[max(0, at - 64) : at].rstrip()) for token, at in stack]
    return OpenConstructs(openers, *flags[-1])


def _ends_a_statement(text: bytes, at: int) -> bool:
    """Return True when the text after a brace cannot continue the expression before it."""
    return _NEXT_LINE.match(text, at) is not None
