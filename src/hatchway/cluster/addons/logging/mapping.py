"""An index's mapping: which fields its documents have and of what type, learned from the documents themselves.

`analyze` turns a document into what the index stores for it. Terms are spelled so that one tantivy field serves all
fields of all documents:

    path NUL token     words of texts (and numbers, booleans, dates, as they were written)
    path SOH value     whole strings: `field.keyword`
    STX path           the document has the field

and sortable values, in digits only, for ranges: "f" + hex(path) + kind + sortable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hatchway.cluster.addons.logging import values

TOKEN, WHOLE, PRESENT = "\0", "\1", "\2"
FIELD_LIMIT = 1000
DEPTH_LIMIT = 20
_TIMESTAMP = "@timestamp"


class DocumentError(Exception):
    """A document that the index cannot take. kind: Elasticsearch's name of the error."""

    def __init__(self, message: str, kind: str = "mapper_parsing_exception") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


@dataclass(slots=True)
class Analyzed:
    """terms, ranges: as above. words: texts by path (dots escaped by the caller), for phrases. everything: all leaves,
    for queries without a field. time: `@timestamp` in nanoseconds, or None."""

    terms: set[str] = field(default_factory=set)
    ranges: set[str] = field(default_factory=set)
    words: dict[str, list[str]] = field(default_factory=dict)
    everything: list[str] = field(default_factory=list)
    time: int | None = None


def range_key(path: str, kind: str, sortable: str) -> str:
    """kind: "n" for numbers, "d" for dates, "s" for strings."""
    return f"f{path.encode().hex()}{kind}{sortable}"


def sortable_text(text: str) -> str:
    return text.encode("utf-8", "replace")[:64].hex()


class Mapping:
    """fields: type by path; objects are "object"."""

    def __init__(self, fields: dict[str, str] | None = None) -> None:
        self.fields = fields or {}

    @classmethod
    def from_properties(cls, properties: Any) -> Mapping:
        """From the `properties` of a mapping. Raises DocumentError."""
        mapping = cls()
        mapping.merge(properties)
        return mapping

    def merge(self, properties: Any, prefix: str = "", depth: int = 0) -> None:
        """Take declared fields in. Raises DocumentError for unknown types and for changes of a type."""
        if not isinstance(properties, dict) or depth > DEPTH_LIMIT:
            raise DocumentError("Expected map for property [properties]")
        for name, declared in properties.items():
            if not isinstance(declared, dict):
                raise DocumentError(f"Expected map for property [fields] on field [{name}] but got a value")
            path = f"{prefix}{name}"
            kind = declared.get("type", "object" if "properties" in declared else "text")
            if kind == "nested":
                kind = "object"
            if kind not in values.TYPES:
                raise DocumentError(f"No handler for type [{kind}] declared on field [{name}]")
            if self.fields.get(path, kind) != kind:
                old = self.fields[path]
                raise DocumentError(
                    f"mapper [{path}] cannot be changed from type [{old}] to [{kind}]", "illegal_argument_exception"
                )
            self._learn(path, kind)
            if kind == "object":
                self.merge(declared.get("properties", {}), f"{path}.", depth + 1)

    def properties(self) -> dict[str, Any]:
        """The tree that `_mapping` shows."""
        tree: dict[str, Any] = {}
        for path, kind in sorted(self.fields.items()):
            at = tree
            parts = path.split(".")
            for part in parts[:-1]:
                at = at.setdefault(part, {}).setdefault("properties", {})
            entry = at.setdefault(parts[-1], {})
            if kind == "text":
                entry["type"] = "text"
                entry["fields"] = {"keyword": {"type": "keyword", "ignore_above": values.KEYWORD_LIMIT}}
            elif kind != "object":
                entry["type"] = kind
        return tree

    def resolve(self, name: str) -> tuple[str, str] | None:
        """(path, type) of a field as a query names it: `x.keyword` is the keyword of the text field x."""
        kind = self.fields.get(name)
        if kind is not None:
            return name, kind
        base = name.removesuffix(".keyword")
        if base != name and self.fields.get(base) == "text":
            return base, "keyword"
        return None

    def _learn(self, path: str, kind: str) -> str:
        known = self.fields.get(path)
        if known is not None:
            return known
        parent = path.rpartition(".")[0]
        if parent and self._learn(parent, "object") != "object":
            raise DocumentError(
                f"Could not dynamically add mapping for field [{path}]. Existing mapping for [{parent}] must be of type object but found [{self.fields[parent]}]."
            )
        if len(self.fields) >= FIELD_LIMIT:
            raise DocumentError(
                f"Limit of total fields [{FIELD_LIMIT}] has been exceeded", "illegal_argument_exception"
            )
        self.fields[path] = kind
        return kind

    def analyze(self, source: dict[str, Any], tokens: Callable[[str], list[str]]) -> Analyzed:
        """What to store for a document; fields not seen before are learned. Raises DocumentError (and learns nothing)."""
        known = len(self.fields)
        found = Analyzed()
        try:
            for path, value in _leaves(source, "", 0):
                self._leaf(path, value, tokens, found)
        except DocumentError:
            for path in list(self.fields)[known:]:
                del self.fields[path]
            raise
        return found

    def _leaf(self, path: str, value: Any, tokens: Callable[[str], list[str]], found: Analyzed) -> None:
        kind = self.fields.get(path) or self._learn(path, values.dynamic_type(value))
        if isinstance(value, dict):  # an object without fields
            if kind != "object":
                raise _unfit(path, kind, value)
            return
        if kind == "object":
            raise DocumentError(
                f"object mapping for [{path}] tried to parse field [{path.rpartition('.')[2]}] as object, but found a concrete value"
            )
        text = (
            value
            if isinstance(value, str)
            else ("true" if value else "false")
            if isinstance(value, bool)
            else str(value)
        )
        if kind in values.NUMBERS:
            number = values.number(value)
            if number is None:
                raise _unfit(path, kind, value)
            found.ranges.add(range_key(path, "n", values.sortable_number(number)))
        elif kind == "boolean":
            flag = values.boolean(value)
            if flag is None:
                raise _unfit(path, kind, value)
            text = "true" if flag else "false"
            found.terms.add(f"{path}{WHOLE}{text}")
        elif kind == "date":
            moment = values.date(value)
            if moment is None:
                raise _unfit(path, kind, value)
            found.ranges.add(range_key(path, "d", values.sortable_integer(moment)))
            if path == _TIMESTAMP:
                found.time = moment
        else:
            if kind == "text":
                found.terms.update(f"{path}{TOKEN}{token}" for token in tokens(text))
                found.words.setdefault(path, []).append(text)
            if kind != "text" or len(text) <= values.KEYWORD_LIMIT:
                found.terms.add(f"{path}{WHOLE}{text}")
                found.ranges.add(range_key(path, "s", sortable_text(text)))
        found.everything.append(text)
        found.terms.update(_ancestry(path))


@lru_cache(4096)
def _is_name(name: str) -> bool:
    return (
        bool(name.strip()) and "" not in name.split(".") and not any(mark in name for mark in (TOKEN, WHOLE, PRESENT))
    )


@lru_cache(4096)
def _ancestry(path: str) -> tuple[str, ...]:
    """The terms that say that a document has the field: of the path and of the objects that it lies in."""
    parts = path.split(".")
    return tuple(PRESENT + ".".join(parts[: count + 1]) for count in range(len(parts)))


def _unfit(path: str, kind: str, value: Any) -> DocumentError:
    return DocumentError(
        f"failed to parse field [{path}] of type [{kind}]. Preview of field's value: '{str(value)[:64]}'"
    )


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(path, value) of all values that are no containers, and of empty objects; nulls have none."""
    if depth > DEPTH_LIMIT:
        raise DocumentError(f"Limit of mapping depth [{DEPTH_LIMIT}] has been exceeded", "illegal_argument_exception")
    if isinstance(value, dict):
        if not value and path:
            yield path, value
        for name, inner in value.items():
            if not _is_name(name):
                raise DocumentError(
                    f"field name [{name[:64]!r}] is empty, or has an empty part", "illegal_argument_exception"
                )
            yield from _leaves(inner, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path, depth + 1)
    elif value is not None:
        yield path, value
