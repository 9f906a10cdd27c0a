"""YAML as kubectl reads it (`sigs.k8s.io/yaml` over `go.yaml.in/yaml/v2`), kept as a tree that can be written back.

Neither of the languages that YAML's versions describe: `yes` and `017` mean what they mean in YAML 1.1, `0o17` and
`1e3` what they mean in 1.2, `1:20` and dates are strings. Of several documents in a file only the first one counts.
A tree keeps every scalar as it was written, so that what is not touched comes back as the same.
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
# Go's strconv with base 0. What begins with 0 and is none of these is octal.
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]([0-7]+)|0[bB]([01]+)|0([0-7]*)|([1-9][0-9]*))")
_BASES = (16, 8, 2, 8, 10)
_TAG = "tag:yaml.org,2002:"
_DEPTH = 200
# The tag here of a scalar without quotes, whose text says what it is.
_PLAIN = "plain"
_MERGE = "<<"
# Text that no reader of YAML, of whichever version, takes for anything but a string.
_HARMLESS = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+=@-]*(?:://[A-Za-z0-9_./:@-]+)?")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"])


class YamlError(ValueError):
    """Why a text is not read; names the line where there is one."""


class _TabScanner(Scanner):
    peek: Any
    forward: Any

    """PyYAML's scanner, which knows no tabs between tokens; libyaml and Go's port of it do."""

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


# libyaml's parser, of which Go's is a translation, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", _PythonLoader)


class _Dumper(yaml.SafeDumper):
    """Leaves it to the tags of scalars whether they are quoted."""

    def resolve(self, kind: type[Node], value: Any, implicit: Any) -> str:
        if kind is ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}seq" if kind is SequenceNode else f"{_TAG}map"


@dataclass(slots=True)
class Document:
    """A file's first document. root: None for an empty one. rest: the text of the further documents, which are kept."""

    root: Node | None
    rest: str = ""


def parse(data: bytes) -> Document:
    """Read a file: UTF-8, or UTF-16 with its mark. Raises YamlError."""
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
    """Makes a tree of events. Unlike PyYAML's own it lets an anchor be set twice, and keeps what is quoted apart."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}

    def node(self, event: Any, depth: int) -> Any:
        """The tree that begins with `event`. Raises YamlError."""
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
    """What the tree means, in JSON's types. Raises YamlError for what JSON cannot hold, as kubectl fails on it."""
    return _Values().of(root) if root is not None else None


class _Values:
    """One walk over a tree; what an alias names again is the same object again."""

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
        """In the order of the text: of two values the later one counts, merged ones included."""
        for key, content in node.value:
            if isinstance(key, ScalarNode) and key.value == _MERGE and key.tag in (_PLAIN, f"{_TAG}merge"):
                sources = reversed(content.value) if isinstance(content, SequenceNode) else [content]
                for source in sources:
                    if not isinstance(source, MappingNode):
                        raise _problem(content, "<< merges a mapping, or a list of them")
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
    """Returns str, int, float, bool or None."""
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
            raise _problem(node, f"`{text}` is no !!{tag}")
    elif tag == "binary":
        try:
            # Bytes that are no UTF-8 come through Go's JSON as U+FFFD.
            return base64.b64decode("".join(text.split()), validate=True).decode(errors="replace")
        except binascii.Error as error:
            raise _problem(node, "!!binary holds something else than base64") from error
    else:
        found = text
    if isinstance(found, float) and not math.isfinite(found):
        raise _problem(node, f"`{text}` is a number that JSON does not have")
    return found


def plain(text: str) -> str | int | float | bool | None:
    """What a scalar without quotes is (yaml.v2's `resolve`)."""
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
        # A sign keeps Go from trying an unsigned one; what is too large is tried as a float.
        if -(1 << 63) <= number < (1 << (63 if sign else 64)):
            return number
    if _FLOAT.fullmatch(digits) and math.isfinite(found := float(digits)):
        return found
    return text


def _problem(node: Node | Event, what: str) -> YamlError:
    mark = node.start_mark
    return YamlError(f"line {mark.line + 1}: {what}" if mark else what)


def dump(document: Document) -> bytes:
    """Write a tree so that Go and every other reader of YAML find the same in it, and the further documents behind it."""
    if document.root is None:
        return document.rest.encode()
    _harden(document.root, set(), flow=False)
    text = yaml.serialize(document.root, Dumper=_Dumper, width=10**6, allow_unicode=True)
    assert isinstance(text, str)
    return (text + document.rest).encode()


def _harden(node: Any, seen: set[Node], *, flow: bool) -> None:
    """Quote the strings that some reader would take for something else; leave the rest as it is written.

    flow: between brackets, where JSON stays JSON.
    """
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, MappingNode | SequenceNode):
        flow = flow or bool(node.flow_style)
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                _harden(part, seen, flow=flow)
    elif node.tag == _PLAIN and node.value != _MERGE and plain(node.value) is None:
        # An empty one would be no plain scalar everywhere.
        node.value = "null"
    elif node.tag == f"{_TAG}str" or (node.tag == _PLAIN and isinstance(plain(node.value), str)):
        if node.tag == _PLAIN and node.value == _MERGE:
            return
        harmless = _HARMLESS.fullmatch(node.value) is not None and node.value.lower() not in _WORDS
        quoted = not harmless or (flow and (node.tag != _PLAIN or ":" in node.value))
        node.tag, node.style = (f"{_TAG}str", '"') if quoted else (_PLAIN, None)


def node_of(found: Any) -> Node:
    """A tree for what JSON can hold."""
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
    """A mapping's own value (merged ones are not looked at), or None."""
    found = None
    if isinstance(node, MappingNode):
        for name, content in node.value:
            if isinstance(name, ScalarNode) and _key(name) == key:
                found = content
    return found


def put(node: MappingNode, key: str, content: Node) -> None:
    """Set a mapping's value, in the place of those that it has."""
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
    """A mapping's value that is a mapping and may be changed. meant: what `node` means; where it has the value from
    another mapping (`<<`), it gets a copy of its own."""
    found = get(node, key)
    if not isinstance(found, MappingNode):
        found = node_of(meant.get(key) or {})
        assert isinstance(found, MappingNode)
        put(node, key, found)
    return found
