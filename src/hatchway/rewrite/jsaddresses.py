"""Rewrites reads of the page's address in JavaScript: `location`, `pathname`, `href` and `window[...]`.

Scripts cannot replace `window.location`. Therefore every value that may be a `Location` is passed through the function
`__hatchway(...)`, which returns all other values unchanged. A wrong guess changes nothing, so scopes need not be
analysed.

- `location`, `x.location` and `x["location"]` are wrapped where they are read. If the expression before the property is
not a chain of plain names (`f().location`, `x?.location.href`), a property that every object has is appended:
`f().location.__hatchwaySelf`.
- In `x.pathname`, `x.href` and `{pathname} = x`, x is wrapped, because x may be a `Location` that was read elsewhere.
- In patterns, `{location: {pathname}}` becomes `{location: {__hatchwaySelf: {pathname}}}`.
- The value of `window[name]` is wrapped.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.jscontext import SPACE, role_ahead
from hatchway.rewrite.jstokens import AHEAD, CHAIN_LIMIT, OPERATORS, Effort, last_word
from hatchway.rewrite.jswindow import GUARDED_ADDRESS, KEYWORDS, CodeWindow
from hatchway.rewrite.vocabulary import ASSIGNABLE, MAKES_A_NAME, READ_MEMBERS, WRAPPED_MEMBERS, words

_DESTRUCTURED = re.compile(
    rb"\s*(?::\s*[\w$]+\s*)?(?:=[^=,{}()\"'`/]*)?(?:,[^{}()\"'`/;]*)?\}\s*=(?![=>])\s*"
    rb"([A-Za-z_$][\w$]*(?:\s*\.\s*[A-Za-z_$][\w$]*)*)(?=[^\S\n\r]*([;,)}\n\r]|\Z))"
)
_DOT = re.compile(rb"(?:\?\.|(?<!\.)\.)\s*\Z")
_DOT_AT_END = re.compile(rb"(\?\.|(?<!\.)\.)\s*\Z")
# Matched backwards: the names after the last bracket, joined by dots.
_MEMBERS_BACKWARD = re.compile(rb"\s*(?:[\w$\x80-\xff]+#?\s*\.(?:\?|(?!\.))\s*)*")
_ARROW = re.compile(SPACE + rb"=>")
_MEMBER = re.compile(SPACE + rb"(\?\.|\.(?!\.))\s*([\w$]+)")
_INDEX = re.compile(SPACE + rb"(\?\.\s*)?\[")
_CALL = re.compile(SPACE + rb"(?:\?\.\s*)?[(`]")
_ASSIGNMENT = re.compile(SPACE + rb"=(?![=>])")
_WRITTEN = re.compile(SPACE + rb"(?:(?:[-+*/%&|^]|\*\*|<<|>>>?|&&|\|\||\?\?)?=(?!=)|\+\+|--)")
_COLON = re.compile(SPACE + rb":")
_NEXT = re.compile(SPACE + rb"(?:([,)\]};])|(?:of|in|as|from)(?![\w$])|\Z)")
_EACH = re.compile(SPACE + rb"(?:of|in)(?![\w$])")
_AS = re.compile(SPACE + rb"(?:as|from)(?![\w$])")
_NAME_NEXT = re.compile(rb"[^\S\n\r]*[\w$\"'`\x80-\xff]")
_IN = re.compile(SPACE + rb"(?:in|instanceof)(?![\w$])")
_FOR = re.compile(rb"(?<![\w$.])for(?:\s+await)?\s*\(\s*\Z")
_FUNCTION = re.compile(rb"(?<![\w$.])(?:function(?:\s*\*)?(?:\s*[\w$]+)?|catch)\s*\Z")
# A chain of names before `.href` and the like, at a point where an operand is expected.
_FAST_OBJECT = re.compile(rb"[=(,:?&|!{;]((?:([A-Za-z_$][\w$]*)\.(?:[A-Za-z_$][\w$]*\.)*)?)\Z")
_FAST_MEMBER = re.compile(rb"\.(?:href|pathname)(?![\w$\x80-\xff\\])")
_FAST_LIMIT: Final = 48
_NO_OBJECTS = frozenset((b"super", b"import", b"new"))
_INNER_PATTERN = re.compile(SPACE + rb":" + SPACE + rb"\{")
_ALIAS = re.compile(SPACE + rb":" + SPACE + rb"[A-Za-z_$][\w$]*" + SPACE + rb"(?=[,}=])")
_INDEXED = re.compile(
    rb"\[((?:[^\[\]\"'`/{}]|\"[^\"\\\n]*\"|'[^'\\\n]*'|\[(?:[^\[\]\"'`/{}]|\"[^\"\\\n]*\"|'[^'\\\n]*')*\])+)\]"
)
_PLAIN_INDEX = re.compile(rb"\s*(?:[0-9]+|\"(?!location\")[^\"\\]*\"|'(?!location')[^'\\]*')\s*\Z")

_MAKES_A_NAME = words(MAKES_A_NAME)
_WRAPPED_MEMBERS = words(WRAPPED_MEMBERS)
_READ_MEMBERS = words(READ_MEMBERS)
_ASSIGNABLE = words(ASSIGNABLE)
# After these characters a name may be part of a pattern, a parameter or a declaration.
_AMBIGUOUS = frozenset(b"([{,:.")

_SELF: Final = b"__hatchwaySelf"
_RENAMED: Final = b"__hatchwayLocation"
_CLOSES = re.compile(rb"\s*\]")


class AddressRules:
    """Rewrites code that reads an address.

    Each public method takes the beginning and the end of a word in the window's text.
    """

    def __init__(self, window: CodeWindow) -> None:
        self._window = window

    def change_location(self, start: int, end: int) -> None:
        """Wrap the name `location`, if it is read."""
        window = self._window
        member = _FAST_MEMBER.match(window.text, end)
        if member is not None and self._change_frequent_form(start, end):
            window.at = member.end()
        else:
            self._change_name(start, end)

    def change_member(self, start: int, end: int) -> None:
        """Wrap `x` in `x.pathname`, `x.href` and `{pathname} = x`."""
        if not self._change_frequent_form(start):
            self._change_object(start, end)

    def change_index(self, start: int, end: int) -> None:
        """Wrap the value of `window[name]`. end: the offset after the bracket."""
        self._window.at = end - 1
        self._change_lookup(start, end - 1)

    def change_key(self, start: int, end: int) -> None:
        """Change `x["location"]` and `{"location": ...}`. start, end: the string's offsets."""
        window = self._window
        before = window.significant(start)
        if before[-1:] == b"[" and _CLOSES.match(window.text, end, end + 16):
            self._change_computed(start, end)
        elif before[-1:] in (b"{", b",") and _COLON.match(window.ahead(end)):
            self._change_pattern_key(start, end)

    def _change_name(self, start: int, end: int) -> None:
        """Change the name `location` where it is read or is a key; leave it where it is defined or assigned."""
        window = self._window
        code = window.code_before(start)
        before = window.significant(start)
        ahead = window.ahead(end)
        if before[-1:] == b"." and before[-3:] != b"...":
            self._change_property(start, end, end, ahead, before)
            return
        if _CALL.match(ahead) or _WRITTEN.match(ahead) or before[-2:] in (b"++", b"--"):
            return
        last = before[-1:]
        member = _MEMBER.match(ahead)
        word = last_word(before)
        if word and word not in OPERATORS:
            if word in _MAKES_A_NAME or b"\n" not in code[len(code.rstrip()) :]:
                return
            last = b";"  # the name begins a line, and so a statement
        elif word:
            if word in (b"new", b"delete", b"typeof"):
                return
            last = b"="
        if member is not None:
            if member[2] in _WRAPPED_MEMBERS:
                window.wrap(start, end)
            return
        if _INDEX.match(ahead):
            window.wrap(start, end)
        elif _COLON.match(ahead):
            if last in (b"{", b","):
                self._change_pattern_key(start, end)
            elif last and last not in (b";", b"}", b")"):
                window.wrap(start, end)
        elif self._is_value(start, end, ahead, last, code):
            window.wrap(start, end)

    def _is_value(self, start: int, end: int, ahead: bytes, last: bytes, code: bytes) -> bool:
        """Return True when the code reads the variable `location` at this word."""
        window = self._window
        following = _NEXT.match(ahead)
        if _AS.match(ahead):
            return False
        if _ARROW.match(ahead):
            return False
        if not last or last in (b";", b"}") or (last == b")" and b"\n" not in code[len(code.rstrip()) :]):
            if following is None:
                return (
                    last != b")" and b"\n" not in ahead[:1] and (not _NAME_NEXT.match(ahead) or bool(_IN.match(ahead)))
                )
            return not last or bool(_IN.match(ahead))
        if last[0] not in _AMBIGUOUS:
            return last not in (b"#", b"@", b"\\")
        if last == b"(" and _EACH.match(ahead) and _FOR.search(code):
            return False
        if following is None and last != b"{":
            return True  # an operator follows
        role, closed = role_ahead(ahead, window.effort)
        if role in ("pattern", "parameters"):
            return False
        if last == b"(" and role in ("read", "statement"):
            return True
        if last in (b"[", b":") and role != "block":
            return True
        around = window.open_constructs(start)
        if role == "block" and not around.is_condition(len(closed)):
            return False
        if last == b"(":
            return role == "block" or not _FUNCTION.search(around.opener()[1])
        if last in (b"[", b":"):
            return True
        if last == b"{" or (last in (b",", b".") and closed[:1] == b"}"):
            if last == b".":
                return around.is_object() or around.opener()[0] != b"{"
            if (
                following is not None
                and following[1] in (b",", b"}")
                and around.is_object()
                and not around.names_a_module()
            ):
                window.replace(start, start, b"location:")
                return True
            return False
        opener = around.opener()[0]
        if around.declares:
            return False
        return around.returns or opener in (b"(", b"[") or bool(closed)

    def _change_property(self, start: int, end: int, done: int, ahead: bytes, before: bytes) -> None:
        """Change `x.location`. done: the end of the member expression, which may be a bracket."""
        window = self._window
        chain = window.chain(end)
        if _CALL.match(ahead):
            return
        if _WRITTEN.match(ahead):
            if chain is not None and window.root(chain, end) in _ASSIGNABLE and _ASSIGNMENT.match(ahead):
                window.wrap(chain, done, b".href")
            return
        member = _MEMBER.match(ahead)
        index = _INDEX.match(ahead)
        if chain is None:
            if self._has_a_base(start):
                self._append_self(done, ahead, member, index)
            return
        if member is not None or index is not None:
            if member is not None and member[2] not in _WRAPPED_MEMBERS:
                return
            question = member[1] == b"?." if member is not None else index is not None and index[1]
            if question or b"?" not in window.text[chain:start]:
                window.wrap(chain, done)
            else:
                self._append_self(done, ahead, member, index)
            return
        if self._is_read(chain, ahead):
            window.wrap(chain, done)

    def _append_self(
        self, done: int, ahead: bytes, member: re.Match[bytes] | None, index: re.Match[bytes] | None
    ) -> None:
        """Append `__hatchwaySelf` to `f().location`: this property is the location as the application must see it."""
        window = self._window
        if member is not None:
            # A location that is assigned or navigated may belong to a window of another origin, where reading the
            # appended property is an error.
            if member[2] not in _READ_MEMBERS or _WRITTEN.match(ahead, member.end()):
                return
            if member[1] == b"?.":
                done, end = done + member.start(1), done + member.end(1)
                window.replace(done, end, b"?." + _SELF + b".")
                done = end
            else:
                window.replace(done, done, b"." + _SELF)
        elif index is not None:
            if index[1]:
                done, end = done + index.start(1), done + index.end(1)
                window.replace(done, end, b"?." + _SELF)
                done = end
            else:
                window.replace(done, done, b"." + _SELF)
        elif not _EACH.match(ahead) and role_ahead(ahead, window.effort)[0] not in ("pattern", "parameters"):
            window.replace(done, done, b"?." + _SELF)
        window.at = max(window.at, done)

    def _has_a_base(self, start: int) -> bool:
        """Return True when the property belongs to an expression that ends with a bracket, a string or a name."""
        window = self._window
        code = window.code_before(start)
        text = _DOT.sub(b"", code.rstrip()).rstrip() or window.before
        near = text is not window.before
        text = _without_members(text)
        if not text and near:
            text, near = _without_members(window.before), False
        word = last_word(text)
        if word:  # a comment is between the name and the dot
            return not near and word not in KEYWORDS
        return text[-1:] in (b")", b"]", b"'", b'"')

    def _change_computed(self, start: int, end: int) -> None:
        """Change `x["location"]`."""
        window = self._window
        opening = window.text.rfind(b"[", max(0, start - 16), start)
        closing = window.text.find(b"]", end) + 1
        if opening < window.code_start or opening < window.written or closing <= 0:
            return
        base = window.code_before(opening).rstrip()
        optional = base.endswith(b"?.")
        if optional:
            base = base[:-2].rstrip()
        base = base or window.before
        if base[-1:] in (b"{", b",") and not optional:
            if _COLON.match(window.ahead(closing)):
                self._change_pattern_key(opening, closing)
            return
        word = last_word(base)
        if not (base[-1:] in (b")", b"]", b'"', b"`") or word) or word in OPERATORS:
            return
        ahead = window.ahead(closing)
        if _CALL.match(ahead) or _WRITTEN.match(ahead):
            return
        member, index = _MEMBER.match(ahead), _INDEX.match(ahead)
        before = window.code_before(opening)
        name_end = opening - len(before) + len(before.rstrip())
        chain = None if optional or not word else window.chain(name_end)
        if chain is None or b"?" in window.text[chain:opening]:
            self._append_self(closing, ahead, member, index)
        elif member is not None or index is not None or self._is_read(chain, ahead):
            window.wrap(chain, closing)
        window.at = max(window.at, end)

    def _change_lookup(self, start: int, end: int) -> None:
        """Change `window[name]`."""
        window = self._window
        found = _INDEXED.match(window.text, end, end + 256)
        if found is None or _PLAIN_INDEX.match(found[1]):
            return
        chain = window.chain(end)
        ahead = window.ahead(found.end())
        if chain is None or b"?" in window.text[chain:end] or _CALL.match(ahead) or _WRITTEN.match(ahead):
            return
        if _MEMBER.match(ahead) or _INDEX.match(ahead) or self._is_read(chain, ahead):
            window.wrap(chain, found.end())

    def _change_pattern_key(self, start: int, end: int) -> None:
        """Change `location:` after a brace or a comma, as the key of an object or a pattern."""
        window = self._window
        ahead = window.ahead(end)
        inner = _INNER_PATTERN.match(ahead)
        role, closed = role_ahead(ahead, window.effort)
        if closed[:1] != b"}":
            return
        if role == "block":
            around = window.open_constructs(start)
            if around.is_condition(len(closed)):
                return
        elif role not in ("pattern", "parameters"):
            return
        if inner is not None:
            close = _closing_brace(ahead, inner.end(), window.effort)
            if close is not None:
                opened = end + inner.end() - 1
                window.replace(opened, opened, b"{" + _SELF + b":")
                # The names and defaults between the braces need no change.
                window.replace(end + close, end + close, b"}")
                window.at = end + close
            return
        alias = _ALIAS.match(ahead)
        if alias is None or b"..." in ahead[: ahead.find(b"}", alias.end())]:
            return
        window.replace(start, end, _RENAMED)

    def _is_read(self, chain: int, ahead: bytes) -> bool:
        """Return True when the chain's value is read, and not assigned, not even by a pattern (`[a.location] = b`)."""
        window = self._window
        if _EACH.match(ahead):
            code = window.code_before(chain)
            return not _FOR.search(code)
        before = window.significant(chain)
        last = before[-1:]
        if _NEXT.match(ahead) is None:
            return True
        if not last or last[0] not in _AMBIGUOUS:
            return True
        return role_ahead(ahead, window.effort)[0] != "pattern"

    def _change_object(self, start: int, end: int) -> None:
        """Wrap the object whose `.pathname` or `.href` is read or destructured."""
        window = self._window
        buffer = window.text
        before = buffer[max(window.code_start, start - CHAIN_LIMIT) : start]
        dot = _DOT_AT_END.search(before)
        if dot is not None:
            object_end = start - len(before) + dot.start()
            plain = buffer[max(window.code_start, object_end - CHAIN_LIMIT) : object_end].rstrip()
            object_end = max(window.code_start, object_end - CHAIN_LIMIT) + len(plain)
            if object_end <= window.written:
                return  # wrapped already
            chain = window.chain(object_end)
            if chain is None:
                return
            text = buffer[chain:object_end]
            # `a?.b.href` is undefined when `a` is; `__hatchway(a?.b).href` would raise an error then.
            if b"?" in text and dot[1] != b"?.":
                return
            window.wrap(chain, object_end)
            return
        ahead = window.ahead(end)
        match = _DESTRUCTURED.match(ahead)
        if match is None or match.end() >= len(ahead) - 1 >= AHEAD - 66:
            return
        first = match[1].split(b".", 1)[0].strip()
        if first in KEYWORDS or (match[2] in (b"\n", b"\r") and _continues(ahead, match)):
            return
        window.wrap(end + match.start(1), end + match.end(1))

    def _change_frequent_form(self, start: int, end: int = 0) -> bool:
        """Wrap the object in the most frequent forms, which one pattern recognizes: `=a.b.href`, `(location.pathname`.

        end: the end of the name, if the name is part of the object; else 0. Return True when the form was one of these.
        """
        window = self._window
        floor = max(window.code_start, window.written, start - _FAST_LIMIT)
        found = _FAST_OBJECT.search(window.text[floor:start])
        if found is None or bool(found[1]) < (not end) or found[2] in _NO_OBJECTS:
            return False
        begin = floor + found.start(1)
        done = end or floor + found.end(1) - 1
        window.replace(begin, done, GUARDED_ADDRESS + b"(" + window.text[begin:done] + b")")
        return True


def _without_members(text: bytes) -> bytes:
    """Return an expression without the names at its end: `f()` of `f().a.b`."""
    found = _MEMBERS_BACKWARD.match(text[::-1])
    return text[: len(text) - found.end()] if found is not None else text


def _closing_brace(ahead: bytes, position: int, effort: Effort) -> int | None:
    """Return the offset after the brace that closes the brace before `position`; None if a string is between them."""
    depth = 1
    for found in re.finditer(rb"[{}]|[\"'`]", ahead[position:]):
        effort.count_token()
        if found[0] in (b'"', b"'", b"`"):
            return None
        depth += 1 if found[0] == b"{" else -1
        if not depth:
            return position + found.end()
    return None


def _continues(ahead: bytes, match: re.Match[bytes]) -> bool:
    """Return True when an expression at the end of its line continues on the next line."""
    rest = ahead[match.end(1) :].lstrip()
    return rest[:1] in (b".", b"[", b"(", b"?", b"`", b"+", b"-", b"*", b"/", b"=", b"&", b"|", b"<", b">")
