"""Label and field selectors, as in apimachinery's `pkg/labels/selector.go` and `pkg/fields/selector.go`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import ApiError, bad_request
from hatchway.numerals import parse_int

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector. operator: one of `in`, `notin`, `exists`, `!`, `gt`, `lt`."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        """Return True when labels meet the requirement."""
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


# Up to this many requirements, checking them one by one is quicker than a lookup by label.
_FEW = 4


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that must all be true. Without requirements, all labels match."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels | None) -> bool:
        """Return True when labels meet all requirements. labels: None for no labels."""
        found = labels or {}
        return all(one.matches(found) for one in self.requirements)

    def matcher(self) -> Callable[[Labels | None], bool]:
        """Return a function like `matches` for many objects. Its time does not depend on the number of requirements."""
        return self.matches if len(self.requirements) <= _FEW else _ByKey(self.requirements).matches

    def __str__(self) -> str:
        return ",".join(map(_format, self.requirements))


class _KeyRule:
    """All requirements on one label.

    required: the label must exist. absent: the label must not exist. values: the allowed values; None for any value.
    """

    __slots__ = ("above", "absent", "below", "refused", "required", "values")

    def __init__(self) -> None:
        self.required = self.absent = False
        self.values: frozenset[str] | None = None
        self.refused: set[str] = set()
        self.above: int | None = None
        self.below: int | None = None

    def add(self, one: Requirement) -> None:
        self.required = self.required or one.operator not in ("notin", "!")
        match one.operator:
            case "in":
                self.values = one.values if self.values is None else self.values & one.values
            case "notin":
                self.refused |= one.values
            case "!":
                self.absent = True
            case "gt" | "lt":
                (text,) = one.values
                bound = parse_int(text)
                if bound is None:
                    self.values = frozenset()
                elif one.operator == "gt":
                    self.above = bound if self.above is None else max(self.above, bound)
                else:
                    self.below = bound if self.below is None else min(self.below, bound)

    def allows(self, value: str) -> bool:
        """Return True when the label may have this value."""
        if self.absent or value in self.refused or (self.values is not None and value not in self.values):
            return False
        if self.above is None and self.below is None:
            return True
        number = parse_int(value)
        return (
            number is not None
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


class _ByKey:
    """Many requirements, grouped by label, so that only the labels of an object are looked up."""

    def __init__(self, requirements: tuple[Requirement, ...]) -> None:
        self._rules: dict[str, _KeyRule] = {}
        for one in dict.fromkeys(requirements):
            self._rules.setdefault(one.key, _KeyRule()).add(one)
        self._required = sum(rule.required for rule in self._rules.values())

    def matches(self, labels: Labels | None) -> bool:
        found = labels or {}
        if len(found) < self._required:
            return False
        present = found.keys() & self._rules.keys()
        met = 0
        for key in present:
            rule = self._rules[key]
            if not rule.allows(found[key]):
                return False
            met += rule.required
        return met == self._required


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


_END = ("end", "")
# One token: a word, or a special symbol. Blanks between tokens are ignored.
_tokens = re.compile(r"(==|!=|[=!(),><])|([^=!(),>< \t\r\n]+)").finditer


def _scan(text: str) -> Iterator[tuple[str, str]]:
    """Yield tokens as (kind, literal): kind is `word`, `end` or the special symbol itself."""
    for match in _tokens(text):
        symbol = match[1]
        yield (symbol, symbol) if symbol else ("word", match[2])


class _SelectorParser:
    def __init__(self, text: str) -> None:
        self._tokens = _scan(text)
        self._following = next(self._tokens, _END)

    def _peek(self) -> tuple[str, str]:
        return self._following

    def _next(self) -> tuple[str, str]:
        token = self._following
        self._following = next(self._tokens, _END)
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
    """Parse a label selector such as `app=web,tier in (a,b),!old`. Raises ApiError 400 with Kubernetes' message."""
    return _SelectorParser(text).parse() if text else EVERYTHING


def label_selector_matches(selector: Mapping[str, Any] | None, labels: Labels) -> bool:
    """Return True when a metav1.LabelSelector (matchLabels, matchExpressions) matches.

    None matches nothing, {} matches everything.
    """
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
    """Return a metav1.LabelSelector as text (`a=d,tier in (x,y)`), for scale subresources."""
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
    """One term of a field selector: `field=value`, or `field!=value` when negated."""

    field: str
    value: str
    negated: bool


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Terms that must all be true."""

    terms: tuple[FieldTerm, ...] = ()

    def matches(self, read: Callable[[str], str]) -> bool:
        """Return True when all terms match. read: returns the value of a field."""
        return all((read(term.field) == term.value) != term.negated for term in self.terms)

    def matcher(self) -> Callable[[Callable[[str], str]], bool]:
        """Return a function like `matches` for many objects. Its time does not depend on the number of terms."""
        return self.matches if len(self.terms) <= _FEW else self._by_field()

    def _by_field(self) -> Callable[[Callable[[str], str]], bool]:
        wanted: dict[str, set[str]] = {}
        refused: dict[str, set[str]] = {}
        for term in self.terms:
            (refused if term.negated else wanted).setdefault(term.field, set()).add(term.value)
        if any(len(values) > 1 for values in wanted.values()):
            return lambda _read: False

        def matches(read: Callable[[str], str]) -> bool:
            return all(read(name) in values for name, values in wanted.items()) and not any(
                read(name) in values for name, values in refused.items()
            )

        return matches

    def exact(self, field: str) -> str | None:
        """Return the value that `field` must have, or None when the selector does not require a value."""
        return next((term.value for term in self.terms if term.field == field and not term.negated), None)


_special = re.compile(r"\\(.?)|([,=])", re.DOTALL).sub
_well_escaped = re.compile(r"(?:[^\\,=]+|\\[\\,=])*", re.DOTALL).fullmatch
_escape = re.compile(r"\\(.)", re.DOTALL).sub


def _unescape(text: str) -> str:
    if _well_escaped(text):
        return _escape(r"\1", text)

    def plain(match: re.Match[str]) -> str:
        if match[2]:
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(match[2])}")
        if not match[1] or match[1] not in "\\,=":
            raise bad_request(f"invalid field selector: invalid escape sequence: \\{match[1]}")
        return match[1]

    return _special(plain, text)


_terms = re.compile(r"((?:[^\\,]+|\\.|\\$)*)(?:,|$)", re.DOTALL)


def parse_field_selector(text: str) -> FieldSelector:
    r"""Parse `metadata.name=x,spec.nodeName!=y`; `\` escapes comma, equals sign and itself. Raises ApiError 400."""
    found = []
    at = 0
    while at < len(text):
        match = _terms.match(text, at)
        assert match is not None
        term, at = match[1], match.end()
        if not term:
            continue
        # Without the first condition, the regular expression would take quadratic time for many exclamation marks.
        split = "=" in term and re.match(r"([^=!]*(?:!(?!=)[^=!]*)*)(!=|==|=)(.*)", term, re.DOTALL)
        if not split:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append(FieldTerm(split[1], _unescape(split[3]), split[2] == "!="))
    return FieldSelector(tuple(found))
