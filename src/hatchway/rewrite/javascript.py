"""JavaScript under a path prefix: a streaming rewriter of module specifiers, and of reads of the page's own address.

Four things are changed, everything else keeps its bytes:

- specifiers in `import "/a"`, `import x from "/a"`, `export ... from "/a"` and `import("/a")`: by the URL rule;
- `import(expression)` becomes `__hatchwayImport(u=>import(u),expression)`, where the script decides at run time;
- `x.pathname` and `x.href`, `location.assign` and its like, and destructurings `{pathname} = x`: the object (a chain of
  plain names) is handed through `__hatchway(x)`. `window.location` cannot be replaced by a script, so this is what
  makes routers see the application's own path. The function gives everything but a `Location` back as it is, so that a
  wrong guess changes nothing: no scope has to be understood.
- `eval(text)`: the text is handed through `__hatchwayCode`, which changes it in the browser as this changes a file.

`prefix.js` defines the functions. Where an expression may stand in parentheses, a place where they are missing (a
realm without the script) is provided for; at the beginning of a statement parentheses would continue the line before.

The tokenizer knows comments, strings, template literals and regular expressions; whether a slash divides is told from
what stands before it. A string that does not end on its line means that it has lost its way, or that this is no
JavaScript: from there on nothing is changed. Every decision looks at most `AHEAD` bytes forward and `BEHIND` back, and
that many are kept, so how the input is cut makes no difference.
"""

from __future__ import annotations

import re
from typing import Final

from hatchway.rewrite.rules import Rule

AHEAD: Final = 1024
BEHIND: Final = 1024
# A chain of names is looked for in so many bytes before its end.
_CHAIN_LIMIT: Final = 160
# Longer ones are no regular expressions.
_REGEX_LIMIT: Final = 16 * 1024

_ESCAPE = rb"\\(?:\r\n|[^\r]|\r(?=[\s\S]))"
_DOUBLE = rb"[^\"\\\n\r]*(?:" + _ESCAPE + rb"[^\"\\\n\r]*)*"
_SINGLE = rb"[^'\\\n\r]*(?:" + _ESCAPE + rb"[^'\\\n\r]*)*"
# Every branch begins with a character of its own: so the search skips to one of them at the speed of C.
_STOPS = (
    rb"\""
    + _DOUBLE
    + rb"\"|'"
    + _SINGLE
    + rb"'|\"|'|`|/|"
    + b"|".join(
        word[:1] + rb"(?<![\w$\x80-\xff#@\\]" + word[:1] + rb")" + word[1:] + rb"(?![\w$\x80-\xff\\])"
        for word in (b"location", b"pathname", b"href", b"import", b"from", b"eval")
    )
)
_STOP = re.compile(_STOPS)
_STOP_OR_BRACE = re.compile(_STOPS + rb"|{|}")
_STRING_PIECE = {
    b'"': re.compile(_DOUBLE),
    b"'": re.compile(_SINGLE),
}
_TEMPLATE_PIECE = re.compile(rb"[^`\\$]*(?:(?:\\[\s\S]|\$(?=[^{]))[^`\\$]*)*")
_REGEX = re.compile(rb"/(?![*/])(?:[^/\\\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r])*\])+/[A-Za-z]*")
_LINE_END = re.compile(rb"[\n\r]|\xe2\x80[\xa8\xa9]")

_LAST_WORD = re.compile(rb"[\w$\x80-\xff]+\Z")
_SPECIFIER = re.compile(rb"(\s*)(?:\"([^\"\\\n\r]*)\"|'([^'\\\n\r]*)')")
_DESTRUCTURED = re.compile(
    rb"\s*(?::\s*[\w$]+\s*)?(?:=[^=,{}()\"'`/]*)?(?:,[^{}()\"'`/;]*)?\}\s*=(?![=>])\s*"
    rb"([A-Za-z_$][\w$]*(?:\s*\.\s*[A-Za-z_$][\w$]*)*)(?=[^\S\n\r]*([;,)}\n\r]|\Z))"
)
_ARGUMENT = re.compile(rb"(?:new URL|String|encodeURI|encodeURIComponent)\([^()]*\Z")
# A name, or the end of an expression, in front of its arguments; what takes no value there.
_CALLED = re.compile(rb"[\w$)\]]\s*\(\s*\Z")
_NO_CALL = re.compile(rb"(?<![\w$.])(?:function(?:\s+[\w$]+)?|catch|if|while|for|switch|with)\s*\(\s*\Z")
_ONLY_ARGUMENT = re.compile(rb"\s*\)(?!\s*(?:\{|=>))")
# `eval(` and `(0, eval)(`; then a string, perhaps in a call (webpack's Trusted Types), or an expression without any.
_EVAL = re.compile(rb"(?:\s*\))?\s*\(")
_EVALUATED_STRING = re.compile(rb"\s*(?:[\w$]+(?:\.[\w$]+)*\(\s*)?(?=[\"'])")
_EVALUATED = re.compile(rb"[^()\"'`/{}]+(?:\([^()\"'`/{}]*\)[^()\"'`/{}]*)*(?=\)(?!\s*(?:\{|=>)))")
_EVALUATES = re.compile(
    rb"(?:\A|[^\w$.#@\\\x80-\xff]|(?<![\w$.])(?:window|self|globalThis)\s*\.|(?<![\w$.])(?:return|await|yield|void|typeof|case|do|else|in|of))\Z"
)
_INDEX = re.compile(rb"[^\S\n\r]*\[")
_OF_A_VALUE = re.compile(rb"[)\]]\s*(?:\?\.|(?<!\.)\.)\s*\Z")
# Assigned to, it may be a window's of another origin, which has no such property.
_IS_READ_OF = re.compile(rb"\s*\??\.\s*(?:href|pathname)(?![\w$])(?!\s*(?:=(?!=)|[+]=))")
_MEMBER = re.compile(rb"\s*(\?\.|\.(?!\.))\s*([\w$]+)")
_ASSIGNMENT = re.compile(rb"\s*=(?![=>])")
_VALUE_END = re.compile(rb"\s*(?:([;,)}\]:])(?!\s*=[^=])|\Z)")

# Before a slash these are operators, so that it begins a regular expression.
_OPERATORS = frozenset(
    b"return typeof case in of delete void throw new instanceof do else yield await extends default".split()
)
_KEYWORDS = _OPERATORS | frozenset(
    b"import export from function class const let var if for while with switch try catch finally super break continue debugger".split()
)
_BEFORE_A_CONDITION = frozenset((b"if", b"while", b"for", b"with"))
_WRAPPED_MEMBERS = frozenset((b"href", b"pathname", b"assign", b"replace", b"toString"))
_WINDOWS = frozenset((b"window", b"self", b"globalThis", b"document", b"top", b"parent"))
_ASSIGNABLE = frozenset((b"window", b"globalThis", b"document"))
# After these a value is read.
_READING = tuple(b"=|&?(+!>"[at : at + 1] for at in range(8))
# Before these characters (and keywords on the same line) an expression has begun, so that parentheses are safe.
_EXPECTING = frozenset(b"=([,:?&|!+-*%<>^~{;")

_QUOTES = frozenset(b"\"'")

_ADDRESS = b"globalThis.__hatchway"
_IMPORT = b"globalThis.__hatchwayImport"
_PROPERTY = b"__hatchwayLocation"
_CODE_OF = b"(globalThis.__hatchwayCode||(_=>_))("
_GUARDED_ADDRESS = b"(globalThis.__hatchway||(_=>_))"
_GUARDED_IMPORT = b"(globalThis.__hatchwayImport||((f,u)=>f(u)))"

_CODE, _STRING, _TEMPLATE, _LINE_COMMENT, _BLOCK_COMMENT, _OPAQUE = range(6)


class JavaScriptRewriter:
    """A body transform. rule: what becomes of a module specifier that is a URL."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._buffer = b""
        # Up to where the buffer was looked at, was put out, and where the code around the former begins.
        self._at = 0
        self._put = 0
        self._code = 0
        self._before = b""  # the end of the significant text before that code
        self._state = _CODE
        self._quote = b""
        # One number for each template literal around: how many braces are open in its expression.
        self._braces: list[int] = []
        # The next string is the text of an `eval`.
        self._evaluated = False
        self._out: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        if self._state == _OPAQUE:
            return data
        self._buffer = self._buffer + data if self._buffer else data
        self._run(final=False)
        return self._flush(final=False)

    def finish(self) -> bytes:
        if self._state == _OPAQUE:
            return b""
        self._run(final=True)
        return self._flush(final=True)

    def _flush(self, *, final: bool) -> bytes:
        done = len(self._buffer)
        if not final and self._state == _CODE:
            # Names at the end may turn out to be a chain that is wrapped from its beginning on.
            done = max(self._put, self._at - 2 * _CHAIN_LIMIT - 2)
        elif not final and self._state != _OPAQUE:
            done = self._at
        self._out.append(self._buffer[self._put : done])
        self._put = done
        cut = min(self._put, self._at) - BEHIND
        if self._state == _OPAQUE or final:
            cut = len(self._buffer)
        if cut > 0:
            self._buffer = self._buffer[cut:]
            self._at -= cut
            self._put -= cut
            self._code = max(0, self._code - cut)
        found = b"".join(self._out)
        self._out.clear()
        return found

    def _run(self, *, final: bool) -> None:
        while self._at < len(self._buffer) or final:
            before = (self._at, self._state, len(self._braces))
            match self._state:
                case 0:
                    more = self._in_code(final)
                case 1:
                    more = self._in_string(final)
                case 2:
                    more = self._in_template(final)
                case 3:
                    more = self._in_line_comment()
                case 4:
                    more = self._in_block_comment()
                case _:
                    return
            if not more or before == (self._at, self._state, len(self._braces)):
                return

    def _code_again(self, before: bytes) -> None:
        """Code goes on at this place, after `before` (b"": a comment, which counts for nothing)."""
        self._state = _CODE
        if before:
            self._before = before
        self._code = self._at

    def _in_code(self, final: bool) -> bool:
        """Up to the next thing that is not plain code. False: more input is needed."""
        buffer = self._buffer
        stop = (_STOP_OR_BRACE if self._braces else _STOP).search
        # Words are told only with what follows them.
        end = len(buffer) if final else len(buffer) - AHEAD
        while True:
            found = stop(buffer, self._at)
            if found is None or found.start() >= end:
                self._at = max(self._at, len(buffer) if final else end)
                return False
            mark = found[0]
            if mark[0] in _QUOTES and len(mark) > 1:
                self._at = self._code = found.end()
                self._before = b'"'
                self._string_ends()
                continue
            if len(mark) > 1:
                self._at = found.start()
                self._word(mark, found.start(), found.end())
                continue
            self._at = found.start()
            if mark == b"/":
                return self._slash(final)
            if mark == b"{":
                self._braces[-1] += 1
                self._at += 1
                continue
            if mark == b"}":
                self._at += 1
                if self._braces[-1]:
                    self._braces[-1] -= 1
                    continue
                self._braces.pop()
                self._state = _TEMPLATE
                return True
            self._at += 1
            self._quote = mark
            self._state = _TEMPLATE if mark == b"`" else _STRING
            return True

    def _in_string(self, final: bool) -> bool:
        """A string that was not here whole."""
        match = _STRING_PIECE[self._quote].match(self._buffer, self._at)
        assert match is not None  # it matches nothing, too
        self._at = match.end()
        rest = self._buffer[self._at : self._at + 2]
        if rest[:1] == self._quote:
            self._at += 1
            self._code_again(b'"')
            self._string_ends()
            return True
        if rest in (b"\\", b"\\\r") and not final:
            return False
        if rest:
            self._state = _OPAQUE  # a line end: this is no string
        return False

    def _string_ends(self) -> None:
        if self._evaluated:
            self._evaluated = False
            self._replace(self._at, self._at, b")")

    def _in_template(self, final: bool) -> bool:
        match = _TEMPLATE_PIECE.match(self._buffer, self._at)
        assert match is not None
        self._at = match.end()
        rest = self._buffer[self._at : self._at + 2]
        if rest[:1] == b"`":
            self._at += 1
            self._code_again(b"`")
            return True
        if rest == b"${":
            self._at += 2
            self._braces.append(0)
            self._code_again(b"{")
            return True
        return False

    def _in_line_comment(self) -> bool:
        found = _LINE_END.search(self._buffer, self._at)
        if found is None:
            # U+2028 may be cut.
            self._at = max(self._at, len(self._buffer) - 2)
            return False
        self._at = found.start()
        self._code_again(b"")
        return True

    def _in_block_comment(self) -> bool:
        found = self._buffer.find(b"*/", self._at)
        if found < 0:
            self._at = max(self._at, len(self._buffer) - 1)
            return False
        self._at = found + 2
        self._code_again(b"")
        return True

    def _significant(self, position: int) -> bytes:
        """The end of the significant code before `position`: its last characters, white space cut off."""
        text = self._buffer[max(self._code, position - BEHIND) : position].rstrip()
        return text if text else self._before

    def _slash(self, final: bool) -> bool:
        """A comment, a regular expression or a division."""
        buffer, at = self._buffer, self._at
        following = buffer[at + 1 : at + 2]
        if following in (b"/", b"*"):
            self._before = self._significant(at)[-32:]
            self._at += 2
            self._code = self._at
            self._state = _LINE_COMMENT if following == b"/" else _BLOCK_COMMENT
            return True
        if self._divides(at):
            self._at += 1
            return True
        match = _REGEX.match(buffer, at, at + _REGEX_LIMIT)
        if match is not None and (final or match.end() < len(buffer)):
            self._at = match.end()
            self._code_again(b")")  # what follows a value divides it
            return True
        if match is None and (final or len(buffer) - at > _REGEX_LIMIT or re.search(rb"[\n\r]", buffer[at:])):
            self._at += 1  # it can only be a division
            return True
        return final

    def _divides(self, at: int) -> bool:
        text = self._significant(at)
        if not text:
            return False
        last = text[-1:]
        if last in b")}":
            window = self._buffer[at : at + AHEAD]
            match = _REGEX.match(window)
            if match is None:
                return True
            if last == b"}":
                return not re.match(rb"\.[A-Za-z]", window[match.end() :])
            return not _closes_a_condition(text)
        if last in b']"`':
            return True
        word = _LAST_WORD.search(text)
        if word is not None:
            return word[0] not in _OPERATORS or text[: word.start()].rstrip()[-1:] == b"."
        return text.endswith((b"++", b"--"))

    def _word(self, word: bytes, start: int, end: int) -> None:
        """One of the words that matter. Moves on."""
        ahead = self._buffer[end : end + AHEAD - 64]
        if word == b"from":
            self._at = end
            self._specifier(ahead, end)
        elif word == b"import":
            self._at = end
            self._import(ahead, start, end)
        elif word == b"location":
            self._location(ahead, start, end)
        elif word == b"eval":
            self._evaluation(ahead, start, end)
        else:
            self._address(ahead, start, end)

    def _specifier(self, ahead: bytes, end: int) -> bool:
        """A string right after `from`, `import` or `import(`; whether there is one."""
        match = _SPECIFIER.match(ahead)
        if match is None:
            return False
        group = 2 if match[2] is not None else 3
        value = match[group]
        rewritten = self._rule(value)
        if rewritten is not value:
            self._replace(end + match.start(group), end + match.end(group), rewritten)
        self._at = self._code = end + match.end()
        self._before = b'"'
        return True

    def _import(self, ahead: bytes, start: int, end: int) -> None:
        before = self._significant(start)
        if before[-1:] == b"." and before[-3:] != b"...":
            return
        match = re.match(rb"\s*\(", ahead)
        if match is None:
            self._specifier(ahead, end)
            return
        inside = match.end()
        literal = _SPECIFIER.match(ahead, inside)
        if literal is not None and re.match(rb"\s*[,)]", ahead[literal.end() :]):
            self._specifier(ahead[inside:], end + inside)
            return
        if _is_no_call(ahead, inside):
            return
        safe = self._is_expected(start)
        helper = _GUARDED_IMPORT if safe else _IMPORT
        self._replace(start, end + inside, helper + b"(u=>import(u),")

    def _evaluation(self, ahead: bytes, start: int, end: int) -> None:
        self._at = end
        call = _EVAL.match(ahead)
        before = self._significant(start)
        if call is None or not _EVALUATES.search(before) or (b")" in call[0] and before[-1:] != b","):
            return
        literal = _EVALUATED_STRING.match(ahead, call.end())
        if literal is not None:
            # The string may be of any length: what ends the call is put in when it is over.
            at = end + literal.end()
            self._replace(at, at, _CODE_OF)
            self._at = self._code = at
            self._before = b"("
            self._evaluated = True
            return
        found = _EVALUATED.match(ahead, call.end())
        if found is not None and found[0].strip():
            self._replace(end + found.start(), end + found.end(), _CODE_OF + found[0] + b")")
            self._at = end + found.end()

    def _location(self, ahead: bytes, start: int, end: int) -> None:
        self._at = end
        chain = self._chain(end)
        if chain is None:
            self._location_of_a_value(ahead, start, end)
            return
        root = re.split(rb"[\s.?]", self._buffer[chain:end], maxsplit=1)[0]
        member = _MEMBER.match(ahead)
        if member is not None:
            if member[2] in _WRAPPED_MEMBERS:
                optional = b"?" in self._buffer[chain:end] and root not in _WINDOWS
                if member[1] == b"?." or not optional:
                    self._wrap(chain, end)
            return
        if _INDEX.match(ahead):
            self._wrap(chain, end)
            return
        if chain == start:
            # As an argument it might be a parameter's name, but not of these.
            before = self._buffer[max(self._code, start - _CHAIN_LIMIT) : start]
            if (ahead.lstrip()[:1] in (b")", b",") and _ARGUMENT.search(self._buffer, max(0, start - 160), start)) or (
                _ONLY_ARGUMENT.match(ahead) and _CALLED.search(before) and not _NO_CALL.search(before)
            ):
                self._wrap(chain, end)
            return
        if root in _ASSIGNABLE and _ASSIGNMENT.match(ahead):
            self._wrap(chain, end, b".href")
        elif self._is_read(chain, ahead):
            self._wrap(chain, end)

    def _location_of_a_value(self, ahead: bytes, start: int, end: int) -> None:
        """`f().location.href` is read: the property is another one, which every object has."""
        before = self._buffer[max(self._code, start - 64) : start]
        if _OF_A_VALUE.search(before) and _IS_READ_OF.match(ahead):
            self._replace(start, end, _PROPERTY)

    def _is_read(self, chain: int, ahead: bytes) -> bool:
        """Whether the chain's value is used, and certainly not assigned to, not even by a pattern (`[a.location] = b`)."""
        after = _VALUE_END.match(ahead)
        if after is None:
            return False
        if after[1] in (b";", b")"):
            return True
        before = self._significant(chain)
        if before[-1:] in _READING:
            return True
        word = _LAST_WORD.search(before)
        return word is not None and word[0] in _OPERATORS

    def _address(self, ahead: bytes, start: int, end: int) -> None:
        """`.pathname` or `.href` of something, or a destructuring of them."""
        buffer = self._buffer
        self._at = end
        before = buffer[max(self._code, start - _CHAIN_LIMIT) : start]
        dot = re.search(rb"(\?\.|(?<!\.)\.)\s*\Z", before)
        if dot is not None:
            object_end = start - len(before) + dot.start()
            plain = buffer[max(self._code, object_end - _CHAIN_LIMIT) : object_end].rstrip()
            object_end = max(self._code, object_end - _CHAIN_LIMIT) + len(plain)
            if object_end <= self._put:
                return  # wrapped already
            chain = self._chain(object_end)
            if chain is None:
                return
            text = buffer[chain:object_end]
            # `a?.b.href` is nothing when there is no `a`; a call around `a?.b` would end that.
            if b"?" in text and dot[1] != b"?.":
                return
            self._wrap(chain, object_end)
            return
        match = _DESTRUCTURED.match(ahead)
        if match is None or match.end() >= len(ahead) - 1 >= AHEAD - 66:
            return
        first = match[1].split(b".", 1)[0].strip()
        if first in _KEYWORDS or (match[2] in (b"\n", b"\r") and _continues(ahead, match)):
            return
        self._wrap(end + match.start(1), end + match.end(1))

    def _chain(self, end: int) -> int | None:
        """Where the chain of names that ends at `end` begins; None when it is not one, or must be left alone."""
        floor = max(self._code, self._put, end - _CHAIN_LIMIT)
        text = self._buffer[floor:end]
        # From the last name on, as far back as dots join them.
        match = None
        begin = len(text)
        while True:
            word = re.search(rb"[A-Za-z_$][\w$]*\Z", text[:begin])
            if word is None:
                break
            match = word.start()
            joined = re.search(rb"(?:\?\.|(?<!\.)\.)\s*\Z", text[:match])
            if joined is None:
                break
            begin = len(text[: joined.start()].rstrip())
        if match is None:
            return None
        position = floor + match
        before = self._significant(position)
        if position == floor and floor not in (self._code, 0) and floor >= end - _CHAIN_LIMIT:
            return None  # it may begin before what can be seen
        last = before[-1:]
        if last and (last in b"#@\\" or last >= b"\x80"):
            return None
        if last == b"." and before[-3:] != b"...":
            return None
        if before[-2:] in (b"++", b"--"):
            return None
        root = re.match(rb"[\w$]+", self._buffer[position:end])
        if root is None or root[0] in _KEYWORDS:
            return None
        previous = _LAST_WORD.search(before)
        if previous is not None and previous[0] in (
            b"new",
            b"delete",
            b"function",
            b"class",
            b"get",
            b"set",
            b"typeof",
        ):
            return None
        return position

    def _is_expected(self, position: int) -> bool:
        """Whether an opening parenthesis at this place begins an operand, whatever stands before it."""
        before = self._significant(position)
        if not before:
            return False
        if before[-1] in _EXPECTING:
            return before[-2:] not in (b"++", b"--")
        between = self._buffer[max(self._code, position - BEHIND) : position]
        if b"\n" in between[len(between.rstrip()) :] or b"\r" in between[len(between.rstrip()) :]:
            return False
        word = _LAST_WORD.search(before)
        if word is None or word[0] not in _OPERATORS or not between.strip():
            return False
        return before[: word.start()].rstrip()[-1:] != b"."

    def _wrap(self, start: int, end: int, more: bytes = b"") -> None:
        name = _GUARDED_ADDRESS if self._is_expected(start) else _ADDRESS
        self._replace(start, end, name + b"(" + self._buffer[start:end] + b")" + more)
        self._at = max(self._at, end)

    def _replace(self, start: int, end: int, new: bytes) -> None:
        self._out.append(self._buffer[self._put : start])
        self._out.append(new)
        self._put = end


def _closes_a_condition(text: bytes) -> bool:
    """Whether the parenthesis at the end of `text` closes that of `if (...)` and its like."""
    depth = 0
    for position in range(len(text) - 1, -1, -1):
        if text[position] == 0x29:
            depth += 1
        elif text[position] == 0x28:
            depth -= 1
            if not depth:
                word = _LAST_WORD.search(text[:position].rstrip())
                return word is not None and word[0] in _BEFORE_A_CONDITION
    return False


def _is_no_call(ahead: bytes, position: int) -> bool:
    """Whether the parenthesis before `position` opens parameters (a body follows the closing one), or nothing, or what
    the helper cannot hand on (import attributes: older browsers know no second argument)."""
    depth = 1
    for found in re.finditer(rb"[()]", ahead[position:]):
        depth += 1 if found[0] == b"(" else -1
        if not depth:
            inside = ahead[position : position + found.start()]
            if not inside.strip() or re.search(rb"\b(?:with|assert)\s*:", inside):
                return True
            return re.match(rb"\s*\{", ahead[position + found.end() :]) is not None
    return False


def _continues(ahead: bytes, match: re.Match[bytes]) -> bool:
    """Whether the expression that seems to end with its line goes on in the next one."""
    rest = ahead[match.end(1) :].lstrip()
    return rest[:1] in (b".", b"[", b"(", b"?", b"`", b"+", b"-", b"*", b"/", b"=", b"&", b"|", b"<", b">")
