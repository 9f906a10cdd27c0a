"""Label and field selectors: apimachinery's `pkg/labels/selector.go` and `pkg/fields/selector.go`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api import validation as v
from hatchway.errors import ApiError, bad_request
from hatchway.numerals import parse_int

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term: operator is one of `in`, `notin`, `exists`, `!`, `gt`, `lt`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in":
                return value is not None and value in self.values
            case "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        number = parse_int(value)
        if number is None:
            return False
        (text,) = self.values
        bound = parse_int(text)
        return bound is not None and (number > bound if self.operator == "gt" else number < bound)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that all must hold; without any, everything matches."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels | None) -> bool:
        found = labels or {}
        return all(one.matches(found) for one in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(_format, self.requirements))


def _format(one: Requirement) -> str:
    if one.operator == "exists":
        return one.key
    if one.operator == "!":
        return "!" + one.key
    if one.operator in ("gt", "lt"):
        (bound,) = one.values
        return f"{one.key}{'>' if one.operator == 'gt' else '<'}{bound}"
    if one.operator == "in" and len(one.values) == 1:
        (value,) = one.values
        return f"{one.key}={value}"
    return f"{one.key} {one.operator} ({','.join(sorted(one.values))})"


_SPECIAL = ("==", "!=", "=", "!", "(", ")", ",", ">", "<")
_END = ("end", "")


def _scan(text: str) -> list[tuple[str, str]]:
    """Tokens as (kind, literal): kind is `word`, `end` or the special symbol itself."""
    tokens = []
    at, length = 0, len(text)
    while at < length:
        one = text[at]
        if one in " \t\r\n":
            at += 1
        elif one in "=!(),><":
            symbol = next(symbol for symbol in _SPECIAL if text.startswith(symbol, at))
            tokens.append((symbol, symbol))
            at += len(symbol)
        else:
            start = at
            while at < length and text[at] not in "=!(),>< \t\r\n":
                at += 1
            tokens.append(("word", text[start:at]))
    return tokens


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _scan(text)
        self._at = 0

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def parse(self) -> LabelSelector:
        found: list[Requirement] = []
        while True:
            kind, literal = self._peek()
            if kind == "end":
                return LabelSelector(tuple(found))
            if kind not in ("word", "!"):
                raise bad_request(f"found '{literal}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._requirement())
            except ApiError as error:
                raise bad_request(f"unable to parse requirement: {error.message}") from None
            kind, literal = self._next()
            if kind == "end":
                return LabelSelector(tuple(sorted(found, key=lambda one: one.key)))
            if kind != ",":
                raise bad_request(f"found '{literal}', expected: ',' or 'end of string'")
            kind, literal = self._peek()
            if kind not in ("word", "!"):
                raise bad_request(f"found '{literal}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        kind, literal = self._next()
        absent = kind == "!"
        if absent:
            kind, literal = self._next()
        if kind != "word":
            raise bad_request(f"found '{literal}', expected: identifier")
        key = literal
        if messages := v.qualified_name(key):
            raise bad_request(f"<nil>: Invalid value: {v.quote(key)}: {'; '.join(messages)}")
        if absent:
            return Requirement(key, "!")
        if self._peek()[0] in ("end", ","):
            return Requirement(key, "exists")
        kind, literal = self._next()
        operator = literal if kind == "word" else kind
        if operator in ("in", "notin"):
            values = self._set()
        elif operator in ("=", "==", "!=", ">", "<"):
            values = self._value()
        else:
            raise bad_request(f"found '{literal}', expected: in, notin, =, ==, !=, gt, lt")
        for index, value in enumerate(sorted(values)):
            if messages := v.label_value(value):
                raise bad_request(f"values[{index}][{key}]: Invalid value: {v.quote(value)}: {'; '.join(messages)}")
        if operator in (">", "<"):
            if any(parse_int(value) is None for value in values):
                shown = v.quote(next(iter(values)))
                raise bad_request(
                    f"values[0]: Invalid value: {shown}: for 'Gt', 'Lt' operators, the value must be an integer"
                )
            return Requirement(key, "gt" if operator == ">" else "lt", values)
        return Requirement(key, "notin" if operator in ("notin", "!=") else "in", values)

    def _value(self) -> frozenset[str]:
        kind, literal = self._peek()
        if kind in ("end", ","):
            return frozenset(("",))
        self._next()
        if kind != "word":
            raise bad_request(f"found '{literal}', expected: identifier")
        return frozenset((literal,))

    def _set(self) -> frozenset[str]:
        kind, literal = self._next()
        if kind != "(":
            raise bad_request(f"found '{literal}' expected: '('")
        values = set()
        expect_value = True
        while True:
            kind, literal = self._next()
            if kind == ")":
                if expect_value:
                    values.add("")
                return frozenset(values)
            if kind == ",":
                if expect_value:
                    values.add("")
                expect_value = True
            elif kind == "word" and expect_value:
                values.add(literal)
                expect_value = False
            elif not expect_value:
                raise bad_request(f"found '{literal}', expected: ',' or ')'")
            elif not values:
                raise bad_request(f"found '{literal}', expected: ',', ')' or identifier")
            else:
                raise bad_request(f"found '{literal}', expected: ',', or identifier")


EVERYTHING = LabelSelector()


def parse_label_selector(text: str) -> LabelSelector:
    """`app=web,tier in (a,b),!old`. Raises ApiError 400 with the original's words."""
    return _Parser(text).parse() if text else EVERYTHING


def label_selector_matches(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Whether a metav1.LabelSelector (matchLabels, matchExpressions) matches. None matches nothing, {} everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for one in selector.get("matchExpressions") or ():
        operator = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}.get(one.get("operator"))
        if operator is None:
            return False
        if not Requirement(one.get("key", ""), operator, frozenset(one.get("values") or ())).matches(labels):
            return False
    return True


def format_label_selector(selector: Mapping[str, Any] | None) -> str:
    """A metav1.LabelSelector as text (`a=d,tier in (x,y)`), as scale subresources report it."""
    selector = selector or {}
    found = [Requirement(key, "in", frozenset((value,))) for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        operator = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}.get(
            one.get("operator"), "exists"
        )
        found.append(Requirement(one.get("key", ""), operator, frozenset(one.get("values") or ())))
    return str(LabelSelector(tuple(sorted(found, key=lambda one: one.key))))


@dataclass(frozen=True, slots=True)
class FieldTerm:
    field: str
    value: str
    negated: bool


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Terms that all must hold."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, read: Callable[[str], str]) -> bool:
        """`read` gives the value of a field."""
        return all((read(term.field) == term.value) != term.negated for term in self.terms)

    def exact(self, field: str) -> str | None:
        """The value that `field` must have, or None."""
        return next((term.value for term in self.terms if term.field == field and not term.negated), None)


def _unescape(text: str) -> str:
    out = []
    characters = iter(text)
    for one in characters:
        if one == "\\":
            escaped = next(characters, None)
            if escaped is None or escaped not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{escaped or ''}")
            out.append(escaped)
        elif one in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(one)}")
        else:
            out.append(one)
    return "".join(out)


_terms = re.compile(r"((?:[^\\,]|\\.|\\$)*)(?:,|$)", re.DOTALL)


def parse_field_selector(text: str) -> FieldSelector:
    r"""`metadata.name=x,spec.nodeName!=y`; `\` escapes comma, equals sign and itself in values. Raises ApiError 400."""
    found = []
    at = 0
    while at < len(text):
        match = _terms.match(text, at)
        assert match is not None
        term, at = match[1], match.end()
        if not term:
            continue
        split = re.match(r"([^=!]*(?:!(?!=)[^=!]*)*)(!=|==|=)(.*)", term, re.DOTALL)
        if split is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append(FieldTerm(split[1], _unescape(split[3]), split[2] == "!="))
    return FieldSelector(tuple(found))
