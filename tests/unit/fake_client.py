"""A small API server in memory, used as a `kube.api.Client`. It behaves closely enough for tests of controllers.

It checks what controllers rely on (uniqueness, resourceVersion and uid preconditions, finalizers, graceful deletion of
pods, subresources). Watches deliver events after a turn of the event loop, so that caches are not up to date at once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from hatchway.errors import ApiError, already_exists, conflict, not_found
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.paths import parse_resource

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _scale_of(obj: Object) -> Object:
    selector = obj["spec"].get("selector") or {}
    labels = selector.get("matchLabels", selector)
    status = {"replicas": (obj.get("status") or {}).get("replicas", 0)}
    if labels:
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    spec = {"replicas": obj["spec"].get("replicas", 0)}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": obj["metadata"],
        "spec": spec,
        "status": status,
    }


class FakeClient:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.refuse: Callable[[str, str, Object | None], ApiError | None] = lambda verb, resource, obj: None
        self._version = itertools.count(1)
        self._uids = itertools.count(1)
        self._random = random.Random(7)
        self._watchers: list[tuple[str, str | None, asyncio.Queue[WatchEvent]]] = []

    @property
    def writes(self) -> int:
        return len(self.calls)

    def all(self, resource: str, namespace: str | None = None) -> list[Object]:
        return [
            copied(obj)
            for (kind, where, _), obj in sorted(self.objects.items())
            if kind == resource and namespace in (None, where)
        ]

    async def get(self, resource: str, name: str, namespace: str | None = None, *, subresource: str = "") -> Object:
        await asyncio.sleep(0)
        found = copied(self._find(resource, name, namespace))
        return _scale_of(found) if subresource == "scale" else found

    async def list(
        self, resource: str, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> list[Object]:
        assert not field_selector
        await asyncio.sleep(0)
        wanted = dict(part.split("=") for part in label_selector.split(",") if part)
        found = self.all(resource, namespace)
        return [one for one in found if wanted.items() <= (one["metadata"].get("labels") or {}).items()]

    async def create(
        self, resource: str, obj: Object, namespace: str | None = None, *, subresource: str = "", name: str = ""
    ) -> Object:
        await self._arrive("create", resource, obj)
        if subresource == "binding":
            return self._bind(obj, name, namespace)
        assert not subresource
        obj = copied(obj)
        metadata = obj["metadata"]
        if namespace and parse_resource(resource).namespaced:
            metadata["namespace"] = namespace
            holder = self.objects.get(("namespaces", "", namespace))
            if holder is not None and "deletionTimestamp" in holder["metadata"]:
                details = {"causes": [{"reason": "NamespaceTerminating", "message": "going"}]}
                raise ApiError(403, "Forbidden", f"namespace {namespace} is being terminated", details)
        if "name" not in metadata:
            metadata["name"] = metadata["generateName"] + "".join(self._random.choices(_LETTERS, k=5))
        key = self._key(resource, metadata["name"], metadata.get("namespace"))
        if key in self.objects:
            raise already_exists(resource, metadata["name"])
        metadata |= {
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "generation": 1,
        }
        if resource == "pods":
            obj.setdefault("status", {"phase": "Pending"})
        self._store(key, obj, "ADDED")
        return copied(obj)

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        await self._arrive("update", resource, obj)
        metadata = obj["metadata"]
        old = self._find(resource, metadata["name"], metadata.get("namespace"))
        given = metadata.get("resourceVersion")
        if given and given != old["metadata"]["resourceVersion"]:
            raise conflict(resource, metadata["name"], "the object has been modified")
        return self._replace(resource, old, copied(obj), subresource)

    async def patch(
        self, resource: str, name: str, patch: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        await self._arrive("patch", resource, patch)
        old = self._find(resource, name, namespace)
        for field in ("uid", "resourceVersion"):
            given = (patch.get("metadata") or {}).get(field)
            if given and given != old["metadata"][field]:
                raise conflict(resource, name, f"precondition failed: {field}")
        return self._replace(resource, old, _merged(copied(old), patch), subresource)

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
        await self._arrive("delete", resource, None)
        old = self._find(resource, name, namespace)
        if uid and uid != old["metadata"]["uid"]:
            raise conflict(resource, name, "precondition failed: uid")
        obj = copied(old)
        metadata = obj["metadata"]
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)
        if finalizer and finalizer not in metadata.get("finalizers", []):
            metadata["finalizers"] = [*metadata.get("finalizers", []), finalizer]
        graceful = resource == "pods" and grace_period != 0 and obj["spec"].get("nodeName")
        if resource == "namespaces" and obj["spec"].get("finalizers"):
            obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
            graceful = True
        key = self._key(resource, name, namespace)
        if metadata.get("finalizers") or graceful:
            if "deletionTimestamp" not in metadata or obj != old:
                metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z"
                self._store(key, obj, "MODIFIED")
            return
        self._drop(key, obj)

    async def watch(
        self, resource: str, namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        for obj in self.all(resource, namespace):
            queue.put_nowait(WatchEvent("ADDED", obj))
        queue.put_nowait(WatchEvent("SYNCED", {}))
        entry = (resource, namespace, queue)
        self._watchers.append(entry)
        try:
            while True:
                event = await queue.get()
                await asyncio.sleep(0)
                yield event
        finally:
            self._watchers.remove(entry)

    # --- for tests ---------------------------------------------------------------------------------------------

    def tell(self, resource: str, kind: str, obj: Object) -> None:
        """Deliver an event to the watches of a resource."""
        for watched, _, queue in self._watchers:
            if watched == resource:
                queue.put_nowait(WatchEvent(kind, copied(obj)))

    async def settle(self, quiet: Iterable[Callable[[], bool]] = (), seconds: float = 60) -> None:
        """Wait until all events are delivered and each function in `quiet` returns true, for some turns of the loop."""
        calm = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(0)
            still = all(queue.empty() for _, _, queue in self._watchers) and all(check() for check in quiet)
            calm = calm + 1 if still else 0
            if calm > 20:
                return
        raise AssertionError("it does not settle")

    # --- private methods
    # ------------------------------------------------------------------------------------------------

    async def _arrive(self, verb: str, resource: str, obj: Object | None) -> None:
        await asyncio.sleep(0)
        error = self.refuse(verb, resource, obj)
        if error is not None:
            raise error
        self.calls.append((verb, resource, ""))

    def _key(self, resource: str, name: str, namespace: str | None) -> tuple[str, str, str]:
        return resource, (namespace or "") if parse_resource(resource).namespaced else "", name

    def _find(self, resource: str, name: str, namespace: str | None) -> Object:
        found = self.objects.get(self._key(resource, name, namespace))
        if found is None:
            parsed = parse_resource(resource)
            raise not_found(parsed.plural, name, parsed.group)
        return found

    def _bind(self, binding: Object, name: str, namespace: str | None) -> Object:
        pod = copied(self._find("pods", name, namespace))
        if pod["spec"].get("nodeName"):
            raise conflict("pods", name, "pod is already assigned to a node")
        pod["spec"]["nodeName"] = binding["target"]["name"]
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        others = [c for c in pod["status"].get("conditions", []) if c["type"] != "PodScheduled"]
        pod["status"]["conditions"] = [*others, scheduled]
        self._store(self._key("pods", name, namespace), pod, "MODIFIED")
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}

    def _replace(self, resource: str, old: Object, obj: Object, subresource: str) -> Object:
        key = self._key(resource, old["metadata"]["name"], old["metadata"].get("namespace"))
        if subresource == "status":
            obj = {**copied(old), "status": obj.get("status", {})}
        elif subresource == "scale":
            replicas = obj["spec"]["replicas"]
            obj = copied(old)
            obj["spec"]["replicas"] = replicas
        elif subresource == "finalize":
            new = copied(old)
            new["spec"]["finalizers"] = obj["spec"]["finalizers"]
            obj = new
        else:
            for field in ("uid", "creationTimestamp", "generation"):
                obj["metadata"][field] = old["metadata"][field]
            if "deletionTimestamp" in old["metadata"]:
                obj["metadata"]["deletionTimestamp"] = old["metadata"]["deletionTimestamp"]
            if "status" in old:
                obj["status"] = copied(old["status"])
            if obj.get("spec") != old.get("spec"):
                obj["metadata"]["generation"] += 1
        obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if obj == old:
            return copied(old)
        going = "deletionTimestamp" in obj["metadata"] and not obj["metadata"].get("finalizers")
        if going and (resource not in ("pods", "namespaces") or subresource == "finalize"):
            self._drop(key, obj)
        else:
            self._store(key, obj, "MODIFIED")
        return copied(obj)

    def _store(self, key: tuple[str, str, str], obj: Object, kind: Any) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._version))
        self.objects[key] = obj
        self._tell(key, obj, kind)

    def _drop(self, key: tuple[str, str, str], obj: Object) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._version))
        del self.objects[key]
        self._tell(key, obj, "DELETED")

    def _tell(self, key: tuple[str, str, str], obj: Object, kind: Any) -> None:
        for resource, namespace, queue in self._watchers:
            if resource == key[0] and namespace in (None, key[1]):
                queue.put_nowait(WatchEvent(kind, copied(obj)))


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copied(patch)
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = _merged(out.get(key), value)
    return out
