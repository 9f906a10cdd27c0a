"""Serves the API group metrics.k8s.io/v1beta1 (metrics-server `pkg/api`): NodeMetrics and PodMetrics.

The API server authenticates and authorizes requests, then forwards them with the front proxy's client certificate. The
front proxy's authority has issued no other certificate. So a request with this certificate is served without more
checks, and all other requests are refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from hatchway.addons.metrics import documents
from hatchway.addons.metrics.documents import AGGREGATED_TYPE, GROUP, ROOT, VERSION
from hatchway.addons.metrics.selection import FieldSelection, LabelSelection
from hatchway.addons.metrics.usage import AverageUsage, UsageStore
from hatchway.kube.api import Object
from hatchway.proxy.routing import RequestHead, Respond

__all__ = ["MetricsApi"]

Json = dict[str, Any]
Objects = Mapping[tuple[str, str], Object]

_JSON = b"application/json"
_PROBES = (b"/healthz", b"/livez", b"/readyz")
_FEW_FIELDS = 64
# Shown to people who open the URL that cluster-info prints.
_PAGE = (
    b"This is the cluster's metrics server.\n\n"
    b"    kubectl top nodes\n    kubectl top pods --all-namespaces\n"
    b"    kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes\n"
)


class _Failure(Exception):
    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.body = documents.status(code, reason, message, details)


class MetricsApi:
    """Answers requests for metrics.

    Args:
        usage: the usage of nodes and containers.
        nodes, pods: the cluster's objects by (namespace, name).
        is_ready: returns True when the metrics have been read at least once.
        clock: returns the time in seconds since the epoch.
    """

    def __init__(
        self,
        usage: UsageStore,
        nodes: Objects,
        pods: Objects,
        is_ready: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._usage = usage
        self._nodes = nodes
        self._pods = pods
        self._is_ready = is_ready
        self._clock = clock

    def route(self, head: RequestHead) -> Respond:
        """Return the answer to a request (a routing function)."""
        if head.path in _PROBES:
            ready = head.path != b"/readyz" or self._is_ready()
            return Respond(200 if ready else 500, [(b"Content-Type", b"text/plain")], b"ok" if ready else b"not ready")
        if head.path == b"/":
            return Respond(200, [(b"Content-Type", b"text/plain; charset=utf-8")], _PAGE)
        try:
            if head.peer.certificate is None:
                text = "Unauthorized: requests come through the cluster's API server, at /apis/metrics.k8s.io"
                raise _Failure(401, "Unauthorized", text)
            return self._answer(head)
        except _Failure as failure:
            return _json(failure.body["code"], failure.body)

    def _answer(self, head: RequestHead) -> Respond:
        path = "/" + unquote(head.path.decode("latin-1")).strip("/")
        accept = (head.header(b"accept") or b"").decode("latin-1")
        document = documents.openapi(path)
        if document is not None:
            return _json(200, document)
        aggregated = "as=APIGroupDiscoveryList" in accept and "v=v2" in accept and path == "/apis"
        document = documents.discovery(path, aggregated=aggregated)
        if document is not None:
            return _json(200, document, AGGREGATED_TYPE.encode() if aggregated else _JSON)
        query = _query(head.query)
        parts = path.removeprefix(ROOT).strip("/").split("/") if path.startswith(f"{ROOT}/") else []
        namespace = ""
        if len(parts) > 2 and parts[0] == "namespaces":
            namespace, parts = parts[1], parts[2:]
            if parts[0] != "pods":
                parts = []
        if len(parts) not in (1, 2) or parts[0] not in ("nodes", "pods"):
            raise _Failure(404, "NotFound", "the server could not find the requested resource")
        if head.method not in ("GET", "HEAD") or query.get("watch") in ("1", "true"):
            text = "the server does not allow this method on the requested resource"
            raise _Failure(405, "MethodNotAllowed", text)
        kind = "NodeMetrics" if parts[0] == "nodes" else "PodMetrics"
        if len(parts) == 2:
            return self._one(kind, parts[0], namespace, parts[1], accept)
        return self._list(kind, parts[0], namespace, query, accept)

    def _one(self, kind: str, resource: str, namespace: str, name: str, accept: str) -> Respond:
        objects = self._nodes if resource == "nodes" else self._pods
        obj = objects.get((namespace, name))
        found = self._metrics(kind, obj) if obj is not None else None
        if found is None:
            details = {"name": name, "group": GROUP, "kind": resource}
            named = f"{namespace}/{name}" if namespace else name
            raise _Failure(404, "NotFound", f'{resource}.{GROUP} "{named}" not found', details)
        if _wants_table(accept):
            return _json(200, _table([found]))
        return _json(200, {"kind": kind, "apiVersion": f"{GROUP}/{VERSION}", **found})

    def _list(self, kind: str, resource: str, namespace: str, query: Mapping[str, str], accept: str) -> Respond:
        try:
            labels = LabelSelection(query.get("labelSelector", ""))
            fields = FieldSelection(query.get("fieldSelector", ""))
        except ValueError as error:
            raise _Failure(400, "BadRequest", str(error)) from error
        items = []
        for (space, name), obj in (self._nodes if resource == "nodes" else self._pods).items():
            if (namespace and space != namespace) or not fields.matches(space, name):
                continue
            if not labels.matches(obj["metadata"].get("labels") or {}):
                continue
            found = self._metrics(kind, obj)
            if found is not None:
                items.append(found)
        items.sort(key=lambda one: (one["metadata"].get("namespace", ""), one["metadata"]["name"]))
        if _wants_table(accept):
            return _json(200, _table(items))
        found = {"kind": f"{kind}List", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}
        return _json(200, found)

    def _metrics(self, kind: str, obj: Object) -> Json | None:
        """Return the metrics of a node or a pod; None when there are none (yet)."""
        now = self._clock()
        if kind == "NodeMetrics":
            usage = self._usage.node(obj["metadata"]["name"], now)
            return _object(obj, [usage], now, {"usage": _resources(usage)}) if usage is not None else None
        metadata, node = obj["metadata"], (obj.get("spec") or {}).get("nodeName") or ""
        status = obj.get("status") or {}
        if status.get("phase") != "Running":
            return None
        containers, usages = [], []
        for key in ("initContainerStatuses", "containerStatuses"):
            for one in status.get(key) or ():
                if "running" not in (one.get("state") or {}):
                    continue
                usage = self._usage.container(node, (metadata["namespace"], metadata["name"], one["name"]), now)
                if usage is None:
                    # Without this container, the sum would not be the pod's usage.
                    return None
                usages.append(usage)
                containers.append({"name": one["name"], "usage": _resources(usage)})
        return _object(obj, usages, now, {"containers": containers}) if containers else None


def _object(obj: Object, usages: list[AverageUsage], now: float, rest: Json) -> Json:
    metadata = {key: obj["metadata"][key] for key in ("name", "namespace", "labels") if key in obj["metadata"]}
    oldest = min(usages, key=lambda one: one.time)
    return {
        "metadata": {**metadata, "creationTimestamp": _time(now)},
        "timestamp": _time(oldest.time),
        "window": f"{oldest.window:.3f}".rstrip("0").rstrip(".") + "s",
        **rest,
    }


def _resources(usage: AverageUsage) -> dict[str, str]:
    """Return the usage as quantities, in metrics-server's units: nanocores and KiB."""
    memory = int(usage.memory)
    cpu = round(usage.cpu * 1e9)
    return {"cpu": f"{cpu}n" if cpu else "0", "memory": f"{memory // 1024}Ki" if memory >= 1024 else str(memory)}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _wants_table(accept: str) -> bool:
    return any("as=Table" in one and "g=meta.k8s.io" in one and "json" in one for one in accept.split(",")[:4])


def _table(items: list[Json]) -> Json:
    """Return a Table with the columns of metrics-server (`pkg/api/table.go`)."""
    names = ("Name", "cpu", "memory", "Window")
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else "", "description": "", "priority": 0}
        for name in names
    ]
    rows = []
    for item in items:
        usage = item.get("usage") or _summed(item["containers"])
        cells = [item["metadata"]["name"], usage["cpu"], usage["memory"], item["window"]]
        meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        rows.append({"cells": cells, "object": meta})
    found: Json = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}}
    return {**found, "columnDefinitions": columns, "rows": rows}


def _summed(containers: list[Json]) -> dict[str, str]:
    cpu = sum(int(one["usage"]["cpu"].removesuffix("n")) for one in containers)
    memory = 0
    for one in containers:
        text = one["usage"]["memory"]
        memory += int(text.removesuffix("Ki")) * (1024 if text.endswith("Ki") else 1)
    return {"cpu": f"{cpu}n" if cpu else "0", "memory": f"{memory // 1024}Ki"}


def _query(query: bytes | None) -> dict[str, str]:
    if not query:
        return {}
    try:
        found = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_FEW_FIELDS)
    except ValueError as error:
        raise _Failure(400, "BadRequest", "the query has too many fields") from error
    return {key: values[0] for key, values in found.items()}


def _json(code: int, value: Any, kind: bytes = _JSON) -> Respond:
    headers = [(b"Content-Type", kind), (b"Cache-Control", b"no-cache, private")]
    return Respond(code, headers, msgspec.json.encode(value))
