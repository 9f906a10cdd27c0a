"""OpenAPI documents of custom types, compared with Kubernetes' documents for the same definitions.

`custom_openapi.json` has definitions, and the results of `BuildOpenAPIV2` (with `PruneDefaults`) and `BuildOpenAPIV3`
of apiextensions-apiserver (`pkg/controller/openapi/builder`, 1.36) for them. `whole`: three schemas of
`test/e2e/apimachinery/crd_publish_openapi.go`, and one definition with selectable fields and a scale. `parts`: schemas
of `spec`, each with one property that needs special treatment.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customrows import custom_rows
from hatchway.cluster.api.describe.openapi import OpenAPI
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.resource import Resource

_EXPECTED: dict[str, Any] = json.loads(Path(__file__).with_name("custom_openapi.json").read_text())
_WHOLE: list[dict[str, Any]] = _EXPECTED["whole"]
_PARTS: dict[str, dict[str, Any]] = _EXPECTED["parts"]


def rows(definition: dict[str, Any]) -> list[Resource]:
    """Return the rows of a definition whose objects are not converted by webhooks."""
    return list(custom_rows(definition, ConversionWebhooks(WebhookClient()), lambda _obj: 0))


def documents(definition: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the documents of OpenAPI v2 and v3."""
    made = OpenAPI(rows(definition))
    v3 = made.v3(f"apis/{definition['spec']['group']}/v1")
    assert v3 is not None
    return json.loads(made.v2().body), json.loads(v3.body)


def named(schemas: dict[str, Any]) -> dict[str, Any]:
    return {name: schema for name, schema in schemas.items() if not name.startswith("io.k8s.")}


@pytest.mark.parametrize("expected", _WHOLE, ids=lambda one: one["definition"]["spec"]["names"]["kind"])
def test_definitions_of_a_type_and_its_list(expected: dict[str, Any]) -> None:
    v2, v3 = documents(expected["definition"])
    assert named(v2["definitions"]) == expected["v2"]
    assert named(v3["components"]["schemas"]) == expected["v3"]


def test_every_kind_of_property() -> None:
    """One definition has all these properties, in each of its versions."""
    definition = copy.deepcopy(_WHOLE[0]["definition"])
    root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    root["properties"] = {name: part["schema"] for name, part in _PARTS.items()}
    v2, v3 = documents(definition)
    name = next(name for name in _WHOLE[0]["v2"] if not name.endswith("List"))
    found_v2 = v2["definitions"][name]["properties"]
    found_v3 = v3["components"]["schemas"][name]["properties"]
    for part, expected in _PARTS.items():
        assert (part, found_v2[part]) == (part, expected["v2"])
        assert (part, found_v3[part]) == (part, expected["v3"])


def test_operations_of_a_type() -> None:
    definition = _WHOLE[-1]["definition"]
    group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
    v2, _ = documents(definition)
    replaced = v2["paths"][f"/apis/{group}/v1/{plural}/{{name}}/scale"]["put"]
    # The body is a Scale, but the operation belongs to the custom type.
    assert replaced["operationId"] == "replaceTestSelectingExampleComV1SelectingScale"
    assert replaced["x-kubernetes-group-version-kind"] == {"group": group, "kind": "Selecting", "version": "v1"}
    assert replaced["parameters"][-1]["schema"] == {"$ref": "#/definitions/io.k8s.api.autoscaling.v1.Scale"}
    assert replaced["consumes"] == ["application/json", "application/yaml"]


def test_the_hash_of_the_document_changes_with_its_selectable_fields() -> None:
    definition = copy.deepcopy(_WHOLE[-1]["definition"])
    before = OpenAPI(rows(definition)).index().body
    del definition["spec"]["versions"][0]["selectableFields"]
    assert OpenAPI(rows(definition)).index().body != before
