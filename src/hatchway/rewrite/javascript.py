"""Rewrites JavaScript under a path prefix: module specifiers, and reads of the page's own address.

`jslexer.py` finds the words that matter in the code; `jsmodules.py` and `jsaddresses.py` rewrite them. This file
combines them, and rewrites `eval(text)`: the text is passed through `__hatchwayCode`, which rewrites it in the browser
in the same way.

The browser's script (`browser/`) defines the functions that rewritten code calls; its part `browser/code.js` rewrites
code that is text. A window or worker without that script does not have these functions, so rewritten code tests
whether they exist, by an expression in parentheses. There is no such test at the beginning of a statement, where an
opening parenthesis would continue the previous line.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.jsaddresses import AddressRules
from hatchway.rewrite.jscontext import BRACKETS
from hatchway.rewrite.jslexer import Lexer
from hatchway.rewrite.jsmodules import ModuleRules
from hatchway.rewrite.jstokens import Effort
from hatchway.rewrite.jswindow import CodeWindow
from hatchway.rewrite.urlrules import UrlRule
from hatchway.rewrite.vocabulary import INDEXED

_WINDOWS: Final = tuple(name + b"[" for name in INDEXED.encode().split())

# `eval(` and `(0, eval)(`. The argument is a string, a call with a string (as webpack makes for Trusted Types), or an
# expression without strings.
_EVAL = re.compile(rb"(?:\s*\))?\s*\(")
_EVALUATED_STRING = re.compile(rb"\s*(?:[\w$]+(?:\.[\w$]+)*\(\s*)?(?=[\"'])")
_EVALUATES = re.compile(
    rb"(?:\A|[^\w$.#@\\\x80-\xff]|(?<![\w$.])(?:window|self|globalThis)\s*\."
    rb"|(?<![\w$.])(?:return|await|yield|void|typeof|case|do|else|in|of))\Z"
)
_BODY = re.compile(rb"\s*(?:\{|=>)")
_CODE_OF: Final = b"(globalThis.__hatchwayCode||(_=>_))("
# At this depth of nested `eval` calls, a call is rewritten only when its argument begins with a string.
_DEEPEST: Final = 4


class JavaScriptRewriter:
    """A body transform for a script.

    rule: rewrites a module specifier that is a URL.
    depth: number of `eval` calls around this code.
    before: the code before this code.
    effort: the counter to which this code's cost is added: the surrounding code's counter, or None for a new one.
    """

    def __init__(self, rule: UrlRule, *, depth: int = 0, before: bytes = b"", effort: Effort | None = None) -> None:
        self._rule = rule
        self._depth = depth
        self._window = CodeWindow(effort or Effort(), before)
        modules = ModuleRules(self._window, rule)
        addresses = AddressRules(self._window)
        words = {
            b"location": addresses.change_location,
            b"pathname": addresses.change_member,
            b"href": addresses.change_member,
            b"import": modules.change_import,
            b"from": modules.change_source,
            b"eval": self._change_eval,
            **dict.fromkeys(_WINDOWS, addresses.change_index),
        }
        self._lexer = Lexer(self._window, words, {b"location": addresses.change_key})
        self.feed = self._lexer.feed
        self.finish = self._lexer.finish

    def _change_eval(self, start: int, end: int) -> None:
        window = self._window
        ahead = window.ahead(end)
        call = _EVAL.match(ahead)
        before = window.significant(start)
        if call is None or not _EVALUATES.search(before[-64:]) or (b")" in call[0] and before[-1:] != b","):
            return
        close = _closing_parenthesis(ahead, call.end(), window.effort) if self._depth < _DEEPEST else None
        if close is not None:
            text = ahead[call.end() : close]
            if text.strip() and not _BODY.match(ahead, close + 1):
                # The argument is an expression, so it is rewritten as code, too.
                inner = JavaScriptRewriter(self._rule, depth=self._depth + 1, before=b"(", effort=window.effort)
                text = inner.feed(text) + inner.finish()
                window.replace(end + call.end(), end + close, _CODE_OF + text + b")")
                window.at = window.code_start = end + close
                window.before = b'"'
            return
        literal = _EVALUATED_STRING.match(ahead, call.end())
        if literal is not None:
            # The string may have any length, so the closing parenthesis is inserted when the string has ended.
            at = end + literal.end()
            window.replace(at, at, _CODE_OF)
            window.at = window.code_start = at
            window.before = b"("
            self._lexer.after_string = b")"


def _closing_parenthesis(ahead: bytes, position: int, effort: Effort) -> int | None:
    """Return the index of the parenthesis that closes the parenthesis before `position`; None if it is not in `ahead`.

    The cost of the search is added to `effort`.
    """
    depth = 1
    effort.count_text(ahead)
    for found in BRACKETS.finditer(ahead, position):
        effort.count_token()
        token = found[0]
        if token in (b"(", b"[", b"{"):
            depth += 1
        elif token in (b")", b"]", b"}"):
            depth -= 1
            if not depth:
                return found.start()
    return None
