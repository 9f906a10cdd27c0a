"""A store in memory and heads of requests, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.cluster.auth.source import StoreCallback
from hatchway.kube.api import Object
from hatchway.proxy.routing import Headers, Peer, RequestHead

GROUP = "rbac.authorization.k8s.io"


class FakeSource:
    """An `ObjectSource` in memory; `put` and `remove` call the subscribers, like a store."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[tuple[str, str], Object]] = {}
        self.callbacks: dict[str, list[StoreCallback]] = {}
        self.revision = 0

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.objects.get(resource, {}).get((namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        found = self.objects.get(resource, {}).items()
        return [obj for (where, _), obj in found if namespace is None or where == namespace]

    def subscribe(self, resource: str, callback: StoreCallback) -> Callable[[], None]:
        callbacks = self.callbacks.setdefault(resource, [])
        callbacks.append(callback)
        return lambda: callbacks.remove(callback)

    def put(self, resource: str, obj: Object) -> None:
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        old = self.objects.setdefault(resource, {}).get(key)
        self.objects[resource][key] = obj
        self.revision += 1
        for callback in self.callbacks.get(resource, ()):
            callback("MODIFIED" if old else "ADDED", old, obj)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        old = self.objects[resource].pop((namespace, name))
        self.revision += 1
        for callback in self.callbacks.get(resource, ()):
            callback("DELETED", old, None)

    # -- RBAC objects

    def role(self, name: str, *rules: Object, namespace: str = "", **more: Any) -> None:
        meta: Object = {"name": name, "labels": more.pop("labels", {})}
        if namespace:
            meta["namespace"] = namespace
        self.put(
            f"roles.{GROUP}" if namespace else f"clusterroles.{GROUP}",
            {"metadata": meta, "rules": list(rules), **more},
        )

    def bind(self, name: str, role: str, *subjects: str, namespace: str = "", kind: str = "") -> None:
        """Add a binding. subjects: `User:alice`, `Group:devs`, `ServiceAccount:NS/NAME`."""
        meta = {"name": name, **({"namespace": namespace} if namespace else {})}
        kind = kind or ("Role" if namespace else "ClusterRole")
        self.put(
            f"rolebindings.{GROUP}" if namespace else f"clusterrolebindings.{GROUP}",
            {
                "metadata": meta,
                "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
                "subjects": [_subject(subject) for subject in subjects],
            },
        )


def _subject(text: str) -> Object:
    kind, _, name = text.partition(":")
    if kind == "ServiceAccount":
        namespace, _, name = name.partition("/")
        return {"kind": kind, "namespace": namespace, "name": name}
    return {"kind": kind, "name": name, "apiGroup": GROUP}


def rule(verbs: str, resources: str = "", group: str = "", names: str = "", urls: str = "") -> Object:
    found: Object = {"verbs": verbs.split()}
    if resources:
        found |= {"apiGroups": group.split(","), "resources": resources.split()}
    if names:
        found["resourceNames"] = names.split()
    if urls:
        found["nonResourceURLs"] = urls.split()
    return found


def request(
    path: str,
    method: str = "GET",
    *,
    token: str | None = None,
    certificate: bytes | None = None,
    upgrade: bytes | None = None,
    **headers: str,
) -> RequestHead:
    """Return the head of a request. Keywords are header fields, with `_` for `-`."""
    fields: Headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if token is not None:
        fields.append((b"Authorization", b"Bearer " + token.encode()))
    raw, mark, query = path.encode().partition(b"?")
    return RequestHead(
        method,
        path.encode(),
        raw,
        query if mark else None,
        fields,
        "1.1",
        Peer(("127.0.0.1", 40000), "https", certificate),
        upgrade,
    )
