"""The versions of a custom type, and the conversions for its rows (apiextensions' `pkg/apiserver/conversion`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from hatchway.cluster.api.registry.conversion import ObjectConversion
from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.work import Pace, run_sized
from hatchway.errors import ApiError
from hatchway.kube.api import Object

__all__ = ["NoneConverter", "TypeVersions", "VersionConversion", "VersionConverter"]

_encode = msgspec.json.Encoder().encode


class TypeVersions:
    """The versions of a custom type, including versions that are not served.

    name: the name of the definition.
    kind: the kind of the objects.
    stored: the apiVersion in which objects are stored.
    schemas: the schema of each version, by its apiVersion.
    weight: returns the bytes of JSON of a stored object, 0 for a small object.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        stored: str,
        schemas: Mapping[str, CustomSchema],
        weight: Callable[[Object], int],
    ) -> None:
        self.name = name
        self.kind = kind
        self.stored = stored
        self._schemas = schemas
        self._weight = weight

    def schema(self, api_version: str, direction: str) -> CustomSchema:
        """Return the schema of a version. Raises ApiError 500 when there is none.

        direction: whether objects are converted `from` this version or `to` it, for the error.
        """
        found = self._schemas.get(api_version)
        if found is None:
            text = f"request to convert CR {direction} an invalid group/version: {api_version}"
            raise ApiError(500, "", text)
        return found

    async def read(self, obj: Object) -> Object:
        """Return a stored object in the form of its version's current schema. Raises ApiError 500 without a schema."""
        return await run_sized(self._weight(obj), self.schema(obj["apiVersion"], "from").as_read, obj)

    async def read_known(self, obj: Object) -> Object:
        """Return a stored object in the form of its version's current schema; unchanged if there is no schema."""
        found = self._schemas.get(obj["apiVersion"])
        return await run_sized(self._weight(obj), found.as_read, obj) if found is not None else obj

    async def pruned(self, obj: Object, api_version: str, size: int | None = None) -> Object:
        """Return an object without the fields that a version does not have.

        size: bytes of JSON of the object; None for a stored object.
        """
        schema = self.schema(api_version, "to")
        return await run_sized(self._weight(obj) if size is None else size, schema.pruned, obj)


class VersionConverter(Protocol):
    """A strategy of conversion. Its methods raise the same errors as the methods of `ObjectConversion`."""

    @property
    def may_wait(self) -> bool:
        """Return True when a conversion may have to wait."""
        ...

    async def from_storage(self, objects: Sequence[Object], api_version: str) -> list[Object]:
        """Convert stored objects to `api_version`, a version that no object has."""
        ...

    async def convert(self, obj: Object, api_version: str) -> Object:
        """Convert one object to `api_version`, a version that it does not have."""
        ...


class NoneConverter:
    """The strategy None: changes the apiVersion, and removes fields that the new schema lacks (`nop_converter.go`)."""

    may_wait = False

    def __init__(self, versions: TypeVersions) -> None:
        self._versions = versions

    async def from_storage(self, objects: Sequence[Object], api_version: str) -> list[Object]:
        """Convert stored objects."""
        found: list[Object] = []
        pace = Pace()
        for obj in objects:
            if pace.due():
                await pace.rest()
            # The version of an object may have been removed too early. Unlike Kubernetes, Hatchway returns the object.
            read = await self._versions.read_known(obj)
            found.append(await self._versions.pruned({**read, "apiVersion": api_version}, api_version))
        return found

    async def convert(self, obj: Object, api_version: str) -> Object:
        """Convert one object."""
        return await self._versions.pruned({**obj, "apiVersion": api_version}, api_version, len(_encode(obj)))


class VersionConversion:
    """The conversion of one row. api_version: the row's version."""

    def __init__(self, versions: TypeVersions, converter: VersionConverter, api_version: str) -> None:
        self._versions = versions
        self._converter = converter
        self._api_version = api_version

    @property
    def may_wait(self) -> bool:
        """Return True when a conversion may have to wait for a webhook."""
        return self._converter.may_wait

    @property
    def in_place(self) -> ObjectConversion:
        """Return the conversion that leaves each object in the version in which it is stored."""
        return _InPlace(self._versions, self._converter)

    async def read(self, objects: Sequence[Object]) -> list[Object]:
        """Convert stored objects to the row's version."""
        others = [one for one in objects if one["apiVersion"] != self._api_version]
        converted = iter(await self._converter.from_storage(others, self._api_version) if others else ())
        found: list[Object] = []
        pace = Pace()
        for one in objects:
            if pace.due():
                await pace.rest()
            same = one["apiVersion"] == self._api_version
            found.append(await self._versions.read(one) if same else next(converted))
        return found

    async def write(self, obj: Object) -> Object:
        """Convert an object from the row's version to the stored version."""
        stored = self._versions.stored
        return obj if stored == self._api_version else await self._converter.convert(obj, stored)

    async def translate(self, obj: Object, api_version: str) -> Object:
        """Convert an object from the row's version to another version."""
        return obj if obj["apiVersion"] == api_version else await self._converter.convert(obj, api_version)


class _InPlace:
    """Leaves each object in the version in which it is stored."""

    may_wait = False

    def __init__(self, versions: TypeVersions, converter: VersionConverter) -> None:
        self._versions = versions
        self._converter = converter

    @property
    def in_place(self) -> ObjectConversion:
        """Return this conversion."""
        return self

    async def read(self, objects: Sequence[Object]) -> list[Object]:
        """Return stored objects in the form of their versions' current schemas."""
        return await _paced(objects, self._versions)

    async def write(self, obj: Object) -> Object:
        """Return the object unchanged."""
        return obj

    async def translate(self, obj: Object, api_version: str) -> Object:
        """Convert an object to another version."""
        return obj if obj["apiVersion"] == api_version else await self._converter.convert(obj, api_version)


async def _paced(objects: Iterable[Object], versions: TypeVersions) -> list[Object]:
    found: list[Object] = []
    pace = Pace()
    for one in objects:
        if pace.due():
            await pace.rest()
        found.append(await versions.read_known(one))
    return found
