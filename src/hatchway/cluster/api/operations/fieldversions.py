"""Looks up the versions of a type that managed fields name, and converts objects between these versions.

The owners of a field are computed in the version in which its manager wrote it. This computation cannot wait. When it
needs a conversion by a webhook, it stops (`ConversionNeeded`). After the conversion, the computation starts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from hatchway.cluster.api.fields.atoms import row_atom
from hatchway.cluster.api.fields.ownership import FieldType
from hatchway.cluster.api.operations.operation import clone, encode
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.types import Registry
from hatchway.errors import out_of_time
from hatchway.kube.api import Object

__all__ = ["ConversionNeeded", "FieldVersions", "with_conversions"]

_T = TypeVar("_T")
# Seconds that all conversions for the managed fields of one write may take together.
_LONGEST = 60.0


class ConversionNeeded(Exception):
    """The computation of managed fields needs an object in another version.

    again: repeats the computation (`track_with_conversions`).
    """

    def __init__(self, types: FieldVersions, api_version: str, obj: Object) -> None:
        super().__init__(api_version)
        self._types = types
        self._api_version = api_version
        self._object = obj
        self.again: Callable[[], None] = lambda: None

    async def supply(self) -> None:
        """Make the conversion. Raises ApiError 500, 504."""
        await self._types.convert(self._api_version, self._object)


class FieldVersions(Mapping[str, FieldType]):
    """The type of a row in each version in which its objects are served."""

    def __init__(self, registry: Registry, row: Resource) -> None:
        self._registry = registry
        self._row = row
        self._converted: dict[tuple[str, bytes], Object] = {}

    def __getitem__(self, api_version: str) -> FieldType:
        other = self._served(api_version)
        if other is None:
            raise KeyError(api_version)
        return FieldType(row_atom(other), partial(self._in_version, other))

    def _served(self, api_version: str) -> Resource | None:
        row = self._row
        if api_version == row.api_version:
            return row
        group, _, version = api_version.rpartition("/")
        other = self._registry.find(group, version, row.plural)
        return other if other is not None and other.stored_as == row.stored_as else None

    def _in_version(self, other: Resource, obj: Object) -> Object:
        """Return an object in the version of `other`. Raises ConversionNeeded."""
        source = obj.get("apiVersion") or self._row.api_version
        if source == other.api_version:
            return obj
        if self._row.conversion is not None:
            return self._known(other.api_version, obj)
        row = self._served(source) or self._row
        # Conversions may change their arguments.
        found = clone(obj)
        found = row.to_storage(found) if row.to_storage else found
        return other.from_storage(found) if other.from_storage else found

    def __iter__(self) -> Iterator[str]:
        return iter((self._row.api_version,))

    def __len__(self) -> int:
        return 1

    def _known(self, api_version: str, obj: Object) -> Object:
        """Return an object in another version. Raises ConversionNeeded."""
        if len(obj) <= 2:
            # The object has only a kind and an apiVersion. Kubernetes sends such an object to no webhook.
            return {**obj, "apiVersion": api_version}
        found = self._converted.get((api_version, encode(obj)))
        if found is None:
            raise ConversionNeeded(self, api_version, obj)
        return found

    async def convert(self, api_version: str, obj: Object) -> None:
        """Convert an object for the computation. Raises ApiError 500, 504."""
        row = self._row
        assert row.conversion is not None
        whole = {"apiVersion": row.api_version, "kind": row.kind, **obj}
        self._converted[api_version, encode(obj)] = await row.conversion.translate(whole, api_version)


async def with_conversions(compute: Callable[[], Awaitable[_T]]) -> _T:
    """Repeat a computation of managed fields until it has all conversions that it needs. Return its result.

    compute: may raise ConversionNeeded, but must have no effect before that.

    Raises ApiError 500 and 504 for the conversions.
    """
    try:
        return await compute()
    except ConversionNeeded as first:
        needed = first
    try:
        async with asyncio.timeout(_LONGEST):
            while True:
                await needed.supply()
                try:
                    return await compute()
                except ConversionNeeded as another:
                    needed = another
    except TimeoutError:
        raise out_of_time() from None
