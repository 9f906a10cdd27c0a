"""What authentication and authorization read of the cluster: a small view of the API server's store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from hatchway.kube.api import Object

# callback(type, old, new): type is ADDED, MODIFIED or DELETED; old is None when added, new None when deleted.
Callback = Callable[[Literal["ADDED", "MODIFIED", "DELETED"], Object | None, Object | None], None]

ROLES = "roles.rbac.authorization.k8s.io"
CLUSTER_ROLES = "clusterroles.rbac.authorization.k8s.io"
ROLE_BINDINGS = "rolebindings.rbac.authorization.k8s.io"
CLUSTER_ROLE_BINDINGS = "clusterrolebindings.rbac.authorization.k8s.io"


class ObjectSource(Protocol):
    """The store, read synchronously. Resources are spelled as kubectl spells them. Objects are shared: never changed."""

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object (namespace "" for one without), or None."""
        ...

    def list(self, resource: str, namespace: str | None = None) -> Iterable[Object]: ...

    def subscribe(self, resource: str, callback: Callback) -> Callable[[], None]:
        """Call back on every change, in order, before the write that made it is answered (so that who has just been
        given a right has it). Returns a function that ends the subscription."""
        ...
