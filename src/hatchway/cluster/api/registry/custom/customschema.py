"""The schema of one version of a custom type. The type's row in the registry refers to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from hatchway.cluster.api.registry.custom.embedded import coerce_metadata
from hatchway.cluster.api.registry.custom.node import MISSING, SchemaNode, parse_schema
from hatchway.cluster.api.registry.custom.pruning import drop_nulls, fits, prune, set_defaults
from hatchway.cluster.api.registry.custom.rulesource import has_rules
from hatchway.cluster.api.registry.schema.check import CheckedObject, ShapeError
from hatchway.cluster.api.registry.schema.strict import strict_errors
from hatchway.cluster.api.registry.schema.table import GVK
from hatchway.cluster.api.work import HEAVY
from hatchway.errors import ApiError

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.custom.rules import RuleTree

__all__ = ["CustomSchema"]

Json = Any

# If a value has more schemas than this in allOf, anyOf, oneOf and not, checking even a small object takes long.
_FEW_ALTERNATIVES = 4
# If a pattern has a program of more steps than this, checking even a small object takes long.
_LONG_PATTERN = 1000
# How deeply objects and lists may be nested. A deeper object could be stored, but never be changed, because comparing
# two objects is recursive.
_MOST_LEVELS = 256


class CustomSchema:
    """The schema of one version of a custom type.

    Attributes:
        source: its `openAPIV3Schema`, as it is stored.
        root: the tree of schema nodes for a whole object, with apiVersion, kind and metadata.
        has_defaults: some field has a default.
        has_rules: some part has rules (x-kubernetes-validations).
        selectable: the JSON paths of its selectable fields, for the OpenAPI documents.
        weight: the size (bytes of JSON) that a small object counts as. Above 0 when checking even a small object takes
            long, so that the check runs on a thread; else 0.
    """

    merges_strategically = False

    def __init__(self, gvk: GVK, source: Mapping[str, Json], selectable: Sequence[str] = ()) -> None:
        self.gvk = gvk
        self.source = source
        self.selectable = tuple(selectable)
        self.node = parse_schema(source)
        self.root = replace(self.node, embedded=True)
        self.has_defaults = _has_defaults(self.node)
        size = len(msgspec.json.encode(source))
        self._rules: RuleTree | None = None
        self.has_rules = has_rules(source)
        # Rules may take long even for small objects.
        is_costly = (
            self.has_rules
            or _longest_pattern(self.node) > _LONG_PATTERN
            or _most_alternatives(self.node) > _FEW_ALTERNATIVES
        )
        self.weight = size if size >= HEAVY else HEAVY if is_costly else 0

    def rules(self) -> RuleTree | None:
        """Return the compiled rules, None if there are none. The first call compiles them."""
        if self.has_rules and self._rules is None:
            # Imported here, because most types have no rules.
            from hatchway.cluster.api.registry.custom.rules import compile_rules

            self._rules = compile_rules(self.node, is_whole=True)
        return self._rules

    def check(self, obj: Json) -> CheckedObject:
        """Return an object with its defaults and without unknown fields. Raises ShapeError 400."""
        if not isinstance(obj, dict):
            raise ShapeError(self.gvk, "the object is not a JSON object")
        if _is_deep(obj):
            raise ShapeError(self.gvk, f"the object is nested too deep: limit is {_MOST_LEVELS} levels")
        found: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(obj))
        unknown: list[str] = []
        if found.get("metadata") is None:
            found.pop("metadata", None)
        drop_nulls(found, self.node)
        set_defaults(found, self.node)
        try:
            coerce_metadata(found, self.root, unknown)
        except ValueError as error:
            raise ShapeError(self.gvk, str(error)) from None
        prune(found, self.root, unknown)
        found.pop("apiVersion", None)
        found.pop("kind", None)
        whole = {"apiVersion": self.gvk.api_version, "kind": self.gvk.kind, **found}
        return CheckedObject(whole, tuple(sorted(unknown)))

    def apply_defaults(self, obj: dict[str, Json]) -> dict[str, Json]:
        """Return the object unchanged: `check` sets the defaults, before it looks for unknown fields."""
        return obj

    def document_errors(self, body: bytes) -> tuple[str, ...]:
        """Return messages about duplicate fields. Unknown fields are found by `check`."""
        return strict_errors(None, body)

    def as_read(self, obj: dict[str, Json]) -> dict[str, Json]:
        """Return a stored object in the form of the current schema: without removed fields, with new defaults.

        The argument is not changed. From `schemaCoercingDecoder` and `unstructuredDefaulter` of
        `customresource_handler.go`.
        """
        if fits(obj, self.root) and not (self.has_defaults and _lacks_defaults(obj, self.node)):
            return obj
        found = self._pruned(obj)
        try:
            set_defaults(found, self.node)
        except ApiError:
            # The defaults are too large for this object. They were added to the schema after the object was stored.
            return self._pruned(obj)
        return found

    def as_converted(self, obj: dict[str, Json]) -> dict[str, Json]:
        """Return an object from a webhook without the fields that the version does not have. May change the argument.

        Like `schemaCoercingConverter`. Raises ValueError when the object is nested too deep, or when the apiVersion,
        kind or metadata of an embedded object have a wrong type.
        """
        if _is_deep(obj):
            raise ValueError(f"the object is nested too deep: limit is {_MOST_LEVELS} levels")
        found = self.pruned(obj)
        coerce_metadata(found, self.node, [])
        return found

    def pruned(self, obj: dict[str, Json]) -> dict[str, Json]:
        """Return an object without the fields that the version does not have. The argument is not changed."""
        return obj if fits(obj, self.root) else self._pruned(obj)

    def _pruned(self, obj: dict[str, Json]) -> dict[str, Json]:
        found: dict[str, Json] = msgspec.json.decode(msgspec.json.encode(obj))
        prune(found, self.root, [])
        drop_nulls(found, self.node)
        return found


def _is_deep(value: Json) -> bool:
    level, inner = 0, [value]
    while inner:
        level += 1
        if level > _MOST_LEVELS:
            return True
        inner = [
            part
            for one in inner
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]
    return False


def _parts(node: SchemaNode) -> list[SchemaNode]:
    found = list(node.properties.values())
    found += [one for one in (node.items, node.rest) if one is not None]
    return found


def _most_alternatives(node: SchemaNode) -> int:
    """Return the highest number of schemas in allOf, anyOf, oneOf and not that may apply to one value."""
    most = 0
    waiting = [(node, 0)]
    while waiting:
        one, above = waiting.pop()
        count = above + _size_of_combinations(one)
        most = max(most, count)
        waiting += [(part, count) for part in _parts(one)]
    return most


def _longest_pattern(node: SchemaNode) -> int:
    most = 0
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.pattern is not None:
            most = max(most, one.pattern.steps)
        waiting += [*_combined(one), *_parts(one)]
    return most


def _size_of_combinations(node: SchemaNode) -> int:
    count = 0
    waiting = _combined(node)
    while waiting:
        one = waiting.pop()
        count += 1
        waiting += [*_combined(one), *_parts(one)]
    return count


def _combined(node: SchemaNode) -> list[SchemaNode]:
    found = [*node.all_of, *node.any_of, *node.one_of]
    return [*found, node.negated] if node.negated is not None else found


def _has_defaults(node: SchemaNode) -> bool:
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one.default is not MISSING:
            return True
        waiting += _parts(one)
    return False


def _lacks_defaults(value: Json, node: SchemaNode | None) -> bool:
    """Return True when `set_defaults` would change the value."""
    if node is None:
        return False
    if isinstance(value, dict):
        for name, inner in node.properties.items():
            if inner.default is not MISSING and (name not in value or (value[name] is None and not inner.nullable)):
                return True
        return any(_lacks_defaults(one, node.property(name)) for name, one in value.items())
    if isinstance(value, list) and node.items is not None:
        items = node.items
        if items.default is not MISSING and not items.nullable and None in value:
            return True
        return any(_lacks_defaults(one, items) for one in value)
    return False
