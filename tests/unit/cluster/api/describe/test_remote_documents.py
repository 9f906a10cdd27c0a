"""OpenAPI v2 of aggregated API servers: the parts that are kept, and their merge into this server's document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.api.aggregation.remoteclient import RemoteError
from hatchway.cluster.api.aggregation.remoteopenapi import select_openapi_v2
from hatchway.cluster.api.describe.openapi import OpenAPI
from hatchway.cluster.api.describe.openapi_protobuf import encode_v2
from hatchway.cluster.api.describe.remoteversions import RemoteVersion
from hatchway.cluster.api.registry.types import ROWS

GVK = "x-kubernetes-group-version-kind"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
CART: dict[str, Any] = {
    "type": "object",
    "properties": {
        "metadata": {"$ref": f"#/definitions/{META}"},
        "items": {"type": "array", "items": {"$ref": "#/definitions/Item"}},
    },
    GVK: [
        {"group": "shop.example", "version": "v1", "kind": "Cart"},
        {"group": "apps", "version": "v1", "kind": "Deployment"},
    ],
}
BODY = {"in": "body", "name": "body", "schema": {"$ref": "#/definitions/Cart"}}
DOCUMENT: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "shop", "version": "1"},
    "parameters": {"pretty": {"in": "query", "name": "pretty", "type": "string", "description": "x" * 1000}},
    "paths": {
        "/apis/shop.example/v1/carts": {
            "post": {
                "operationId": "createCart",
                "parameters": [BODY, {"$ref": "#/parameters/pretty"}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Cart"}}},
                "x-kubernetes-action": "post",
                "deprecated": "perhaps",
            }
        },
        "/apis/apps/v1/deployments": {"get": {"responses": {"200": {"description": "taken over"}}}},
    },
    "definitions": {
        "Cart": CART,
        "Item": {"type": "object", "properties": {"again": {"$ref": "#/definitions/Item"}}},
        META: {"type": "object", "description": "another one than this server's"},
        "Unused": {"type": "object"},
    },
}


def select(document: Any) -> Any:
    return select_openapi_v2(json.dumps(document).encode(), "shop.example", "v1")


def merged(document: Any = DOCUMENT) -> tuple[Any, bytes]:
    openapi = OpenAPI(ROWS)
    version = RemoteVersion("shop.example", "v1", 1, 1, document=select(document))
    openapi.set_remote([version])
    protobuf = openapi.v2("application/com.github.proto-openapi.spec.v2.v1.0+protobuf").body
    return json.loads(openapi.v2().body), protobuf


def test_only_the_version_and_the_definitions_that_it_needs_are_kept() -> None:
    found = select(DOCUMENT)
    assert list(found.paths) == ["/apis/shop.example/v1/carts"]
    assert sorted(found.definitions) == ["Cart", "Item", META]
    operation = found.paths["/apis/shop.example/v1/carts"]["post"]
    assert operation["parameters"] == [BODY, {"in": "query", "name": "pretty", "type": "string"}]
    assert operation["x-kubernetes-action"] == "post" and "deprecated" not in operation
    # The definition of Deployment comes from the server of its API group.
    assert found.definitions["Cart"][GVK] == [{"group": "shop.example", "version": "v1", "kind": "Cart"}]


def test_a_definition_with_a_taken_name_gets_another_one() -> None:
    document, protobuf = merged()
    own = json.loads(OpenAPI(ROWS).v2().body)
    assert document["definitions"][META] == own["definitions"][META]
    assert document["definitions"][f"{META}_v2"] == DOCUMENT["definitions"][META]
    assert document["definitions"]["Cart"]["properties"]["metadata"] == {"$ref": f"#/definitions/{META}_v2"}
    assert document["paths"]["/apis/apps/v1/deployments"] == own["paths"]["/apis/apps/v1/deployments"]
    assert "/apis/shop.example/v1/carts" in document["paths"]
    assert protobuf == encode_v2(document)


def test_an_equal_definition_is_shared() -> None:
    own = json.loads(OpenAPI(ROWS).v2().body)["definitions"]
    document, _ = merged({**DOCUMENT, "definitions": {**DOCUMENT["definitions"], **own}})
    assert f"{META}_v2" not in document["definitions"]
    assert document["definitions"]["Cart"]["properties"]["metadata"] == {"$ref": f"#/definitions/{META}"}


@pytest.mark.parametrize(
    "definition",
    [
        {"$ref": "#/definitions/Nothing"},
        {"$ref": "https://example.com/schema"},
        {"$ref": 5},
        {"properties": {"a": 5}},
        5,
        {"default": json.loads("[" * 200 + "]" * 200)},
        json.loads('{"items":' * 200 + "{}" + "}" * 200),
    ],
)
def test_a_document_that_clients_would_refuse_is_left_out(definition: Any) -> None:
    with pytest.raises(RemoteError):
        select({**DOCUMENT, "definitions": {**DOCUMENT["definitions"], "Cart": definition}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"$ref": "#/definitions/Item"}),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "items",
                    "properties",
                    "get",
                    "parameters",
                    "responses",
                    "200",
                    "schema",
                    "in",
                    "name",
                    "$ref",
                    "x-kubernetes-a",
                    "enum",
                    GVK,
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_every_accepted_document_can_be_served(path: Any, definition: Any) -> None:
    definitions = {**DOCUMENT["definitions"], "Cart": definition}
    paths = {**DOCUMENT["paths"], "/apis/shop.example/v1/carts/x": path}
    try:
        found = select({**DOCUMENT, "paths": paths, "definitions": definitions})
    except RemoteError:
        return
    document = {
        "swagger": "2.0",
        "info": {"title": "", "version": ""},
        "paths": found.paths,
        "definitions": found.definitions,
    }
    assert encode_v2(document)
