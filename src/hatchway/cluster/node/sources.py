"""The ConfigMaps and Secrets that pods refer to: read afresh for a start, watched for live volumes.

A node may read no more than these, one by one (the Node authorizer), so each is watched by itself, as the kubelet does
(`pkg/kubelet/util/manager/watch_based_manager.go`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.informer import Informer

log = logging.getLogger(__name__)

# Objects of one node that are watched at once: each is a connection. What is beyond is looked at now and then.
_MAX_WATCHED = 256
_LOOK_SECONDS = 60.0
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0

# (resource, namespace, name)
Key = tuple[str, str, str]


class Sources:
    """What the environments and volumes of one node's pods are made of. `run` until cancelled; then follow pods."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._subscribers: list[Callable[[str, str, str], None]] = []
        self._pods: dict[str, frozenset[Key]] = {}
        self._wanted: Counter[Key] = Counter()
        self._watching: dict[Key, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Watch what the pods that are followed refer to, until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._watch_more()
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                for key in self._wanted.keys() - self._watching.keys():
                    self._changed(key)

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
        self._subscribers.append(changed)

    def follow(self, uid: str, namespace: str, found: Iterable[tuple[str, str]]) -> None:
        """Watch the (resource, name) that the pod `uid` refers to, until `release`."""
        if uid in self._pods:
            return
        keys = self._pods[uid] = frozenset((resource, namespace, name) for resource, name in found)
        self._wanted.update(keys)
        self._watch_more()

    def release(self, uid: str) -> None:
        """Watch no longer what only this pod refers to."""
        for key in self._pods.pop(uid, ()):
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key]
                task = self._watching.pop(key, None)
                if task is not None:
                    task.cancel()
        self._watch_more()

    def _watch_more(self) -> None:
        if self._group is None:
            return
        room = _MAX_WATCHED - len(self._watching)
        for key in sorted(self._wanted.keys() - self._watching.keys())[: max(0, room)]:
            self._watching[key] = self._group.create_task(self._watch(key), name="watch " + "/".join(key))

    async def _watch(self, key: Key) -> None:
        resource, namespace, name = key
        informer = Informer(self._client, resource, namespace, field_selector=f"metadata.name={name}")
        informer.subscribe(lambda _type, _obj: self._changed(key))
        wait = _FIRST_RETRY
        while True:
            try:
                await informer.run()
            except (ApiError, OSError) as error:
                # The pod may have gone to another node, or the server away; whoever still wants it asks again.
                log.debug("cannot watch %s %s/%s: %s", resource, namespace, name, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    def _changed(self, key: Key) -> None:
        for changed in self._subscribers:
            changed(*key)


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
