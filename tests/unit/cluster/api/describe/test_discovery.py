"""Discovery and OpenAPI documents of the built-in types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.describe.discovery import Discovery
from hatchway.cluster.api.describe.openapi import OpenAPI
from hatchway.cluster.api.describe.openapi_docs import descriptions
from hatchway.cluster.api.registry.types import ROWS

DISCOVERY = Discovery(ROWS, "10.199.0.1:6443")
OPENAPI = OpenAPI(ROWS)
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList,application/json"


def get(path: str, accept: str = "") -> Any:
    document = DISCOVERY.document(path, accept)
    assert document is not None
    return json.loads(document.body)


def recorded(number: str) -> Any:
    path = Path(__file__).parents[4] / "conformance" / "api.jsonl"
    for line in path.read_text().splitlines():
        exchange = json.loads(line)
        if exchange["id"] == number:
            return json.loads(exchange["response"]["body"])
    raise AssertionError(f"no recording {number}")


def test_api_is_as_recorded() -> None:
    there = {**recorded("010"), "serverAddressByClientCIDRs": get("/api")["serverAddressByClientCIDRs"]}
    assert get("/api") == get("/api/") == there


def test_a_group_is_as_recorded() -> None:
    assert get("/apis/apps") == recorded("014")


def test_groups_are_in_the_order_of_a_real_server() -> None:
    ours = [one["name"] for one in get("/apis")["groups"]]
    theirs = [one["name"] for one in recorded("011")["groups"]]
    assert ours == [name for name in theirs if name in ours]


@pytest.mark.parametrize(("path", "number"), [("/api/v1", "012"), ("/apis/apps/v1", "013")])
def test_resources_are_as_recorded(path: str, number: str) -> None:
    ours, theirs = get(path), recorded(number)
    assert {**ours, "resources": []} == {**theirs, "resources": []}
    known = {one["name"]: one for one in theirs["resources"]}
    for one in ours["resources"]:
        # Releases newer than the recorded release have singular names, policy/v1 for evictions, and deletecollection
        # for services.
        expected = {**known[one["name"]], "singularName": one["singularName"]}
        if one["name"] == "pods/eviction":
            expected["version"] = "v1"
        if one["name"] == "services":
            expected["verbs"] = one["verbs"]
        assert one == expected


@pytest.mark.parametrize("path", ["/api/v2", "/apis/nope", "/apis/apps/v2", "/apis/apps/v1/x", "/apis//v1", "/nope"])
def test_paths_without_a_document(path: str) -> None:
    assert DISCOVERY.document(path) is None


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
def test_aggregated_discovery(version: str) -> None:
    document = DISCOVERY.document("/apis", AGGREGATED.format(version))
    assert document is not None
    assert document.content_type == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    found = json.loads(document.body)
    assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", f"apidiscovery.k8s.io/{version}")
    apps = next(one for one in found["items"] if one["metadata"]["name"] == "apps")
    deployments = next(one for one in apps["versions"][0]["resources"] if one["resource"] == "deployments")
    assert deployments["scope"] == "Namespaced"
    assert deployments["subresources"][0] == {
        "subresource": "scale",
        "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
        "verbs": ["get", "patch", "update"],
    }
    core = get("/api", AGGREGATED.format(version))
    assert "name" not in core["items"][0]["metadata"]
    names = {one["resource"] for one in core["items"][0]["versions"][0]["resources"]}
    assert names == {row.plural for row in ROWS if not row.group}


def test_other_requests_get_discovery_that_is_not_aggregated() -> None:
    assert get("/apis", "application/json;as=Table;v=v1;g=meta.k8s.io")["kind"] == "APIGroupList"
    assert get("/api/v1", AGGREGATED.format("v2"))["kind"] == "APIResourceList"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value and isinstance(value["$ref"], str):
            yield value["$ref"]
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield path, method, operation


def documents() -> Iterator[dict[str, Any]]:
    for path, entry in json.loads(OPENAPI.index().body)["paths"].items():
        assert entry["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=")
        document = OPENAPI.v3(path)
        assert document is not None
        yield json.loads(document.body)


def test_every_reference_has_a_definition() -> None:
    for document in documents():
        for reference in references(document):
            assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    v2 = json.loads(OPENAPI.v2().body)
    for reference in references(v2):
        assert reference.removeprefix("#/definitions/") in v2["definitions"]


def test_writes_take_field_validation() -> None:
    """Without this parameter in the document, kubectl would validate objects itself, by OpenAPI v2 in protobuf."""
    patched = set()
    for document in [*documents(), json.loads(OPENAPI.v2().body)]:
        for path, method, operation in operations(document):
            if method in ("patch", "put", "post") and operation["x-kubernetes-action"] != "connect":
                names = {one["name"] for one in operation.get("parameters", ())}
                assert "fieldValidation" in names, path
            if method == "patch":
                patched.add(operation["x-kubernetes-group-version-kind"]["kind"])
    assert {row.kind for row in ROWS if "patch" in row.verbs} <= patched


def test_operations_have_names_of_their_own() -> None:
    found = [operation["operationId"] for _, _, operation in operations(json.loads(OPENAPI.v2().body))]
    assert len(found) == len(set(found))


def test_a_schema() -> None:
    document = OPENAPI.v3("api/v1")
    assert document is not None
    schemas = json.loads(document.body)["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["items"] == {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}
    assert schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"] == [
        {"group": "", "kind": "Pod", "version": "v1"}
    ]
    assert schemas["io.k8s.api.core.v1.ContainerPort"]["required"] == ["containerPort"]


def test_a_document_keeps_its_hash_and_another_type_changes_it() -> None:
    assert OpenAPI(ROWS).index().body == OPENAPI.index().body
    assert OpenAPI(row for row in ROWS if row.plural != "pods").index().body != OPENAPI.index().body
    assert OPENAPI.v3("apis/nope/v1") is None
    assert OPENAPI.v3("api/v1") is OPENAPI.v3("/api/v1")


def test_descriptions_come_from_the_installed_models() -> None:
    summary, fields = descriptions("core.v1.ServicePort")
    assert summary
    assert "port" in fields["port"]
    assert descriptions("nope.v1.Nope") == ("", {})
