"""The interface to a Kubernetes API: over HTTP, or inside the API server's process.

Objects are plain JSON dictionaries. A resource is spelled as kubectl spells it: `pods`, `deployments.apps`,
`endpointslices.discovery.k8s.io`; the version is v1 unless the name contains one
(`widgets.v1beta1.example.com`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change of an object.

    The objects of the first list come as ADDED. Then one event SYNCED follows, whose object is {}.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    object: Object


class Client(Protocol):
    """A client of one API server. When the server refuses a call, `errors.ApiError` is raised with the server's Status.

    Returned objects may belong to a cache: copy an object before you change it.
    """

    async def get(self, resource: str, name: str, namespace: str | None = None, *, subresource: str = "") -> Object:
        """Return one object, or the object of a subresource (`scale`)."""
        ...

    async def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> list[Object]:
        """Return all matching objects, each with its apiVersion and kind."""
        ...

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        """Create an object. With `subresource` and `name`, POST to that subresource (`pods/binding`) instead."""
        ...

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Replace the object named in `obj.metadata`. An outdated resourceVersion raises ApiError 409."""
        ...

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Apply a JSON merge patch (RFC 7396) to an object, and return the changed object."""
        ...

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_period: int | None = None,
        uid: str = "",
        propagation: str = "",
    ) -> None:
        """Delete one object.

        Args:
            grace_period: seconds; None for the grace period that the object itself sets.
            uid: delete the object only if it has this UID (otherwise 409); "" for any.
            propagation: Background, Foreground or Orphan; "" for the type's default.
        """
        ...

    def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """List all matching objects, then watch them without end.

        The watch reconnects and lists again by itself. A caller that applies the events in order always has the
        current state: objects that were deleted while the connection was lost come as DELETED afterwards.
        """
        ...
