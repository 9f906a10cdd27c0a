"""Rewrites references to modules in JavaScript: specifiers, `import()` and `import.meta`.

- Specifiers in `import "/a"`, `import x from "/a"`, `export ... from "/a"` and `import("/a")` are changed by the URL
rule.
- `import(expression)` becomes `__hatchwayImport(u=>import(u),expression)`: the browser's script decides at run time.
- `import.meta` becomes `__hatchwayMeta(import.meta)` where it is used as a whole, or as `import.meta.url` or
`import.meta.resolve`.

Both functions are properties of `globalThis`.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.jstokens import Effort
from hatchway.rewrite.jswindow import CodeWindow
from hatchway.rewrite.urlrules import UrlRule

_SPECIFIER = re.compile(rb"(\s*)(?:\"([^\"\\\n\r]*)\"|'([^'\\\n\r]*)')")
_ARGUMENT_END = re.compile(rb"\s*[,)]")
_OPEN = re.compile(rb"\s*\(")
_META = re.compile(rb"\s*\.\s*meta(?![\w$])(?=\s*(?:\.\s*(?:url|resolve)(?![\w$])|[;,)\]}\[\n]|\Z))")
_PARENTHESIS = re.compile(rb"[()]")
_ATTRIBUTES = re.compile(rb"\b(?:with|assert)\s*:")
_BODY = re.compile(rb"\s*\{")
_BEFORE_A_SPECIFIER = frozenset(b"\"' \n\r\t")

_IMPORT: Final = b"globalThis.__hatchwayImport"
_META_OF: Final = b"globalThis.__hatchwayMeta"
_GUARDED_IMPORT: Final = b"(globalThis.__hatchwayImport||((f,u)=>f(u)))"
_GUARDED_META: Final = b"(globalThis.__hatchwayMeta||(_=>_))"


class ModuleRules:
    """Rewrites references to modules.

    Each public method takes the beginning and the end of a word in the window's text.

    rule: rewrites a specifier that is a URL.
    """

    def __init__(self, window: CodeWindow, rule: UrlRule) -> None:
        self._window = window
        self._rule = rule

    def change_source(self, start: int, end: int) -> None:
        """Change the specifier after `from`, if one follows."""
        text = self._window.text
        if end < len(text) and text[end] in _BEFORE_A_SPECIFIER:
            self._change_specifier(self._window.ahead(end), end)

    def change_import(self, start: int, end: int) -> None:
        """Change a declaration, a call of `import()`, or `import.meta`."""
        window = self._window
        ahead = window.ahead(end)
        before = window.significant(start)
        if before[-1:] == b"." and before[-3:] != b"...":
            return
        call = _OPEN.match(ahead)
        if call is None:
            meta = _META.match(ahead)
            if meta is None:
                self._change_specifier(ahead, end)
                return
            helper = _GUARDED_META if window.is_expected(start) else _META_OF
            window.replace(start, end + meta.end(), helper + b"(import.meta)")
            window.at = end + meta.end()
            return
        inside = call.end()
        literal = _SPECIFIER.match(ahead, inside)
        if literal is not None and _ARGUMENT_END.match(ahead, literal.end()):
            self._change_specifier(ahead[inside:], end + inside)
        elif not _has_no_wrapper(ahead, inside, window.effort):
            helper = _GUARDED_IMPORT if window.is_expected(start) else _IMPORT
            window.replace(start, end + inside, helper + b"(u=>import(u),")

    def _change_specifier(self, ahead: bytes, end: int) -> None:
        """Change a string right after `from`, `import` or `import(`."""
        match = _SPECIFIER.match(ahead)
        if match is None:
            return
        window = self._window
        group = 2 if match[2] is not None else 3
        value = match[group]
        rewritten = self._rule(value)
        if rewritten is not value:
            window.replace(end + match.start(group), end + match.end(group), rewritten)
        window.at = window.code_start = end + match.end()
        window.before = b'"'


def _has_no_wrapper(ahead: bytes, position: int, effort: Effort) -> bool:
    """Return True when `import(` must not be changed. position: the offset after the parenthesis.

    There are three such cases: a definition of a method with this name (a "{" follows the closing parenthesis), a call
    without an argument, and a call with import attributes. The helper function cannot pass attributes on, because older
    browsers do not accept a second argument.
    """
    depth = 1
    for found in _PARENTHESIS.finditer(ahead, position):
        effort.count_token()
        depth += 1 if found[0] == b"(" else -1
        if not depth:
            inside = ahead[position : found.start()]
            if not inside.strip() or _ATTRIBUTES.search(inside):
                return True
            return _BODY.match(ahead, found.end()) is not None
    return False
