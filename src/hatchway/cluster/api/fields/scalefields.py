"""Converts the entries about replicas in managed fields, between a Scale and its object.

Source: apimachinery's `util/managedfields/scalehandler.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hatchway.cluster.api.fields.managers import BadManagedFields, Managed, decode_entries, encode_entries
from hatchway.cluster.api.fields.pathset import difference, has, make

__all__ = ["to_object", "to_scale"]

Json = Any
_SCALE = "autoscaling/v1"
_REPLICAS = make(("spec", "replicas"))
_REPLICAS_PATH = ("f:spec", "f:replicas")
# The path of the replicas in an object, as names of fields, by the object's apiVersion.
ReplicasPaths = Mapping[str, tuple[str, ...]]


def _decoded(entries: list[Json]) -> Managed:
    try:
        return decode_entries(entries, trusted=True)
    except BadManagedFields:
        return {}


def _elements(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"f:{name}" for name in path)


def to_scale(entries: list[Json], paths: ReplicasPaths) -> list[Json]:
    """Return the managed fields of a Scale. entries: the managed fields of the scaled object."""
    found: Managed = {}
    for identity, owned in _decoded(entries).items():
        path = paths.get(owned.api_version)
        if path and has(owned.fields, _elements(path)):
            found[identity] = replace(owned, fields=_REPLICAS, api_version=_SCALE)
    return encode_entries(found)


def to_object(entries: list[Json], scale: list[Json] | None, paths: ReplicasPaths, api_version: str) -> list[Json]:
    """Return an object's managed fields after a change of its Scale.

    entries: the managed fields of the object before the write.
    scale: the managed fields of the Scale after the write.
    api_version: the object's version.
    """
    changed = {(one.manager, one.kind, one.subresource): (one, owned) for one, owned in _decoded(scale or []).items()}
    found: Managed = {}
    before = _decoded(entries)
    for identity, owned in before.items():
        path = paths.get(owned.api_version)
        if not path or not has(owned.fields, _elements(path)):
            found[identity] = owned
            continue
        if changed.pop((identity.manager, identity.kind, identity.subresource), None) is not None:
            found[identity] = owned
            continue
        # The write has taken the replicas from this manager.
        fields = difference(owned.fields, make(path))
        if fields:
            found[identity] = replace(owned, fields=fields)
    for identity, owned in changed.values():
        if not has(owned.fields, _REPLICAS_PATH):
            continue
        version = api_version if identity.kind == "Update" else ""
        found[identity._replace(api_version=version)] = replace(
            owned, fields=make(paths[api_version]), api_version=api_version
        )
    return encode_entries(found)
