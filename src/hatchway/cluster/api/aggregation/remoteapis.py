"""The versions of API groups that other servers serve, as the stored APIServices declare them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.auth.source import StoredObjects
from hatchway.kube.api import Object
from hatchway.kube.objects import get_condition
from hatchway.kube.wellknown import API_SERVICES

__all__ = ["RemoteApi", "RemoteApis"]

_OPENAPI = ("openapi", "v3")


@dataclass(frozen=True, slots=True)
class RemoteApi:
    """One version of a group and the service that serves it (the spec of an APIService).

    name: the APIService's name.
    group_priority, version_priority: the order of groups and versions in discovery; higher priorities come first.
    namespace, service, port: the service.
    ca_bundle: the authorities (PEM) with which the server's certificate is verified; b"" for the system's authorities.
    insecure: True if the certificate is not verified.
    available: True if the condition Available is True.
    """

    name: str
    group: str
    version: str
    group_priority: int
    version_priority: int
    namespace: str
    service: str
    port: int
    ca_bundle: bytes
    insecure: bool
    available: bool

    @property
    def root(self) -> str:
        """Return the path of the version: `/apis/metrics.k8s.io/v1beta1`."""
        return f"/apis/{self.group}/{self.version}"

    @property
    def server(self) -> tuple[str, str, int, bytes, bool]:
        """Return the settings that identify the server and its verification."""
        return self.namespace, self.service, self.port, self.ca_bundle, self.insecure


def remote_api(obj: Object) -> RemoteApi | None:
    """Return the remote API of an APIService; None for an API that this server serves itself."""
    spec: dict[str, Any] = obj.get("spec") or {}
    service = spec.get("service")
    if not service or not spec.get("group"):
        return None
    try:
        bundle = base64.b64decode(spec.get("caBundle") or "")
    except (binascii.Error, ValueError):
        bundle = b""
    condition = get_condition(obj, "Available")
    return RemoteApi(
        obj["metadata"]["name"],
        spec["group"],
        spec.get("version") or "",
        spec.get("groupPriorityMinimum") or 0,
        spec.get("versionPriority") or 0,
        service.get("namespace") or "",
        service.get("name") or "",
        service.get("port") or 443,
        bundle,
        bool(spec.get("insecureSkipTLSVerify")),
        condition is not None and condition.get("status") == "True",
    )


class RemoteApis:
    """The remote APIs in a store, updated with each commit.

    local: the (group, version) pairs of built-in types. APIServices for these are ignored, so that no object can
    redirect the cluster's own API.
    """

    def __init__(self, source: StoredObjects, local: Iterable[tuple[str, str]]) -> None:
        self._local = frozenset(local)
        self._found: dict[tuple[str, str], RemoteApi] = {}
        self._subscribers: list[Callable[[str], None]] = []
        for obj in source.list(API_SERVICES):
            self._put(obj)
        source.subscribe(API_SERVICES, self._follow)

    def __iter__(self) -> Iterator[RemoteApi]:
        return iter(list(self._found.values()))

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Call `changed(name)` whenever an APIService was created, changed or deleted."""
        self._subscribers.append(changed)

    def by_name(self, name: str) -> RemoteApi | None:
        """Return the remote API of the APIService with this name, or None."""
        version, _, group = name.partition(".")
        return self._found.get((group, version))

    def find(self, group: str, version: str) -> RemoteApi | None:
        """Return the remote API that serves a version of a group, or None."""
        return self._found.get((group, version))

    def find_path(self, path: str) -> RemoteApi | None:
        """Return the remote API that serves a path without a resource: its discovery or its OpenAPI document."""
        if not self._found:
            return None
        parts = tuple(path.strip("/").split("/"))
        if parts[:2] == _OPENAPI:
            parts = parts[2:]
        return self._found.get((parts[1], parts[2])) if len(parts) == 3 and parts[0] == "apis" else None

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        if new is None or not self._put(new):
            spec = (old or obj).get("spec") or {}
            self._found.pop((spec.get("group") or "", spec.get("version") or ""), None)
        for changed in self._subscribers:
            changed(obj["metadata"]["name"])

    def _put(self, obj: Object) -> bool:
        api = remote_api(obj)
        if api is None or (api.group, api.version) in self._local:
            return False
        self._found[api.group, api.version] = api
        return True
