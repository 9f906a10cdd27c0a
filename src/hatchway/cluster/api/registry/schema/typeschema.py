"""The interface of all schemas, of built-in and custom types, and the schemas of built-in types."""

from __future__ import annotations

import functools
from typing import Any, Protocol

from hatchway.cluster.api.registry.schema.check import CheckedObject, check
from hatchway.cluster.api.registry.schema.defaults import apply_defaults
from hatchway.cluster.api.registry.schema.strict import strict_errors

__all__ = ["BuiltinSchema", "TypeSchema", "builtin_schema"]

Json = Any


class TypeSchema(Protocol):
    """The interface of a type's schema."""

    def check(self, obj: Json) -> CheckedObject:
        """Check the types of an object's fields. Raises ShapeError or another ApiError 400."""
        ...

    def apply_defaults(self, obj: dict[str, Json]) -> dict[str, Json]:
        """Return a checked object with its defaults. It may be the same object, changed in place."""
        ...

    def document_errors(self, body: bytes) -> tuple[str, ...]:
        """Return the errors of strict decoding in a JSON document; () when it has no duplicate field."""
        ...

    @property
    def merges_strategically(self) -> bool:
        """Return True when strategic merge patches can be applied to objects of the type."""
        ...


class BuiltinSchema:
    """The schema of a built-in type, which is in the table."""

    merges_strategically = True

    def __init__(self, gvk: tuple[str, str, str]) -> None:
        self._gvk = gvk

    def check(self, obj: Json) -> CheckedObject:
        """Check an object against the table; see `check.py`."""
        return check(self._gvk, obj)

    def apply_defaults(self, obj: dict[str, Json]) -> dict[str, Json]:
        """Set the defaults of Kubernetes' `SetDefaults_*` functions."""
        return apply_defaults(self._gvk, obj)

    def document_errors(self, body: bytes) -> tuple[str, ...]:
        """Return the errors of strict decoding in a document; see `strict.py`."""
        return strict_errors(self._gvk, body)


@functools.lru_cache(512)
def builtin_schema(gvk: tuple[str, str, str]) -> BuiltinSchema:
    """Return the schema of a built-in type."""
    return BuiltinSchema(gvk)
