"""Splits the text of a CEL expression into tokens (cel-go `parser/gen/CEL.g4`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.cel.syntax import Issues
from hatchway.cluster.api.cel.values import UInt

__all__ = ["RESERVED", "SyntaxToken", "tokenize"]

# Reserved words, which an expression may not use as names of variables.
RESERVED = frozenset(
    ("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
     "package", "namespace", "null", "return", "true", "var", "void", "while")
)  # fmt: skip

_TOKEN = re.compile(
    r"""(?P<skip>[\t \r\n\f]+|//[^\n]*)
    |(?P<string>[bB]?(?:[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n\r]*"|'[^'\n\r]*')
        |\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^\\"\n\r])*"|'(?:\\.|[^\\'\n\r])*'))
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<uint>(?:0x[0-9a-fA-F]+|[0-9]+)[uU])
    |(?P<int>0x[0-9a-fA-F]+|[0-9]+)
    |(?P<quoted>`[A-Za-z0-9_.\-/ ]+`)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op>==|!=|<=|>=|&&|\|\||[<>\[\]{}().,\-!?:+*/%])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "'": "'", "\\": "\\",
           "?": "?", "`": "`"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SyntaxToken:
    """A token. kind: name, quoted, literal, op or end. text: the text in the expression. value: a literal's value."""

    kind: str
    text: str
    offset: int
    value: Any = None


def tokenize(text: str, issues: Issues) -> list[SyntaxToken]:
    """Return the tokens of a text. The last token has the kind `end`. Errors are added to `issues`."""
    found: list[SyntaxToken] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            issues.add(at, f"Syntax error: token recognition error at: '{_shown(text[at])}'")
            at += 1
            continue
        kind, word = match.lastgroup or "", match.group()
        if kind in ("string", "float", "uint", "int"):
            try:
                found.append(SyntaxToken("literal", word, at, _value(kind, word)))
            except ValueError as error:
                issues.add(at, str(error))
                found.append(SyntaxToken("literal", word, at))
        elif kind != "skip":
            found.append(SyntaxToken(kind, word, at))
        at = match.end()
    found.append(SyntaxToken("end", "<EOF>", len(text)))
    return found


def _shown(char: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char, char)


def _value(kind: str, word: str) -> Any:
    if kind == "string":
        return _string(word)
    if kind == "float":
        return float(word)
    digits = word.rstrip("uU")
    number = int(digits, 16) if digits.startswith("0x") else int(digits) if len(digits) <= 20 else 1 << 70
    if kind == "uint":
        if number >= 1 << 64:
            raise ValueError("invalid uint literal")
        return UInt(number)
    # The smallest integer is -2**63, so 2**63 is allowed after a minus sign. `parser.py` checks that there is a sign.
    if number > 1 << 63:
        raise ValueError("invalid int literal")
    return number


def _string(word: str) -> str | bytes:
    is_bytes = word[0] in "bB"
    if is_bytes:
        word = word[1:]
    is_raw = word[0] in "rR"
    if is_raw:
        word = word[1:]
    quote = word[:3] if len(word) >= 6 and word[:3] in ('"""', "'''") else word[0]
    inner = word[len(quote) : -len(quote)]
    inner = inner.replace("\r\n", "\n").replace("\r", "\n")
    if is_raw or "\\" not in inner:
        return inner.encode() if is_bytes else inner
    if not is_bytes:
        return _ESCAPE.sub(_unescape, inner)
    parts, at = bytearray(), 0
    for match in _ESCAPE.finditer(inner):
        parts += inner[at : match.start()].encode()
        code = match.group(1) or match.group(4)
        if code:
            parts.append(int(code, 16 if match.group(1) else 8) & 0xFF)
        elif match.group(5) is None:
            raise ValueError("unable to unescape string")
        else:
            parts += _unescape(match).encode()
        at = match.end()
    return bytes(parts + inner[at:].encode())


def _unescape(match: re.Match[str]) -> str:
    two, four, eight, octal, simple = match.groups()
    if simple is not None:
        if simple not in _SIMPLE:
            raise ValueError("unable to unescape string")
        return _SIMPLE[simple]
    code = int(octal, 8) if octal else int(two or four or eight, 16)
    if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
        raise ValueError("invalid unicode code point")
    return chr(code)
