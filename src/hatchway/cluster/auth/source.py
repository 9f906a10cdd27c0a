"""The interface by which authentication and authorization read the API server's store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from hatchway.kube.api import Object

# callback(type, old, new): type is ADDED, MODIFIED or DELETED; old is None when added, new None when deleted.
StoreCallback = Callable[[Literal["ADDED", "MODIFIED", "DELETED"], Object | None, Object | None], None]

ROLES = "roles.rbac.authorization.k8s.io"
CLUSTER_ROLES = "clusterroles.rbac.authorization.k8s.io"
ROLE_BINDINGS = "rolebindings.rbac.authorization.k8s.io"
CLUSTER_ROLE_BINDINGS = "clusterrolebindings.rbac.authorization.k8s.io"


class StoredObjects(Protocol):
    """A store that is read synchronously.

    Resources are spelled as kubectl spells them. Objects are shared, so never change them.
    """

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return the object, or None. namespace: "" for a cluster-scoped object."""
        ...

    def list(self, resource: str, namespace: str | None = None) -> Iterable[Object]:
        """Return the objects of a namespace, or of all namespaces for None."""
        ...

    def subscribe(self, resource: str, callback: StoreCallback) -> Callable[[], None]:
        """Call `callback` for every change, in order, before the client gets the answer to the write.

        So a new right is in effect for the client's next request. Returns a function that ends the subscription.
        """
        ...
