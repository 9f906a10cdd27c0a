"""What Hatchway needs of a Kubernetes API: one small interface, spoken over HTTP or inside the API server's process.

Objects are plain JSON dictionaries. A resource is spelled as kubectl spells it: `pods`, `deployments.apps`,
`endpointslices.discovery.k8s.io`; the version is v1 unless spelled (`widgets.v1beta1.example.com`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change. SYNCED (object {}) comes once after the first complete list, whose objects come as ADDED before it."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    object: Object


class Client(Protocol):
    """A client of one API server. Every call raises `errors.ApiError` with the server's Status when it is refused.

    Objects handed out belong to the client's cache where it has one: copy before you change them.
    """

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object: ...

    async def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> list[Object]:
        """All matching objects, each with its apiVersion and kind."""
        ...

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        """Create; with `subresource` and `name` POST to a subresource (`pods/binding`, `serviceaccounts/token`)."""
        ...

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        """Replace the object named in `obj.metadata`; its resourceVersion, when set, must be the current one (409)."""
        ...

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """JSON merge patch (RFC 7396)."""
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
    ) -> None: ...

    def watch(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """List, then follow, for ever: reconnects and re-lists by itself, so that applying the events in order
        always gives the true state (objects that vanished while it was away come as DELETED)."""
        ...
