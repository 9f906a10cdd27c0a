"""Parses CEL expressions (cel-go `parser/parser.go`, `parser/gen/CEL.g4`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from hatchway.cluster.api.cel.lexer import RESERVED, SyntaxToken, tokenize
from hatchway.cluster.api.cel.macros import MacroError, expand_macro
from hatchway.cluster.api.cel.syntax import (
    CallNode,
    Ident,
    Issues,
    ListExpr,
    Literal,
    MapExpr,
    Select,
    Struct,
    SyntaxNode,
)

__all__ = ["parse"]

# The maximum number of characters of an expression (cel-go's default is 100,000).
_LONGEST = 100_000
# The maximum number of levels of nested parts. cel-go allows 250; Python's stack allows fewer.
_DEEPEST = 100
_LEVELS = {
    "*": 3, "/": 3, "%": 3, "+": 2, "-": 2, "<": 1, "<=": 1, ">=": 1, ">": 1, "==": 1, "!=": 1, "in": 1,
}  # fmt: skip
_STARTS = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
_CONSTANTS = {"true": True, "false": False, "null": None}
_LARGEST = 1 << 63


class _SyntaxEnd(Exception):
    """Raised to end parsing after a syntax error."""


def parse(text: str, issues: Issues, *, has_bindings: bool = False) -> SyntaxNode | None:
    """Return the syntax tree of an expression; None if it has errors, which are added to `issues`.

    has_bindings: True if the expression may use `cel.bind`.
    """
    if len(text) > _LONGEST:
        issues.add(0, f"expression code point size exceeds limit: size: {len(text)}, limit {_LONGEST}")
        return None
    tokens = tokenize(text, issues)
    try:
        found = _ExpressionParser(tokens, issues, has_bindings).parse_all()
    except _SyntaxEnd:
        return None
    except RecursionError:
        issues.add(0, f"expression recursion limit exceeded: {_DEEPEST}")
        return None
    return None if issues else found


@dataclass(slots=True)
class _Deep:
    """A part of the syntax tree, with the number of its levels."""

    node: SyntaxNode
    levels: int


class _ExpressionParser:
    def __init__(self, tokens: list[SyntaxToken], issues: Issues, has_bindings: bool) -> None:
        self._has_bindings = has_bindings
        self._tokens = tokens
        self._issues = issues
        self._at = 0
        self._nesting = 0

    def parse_all(self) -> SyntaxNode:
        found = self._expression()
        token = self._tokens[self._at]
        if token.kind != "end":
            word = "extraneous" if self._tokens[self._at + 1].kind == "end" else "mismatched"
            self._stop(token, f"Syntax error: {word} input '{token.text}' expecting <EOF>")
        return found.node

    # Tokens

    def _is(self, text: str) -> bool:
        token = self._tokens[self._at]
        return token.text == text and token.kind in ("op", "name")

    def _take(self, text: str) -> SyntaxToken | None:
        if not self._is(text):
            return None
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _need(self, text: str, expecting: str = "") -> SyntaxToken:
        token = self._take(text)
        if token is None:
            found = self._tokens[self._at]
            self._stop(found, f"Syntax error: mismatched input '{found.text}' expecting {expecting or repr(text)}")
        return token

    def _stop(self, token: SyntaxToken, message: str) -> NoReturn:
        self._issues.add(token.offset, message)
        raise _SyntaxEnd

    def _deeper(self, levels: int) -> int:
        if levels > 2 * _DEEPEST:
            self._stop(self._tokens[self._at], f"expression recursion limit exceeded: {_DEEPEST}")
        return levels

    # Operators

    def _expression(self) -> _Deep:
        self._nesting += 1
        if self._nesting > _DEEPEST:
            self._stop(self._tokens[self._at], f"expression recursion limit exceeded: {_DEEPEST}")
        found = self._chain("||")
        mark = self._take("?")
        if mark is not None:
            chosen = self._chain("||")
            self._need(":")
            other = self._expression()
            levels = self._deeper(max(found.levels, chosen.levels, other.levels) + 1)
            found = _Deep(CallNode(mark.offset, "_?_:_", None, [found.node, chosen.node, other.node]), levels)
        self._nesting -= 1
        return found

    def _chain(self, operator: str) -> _Deep:
        """Parse operands that are joined by `||` or `&&`. They become one call with all operands as arguments."""
        first = self._chain("&&") if operator == "||" else self._binary(1)
        if not self._is(operator):
            return first
        parts, offset = [first], self._tokens[self._at].offset
        while self._take(operator):
            parts.append(self._chain("&&") if operator == "||" else self._binary(1))
        levels = self._deeper(max(one.levels for one in parts) + 1)
        return _Deep(CallNode(offset, f"_{operator}_", None, [one.node for one in parts]), levels)

    def _binary(self, level: int) -> _Deep:
        left = self._unary()
        while True:
            token = self._tokens[self._at]
            found = _LEVELS.get(token.text, 0) if token.kind in ("op", "name") else 0
            if found < level:
                return left
            self._at += 1
            right = self._binary(found + 1)
            name = "@in" if token.text == "in" else f"_{token.text}_"
            levels = self._deeper(max(left.levels, right.levels) + 1)
            left = _Deep(CallNode(token.offset, name, None, [left.node, right.node]), levels)

    def _unary(self) -> _Deep:
        token = self._tokens[self._at]
        if token.kind != "op" or token.text not in ("!", "-"):
            return self._member()
        count = 0
        while self._take(token.text):
            count += 1
        after = self._tokens[self._at]
        if token.text == "-" and count == 1 and after.kind == "literal" and type(after.value) in (int, float):
            negative = SyntaxToken("literal", f"-{after.text}", token.offset, -after.value)
            self._tokens[self._at] = negative
            return self._member()
        operand = self._member()
        if count % 2 == 0:
            return operand
        name = "!_" if token.text == "!" else "-_"
        return _Deep(CallNode(token.offset, name, None, [operand.node]), self._deeper(operand.levels + 1))

    # Members

    def _member(self) -> _Deep:
        found = self._primary()
        while True:
            if dot := self._take("."):
                found = self._select(found, dot)
            elif bracket := self._take("["):
                name = "_[?_]" if self._take("?") else "_[_]"
                index = self._expression()
                self._need("]")
                levels = self._deeper(max(found.levels, index.levels) + 1)
                found = _Deep(CallNode(bracket.offset, name, None, [found.node, index.node]), levels)
            else:
                return found

    def _select(self, operand: _Deep, dot: SyntaxToken) -> _Deep:
        optional = self._take("?") is not None
        token = self._tokens[self._at]
        # In CEL's grammar, `in`, `true`, `false` and `null` are no identifiers. Other reserved words may be fields.
        if token.kind not in ("name", "quoted") or token.text in ("in", "true", "false", "null"):
            self._stop(token, f"Syntax error: mismatched input '{token.text}' expecting {{IDENTIFIER, ESC_IDENTIFIER}}")
        self._at += 1
        name = token.text.strip("`")
        levels = self._deeper(operand.levels + 1)
        if not optional and token.kind == "name" and (opened := self._take("(")):
            args = self._arguments()
            levels = self._deeper(max([operand.levels, *(one.levels for one in args)]) + 1)
            call = CallNode(opened.offset, name, operand.node, [one.node for one in args])
            return _Deep(self._expanded(call), levels + 1)
        if optional:
            field = Literal(token.offset, name)
            return _Deep(CallNode(dot.offset, "_?._", None, [operand.node, field]), levels)
        return _Deep(Select(dot.offset, operand.node, name), levels)

    def _arguments(self) -> list[_Deep]:
        found: list[_Deep] = []
        if self._take(")"):
            return found
        while True:
            found.append(self._expression())
            if not self._take(","):
                break
        self._need(")", "{')', ','}")
        return found

    def _expanded(self, call: CallNode) -> SyntaxNode:
        try:
            return expand_macro(call, has_bindings=self._has_bindings) or call
        except MacroError as error:
            self._issues.add(error.offset, str(error))
            return call

    # Primaries

    def _primary(self) -> _Deep:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "literal":
            return self._literal(token)
        if token.kind == "name" and token.text in _CONSTANTS:
            return _Deep(Literal(token.offset, _CONSTANTS[token.text]), 1)
        if token.kind == "op":
            if token.text == "(":
                found = self._expression()
                self._need(")")
                return found
            if token.text == "[":
                return self._list(token)
            if token.text == "{":
                return self._map(token)
            if token.text == ".":
                token = self._tokens[self._at]
                self._at += 1
                if token.kind == "name" and token.text != "in":
                    return self._name(token, ".")
        elif token.kind == "name" and token.text != "in":
            return self._name(token, "")
        return self._stop(token, f"Syntax error: mismatched input '{token.text}' expecting {_STARTS}")

    def _literal(self, token: SyntaxToken) -> _Deep:
        if type(token.value) is int and not -_LARGEST <= token.value < _LARGEST:
            self._issues.add(token.offset, "invalid int literal")
        return _Deep(Literal(token.offset, token.value), 1)

    def _name(self, token: SyntaxToken, leading: str) -> _Deep:
        if opened := self._take("("):
            args = self._arguments()
            if token.text in RESERVED:
                self._issues.add(token.offset, f"reserved identifier: {token.text}")
            call = CallNode(opened.offset, leading + token.text, None, [one.node for one in args])
            levels = self._deeper(max([0, *(one.levels for one in args)]) + 2)
            return _Deep(self._expanded(call), levels)
        if (found := self._struct(token, leading)) is not None:
            return found
        if token.text in RESERVED:
            self._issues.add(token.offset, f"reserved identifier: {token.text}")
        return _Deep(Ident(token.offset, leading + token.text), 1)

    def _struct(self, token: SyntaxToken, leading: str) -> _Deep | None:
        """Parse `a.b.C{field: value}`. Return None if no brace follows the name."""
        tokens, at = self._tokens, self._at
        names = [token.text]
        while tokens[at].text == "." and tokens[at].kind == "op" and tokens[at + 1].kind == "name":
            names.append(tokens[at + 1].text)
            at += 2
        if tokens[at].kind != "op" or tokens[at].text != "{":
            return None
        self._at = at + 1
        fields: list[tuple[str, SyntaxNode, int]] = []
        optional: list[int] = []
        levels = 0
        while not self._take("}"):
            if self._take("?"):
                optional.append(len(fields))
            name = tokens[self._at]
            if name.kind not in ("name", "quoted"):
                self._stop(name, f"Syntax error: mismatched input '{name.text}' expecting {{'}}', ',', IDENTIFIER}}")
            self._at += 1
            colon = self._need(":")
            value = self._expression()
            levels = max(levels, value.levels)
            fields.append((name.text.strip("`"), value.node, colon.offset))
            if not self._take(",") and not self._is("}"):
                self._need("}", "{'}', ','}")
        node = Struct(tokens[at].offset, leading + ".".join(names), fields, frozenset(optional))
        return _Deep(node, self._deeper(levels + 1))

    def _list(self, opened: SyntaxToken) -> _Deep:
        items: list[SyntaxNode] = []
        optional: list[int] = []
        levels = 0
        while not self._take("]"):
            if self._take("?"):
                optional.append(len(items))
            item = self._expression()
            levels = max(levels, item.levels)
            items.append(item.node)
            if not self._take(",") and not self._is("]"):
                self._need("]", "{']', ','}")
        return _Deep(ListExpr(opened.offset, items, frozenset(optional)), self._deeper(levels + 1))

    def _map(self, opened: SyntaxToken) -> _Deep:
        entries: list[tuple[SyntaxNode, SyntaxNode]] = []
        optional: list[int] = []
        levels = 0
        while not self._take("}"):
            if self._take("?"):
                optional.append(len(entries))
            key = self._expression()
            self._need(":")
            value = self._expression()
            levels = max(levels, key.levels, value.levels)
            entries.append((key.node, value.node))
            if not self._take(",") and not self._is("}"):
                self._need("}", "{'}', ','}")
        return _Deep(MapExpr(opened.offset, entries, frozenset(optional)), self._deeper(levels + 1))
