"""Creates in every namespace the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt` with the cluster's CA.

It behaves like `serviceaccount/serviceaccounts_controller.go` and `certificates/rootcacertpublisher/publisher.go`.
"""

from __future__ import annotations

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import annotations_of, clone, is_deleting
from hatchway.cluster.controllers.writes import is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

DEFAULT_ACCOUNT = "default"
ROOT_CA = "kube-root-ca.crt"
DESCRIPTION = "kubernetes.io/description"
_WORDS = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class ServiceAccountController(Controller):
    """Creates these two objects in every namespace, and restores them when they are deleted or changed."""

    name = "serviceaccount-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.namespaces = context.cache("namespaces")
        self.accounts = context.cache("serviceaccounts")
        self.maps = context.cache("configmaps")
        self.namespaces.subscribe(self.enqueue_changed)
        self.accounts.subscribe(self._content_changed)
        self.maps.subscribe(self._content_changed)

    def _content_changed(self, _kind: str, obj: Object, _before: Object | None) -> None:
        if obj["metadata"]["name"] in (DEFAULT_ACCOUNT, ROOT_CA):
            self.queue.add(("", obj["metadata"]["namespace"]))

    async def reconcile(self, key: Key) -> float | None:
        """Create or restore the two objects in the namespace `key`, if necessary."""
        namespace = self.namespaces.get(key)
        if namespace is None or is_deleting(namespace):
            return None
        if self.accounts.get((key[1], DEFAULT_ACCOUNT)) is None:
            account = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": DEFAULT_ACCOUNT, "namespace": key[1]},
            }
            await self._create("serviceaccounts", account, self.accounts)
        await self._publish_ca(key[1])
        return None

    async def _publish_ca(self, namespace: str) -> None:
        if not self.context.config.ca_certificate:
            return
        data = {"ca.crt": self.context.config.ca_certificate}
        current = self.maps.get((namespace, ROOT_CA))
        if current is None:
            metadata = {"name": ROOT_CA, "namespace": namespace, "annotations": {DESCRIPTION: _WORDS}}
            wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await self._create("configmaps", wanted, self.maps)
        elif current.get("data") != data:
            changed = clone(current)
            changed["data"] = data
            changed["metadata"]["annotations"] = {**annotations_of(current), DESCRIPTION: _WORDS}
            await self.maps.wait_for_write(await self.client.update("configmaps", changed))

    async def _create(self, resource: str, obj: Object, cache: ObjectCache) -> None:
        try:
            await cache.wait_for_write(await self.client.create(resource, obj, obj["metadata"]["namespace"]))
        except ApiError as error:
            if not is_namespace_terminating(error) and error.reason != "AlreadyExists" and error.code != 404:
                raise
