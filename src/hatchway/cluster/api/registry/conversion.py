"""The contract of conversions: how a row gets the objects of a custom type in its version, and stores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hatchway.kube.api import Object

__all__ = ["ObjectConversion"]


class ObjectConversion(Protocol):
    """Converts objects between the version in which they are stored and that of a row.

    Other requests may run during each call when `may_wait` is True, and the call then raises ApiError 500 when the
    type's webhook fails, 504 when it takes too long. An object of a version that the definition does not have is an
    ApiError 500, too. Arguments are shared with others and never changed; so are the results.
    """

    @property
    def may_wait(self) -> bool:
        """Return True when a conversion may have to wait for a webhook."""
        ...

    @property
    def in_place(self) -> ObjectConversion:
        """Return the conversion that leaves each object in the version in which it is stored."""
        ...

    async def read(self, objects: Sequence[Object]) -> list[Object]:
        """Return stored objects in the row's version, in the same order."""
        ...

    async def write(self, obj: Object) -> Object:
        """Return an object of the row's version as it is stored."""
        ...

    async def translate(self, obj: Object, api_version: str) -> Object:
        """Return an object of the row's version in another version of its type."""
        ...
