"""Parses YAML as kubectl does (`sigs.k8s.io/yaml` over `go.yaml.in/yaml/v2`) into a tree that can be written back.

kubectl's YAML is a mixture of versions: `yes` and `017` are read as in YAML 1.1, `0o17` and `1e3` as in YAML 1.2, and
`1:20` and dates are strings. Only the first document of a file is used. The tree keeps the spelling of every scalar, so
that unchanged parts are written back unchanged.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

_BOOLEANS = {
    word: value
    for value, words in {True: ("y", "yes", "true", "on"), False: ("n", "no", "false", "off")}.items()
    for plain in words
    for word in {plain, plain.capitalize(), plain.upper()}
}
_NULLS = frozenset(["", "~", "null", "Null", "NULL"])
_NOT_FINITE = {
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: -math.inf for word in (".inf", ".Inf", ".INF")},
}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# The integers of Go's strconv with base 0. A number that begins with 0 and has no other prefix is octal.
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]([0-7]+)|0[bB]([01]+)|0([0-7]*)|([1-9][0-9]*))")
_BASES = (16, 8, 2, 8, 10)
_TAG = "tag:yaml.org,2002:"
_DEPTH = 200
# The tag of a scalar without quotes: its text decides its type.
_PLAIN = "plain"
_MERGE = "<<"
# Text that every YAML parser reads as a string, even without quotes.
_UNAMBIGUOUS = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+=@-]*(?:://[A-Za-z0-9_./:@-]+)?")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


class YamlError(ValueError):
    """A text cannot be parsed; the message says why and, where possible, in which line."""


class _TabScanner(Scanner):
    """PyYAML's scanner, changed to accept tabs between tokens as libyaml and Go's port of libyaml do."""

    peek: Any
    forward: Any

    def scan_to_next_token(self) -> None:
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()


class _PythonLoader(Reader, _TabScanner, Parser):
    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


# If PyYAML was built with libyaml, use libyaml's parser, because Go's parser is a translation of libyaml.
_Loader: Any = getattr(yaml, "CSafeLoader", _PythonLoader)


class _Dumper(yaml.SafeDumper):
    """A dumper in which a scalar's tag decides whether it is quoted."""

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}seq" if kind is SequenceNode else f"{_TAG}map"


@dataclass(slots=True)
class Document:
    """A file's first document.

    root: its tree; None for an empty document.
    rest: the text of the further documents, which `dump` writes back unchanged.
    """

    root: Node | None
    rest: str = ""


def parse(data: bytes) -> Document:
    """Parse a file's content: UTF-8, or UTF-16 with a byte order mark. Raises YamlError."""
    text = _decode(data)
    events: Any = yaml.parse(text, Loader=_Loader)
    try:
        next(events)
        if isinstance(next(events), StreamEndEvent):
            return Document(None)
        root = _Composer(events).node(next(events), 0)
        end = next(events)
        rest = text[end.end_mark.index :].lstrip("\r\n")
        return Document(root, ("...\n" if end.explicit else "") + rest if rest.strip() else "")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not valid YAML"
        raise YamlError(f"line {mark.line + 1}: {problem}" if mark else str(problem)) from error
    finally:
        events.close()


class _Composer:
    """Builds a tree from a parser's events.

    Unlike PyYAML's composer, it allows an anchor to be defined twice, and records which scalars are quoted.
    """

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}

    def node(self, event: Any, depth: int) -> Any:
        """Return the tree that begins with `event`. Raises YamlError."""
        if depth > _DEPTH:
            raise _problem(event, f"it is nested more than {_DEPTH} levels deep")
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise _problem(event, f"there is no anchor &{event.anchor}")
            return self._anchors[event.anchor]
        begin: Any = event.start_mark
        made: Any
        if isinstance(event, ScalarEvent):
            tag = event.tag if event.tag not in (None, "!") else _PLAIN if event.implicit[0] else f"{_TAG}str"
            made = ScalarNode(tag, event.value, begin, style=event.style)
            self._remember(event, made)
            return made
        mapping = isinstance(event, MappingStartEvent)
        made = (MappingNode if mapping else SequenceNode)(
            event.tag if event.tag not in (None, "!") else f"{_TAG}{'map' if mapping else 'seq'}",
            [],
            begin,
            flow_style=event.flow_style,
        )
        self._remember(event, made)
        while not isinstance(found := next(self._events), MappingEndEvent | SequenceEndEvent):
            item = self.node(found, depth + 1)
            made.value.append((item, self.node(next(self._events), depth + 1)) if mapping else item)
        return made

    def _remember(self, event: Any, node: Node) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node


def _decode(data: bytes) -> str:
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    found = next((mark for mark in marks if data.startswith(mark)), b"")
    try:
        return data[len(found) :].decode(marks.get(found, "utf-8"))
    except UnicodeDecodeError as error:
        raise YamlError(f"it is neither UTF-8 nor UTF-16 with a byte order mark: {error.reason}") from error


def value(root: Node | None) -> Any:
    """Return the tree's value in JSON's types. Like kubectl, raises YamlError for values that JSON cannot express."""
    return _Values().of(root) if root is not None else None


class _Values:
    """Turns a tree into values; an alias gives the same object as its anchor."""

    def __init__(self) -> None:
        self._made: dict[Node, Any] = {}
        self._open: set[Node] = set()

    def of(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if node in self._made:
            return self._made[node]
        if node in self._open:
            raise _problem(node, "an anchor's value contains itself")
        self._open.add(node)
        if isinstance(node, MappingNode):
            made: Any = {}
            self._fill(made, node)
        else:
            made = [self.of(item) for item in node.value]
        self._open.discard(node)
        self._made[node] = made
        return made

    def _fill(self, into: dict[str, Any], node: MappingNode) -> None:
        """Add a mapping's entries in the order of the text. The last value of a key wins, even a merged one (`<<`)."""
        for key, content in node.value:
            if isinstance(key, ScalarNode) and key.value == _MERGE and key.tag in (_PLAIN, f"{_TAG}merge"):
                sources = reversed(content.value) if isinstance(content, SequenceNode) else [content]
                for source in sources:
                    if not isinstance(source, MappingNode):
                        raise _problem(content, "the value of << must be a mapping or a list of mappings")
                    into.update(self.of(source))
            else:
                into[_key(key)] = self.of(content)


def _key(node: Node) -> str:
    found = _scalar(node) if isinstance(node, ScalarNode) else None
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int | str):
        return str(found)
    if isinstance(found, float):
        return f"{found:.17g}" if f"{found:.15g}" != repr(found) else repr(found)
    raise _problem(node, "a key is neither text nor a number")


def _scalar(node: ScalarNode) -> Any:
    """Return the value of a scalar: str, int, float, bool or None."""
    text: str = node.value
    tag = node.tag.removeprefix(_TAG)
    if tag == _PLAIN:
        found = plain(text)
    elif tag in ("int", "float", "bool", "null", "timestamp"):
        found = plain(text)
        if tag == "float" and type(found) is int:
            found = float(found)
        kinds = {"int": int, "float": float, "bool": bool, "null": type(None), "timestamp": str}
        if type(found) is not kinds[tag]:
            raise _problem(node, f"`{text}` is not a !!{tag}")
    elif tag == "binary":
        try:
            # Go's JSON replaces bytes that are not UTF-8 by U+FFFD.
            return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
        except binascii.Error as error:
            raise _problem(node, "the content of !!binary is not base64") from error
    else:
        found = text
    if isinstance(found, float) and not math.isfinite(found):
        raise _problem(node, f"`{text}` is a number that JSON cannot express")
    return found


def plain(text: str) -> str | int | float | bool | None:
    """Return the value of a scalar without quotes, as `resolve` of yaml.v2 does."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    if text[0] not in "+-.0123456789":
        return text
    digits = text if text[0] == "." else text.replace("_", "")
    if (match := _INTEGER.fullmatch(digits)) is not None:
        sign, *groups = match.groups()
        number = next(int(group or "0", base) for group, base in zip(groups, _BASES, strict=True) if group is not None)
        number = -number if sign == "-" else number
        # As in Go: 64 bits are allowed without a sign, and 63 bits with a sign; a larger number becomes a float.
        if -(1 << 63) <= number < (1 << (63 if sign else 64)):
            return number
    if _FLOAT.fullmatch(digits) and math.isfinite(found := float(digits)):
        return found
    return text


def _problem(node: Node | Event, what: str) -> YamlError:
    mark = node.start_mark
    return YamlError(f"line {mark.line + 1}: {what}" if mark else what)


def dump(document: Document) -> bytes:
    """Return a tree as YAML that Go and every other parser read in the same way.

    The further documents of its file follow unchanged.
    """
    if document.root is None:
        return document.rest.encode()
    _quote_ambiguous(document.root, set(), flow=False)
    text = yaml.serialize(document.root, Dumper=_Dumper, width=10**6, allow_unicode=True)
    assert isinstance(text, str)
    return (text + document.rest).encode()


def _quote_ambiguous(node: Any, seen: set[Node], *, flow: bool) -> None:
    """Quote the strings that some YAML parser would read as another type; leave everything else unchanged.

    flow: True inside brackets, where JSON must remain valid JSON.
    """
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, MappingNode | SequenceNode):
        flow = flow or bool(node.flow_style)
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                _quote_ambiguous(part, seen, flow=flow)
    elif node.tag == _PLAIN and node.value != _MERGE and plain(node.value) is None:
        # Not every parser accepts an empty scalar without quotes.
        node.value = "null"
    elif node.tag == f"{_TAG}str" or (node.tag == _PLAIN and isinstance(plain(node.value), str)):
        if node.tag == _PLAIN and node.value == _MERGE:
            return
        harmless = _UNAMBIGUOUS.fullmatch(node.value) is not None and node.value.lower() not in _WORDS
        quoted = not harmless or (flow and (node.tag != _PLAIN or ":" in node.value))
        node.tag, node.style = (f"{_TAG}str", '"') if quoted else (_PLAIN, None)


def node_of(found: Any) -> Node:
    """Return the tree of a JSON value."""
    if isinstance(found, dict):
        return MappingNode(
            f"{_TAG}map", [(node_of(key), node_of(item)) for key, item in found.items()], flow_style=False
        )
    if isinstance(found, list):
        return SequenceNode(f"{_TAG}seq", [node_of(item) for item in found], flow_style=False)
    if isinstance(found, str):
        return ScalarNode(f"{_TAG}str", found)
    return ScalarNode(_PLAIN, json.dumps(found))


def get(node: Node | None, key: str) -> Node | None:
    """Return the value of a key in a mapping, or None. Values that `<<` merges into the mapping are ignored."""
    found = None
    if isinstance(node, MappingNode):
        for name, content in node.value:
            if isinstance(name, ScalarNode) and _key(name) == key:
                found = content
    return found


def put(node: MappingNode, key: str, content: Node) -> None:
    """Set the value of a key in a mapping; it replaces all entries with this key."""
    for index, (name, _) in enumerate(node.value):
        if isinstance(name, ScalarNode) and _key(name) == key:
            rest = [
                pair
                for pair in node.value[index + 1 :]
                if not (isinstance(pair[0], ScalarNode) and _key(pair[0]) == key)
            ]
            node.value[index:] = [(name, content), *rest]
            return
    node.value.append((node_of(key), content))


def put_mapping(node: MappingNode, key: str, meant: Any) -> MappingNode:
    """Return the mapping that is the value of `key` in `node`; the caller may change it.

    If `node` itself has no such mapping, one is added: a copy of the mapping that `<<` merges, or an empty mapping.

    meant: the value of `node`, merges included (the result of `value(node)`).
    """
    found = get(node, key)
    if not isinstance(found, MappingNode):
        found = node_of(meant.get(key) or {})
        assert isinstance(found, MappingNode)
        put(node, key, found)
    return found
