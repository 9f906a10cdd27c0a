"""The ConfigMaps and Secrets that pods refer to: read afresh for a start, watched for live volumes."""

from __future__ import annotations

from collections.abc import Callable

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.informer import Informer

KINDS = ("configmaps", "secrets")


class Sources:
    """What pods' environments and volumes are made of. The informers are run by whoever made this."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.informers = {kind: Informer(client, kind) for kind in KINDS}

    async def fresh(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object as the server has it now; None when there is none. Raises ApiError."""
        try:
            return await self._client.get(resource, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def subscribe(self, changed: Callable[[str, str, str], None]) -> None:
        """Call `changed(resource, namespace, name)` for each change from now on."""
        for kind, informer in self.informers.items():
            informer.subscribe(_notifier(kind, changed))


def _notifier(kind: str, changed: Callable[[str, str, str], None]) -> Callable[[str, Object], None]:
    def notify(_: str, obj: Object) -> None:
        changed(kind, obj["metadata"].get("namespace", ""), obj["metadata"]["name"])

    return notify


def references(pod: Object) -> set[tuple[str, str]]:
    """The (resource, name) of every ConfigMap and Secret in the pod's volumes and environments."""
    found: set[tuple[str, str]] = set()

    def add(kind: str, name: str | None) -> None:
        if name:
            found.add((kind, name))

    spec = pod["spec"]
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            add("configmaps", (source.get("configMap") or {}).get("name"))
            secret = source.get("secret") or {}
            add("secrets", secret.get("secretName") or secret.get("name"))
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        for source in container.get("envFrom") or ():
            add("configmaps", (source.get("configMapRef") or {}).get("name"))
            add("secrets", (source.get("secretRef") or {}).get("name"))
        for variable in container.get("env") or ():
            value = variable.get("valueFrom") or {}
            add("configmaps", (value.get("configMapKeyRef") or {}).get("name"))
            add("secrets", (value.get("secretKeyRef") or {}).get("name"))
    return found


def wants_address(pod: Object) -> bool:
    """Whether a volume of the pod shows its IP address."""
    for volume in pod["spec"].get("volumes") or ():
        for source in [volume, *((volume.get("projected") or {}).get("sources") or ())]:
            for item in (source.get("downwardAPI") or {}).get("items") or ():
                if (item.get("fieldRef") or {}).get("fieldPath", "").startswith("status.podIP"):
                    return True
    return False
