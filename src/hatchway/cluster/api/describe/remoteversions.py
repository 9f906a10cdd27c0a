"""The versions of API groups that other servers serve, as discovery and OpenAPI show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["RemoteDocument", "RemoteVersion", "add_document"]

Json = dict[str, Any]


_GVK = "x-kubernetes-group-version-kind"
_REFERENCE = "#/definitions/"


@dataclass(frozen=True, slots=True)
class RemoteDocument:
    """The part of a remote OpenAPI v2 document that describes one version: paths, and the definitions for them."""

    paths: Json
    definitions: Json


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """One version of a group behind an APIService.

    group_priority, version_priority: the order of groups and versions in discovery; higher priorities come first.
    resources: the resources, as `APIResourceDiscovery` objects; empty until the server has answered.
    current: True if `resources` were read from the server at the last attempt.
    openapi: the URL of the OpenAPI v3 document, with a hash; "" when the server has none.
    document: the version's part of the server's OpenAPI v2 document; None when the server has none.
    """

    group: str
    version: str
    group_priority: int
    version_priority: int
    resources: tuple[Json, ...] = ()
    current: bool = False
    openapi: str = ""
    document: RemoteDocument | None = None

    def discovery(self) -> Json:
        """Return the version as an `APIVersionDiscovery`."""
        found: Json = {"version": self.version}
        if self.resources:
            found["resources"] = list(self.resources)
        return {**found, "freshness": "Current" if self.current else "Stale"}


def add_document(paths: Json, definitions: Json, document: RemoteDocument) -> None:
    """Add a remote document to the paths and definitions of OpenAPI v2.

    An existing path is not changed. A definition whose name is used by a different definition gets a number
    (kube-openapi `aggregator`, MergeSpecsIgnorePathConflictRenamingDefinitionsAndParameters).
    """
    names = {}
    for name, one in document.definitions.items():
        number, free = 1, name
        while free in definitions and not _same(definitions[free], one):
            number += 1
            free = f"{name}_v{number}"
        names[name] = free
    for name, one in document.definitions.items():
        definitions.setdefault(names[name], _renamed(one, names))
    for path, item in document.paths.items():
        paths.setdefault(path, _renamed(item, names))


def _same(one: Json, other: Json) -> bool:
    """Return True for equal definitions. The kinds that they name are not compared."""
    return {**one, _GVK: None} == {**other, _GVK: None}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        found = {key: _renamed(one, names) for key, one in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_REFERENCE):
            name = reference.removeprefix(_REFERENCE)
            found["$ref"] = _REFERENCE + names.get(name, name)
        return found
    return [_renamed(one, names) for one in value] if isinstance(value, list) else value
