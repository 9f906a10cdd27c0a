"""Makes the documents about the API group metrics.k8s.io (discovery, OpenAPI), and Statuses. Pure."""

from __future__ import annotations

from typing import Any

__all__ = ["AGGREGATED_TYPE", "GROUP", "ROOT", "VERSION", "discovery", "openapi", "status"]

Json = dict[str, Any]

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
ROOT = f"/apis/{GROUP}/{VERSION}"
AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

_TYPES = (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True))
_VERBS = ["get", "list"]
_GROUP_VERSION = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
_GROUP = {"name": GROUP, "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION}


def discovery(path: str, *, aggregated: bool) -> Json | None:
    """Return the discovery document at a path; None for other paths. aggregated: True for aggregated discovery."""
    if path == "/apis":
        return _aggregated() if aggregated else {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]}
    if path == f"/apis/{GROUP}":
        return {"kind": "APIGroup", "apiVersion": "v1", **_GROUP}
    if path == ROOT:
        resources = [
            {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": _VERBS}
            for name, kind, namespaced in _TYPES
        ]
        found: Json = {"kind": "APIResourceList", "apiVersion": "v1"}
        return {**found, "groupVersion": f"{GROUP}/{VERSION}", "resources": resources}
    return None


def _aggregated() -> Json:
    resources = [
        {
            "resource": name,
            "responseKind": {"group": GROUP, "version": VERSION, "kind": kind},
            "scope": "Namespaced" if namespaced else "Cluster",
            "singularResource": "",
            "verbs": _VERBS,
        }
        for name, kind, namespaced in _TYPES
    ]
    version = {"version": VERSION, "resources": resources, "freshness": "Current"}
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [{"metadata": {"name": GROUP}, "versions": [version]}],
    }


def openapi(path: str) -> Json | None:
    """Return the OpenAPI v3 document or the index of documents at a path; None for other paths."""
    if path == "/openapi/v3":
        return {"paths": {ROOT.strip("/"): {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=1"}}}
    if path != f"/openapi/v3{ROOT}":
        return None
    prefix = "io.k8s.metrics.pkg.apis.metrics.v1beta1"
    usage = {"type": "object", "additionalProperties": {"type": "string"}, "description": "The usage, by resource."}
    common: Json = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "timestamp": {"type": "string", "format": "date-time", "description": "The end of the window."},
        "window": {"type": "string", "description": "The time over which the usage was measured."},
    }
    containers = {"type": "array", "items": {"$ref": f"#/components/schemas/{prefix}.ContainerMetrics"}}
    schemas: Json = {
        f"{prefix}.ContainerMetrics": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "usage": usage},
            "description": "The usage of one container.",
        },
        f"{prefix}.NodeMetrics": _kind("NodeMetrics", {**common, "usage": usage}),
        f"{prefix}.PodMetrics": _kind("PodMetrics", {**common, "containers": containers}),
    }
    paths: Json = {}
    for name, kind, namespaced in _TYPES:
        one = f"{ROOT}/namespaces/{{namespace}}/{name}" if namespaced else f"{ROOT}/{name}"
        paths[f"{ROOT}/{name}"] = paths[one] = _get("list", f"{kind}List", kind)
        paths[f"{one}/{{name}}"] = _get("get", kind, kind)
    info = {"title": "Hatchway metrics-server", "version": VERSION}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _kind(kind: str, properties: Json) -> Json:
    gvk = {"group": GROUP, "version": VERSION, "kind": kind}
    text = f"{kind} is the measured usage of a {'node' if kind.startswith('Node') else 'pod'}."
    found: Json = {"type": "object", "description": text, "properties": properties}
    return {**found, "x-kubernetes-group-version-kind": [gvk]}


def _get(action: str, what: str, kind: str) -> Json:
    gvk = {"group": GROUP, "version": VERSION, "kind": kind}
    operation = {"responses": {"200": {"description": "OK"}}, "description": f"{action} {what}"}
    return {"get": {**operation, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk}}


def status(code: int, reason: str, message: str, details: Json | None = None) -> Json:
    """Return a Status that describes a failure. code: the HTTP status."""
    found: Json = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return {**found, "reason": reason, "details": details or {}, "code": code}
