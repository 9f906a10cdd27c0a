"""The types that the API server stores. CustomResourceDefinitions add and remove types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["ServedType", "ServedTypes"]

# (API group, kind)
TypeKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ServedType:
    """A stored type. resource: its name as clients write it, such as `deployments.apps`."""

    resource: str
    namespaced: bool


class ServedTypes:
    """The stored types by API group and kind. Subscribers are called when they change."""

    def __init__(self, types: Mapping[TypeKey, ServedType] | None = None) -> None:
        self._types = dict(types or {})
        self._listeners: list[Callable[[frozenset[ServedType], frozenset[ServedType]], None]] = []

    def find(self, group: str, kind: str) -> ServedType | None:
        """Return a type, or None."""
        return self._types.get((group, kind))

    def all(self) -> list[ServedType]:
        """Return all types, without duplicates."""
        return list(dict.fromkeys(self._types.values()))

    def subscribe(self, changed: Callable[[frozenset[ServedType], frozenset[ServedType]], None]) -> None:
        """Call `changed(added types, removed types)` after each change."""
        self._listeners.append(changed)

    def replace(self, types: Mapping[TypeKey, ServedType]) -> None:
        """Replace all types."""
        before, self._types = frozenset(self._types.values()), dict(types)
        after = frozenset(self._types.values())
        if before != after:
            for changed in self._listeners:
                changed(after - before, before - after)
