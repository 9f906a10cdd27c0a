"""Reads the ConfigMaps and Secrets of pods when containers start, and watches them to update volumes.

The Node authorizer lets a node read only these objects, by name, so each object has its own watch, as in the kubelet
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

# At most this many objects of one node are watched, because each watch needs a connection. All others are reported as
# changed every _REPORT_SECONDS seconds, so that their pods read them again.
_MAX_WATCHED = 256
_REPORT_SECONDS = 60.0
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0

# (resource, namespace, name)
SourceKey = tuple[str, str, str]


class Sources:
    """The ConfigMaps and Secrets of one node's pods. `run` watches the objects of all pods that `follow` has added."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._subscribers: list[Callable[[str, str, str], None]] = []
        self._pods: dict[str, frozenset[SourceKey]] = {}
        self._wanted: Counter[SourceKey] = Counter()
        self._watching: dict[SourceKey, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Watch the objects of the followed pods until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            self._watch_more()
            while True:
                await asyncio.sleep(_REPORT_SECONDS)
                for key in self._wanted.keys() - self._watching.keys():
                    self._changed(key)

    async def read(self, resource: str, namespace: str, name: str) -> Object | None:
        """Read the object from the server and return it; None when it does not exist. Raises ApiError."""
        try:
            return await self._client.get(resource, name, namespace or None)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def subscribe(self, changed: Callable[[str, str, str], None]) -> None:
        """Call `changed(resource, namespace, name)` from now on for each object that may have changed."""
        self._subscribers.append(changed)

    def follow(self, uid: str, namespace: str, used: Iterable[tuple[str, str]]) -> None:
        """Watch the objects of the pod `uid` until `release`. used: (resource, name) of each object."""
        if uid in self._pods:
            return
        keys = self._pods[uid] = frozenset((resource, namespace, name) for resource, name in used)
        self._wanted.update(keys)
        self._watch_more()

    def release(self, uid: str) -> None:
        """Stop watching the objects that only this pod uses."""
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

    async def _watch(self, key: SourceKey) -> None:
        resource, namespace, name = key
        informer = Informer(self._client, resource, namespace, field_selector=f"metadata.name={name}")
        informer.subscribe(lambda _type, _obj: self._changed(key))
        wait = _FIRST_RETRY
        while True:
            try:
                await informer.run()
            except (ApiError, OSError) as error:
                # The API server refuses the watch, for example because no pod of this node uses the object any more.
                log.debug("cannot watch %s %s/%s: %s", resource, namespace, name, error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    def _changed(self, key: SourceKey) -> None:
        for changed in self._subscribers:
            changed(*key)


def references(pod: Object) -> set[tuple[str, str]]:
    """Return the (resource, name) of every ConfigMap and Secret that the pod's volumes or environments use.

    The environments of ephemeral containers do not count, because they are read once.
    """
    found: set[tuple[str, str]] = set()

    def add(resource: str, name: str | None) -> None:
        if name:
            found.add((resource, name))

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
