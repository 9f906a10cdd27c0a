"""The contract of conversions: how a row reads and stores the objects of a custom type in the row's version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hatchway.kube.api import Object

__all__ = ["ObjectConversion"]


class ObjectConversion(Protocol):
    """Converts objects between the version in which they are stored and a row's version.

    When `may_wait` is True, other requests may run during a call. The call then raises ApiError 500 when the type's
    webhook fails, 504 when the webhook takes too long. Every call raises ApiError 500 for an object whose version is
    not in the definition. Arguments and results are shared and must not be changed.
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
        """Convert stored objects to the row's version. The result has the same order."""
        ...

    async def write(self, obj: Object) -> Object:
        """Convert an object from the row's version to the stored version."""
        ...

    async def translate(self, obj: Object, api_version: str) -> Object:
        """Convert an object from the row's version to another version of its type."""
        ...
