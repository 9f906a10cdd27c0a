"""Valid Ingresses and IngressClasses, and valid changes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.api.world import Reply, World, world

GROUP = "/apis/networking.k8s.io/v1"
INGRESSES, CLASSES = f"{GROUP}/namespaces/default/ingresses", f"{GROUP}/ingressclasses"
MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
BACKEND = {"service": {"name": "web", "port": {"number": 80}}}
HTTP = {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


def path(**fields: Any) -> dict[str, Any]:
    return {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND, **fields}]}}]}


async def create(made: World, spec: dict[str, Any] | None, name: str = "web", **metadata: Any) -> Reply:
    body = {"metadata": {"name": name, **metadata}, **({} if spec is None else {"spec": spec})}
    return await made.send("POST", INGRESSES, body)


async def create_class(made: World, name: str, *, default: str = "", **spec: Any) -> Reply:
    annotations = {"ingressclass.kubernetes.io/is-default-class": default} if default else {}
    body = {
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"controller": "example.com/ingress", **spec},
    }
    return await made.send("POST", CLASSES, body)


def errors(reply: Reply) -> list[tuple[str, str]]:
    assert reply.status == 422, reply.json
    return [(one["field"], one["message"]) for one in reply.json["details"]["causes"]]


async def test_what_is_created(made: World) -> None:
    spec = {"rules": [{"host": "web.example", "http": HTTP}], "tls": [{"hosts": ["*.example"], "secretName": "tls"}]}
    reply = await create(made, spec)
    assert reply.status == 201, reply.json
    assert reply.json["spec"] == spec
    assert reply.json["status"] == {"loadBalancer": {}}
    assert reply.json["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        (None, "spec", "Invalid value: null: either `defaultBackend` or `rules` must be specified"),
        (path(pathType=None), "spec.rules[0].http.paths[0].pathType", "Required value: pathType must be specified"),
        (
            path(pathType="Regex"),
            "spec.rules[0].http.paths[0].pathType",
            'Unsupported value: "Regex": supported values: "Exact", "ImplementationSpecific", "Prefix"',
        ),
        (path(path=""), "spec.rules[0].http.paths[0].path", 'Invalid value: "": must be an absolute path'),
        (path(path="/a//b"), "spec.rules[0].http.paths[0].path", "Invalid value: \"/a//b\": must not contain '//'"),
        (path(path="/a/.."), "spec.rules[0].http.paths[0].path", "Invalid value: \"/a/..\": cannot end with '/..'"),
        (
            path(path="x", pathType="ImplementationSpecific"),
            "spec.rules[0].http.paths[0].path",
            'Invalid value: "x": must be an absolute path',
        ),
        ({"rules": [{"http": {"paths": []}}]}, "spec.rules[0].http.paths", "Required value"),
        (
            {"rules": [{"host": "10.0.0.1"}]},
            "spec.rules[0].host",
            'Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
        ),
        (
            path(backend={}),
            "spec.rules[0].http.paths[0].backend",
            'Invalid value: "": resource or service backend is required',
        ),
        (
            {"defaultBackend": {"service": {"name": "web", "port": {"name": "http", "number": 80}}}},
            "spec.defaultBackend",
            'Invalid value: "": cannot set both port name & port number',
        ),
        (
            {"defaultBackend": {"service": {"name": "web"}}},
            "spec.defaultBackend",
            "Required value: port name or number is required",
        ),
        (
            {"defaultBackend": {"service": {"name": "web", "port": {"number": 70000}}}},
            "spec.defaultBackend.service.port.number",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            {"defaultBackend": {"service": {"port": {"number": 80}}}},
            "spec.defaultBackend.service.name",
            "Required value",
        ),
        (
            {"defaultBackend": {**BACKEND, "resource": {"kind": "Bucket", "name": "b"}}},
            "spec.defaultBackend",
            'Invalid value: "": cannot set both resource and service backends',
        ),
        (
            {"defaultBackend": {"resource": {"kind": "Bucket", "name": "a/b"}}},
            "spec.defaultBackend.resource.name",
            "Invalid value: \"a/b\": may not contain '/'",
        ),
    ],
)
async def test_what_is_refused(made: World, spec: dict[str, Any] | None, field: str, message: str) -> None:
    assert errors(await create(made, spec)) == [(field, message)]


@pytest.mark.parametrize("host", ["*", "*.", "a.*.example", "*example", "Upper.example", "a_b.example"])
async def test_hosts_that_are_refused(made: World, host: str) -> None:
    found = errors(await create(made, {"rules": [{"host": host}], "tls": [{"hosts": [host]}]}))
    assert [field for field, _ in found] == ["spec.rules[0].host", "spec.tls[0].hosts[0]"]
    assert ("a wildcard DNS-1123 subdomain must start with '*.'" in found[0][1]) == ("*" in host)


async def test_class_and_annotation_must_agree_only_at_creation(made: World) -> None:
    annotation = {"kubernetes.io/ingress.class": "nginx"}
    spec = {"ingressClassName": "other", "defaultBackend": BACKEND}
    assert errors(await create(made, spec, annotations=annotation)) == [
        (
            "annotations.kubernetes.io/ingress.class",
            'Invalid value: "nginx": must match `ingressClassName` when both are specified',
        )
    ]
    assert (await create(made, spec)).status == 201
    reply = await made.send("PATCH", f"{INGRESSES}/web", {"metadata": {"annotations": annotation}}, MERGE)
    assert reply.status == 200, reply.json


async def test_default_class(made: World) -> None:
    assert "ingressClassName" not in (await create(made, {"defaultBackend": BACKEND}, "before")).json["spec"]
    assert (await create_class(made, "other")).status == 201
    assert (await create_class(made, "b", default="true")).status == 201
    assert (await create_class(made, "no", default="false")).status == 201
    assert (await create(made, {"defaultBackend": BACKEND}, "after")).json["spec"]["ingressClassName"] == "b"
    named = await create(made, {"defaultBackend": BACKEND, "ingressClassName": "other"}, "named")
    assert named.json["spec"]["ingressClassName"] == "other"
    annotated = await create(
        made, {"defaultBackend": BACKEND}, "annotated", annotations={"kubernetes.io/ingress.class": "nginx"}
    )
    assert "ingressClassName" not in annotated.json["spec"]


async def test_large_ingress_gets_the_default_class(made: World) -> None:
    await create_class(made, "b", default="true")
    paths = [{"path": f"/{index:05}", "pathType": "Exact", "backend": BACKEND} for index in range(3000)]
    reply = await create(made, {"rules": [{"host": "many.example", "http": {"paths": paths}}]})
    assert reply.status == 201, reply.json
    assert reply.json["spec"]["ingressClassName"] == "b"


async def test_status_is_a_subresource(made: World) -> None:
    created = (await create(made, {"defaultBackend": BACKEND})).json
    status = {"loadBalancer": {"ingress": [{"ip": "127.64.0.1"}]}}
    spec = {"defaultBackend": {"service": {"name": "other", "port": {"number": 1}}}}
    changed = await made.send("PUT", f"{INGRESSES}/web/status", {**created, "status": status, "spec": spec})
    assert (changed.json["status"], changed.json["spec"]) == (status, created["spec"])
    again = await made.send("PUT", f"{INGRESSES}/web", {**changed.json, "status": {}, "spec": spec})
    assert (again.json["status"], again.json["metadata"]["generation"]) == (status, 2)
    bad = {"loadBalancer": {"ingress": [{"ip": "x", "hostname": "10.0.0.1"}]}}
    reply = await made.send("PATCH", f"{INGRESSES}/web/status", {"status": bad}, MERGE)
    assert [field for field, _ in errors(reply)] == [
        "status.loadBalancer.ingress[0].ip",
        "status.loadBalancer.ingress[0].hostname",
    ]


async def test_table(made: World) -> None:
    rules = [{"host": f"{letter}.example", "http": HTTP} for letter in "abcd"]
    await create(made, {"ingressClassName": "x", "rules": rules, "tls": [{"hosts": ["a.example"]}]}, "many")
    await create(made, {"defaultBackend": BACKEND}, "one")
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "127.64.0.1"}, {"hostname": "lb.example"}]}}}
    await made.send("PATCH", f"{INGRESSES}/one/status", status, MERGE)
    table = (await made.send("GET", INGRESSES, headers=TABLE)).json
    assert [column["name"] for column in table["columnDefinitions"]] == [
        "Name",
        "Class",
        "Hosts",
        "Address",
        "Ports",
        "Age",
    ]
    assert [row["cells"][:5] for row in table["rows"]] == [
        ["many", "x", "a.example,b.example,c.example + 1 more...", "", "80, 443"],
        ["one", "<none>", "*", "127.64.0.1,lb.example", "80"],
    ]


async def test_classes(made: World) -> None:
    reply = await create_class(made, "c", parameters={"apiGroup": "example.com", "kind": "Settings", "name": "s"})
    assert reply.json["spec"]["parameters"]["scope"] == "Cluster"
    await create_class(made, "d")
    table = (await made.send("GET", CLASSES, headers=TABLE)).json
    assert [row["cells"][:3] for row in table["rows"]] == [
        ["c", "example.com/ingress", "Settings.example.com/s"],
        ["d", "example.com/ingress", "<none>"],
    ]
    changed = await made.send("PATCH", f"{CLASSES}/d", {"spec": {"controller": "example.com/other"}}, MERGE)
    assert errors(changed) == [("spec.controller", 'Invalid value: "example.com/other": field is immutable')]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"controller": ""}, "spec.controller", "Required value"),
        (
            {"controller": "plain"},
            "spec.controller",
            'Invalid value: "plain": must be a domain-prefixed path (such as "acme.io/foo")',
        ),
        ({"controller": "a.b/" + "x" * 250}, "spec.controller", "Too long: may not be more than 250 bytes"),
        ({"parameters": {"name": "n"}}, "spec.parameters.kind", "Required value"),
        (
            {"parameters": {"kind": "K", "name": "n", "scope": "Other"}},
            "spec.parameters.scope",
            'Unsupported value: "Other": supported values: "Cluster", "Namespace"',
        ),
        (
            {"parameters": {"kind": "K", "name": "n", "scope": "Namespace"}},
            "spec.parameters.namespace",
            "Required value: `parameters.scope` is set to 'Namespace'",
        ),
        (
            {"parameters": {"kind": "K", "name": "n", "namespace": "default"}},
            "spec.parameters.namespace",
            "Forbidden: `parameters.scope` is set to 'Cluster'",
        ),
    ],
)
async def test_classes_that_are_refused(made: World, spec: dict[str, Any], field: str, message: str) -> None:
    assert errors(await create_class(made, "c", **spec)) == [(field, message)]
