"""Requests of at most 3 MiB whose work could multiply, each of one kind and of any size.

A shape has as many parts as its size allows, but no more than one request may hold (`work.MAX_VALUES`). A request with
more is refused before any work is done, so a test would learn nothing from it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hatchway.cluster.api.registry.schema.wireformat import MAGIC, MEDIA_TYPE, length_delimited
from hatchway.cluster.api.work import MAX_VALUES

LIMIT = 3 * 1024 * 1024
_LISTED = MAX_VALUES - 100
JSON, YAML = "application/json", "application/yaml"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
PATCH = "application/json-patch+json"
_NS = "/api/v1/namespaces/default"
_MAP = f"{_NS}/configmaps/big"
_POD = f"{_NS}/pods/big"


@dataclass
class Shape:
    """One request."""

    name: str
    method: str
    target: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _filled(make: Callable[[int], Any], wrap: Callable[[list[Any]], Any], size: int) -> bytes:
    """As many items as fit into `size` bytes and into one request."""
    sample = _encode(wrap([make(index) for index in range(1000, 1100)]))
    values = sum(sample.count(one) for one in b",[{") / 100
    count = min((size - 500) / (len(sample) / 100), (MAX_VALUES - 100) / values)
    return _encode(wrap([make(index) for index in range(max(1, int(count)))]))


def _bodies(size: int) -> Iterator[tuple[str, str, bytes]]:
    """(name, collection, JSON) of objects that are large in one way."""
    meta = {"name": "fuzz"}

    def config(data: Any) -> Any:
        return {"metadata": meta, "data": data}

    def pod(spec: Any, metadata: Any = meta) -> Any:
        return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}

    def container(more: Any) -> Any:
        return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i", **more}]}}

    maps, pods = f"{_NS}/configmaps", f"{_NS}/pods"
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    yield "one long string", maps, _encode(config({"a": "x" * (min(size, 1024 * 1024) - 200)}))
    yield "too long a string", maps, _encode(config({"a": "x" * (size - 200)}))
    yield "escapes", maps, b'{"metadata":{"name":"fuzz"},"data":{"a":"' + b"\\u00e9" * (size // 6 - 20) + b'"}}'
    yield "many keys", maps, _filled(lambda i: [f"k{i}", ""], lambda found: config(dict(found)), size)
    yield "bad keys", maps, _filled(lambda i: [f"k {i}", ""], lambda found: config(dict(found)), size)
    yield "unknown fields", maps, _filled(lambda i: [f"f{i}", 1], lambda found: {"metadata": meta, **dict(found)}, size)
    yield (
        "many labels",
        maps,
        _filled(lambda i: [f"l{i}", ""], lambda found: {"metadata": {**meta, "labels": dict(found)}}, size),
    )
    yield (
        "bad labels",
        maps,
        _filled(lambda i: [f"l{i} ", "!"], lambda found: {"metadata": {**meta, "labels": dict(found)}}, size),
    )
    yield "finalizers", maps, _filled(lambda i: f"a{i}", lambda f: {"metadata": {**meta, "finalizers": f}}, size)
    yield (
        "owners",
        maps,
        _filled(
            lambda i: {"apiVersion": "v1", "kind": "K", "name": f"n{i}", "uid": "u", "controller": True},
            lambda found: {"metadata": {**meta, "ownerReferences": found}},
            size,
        ),
    )
    yield (
        "managed fields",
        maps,
        _filled(
            lambda i: {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsV1": {f"f:{i}": {}}},
            lambda found: {"metadata": {**meta, "managedFields": found}},
            size,
        ),
    )
    yield (
        "empty lists",
        maps,
        b'{"metadata":{"name":"fuzz"},"data":{"a":[' + b"[]," * min(size // 3 - 40, _LISTED // 2) + b"[]]}}",
    )
    yield "empty objects", maps, b'{"x":[' + b"{}," * min(size // 3 - 40, _LISTED // 2) + b"{}]}"
    yield "numbers", maps, b'{"x":[' + b"1," * min(size // 2 - 40, _LISTED) + b"1]}"
    yield "repeated keys", maps, b'{"a":1' + b',"a":1' * min(size // 6 - 40, _LISTED) + b"}"
    yield "deep lists", maps, b'{"x":' + b"[" * (size // 2 - 40) + b"]" * (size // 2 - 40) + b"}"
    yield "deep objects", maps, b'{"x":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"
    yield "a long number", maps, b'{"metadata":{"name":"fuzz"},"data":{"a":' + b"1" * (size - 100) + b"}}"
    yield "a long fraction", maps, b'{"metadata":{"name":"fuzz"},"data":{"a":0.' + b"1" * (size - 100) + b"}}"
    yield (
        "containers",
        pods,
        _filled(
            lambda i: {"name": f"c{i}", "image": "i"},
            lambda found: {"metadata": meta, "spec": {"containers": found}},
            size,
        ),
    )
    yield (
        "same containers",
        pods,
        _filled(lambda i: {"name": "c"}, lambda found: {"metadata": meta, "spec": {"containers": found}}, size),
    )
    yield (
        "environment",
        pods,
        _filled(lambda i: {"name": f"E{i}", "value": "v"}, lambda found: container({"env": found}), size),
    )
    yield (
        "field references",
        pods,
        _filled(
            lambda i: {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": f"x{i}"}}},
            lambda f: container({"env": f}),
            size,
        ),
    )
    yield (
        "volumes",
        pods,
        _filled(lambda i: {"name": f"v{i}", "emptyDir": {}}, lambda found: pod({"volumes": found}), size),
    )
    yield (
        "mounts",
        pods,
        _filled(lambda i: {"name": "v", "mountPath": f"/{i}"}, lambda found: container({"volumeMounts": found}), size),
    )
    yield "ports", pods, _filled(lambda i: {"containerPort": i % 70000}, lambda f: container({"ports": f}), size)
    yield (
        "tolerations",
        pods,
        _filled(lambda i: {"key": f"k{i}", "operator": "Exists"}, lambda found: pod({"tolerations": found}), size),
    )
    yield "host aliases", pods, _filled(lambda i: {"ip": "x"}, lambda found: pod({"hostAliases": found}), size)
    yield (
        "node selector",
        pods,
        _filled(lambda i: [f"k{i}", "v"], lambda found: pod({"nodeSelector": dict(found)}), size),
    )
    yield (
        "resources",
        pods,
        _filled(lambda i: [f"r{i}", "1e9"], lambda found: container({"resources": {"limits": dict(found)}}), size),
    )
    yield (
        "quantities",
        pods,
        _filled(lambda i: [f"r{i}", "9" * 300 + "E"], lambda f: container({"resources": {"limits": dict(f)}}), size),
    )
    yield (
        "service ports",
        f"{_NS}/services",
        _filled(
            lambda i: {"name": f"p{i}", "port": i % 65535 + 1},
            lambda found: {"metadata": meta, "spec": {"ports": found}},
            size,
        ),
    )
    yield "secret", f"{_NS}/secrets", _encode({"metadata": meta, "data": {"a": "QUFB" * (size // 4 - 50)}})
    yield (
        "secret keys",
        f"{_NS}/secrets",
        _filled(lambda i: [f"k{i}", "QQ=="], lambda found: {"metadata": meta, "data": dict(found)}, size),
    )
    yield (
        "docker configuration",
        f"{_NS}/secrets",
        _encode(
            {
                "metadata": meta,
                "type": "kubernetes.io/dockerconfigjson",
                "stringData": {".dockerconfigjson": "[" + "[]," * min(size // 4, 250_000) + "[]]"},
            }
        ),
    )
    yield (
        "endpoints",
        slices,
        _filled(
            lambda i: {"addresses": ["x"]},
            lambda found: {"metadata": meta, "addressType": "IPv4", "endpoints": found, "ports": []},
            size,
        ),
    )
    yield (
        "addresses",
        slices,
        _filled(
            lambda i: "10.0.0.1",
            lambda found: {"metadata": meta, "addressType": "IPv4", "endpoints": [{"addresses": found}], "ports": []},
            size,
        ),
    )
    yield (
        "slice ports",
        slices,
        _filled(
            lambda i: {"port": 80},
            lambda found: {"metadata": meta, "addressType": "IPv4", "endpoints": [], "ports": found},
            size,
        ),
    )
    yield (
        "rules",
        f"{rbac}/clusterroles",
        _filled(
            lambda i: {"verbs": ["get"], "apiGroups": [f"g{i}"], "resources": ["r"]},
            lambda found: {"metadata": meta, "rules": found},
            size,
        ),
    )
    yield (
        "verbs",
        f"{rbac}/clusterroles",
        _filled(
            lambda i: f"v{i}",
            lambda found: {"metadata": meta, "rules": [{"verbs": found, "apiGroups": found, "resources": found}]},
            size // 3,
        ),
    )
    yield (
        "selectors",
        f"{rbac}/clusterroles",
        _filled(
            lambda i: {"matchLabels": {f"l{i}": "x"}},
            lambda found: {"metadata": meta, "aggregationRule": {"clusterRoleSelectors": found}},
            size,
        ),
    )
    yield (
        "subjects",
        f"{rbac}/clusterrolebindings",
        _filled(
            lambda i: {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": f"u{i}"},
            lambda found: {
                "metadata": meta,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": found,
            },
            size,
        ),
    )
    yield (
        "expressions",
        "/apis/apps/v1/namespaces/default/deployments",
        _filled(
            lambda i: {"key": f"k{i}", "operator": "In", "values": ["a"]},
            lambda found: {
                "metadata": meta,
                "spec": {
                    "selector": {"matchExpressions": found},
                    "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
                },
            },
            size,
        ),
    )
    yield "many values", maps, _filled(lambda i: [f"k{i}", "x" * 200], lambda found: config(dict(found)), size)
    yield (
        "annotations",
        maps,
        _filled(
            lambda i: [f"example.com/a{i}", "x"],
            lambda f: {"metadata": {**meta, "annotations": dict(f)}},
            min(size, 600_000),
        ),
    )
    yield (
        "node ports",
        f"{_NS}/services",
        _filled(
            lambda i: {"name": f"p{i}", "port": i % 2700 + 1, "protocol": ("TCP", "UDP", "SCTP")[i // 2700 % 3]},
            lambda found: {"metadata": meta, "spec": {"type": "NodePort", "ports": found}},
            size,
        ),
    )
    yield (
        "external addresses",
        f"{_NS}/services",
        _filled(
            lambda i: f"1.{i >> 16}.{i >> 8 & 255}.{i & 255}",
            lambda found: {"metadata": meta, "spec": {"externalIPs": found, "ports": [{"port": 80}]}},
            size,
        ),
    )
    yield (
        "cluster addresses",
        f"{_NS}/services",
        _filled(
            lambda i: "10.96.9.9",
            lambda f: {"metadata": meta, "spec": {"clusterIPs": f, "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}},
            size,
        ),
    )
    yield (
        "addresses and ports",
        f"{_NS}/endpoints",
        _filled(
            lambda i: [{"ip": f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}"}, {"name": f"p{i}", "port": i % 65535 + 1}],
            lambda found: {
                "metadata": meta,
                "subsets": [{"addresses": [one[0] for one in found], "ports": [one[1] for one in found]}],
            },
            size,
        ),
    )
    yield (
        "template",
        "/apis/apps/v1/namespaces/default/deployments",
        _filled(
            lambda i: {"name": f"c{i}", "image": "i", "ports": [{"containerPort": i % 65535 + 1}]},
            lambda found: {
                "metadata": meta,
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": found}},
                },
            },
            size,
        ),
    )
    yield (
        "selector values",
        "/apis/apps/v1/namespaces/default/deployments",
        _filled(
            lambda i: f"v{i}",
            lambda found: {
                "metadata": meta,
                "spec": {
                    "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": found}]},
                    "template": {
                        "metadata": {"labels": {"a": "v1"}},
                        "spec": {"containers": [{"name": "c", "image": "i"}]},
                    },
                },
            },
            size,
        ),
    )
    yield (
        "node affinity",
        pods,
        _filled(
            lambda i: {"matchExpressions": [{"key": f"k{i}", "operator": "Gt", "values": ["1"]}]},
            lambda found: pod(
                {
                    "affinity": {
                        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": found}}
                    }
                }
            ),
            size,
        ),
    )
    yield (
        "pod affinity",
        pods,
        _filled(
            lambda i: {"topologyKey": "a", "labelSelector": {"matchLabels": {f"k{i}": "v"}}},
            lambda found: pod(
                {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": found}}}
            ),
            size,
        ),
    )
    yield (
        "scheduling gates",
        pods,
        _filled(lambda i: {"name": f"g{i}"}, lambda found: pod({"schedulingGates": found}), size),
    )
    yield (
        "projected sources",
        pods,
        _filled(
            lambda i: {"configMap": {"name": f"c{i}"}},
            lambda found: pod({"volumes": [{"name": "v", "projected": {"sources": found}}]}),
            size,
        ),
    )
    yield (
        "namespace finalizers",
        "/api/v1/namespaces",
        _filled(lambda i: f"a/f{i}", lambda found: {"metadata": meta, "spec": {"finalizers": found}}, size),
    )
    yield (
        "event",
        f"{_NS}/events",
        _encode({"metadata": meta, "involvedObject": {"namespace": "default"}, "message": "x" * (size - 300)}),
    )
    yield (
        "names",
        f"{rbac}/namespaces/default/roles",
        _filled(
            lambda i: {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": [f"n{i}"]},
            lambda found: {"metadata": meta, "rules": found},
            size,
        ),
    )
    yield (
        "taints",
        "/api/v1/nodes",
        _filled(
            lambda i: {"key": "k", "effect": "NoSchedule"},
            lambda found: {"metadata": meta, "spec": {"taints": found}},
            size,
        ),
    )


def _patches(size: int) -> Iterator[tuple[str, str, str, bytes]]:
    """(name, target, media type, patch)."""
    doubling = [{"op": "add", "path": "/metadata/annotations", "value": {"a": "x" * 100, "l": [[1]]}}]
    doubling += [{"op": "copy", "from": "/metadata/annotations", "path": "/metadata/annotations/b"}] * 30
    yield "copies", _MAP, PATCH, _encode(doubling)
    yield (
        "copies of the whole",
        _MAP,
        PATCH,
        _encode([{"op": "copy", "from": "", "path": f"/x{index}"} for index in range(40)]),
    )
    yield (
        "operations",
        _MAP,
        PATCH,
        _filled(lambda i: {"op": "add", "path": f"/data/k{i}", "value": ""}, list, min(size, 500_000)),
    )
    yield "too many operations", _MAP, PATCH, _filled(lambda i: {"op": "test", "path": "", "value": 1}, list, 2 * size)
    yield (
        "operations at the front",
        _MAP,
        PATCH,
        _encode(
            [
                {"op": "add", "path": "/x", "value": [0] * (size // 4)},
                *[{"op": "add", "path": "/x/0", "value": 0}] * 9_000,
            ]
        ),
    )
    yield (
        "tests",
        _MAP,
        PATCH,
        _encode(
            [
                {"op": "add", "path": "/x", "value": [0] * 20_000},
                {"op": "copy", "from": "/x", "path": "/y"},
                {"op": "test", "path": "/x", "value": 0},
            ]
        ),
    )
    yield (
        "moves",
        _MAP,
        PATCH,
        _encode(
            [{"op": "add", "path": "/x", "value": {"a": {}}}, *[{"op": "move", "from": "/x", "path": "/x"}] * 9_000]
        ),
    )
    yield "pointers", _MAP, PATCH, _encode([{"op": "remove", "path": "/a" * (size // 2 - 50)}])
    yield "merged keys", _MAP, MERGE, _filled(lambda i: [f"k{i}", "v"], lambda found: {"data": dict(found)}, size)
    yield "removed keys", _MAP, MERGE, _filled(lambda i: [f"k{i}", None], lambda found: {"data": dict(found)}, size)
    yield "deep merge", _MAP, MERGE, b'{"data":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"
    yield (
        "merged containers",
        _POD,
        STRATEGIC,
        _filled(lambda i: {"name": f"c{i}", "image": "i"}, lambda found: {"spec": {"containers": found}}, size),
    )
    yield (
        "merged environment",
        _POD,
        STRATEGIC,
        _filled(
            lambda i: {"name": f"E{i}"}, lambda found: {"spec": {"containers": [{"name": "c", "env": found}]}}, size
        ),
    )
    yield (
        "order",
        _POD,
        STRATEGIC,
        _filled(lambda i: {"name": f"c{i}"}, lambda found: {"spec": {"$setElementOrder/containers": found}}, size),
    )
    yield (
        "set",
        _POD,
        STRATEGIC,
        _filled(lambda i: f"f{i}", lambda found: {"metadata": {"$deleteFromPrimitiveList/finalizers": found}}, size),
    )
    yield (
        "directives",
        _POD,
        STRATEGIC,
        _filled(lambda i: {"name": f"c{i}", "$patch": "delete"}, lambda found: {"spec": {"containers": found}}, size),
    )


def _posts(size: int) -> Iterator[tuple[str, str, str, bytes]]:
    """(name, method, target, JSON) of requests that store nothing of their own."""
    review = "/apis/authorization.k8s.io/v1"
    attributes = {"namespace": "default", "verb": "get", "resource": "pods"}
    yield (
        "groups",
        "POST",
        f"{review}/subjectaccessreviews",
        _filled(
            lambda i: f"g{i}", lambda f: {"spec": {"user": "u", "groups": f, "resourceAttributes": attributes}}, size
        ),
    )
    yield (
        "extra",
        "POST",
        f"{review}/subjectaccessreviews",
        _filled(
            lambda i: [f"k{i}", ["v"]],
            lambda f: {"spec": {"user": "u", "extra": dict(f), "resourceAttributes": attributes}},
            size,
        ),
    )
    yield (
        "field requirements",
        "POST",
        f"{review}/selfsubjectaccessreviews",
        _filled(
            lambda i: {"key": f"k{i}", "operator": "In", "values": ["v"]},
            lambda f: {"spec": {"resourceAttributes": {**attributes, "fieldSelector": {"requirements": f}}}},
            size,
        ),
    )
    yield (
        "path",
        "POST",
        f"{review}/selfsubjectaccessreviews",
        _encode({"spec": {"nonResourceAttributes": {"path": "/" + "a/" * (size // 2 - 100), "verb": "get"}}}),
    )
    yield (
        "delete options",
        "DELETE",
        f"{_NS}/configmaps/none",
        _filled(lambda i: "All", lambda f: {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": f}, size),
    )
    yield (
        "binding",
        "POST",
        f"{_POD}/binding",
        _filled(
            lambda i: [f"k{i}", "v"],
            lambda f: {"metadata": {"name": "big", "annotations": dict(f)}, "target": {"name": "none"}},
            size,
        ),
    )
    yield (
        "finalize",
        "PUT",
        "/api/v1/namespaces/kube-system/finalize",
        _filled(lambda i: f"a b{i}", lambda f: {"metadata": {"name": "kube-system"}, "spec": {"finalizers": f}}, size),
    )
    yield (
        "replace",
        "PUT",
        _MAP,
        _filled(lambda i: [f"n{i}", "v"], lambda f: {"metadata": {"name": "big"}, "data": dict(f)}, size),
    )
    yield (
        "replace a pod",
        "PUT",
        _POD,
        _filled(
            lambda i: {"name": f"F{i}", "value": "v"},
            lambda f: {"metadata": {"name": "big"}, "spec": {"containers": [{"name": "c", "image": "i", "env": f}]}},
            size,
        ),
    )
    yield (
        "status",
        "PUT",
        f"{_POD}/status",
        _filled(
            lambda i: {"type": f"a/t{i}", "status": "True"},
            lambda f: {
                "metadata": {"name": "big"},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": "Pending", "conditions": f},
            },
            size,
        ),
    )


def _protobuf(size: int) -> Iterator[tuple[str, bytes]]:
    def message(kind: str, raw: bytes) -> bytes:
        meta = length_delimited(1, b"v1") + length_delimited(2, kind.encode())
        return MAGIC + length_delimited(1, meta) + length_delimited(2, raw)

    small = size - 100
    yield "entries", message("ConfigMap", length_delimited(2, b"") * (small // 2))
    named = length_delimited(1, length_delimited(1, b"fuzz"))
    entries = (length_delimited(2, length_delimited(1, b"k%d" % i) + b"\x12\x00") for i in range(MAX_VALUES // 3 - 10))
    yield "keys", message("ConfigMap", (named + b"".join(entries))[:small])
    yield "unknown", message("ConfigMap", b"\xf8\x07\x00" * (small // 3))
    yield "nested", message("Pod", _deep(min(small // 8, 5000)))
    yield "one string", message("ConfigMap", length_delimited(2, length_delimited(1, b"k" * (small - 20))))


def _deep(levels: int) -> bytes:
    found = b""
    for _ in range(levels):
        found = length_delimited(2, found)
    return found


def _yaml(size: int) -> Iterator[tuple[str, bytes]]:
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{index}: &a{index} [{', '.join([f'*a{index - 1}'] * 10)}]" for index in range(1, 12)]
    yield "aliases", "\n".join(bomb).encode()
    merges = ["a0: &a0 {k0: v}"]
    merges += [
        f"a{index}: &a{index} {{<<: [{', '.join([f'*a{index - 1}'] * 20)}], k{index}: v}}" for index in range(1, 9)
    ]
    yield "merges", "\n".join(merges).encode()
    yield "items", b"x:\n" + b"- a\n" * (size // 4 - 10)
    yield "flow", b"[" + b"a," * (size // 2 - 10) + b"a]"
    yield "keys", b"".join(b"k%d: v\n" % index for index in range(size // 14))
    yield "nesting", b"[" * (size - 10)
    yield "a long scalar", b"a: '" + b"x" * (size - 10) + b"'"
    yield "a long plain scalar", b"a: " + b"x " * (size // 2 - 10)
    yield "a number in base 60", b"a: 1" + b":1" * (size // 2 - 10)
    yield "a long number", b"a: " + b"1" * (size - 10)
    yield "a long hexadecimal number", b"a: 0x" + b"f" * (size - 10)
    yield "comments", b"# x\n" * (size // 4 - 10) + b"a: b"
    yield "anchors", b"".join(b"- &a%d x\n" % index for index in range(size // 14))
    yield "documents", b"---\n" * (size // 4 - 10)
    yield "indentation", b"a:\n" + b" " * (size - 10) + b"b"
    yield "binary", b"a: !!binary " + b"QUFB" * (size // 4 - 10)
    yield "sets", b"a: !!set {" + b"".join(b"k%d, " % index for index in range(size // 10)) + b"}"


def shapes(size: int = LIMIT) -> Iterator[Shape]:
    """Every shape, each of at most `size` bytes."""
    for name, target, body in _bodies(size):
        yield Shape(f"JSON: {name}", "POST", target, body[:LIMIT], {"content-type": JSON})
        query = "?fieldValidation=Strict&pretty=true"
        yield Shape(f"JSON, strict: {name}", "POST", target + query, body[:LIMIT], {"content-type": JSON})
    for name, target, kind, body in _patches(size):
        yield Shape(f"patch: {name}", "PATCH", target, body[:LIMIT], {"content-type": kind})
    for name, body in _yaml(size):
        yield Shape(f"YAML: {name}", "POST", f"{_NS}/configmaps", body[:LIMIT], {"content-type": YAML})
    for name, method, target, body in _posts(size):
        yield Shape(f"post: {name}", method, target, body[:LIMIT], {"content-type": JSON})
    for name, body in _protobuf(size):
        yield Shape(f"protobuf: {name}", "POST", f"{_NS}/configmaps", body[:LIMIT], {"content-type": MEDIA_TYPE})
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    for name, accept in (("JSON", JSON), ("a Table", table), ("YAML", YAML)):
        for pretty in ("", "?pretty=true"):
            shown = f"{name} for people" if pretty else name
            yield Shape(f"list as {shown}", "GET", f"{_NS}/configmaps{pretty}", b"", {"accept": accept})
            yield Shape(f"get as {shown}", "GET", _MAP + pretty, b"", {"accept": accept})
            yield Shape(f"get a pod as {shown}", "GET", _POD + pretty, b"", {"accept": accept})
    yield Shape(
        "a small patch of a large object", "PATCH", _POD, b'{"metadata":{"labels":{"a":"b"}}}', {"content-type": MERGE}
    )
    yield Shape("list of everything", "GET", "/api/v1/configmaps?limit=100000")
    yield Shape("dry deletion of all", "DELETE", f"{_NS}/configmaps?dryRun=All")
    query = 60_000
    for name, selector in (
        ("absent", ",".join(f"!k{index}" for index in range(query // 8))),
        ("set", "a in (" + ",".join(f"v{index}" for index in range(query // 8)) + ")"),
        ("same", ",".join(["a!=b"] * (query // 5))),
        ("malformed", "(" * query),
    ):
        yield Shape(f"label selector: {name}", "GET", f"{_NS}/configmaps?labelSelector={quote(selector, safe='')}")
    for name, selector in (
        ("terms", ",".join(f"metadata.name!=a{index}" for index in range(query // 20))),
        ("escapes", "metadata.name=" + "\\," * (query // 2)),
        ("backslashes", "\\" * query),
        ("exclamations", "!" * query),
    ):
        yield Shape(f"field selector: {name}", "GET", f"{_NS}/configmaps?fieldSelector={quote(selector, safe='')}")
    yield Shape("query fields", "GET", f"{_NS}/configmaps?" + "&".join(f"a{index}" for index in range(query // 8)))
    yield Shape("continue", "GET", f"{_NS}/configmaps?limit=1&continue=" + "A" * query)
    yield Shape("accept", "GET", f"{_NS}/configmaps", b"", {"accept": "a/b;q=0.1," * 6000})


def mutated(seed: int, count: int, size: int = LIMIT) -> Iterator[Shape]:
    """Shapes whose bytes are cut, doubled and exchanged at random."""
    chance = random.Random(seed)
    known = [shape for shape in shapes(size) if shape.body]
    for number in range(count):
        shape = chance.choice(known)
        body = bytearray(shape.body)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(body) or 1)
            length = chance.choice((1, 2, 10, 1000))
            match chance.randrange(4):
                case 0:
                    del body[at : at + length]
                case 1:
                    body[at:at] = body[at : at + length]
                case 2:
                    body[at : at + 1] = chance.choice((b"{", b"}", b"[", b"]", b'"', b":", b",", b"-", b"&a ", b"*a"))
                case _:
                    body[at:at] = chance.randbytes(min(length, 10))
        yield Shape(f"{shape.name}, mutated {number}", shape.method, shape.target, bytes(body[:LIMIT]), shape.headers)
