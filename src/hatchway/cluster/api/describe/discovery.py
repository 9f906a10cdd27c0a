"""Discovery: `/api`, `/apis` and below, and aggregated discovery, from the registry's rows and from remote servers.

Shapes: metav1 `APIVersions`, `APIGroupList`, `APIGroup`, `APIResourceList`; `apidiscovery.k8s.io/v2`
`APIGroupDiscoveryList` (one request instead of one for each group version; kubectl 1.27 and newer).
"""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Iterable
from typing import Any

from hatchway.cluster.api.describe.documents import ServedDocument
from hatchway.cluster.api.describe.remoteversions import RemoteVersion
from hatchway.cluster.api.registry.priorities import group_priority, version_order, version_priority
from hatchway.cluster.api.registry.resource import Resource, Subresource

__all__ = ["Discovery", "by_group_version"]

Json = dict[str, Any]

_AGGREGATED = ("v2", "v2beta1")


def by_group_version(rows: Iterable[Resource]) -> dict[tuple[str, str], list[Resource]]:
    """Return the rows of each (group, version): the core group first, and the rows in the order of their names."""
    found: dict[tuple[str, str], list[Resource]] = {}

    def position(row: Resource) -> tuple[int, str, str]:
        return (-group_priority(row.group) if row.group else -sys.maxsize, row.group, row.plural)

    for row in sorted(rows, key=position):
        found.setdefault((row.group, row.version), []).append(row)
    return found


class Discovery:
    """Discovery documents of the registry's rows and of remote versions.

    server_address: the `host:port` in the answer of `/api`.
    """

    def __init__(self, rows: Iterable[Resource], server_address: str = "") -> None:
        self._rows = by_group_version(rows)
        self._server_address = server_address
        self._documents: dict[tuple[str, str], ServedDocument | None] = {}
        self._known: dict[tuple[str, str], RemoteVersion] = {}

    def set_rows(self, rows: Iterable[Resource]) -> None:
        """Replace the rows."""
        self._rows = by_group_version(rows)
        self._documents.clear()

    def set_remote(self, versions: Iterable[RemoteVersion]) -> None:
        """Replace the versions that other servers serve. A version that this server serves itself is left out."""
        self._known = {(one.group, one.version): one for one in versions}
        self._documents.clear()

    @property
    def _remote(self) -> dict[tuple[str, str], RemoteVersion]:
        return {key: one for key, one in self._known.items() if key not in self._rows}

    def document(self, path: str, accept: str = "") -> ServedDocument | None:
        """Return the document at a path; None when there is none.

        path: `/api`, `/api/v1`, `/apis`, `/apis/GROUP` or `/apis/GROUP/VERSION`.
        accept: the request's Accept header, which may ask for aggregated discovery at `/api` and `/apis`.
        """
        path = path.rstrip("/")
        if not path:
            return None
        wanted = _aggregated_version(accept) if path in ("/api", "/apis") else ""
        key = (path, wanted)
        if key not in self._documents:
            # Answers for other paths are not cached, because clients could fill the memory with invented paths.
            document = self._make(path, wanted)
            if document is None:
                return None
            self._documents[key] = document
        return self._documents[key]

    def _make(self, path: str, aggregated: str) -> ServedDocument | None:
        if aggregated:
            content_type = f"application/json;g=apidiscovery.k8s.io;v={aggregated};as=APIGroupDiscoveryList"
            return ServedDocument.of(self._aggregated(path == "/api", aggregated), content_type)
        parts = path.split("/")[1:]
        value: Json | None = None
        if path == "/api":
            value = {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._server_address}],
            }
        elif path == "/apis":
            value = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(one) for one in self._groups()]}
        elif parts[0] == "api" and len(parts) == 2:
            value = self._resources("", parts[1])
        elif parts[0] == "apis" and len(parts) == 2 and parts[1] in self._groups():
            value = {"kind": "APIGroup", "apiVersion": "v1", **self._group(parts[1])}
        elif parts[0] == "apis" and len(parts) == 3 and parts[1]:
            value = self._resources(parts[1], parts[2])
        return ServedDocument.of(value) if value is not None else None

    def _groups(self) -> list[str]:
        """Return the groups of `/apis`, in descending order of priority."""
        priorities = {group: group_priority(group) for group, _ in self._rows if group}
        for one in self._remote.values():
            priorities[one.group] = max(priorities.get(one.group, 0), one.group_priority)
        return sorted(priorities, key=lambda group: (-priorities[group], group))

    def _versions(self, group: str) -> list[str]:
        """Return the versions of a group, the preferred one first."""
        found = {version: version_priority(group, version) for one, version in self._rows if one == group}
        found |= {one.version: one.version_priority for one in self._remote.values() if one.group == group}
        return sorted(found, key=lambda version: (-found[version], version_order(version)))

    def _group(self, group: str) -> Json:
        versions = [{"groupVersion": f"{group}/{one}", "version": one} for one in self._versions(group)]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _resources(self, group: str, version: str) -> Json | None:
        rows = self._rows.get((group, version))
        if rows is None:
            return None
        resources: list[Json] = []
        for row in rows:
            resources.append(_resource(row))
            resources.extend(_subresource(row, sub) for sub in row.subresources)
        if not any(row.own_schema for row in rows):
            resources.sort(key=lambda one: str(one["name"]))
        if not group:
            return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}",
            "resources": resources,
        }

    def _aggregated(self, core: bool, version: str) -> Json:
        groups = [""] if core else self._groups()
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": f"apidiscovery.k8s.io/{version}",
            "metadata": {},
            "items": [
                {
                    "metadata": {"name": group} if group else {},
                    "versions": [self._version(group, one) for one in self._versions(group)],
                }
                for group in groups
            ],
        }

    def _version(self, group: str, version: str) -> Json:
        remote = self._remote.get((group, version))
        if remote is not None:
            return remote.discovery()
        resources = [_aggregated_resource(row) for row in self._rows[group, version]]
        return {"version": version, "resources": resources, "freshness": "Current"}


def _aggregated_version(accept: str) -> str:
    """Return the first version of aggregated discovery among the media types of an Accept header, or ""."""
    for media_type in accept.split(","):
        name, *parameters = (part.strip() for part in media_type.split(";"))
        known = dict(part.partition("=")[::2] for part in parameters)
        if (
            name == "application/json"
            and known.get("g") == "apidiscovery.k8s.io"
            and known.get("as") == "APIGroupDiscoveryList"
            and known.get("v") in _AGGREGATED
        ):
            return known["v"]
    return ""


def _resource(row: Resource) -> Json:
    found: Json = {
        "name": row.plural,
        "singularName": row.singular,
        "namespaced": row.namespaced,
        "kind": row.kind,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if not row.virtual:
        # apiserver's `discovery/storageversionhash.go`
        digest = hashlib.sha256(f"{row.group}/{row.version}/{row.kind}".encode()).digest()
        found["storageVersionHash"] = base64.b64encode(digest[:8]).decode()
    return found


def _subresource(row: Resource, sub: Subresource) -> Json:
    found: Json = {"name": f"{row.plural}/{sub.name}", "singularName": "", "namespaced": row.namespaced}
    if sub.group or sub.version:
        found |= {"group": sub.group, "version": sub.version}
    return {**found, "kind": sub.kind or row.kind, "verbs": list(sub.verbs)}


def _aggregated_resource(row: Resource) -> Json:
    # For a built-in type, the group and version of the document are left out; for a custom type they are not
    # (apiextensions' `customresource_discovery_controller.go`).
    own = (row.group, row.version) if row.own_schema else ("", "")
    subresources = row.subresources if row.own_schema else sorted(row.subresources, key=lambda one: one.name)
    found: Json = {
        "resource": row.plural,
        "responseKind": {"group": own[0], "version": own[1], "kind": row.kind},
        "scope": "Namespaced" if row.namespaced else "Cluster",
        "singularResource": row.singular,
        "verbs": list(row.verbs),
    }
    if row.short_names:
        found["shortNames"] = list(row.short_names)
    if row.categories:
        found["categories"] = list(row.categories)
    if row.subresources:
        found["subresources"] = [
            {
                "subresource": sub.name,
                "responseKind": {
                    "group": sub.group or own[0],
                    "version": sub.version or own[1],
                    "kind": sub.kind or row.kind,
                },
                "verbs": list(sub.verbs),
            }
            for sub in subresources
        ]
    return found
