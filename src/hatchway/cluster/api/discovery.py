"""What the server serves: `/api`, `/apis` and below, and aggregated discovery, all from the registry's rows.

Shapes: metav1 `APIVersions`, `APIGroupList`, `APIGroup`, `APIResourceList`; `apidiscovery.k8s.io/v2`
`APIGroupDiscoveryList` (one request instead of one for each group version; kubectl 1.27 and newer).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from hatchway.cluster.api.documents import Document

__all__ = ["Discovery", "ResourceRow", "SubresourceRow", "by_group_version"]

Json = dict[str, Any]

# The order in which a real server lists its groups (the aggregator's priorities); others follow by name.
_GROUPS = [
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
]
_AGGREGATED = ("v2", "v2beta1")


class SubresourceRow(Protocol):
    """`name`: `status`. kind, group, version: of what it takes or gives; "" for the parent's."""

    @property
    def name(self) -> str: ...
    @property
    def verbs(self) -> Sequence[str]: ...
    @property
    def kind(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...


class ResourceRow(Protocol):
    """What discovery and OpenAPI read of one registry row."""

    @property
    def group(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def singular(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def namespaced(self) -> bool: ...
    @property
    def short_names(self) -> Sequence[str]: ...
    @property
    def categories(self) -> Sequence[str]: ...
    @property
    def verbs(self) -> Sequence[str]: ...
    @property
    def subresources(self) -> Sequence[SubresourceRow]: ...


def by_group_version(rows: Iterable[ResourceRow]) -> dict[tuple[str, str], list[ResourceRow]]:
    """The rows of each (group, version), the core group first, rows by name."""
    found: dict[tuple[str, str], list[ResourceRow]] = {}

    def position(row: ResourceRow) -> tuple[int, str, str]:
        if not row.group:
            return (-1, "", row.plural)
        rank = _GROUPS.index(row.group) if row.group in _GROUPS else len(_GROUPS)
        return (rank, row.group, row.plural)

    for row in sorted(rows, key=position):
        found.setdefault((row.group, row.version), []).append(row)
    return found


class Discovery:
    """Discovery documents of fixed rows. server_address: host:port that `/api` names to clients."""

    def __init__(self, rows: Iterable[ResourceRow], server_address: str = "") -> None:
        self._rows = by_group_version(rows)
        self._server_address = server_address
        self._documents: dict[tuple[str, str], Document | None] = {}

    def document(self, path: str, accept: str = "") -> Document | None:
        """The document at `/api`, `/api/v1`, `/apis`, `/apis/GROUP` or `/apis/GROUP/VERSION`; None when there is none.

        accept: the request's Accept; aggregated discovery is given to those who ask for it at `/api` and `/apis`.
        """
        path = path.rstrip("/")
        if not path:
            return None
        wanted = _aggregated_version(accept) if path in ("/api", "/apis") else ""
        key = (path, wanted)
        if key not in self._documents:
            # Other paths are not remembered: anybody can make up any number of them.
            document = self._make(path, wanted)
            if document is None:
                return None
            self._documents[key] = document
        return self._documents[key]

    def _make(self, path: str, aggregated: str) -> Document | None:
        if aggregated:
            content_type = f"application/json;g=apidiscovery.k8s.io;v={aggregated};as=APIGroupDiscoveryList"
            return Document.of(self._aggregated(path == "/api", aggregated), content_type)
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
        return Document.of(value) if value is not None else None

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(group for group, _ in self._rows if group))

    def _group(self, group: str) -> Json:
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version} for one, version in self._rows if one == group
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _resources(self, group: str, version: str) -> Json | None:
        rows = self._rows.get((group, version))
        if rows is None:
            return None
        resources: list[Json] = []
        for row in rows:
            resources.append(_resource(row))
            resources.extend(_subresource(row, sub) for sub in row.subresources)
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
                    "versions": [
                        {
                            "version": one_version,
                            "resources": [_aggregated_resource(row) for row in rows],
                            "freshness": "Current",
                        }
                        for (one, one_version), rows in self._rows.items()
                        if one == group
                    ],
                }
                for group in groups
            ],
        }


def _aggregated_version(accept: str) -> str:
    """The first version of aggregated discovery among the media types of an Accept header, or ""."""
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


def _stored(row: ResourceRow) -> bool:
    return "list" in row.verbs


def _resource(row: ResourceRow) -> Json:
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
    if _stored(row):
        # apiserver's `discovery/storageversionhash.go`
        digest = hashlib.sha256(f"{row.group}/{row.version}/{row.kind}".encode()).digest()
        found["storageVersionHash"] = base64.b64encode(digest[:8]).decode()
    return found


def _subresource(row: ResourceRow, sub: SubresourceRow) -> Json:
    found: Json = {"name": f"{row.plural}/{sub.name}", "singularName": "", "namespaced": row.namespaced}
    if sub.group or sub.version:
        found |= {"group": sub.group, "version": sub.version}
    return {**found, "kind": sub.kind or row.kind, "verbs": list(sub.verbs)}


def _aggregated_resource(row: ResourceRow) -> Json:
    found: Json = {
        "resource": row.plural,
        "responseKind": {"group": "", "version": "", "kind": row.kind},
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
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind or row.kind},
                "verbs": list(sub.verbs),
            }
            for sub in sorted(row.subresources, key=lambda one: one.name)
        ]
    return found
