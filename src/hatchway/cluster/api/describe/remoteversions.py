"""The versions of API groups that other servers serve, as discovery and OpenAPI show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["RemoteVersion"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """One version of a group behind an APIService.

    group_priority, version_priority: its place in the order of groups and versions.
    resources: what it serves, as `APIResourceDiscovery` objects; empty until its server has answered.
    current: whether `resources` were read from the server at the last attempt.
    openapi: the URL of its OpenAPI v3 document with its hash; "" when its server has none.
    """

    group: str
    version: str
    group_priority: int
    version_priority: int
    resources: tuple[Json, ...] = ()
    current: bool = False
    openapi: str = ""

    def discovery(self) -> Json:
        """Return the version as an `APIVersionDiscovery`."""
        found: Json = {"version": self.version}
        if self.resources:
            found["resources"] = list(self.resources)
        return {**found, "freshness": "Current" if self.current else "Stale"}
