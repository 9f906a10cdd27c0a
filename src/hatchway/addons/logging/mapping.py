"""An index's mapping: the fields of its documents and their types, which are found from the documents.

`analyze` returns the data that the index stores for a document. One tantivy field contains the terms of all fields of a
document, in these forms:

    path NUL token     words of texts (and numbers, booleans, dates, as they were written)
    path SOH value     whole strings: `field.keyword`
    STX path           the document has the field

Another tantivy field contains sortable values for ranges: "f" + hex(path) + kind + sortable. For aggregations there is
one column for each field, with the name "c" + hex(path). Strings in columns begin with "=".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hatchway.addons.logging import values

TOKEN, WHOLE, PRESENT = "\0", "\1", "\2"
FIELD_LIMIT = 1000
# How many texts are cached with their terms, and the maximum number of characters of such a text.
_KEPT_TEXTS, _KEPT_LENGTH = 1024, 160
DEPTH_LIMIT = 20
_TIMESTAMP = "@timestamp"
# The fields with the text of log lines. Nearly all lines differ, so a column would be as large as the lines.
WITHOUT_COLUMN = frozenset(("log", "message"))


class DocumentError(Exception):
    """A document that does not fit the index's mapping. kind: Elasticsearch's name of the error."""

    def __init__(self, message: str, kind: str = "mapper_parsing_exception") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind


@dataclass(slots=True)
class Analyzed:
    """The fields of one document, in the form in which the index stores them.

    Attributes:
        terms: terms in the forms that the module's docstring describes.
        ranges: sortable values, as the module's docstring describes them.
        words: the texts of each path, for phrases.
        everything: all values except the time stamp, as texts, for queries without a field.
        columns: the values of each column, for aggregations.
        time: `@timestamp` in nanoseconds since 1970, or None.
    """

    terms: set[str] = field(default_factory=set)
    ranges: set[str] = field(default_factory=set)
    words: dict[str, list[str]] = field(default_factory=dict)
    everything: list[str] = field(default_factory=list)
    columns: dict[str, list[str | float | bool]] = field(default_factory=dict)
    time: int | None = None


def range_key(path: str, kind: str, sortable: str) -> str:
    """Return the key of a value in the index's ranges.

    Args:
        path: the field's path.
        kind: "n" for numbers, "d" for dates, "s" for strings.
        sortable: the value in a form that sorts as text.
    """
    return f"f{column(path)[1:]}{kind}{sortable}"


@lru_cache(4096)
def column(path: str) -> str:
    """Return the name of a field's column. Its characters need no quoting."""
    return "c" + path.encode().hex()


def sortable_text(text: str) -> str:
    """Return the first 64 bytes of a text as hex digits, which sort in the same order."""
    return text.encode("utf-8", "replace")[:64].hex()


class FieldMapping:
    """The fields of an index.

    Attributes:
        fields: the type of each field by its path; "object" for objects.
    """

    def __init__(self, fields: dict[str, str] | None = None) -> None:
        self.fields = fields or {}
        self._terms: dict[tuple[str, str, str], Sequence[str]] = {}

    def merge(self, properties: Any, prefix: str = "", depth: int = 0) -> None:
        """Add declared fields. Raises DocumentError for an unknown type, and for a field that has another type."""
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
        """Return the tree that `_mapping` shows."""
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
        """Return (path, type) of the field that a query names; None when there is none.

        `x.keyword` means the whole strings of the text field `x`.
        """
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
                f"Could not dynamically add mapping for field [{path}]. Existing mapping for [{parent}] must be of "
                f"type object but found [{self.fields[parent]}]."
            )
        if len(self.fields) >= FIELD_LIMIT:
            raise DocumentError(
                f"Limit of total fields [{FIELD_LIMIT}] has been exceeded", "illegal_argument_exception"
            )
        self.fields[path] = kind
        return kind

    def analyze(self, source: dict[str, Any], tokens: Callable[[str], list[str]]) -> Analyzed:
        """Add the document's new fields to the mapping, and return the terms to store for the document.

        Args:
            source: the document.
            tokens: splits a text into its words.

        Raises:
            DocumentError: the document does not fit the mapping. No field was added.
        """
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
        if isinstance(value, dict):  # `_leaves` yields only objects without fields.
            if kind != "object":
                raise _unfit(path, kind, value)
            return
        if kind == "object":
            raise DocumentError(
                f"object mapping for [{path}] tried to parse field [{path.rpartition('.')[2]}] as object, but found a "
                "concrete value"
            )
        text = values.text_of(value)
        if kind in values.NUMBERS:
            number = values.number(value)
            if number is None:
                raise _unfit(path, kind, value)
            found.ranges.add(range_key(path, "n", values.sortable_number(number)))
            found.columns.setdefault(column(path), []).append(number)
        elif kind == "boolean":
            flag = values.boolean(value)
            if flag is None:
                raise _unfit(path, kind, value)
            text = "true" if flag else "false"
            found.terms.add(f"{path}{WHOLE}{text}")
            found.columns.setdefault(column(path), []).append(flag)
        elif kind == "date":
            moment = values.date(value)
            if moment is None:
                raise _unfit(path, kind, value)
            found.ranges.add(range_key(path, "d", values.sortable_integer(moment)))
            if path == _TIMESTAMP:
                found.time = moment
            else:
                found.columns.setdefault(column(path), []).append(float(moment // 10**6))
        else:
            if kind == "text":
                found.words.setdefault(path, []).append(text)
            if kind != "text" or len(text) <= values.KEYWORD_LIMIT:
                found.ranges.add(range_key(path, "s", sortable_text(text)))
                if path not in WITHOUT_COLUMN:
                    # Without the "=", tantivy would read texts in the form of a date or a number as dates or numbers.
                    found.columns.setdefault(column(path), []).append(f"={text}")
            found.terms.update(self._text_terms(path, kind, text, tokens))
        if path != _TIMESTAMP or kind != "date":  # A search for a number must not find parts of times.
            found.everything.append(text)
        found.terms.update(_ancestry(path))

    def _text_terms(self, path: str, kind: str, text: str, tokens: Callable[[str], list[str]]) -> Sequence[str]:
        """Return the terms of a text. Terms of short texts are cached, because many lines have the same pod names."""
        kept = self._terms.get((path, kind, text))
        if kept is not None:
            return kept
        terms = [f"{path}{TOKEN}{token}" for token in tokens(text)] if kind == "text" else []
        if kind != "text" or len(text) <= values.KEYWORD_LIMIT:
            terms.append(f"{path}{WHOLE}{text}")
        if path not in WITHOUT_COLUMN and len(text) <= _KEPT_LENGTH:
            if len(self._terms) >= _KEPT_TEXTS:
                self._terms.clear()
            self._terms[path, kind, text] = terms
        return terms


@lru_cache(4096)
def _is_name(name: str) -> bool:
    return (
        bool(name.strip()) and "" not in name.split(".") and not any(mark in name for mark in (TOKEN, WHOLE, PRESENT))
    )


@lru_cache(4096)
def _ancestry(path: str) -> tuple[str, ...]:
    """Return the terms "the document has the field" for a field and for the objects that contain it."""
    parts = path.split(".")
    return tuple(PRESENT + ".".join(parts[: count + 1]) for count in range(len(parts)))


def _unfit(path: str, kind: str, value: Any) -> DocumentError:
    return DocumentError(
        f"failed to parse field [{path}] of type [{kind}]. Preview of field's value: '{str(value)[:64]}'"
    )


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) for all scalars and empty objects; nulls are left out."""
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
