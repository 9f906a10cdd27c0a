"""Converts objects between the versions in which they are stored, written and shown (see `registry/conversion.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.table import GVK
from hatchway.cluster.api.registry.strategies.customobjects import CustomStrategy
from hatchway.cluster.api.work import Pace
from hatchway.kube.api import Object

__all__ = [
    "as_stored",
    "as_unserved",
    "current_of",
    "may_wait",
    "shown_all",
    "shown_of",
    "storable_of",
    "with_metadata",
]

_Objects = list[Object]


def may_wait(row: Resource) -> bool:
    """Return True when reading or storing an object of the row may have to wait for a conversion webhook."""
    return row.conversion is not None and row.conversion.may_wait


async def current_of(row: Resource, stored: Object) -> Object:
    """Return a stored object in the form in which writes handle it. Raises ApiError 500, 504."""
    return stored if row.conversion is None else (await row.conversion.read((stored,)))[0]


async def storable_of(row: Resource, obj: Object) -> Object:
    """Return an object of a write in the form in which it is stored. Raises ApiError 500, 504."""
    return obj if row.conversion is None else await row.conversion.write(obj)


async def shown_of(row: Resource, stored: Object) -> Object:
    """Return a stored object as clients of the row see it. Raises ApiError 500, 504."""
    if row.conversion is not None:
        return (await row.conversion.read((stored,)))[0]
    return row.from_storage(stored) if row.from_storage is not None else stored


async def shown_all(row: Resource, stored: Sequence[Object]) -> _Objects:
    """Return stored objects as clients of the row see them, in the same order. Raises ApiError 500, 504."""
    if row.conversion is not None:
        return await row.conversion.read(stored)
    convert = row.from_storage
    if convert is None:
        return list(stored)
    shown: _Objects = []
    pace = Pace()
    for obj in stored:
        if pace.due():
            await pace.rest()
        shown.append(convert(obj))
    return shown


def as_stored(row: Resource) -> Resource:
    """Return a row that does not convert objects: they are handled in the versions in which they are stored.

    Clients of this row need not wait for webhooks.
    """
    return row if row.conversion is None else replace(row, conversion=row.conversion.in_place)


def as_unserved(row: Resource, version: str) -> Resource:
    """Return a row for objects whose stored version is not served. Its clients may change only metadata.

    All other fields are neither validated nor changed.
    """
    schema = CustomSchema(GVK(row.group, version, row.kind), {"x-kubernetes-preserve-unknown-fields": True})
    strategy = CustomStrategy(schema, has_status=row.subresource("status") is not None, scale=None)
    return replace(as_stored(row), version=version, own_schema=schema, strategy=strategy, subresources=())


def with_metadata(shown: Object, stored: Object) -> Object:
    """Return a shown object with the metadata of a later stored state.

    shown: an earlier state in the version of a client. Its labels and annotations are kept, because a conversion may
        have changed them.
    stored: the later state. Only the server has changed its metadata.
    """
    mine = shown["metadata"]
    metadata: dict[str, Any] = {
        key: one for key, one in stored["metadata"].items() if key not in ("labels", "annotations")
    }
    metadata |= {key: mine[key] for key in ("labels", "annotations") if key in mine}
    return {**shown, "metadata": metadata}
