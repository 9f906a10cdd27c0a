"""Makes the registry's rows for a CustomResourceDefinition (apiextensions-apiserver `customresource_handler.go`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hatchway.cluster.api.registry.custom.columns import column_printer
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.custom.definition import condition_is_true, is_ending, storage_version
from hatchway.cluster.api.registry.custom.scaling import ScalePaths
from hatchway.cluster.api.registry.custom.typeversions import (
    NoneConverter,
    TypeVersions,
    VersionConversion,
    VersionConverter,
)
from hatchway.cluster.api.registry.custom.webhookconverter import WebhookConverter
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.schema.table import GVK
from hatchway.cluster.api.registry.strategies.customobjects import CustomStrategy
from hatchway.kube.api import Object

__all__ = ["custom_rows"]

Json = Any

_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_CHANGES = ("get", "patch", "update")


def custom_rows(
    definition: Object, webhooks: ConversionWebhooks, weight: Callable[[Object], int]
) -> tuple[Resource, ...]:
    """Return the rows of the served versions, the stored version first; () until the definition is established.

    webhooks: calls the webhook that converts the objects, if the definition has one.
    weight: returns the bytes of JSON of a stored object of the type; 0 for a small object.
    """
    if not condition_is_true(definition, "Established"):
        return ()
    # A client can write the status. A false status must not make the definition serve another definition's objects.
    accepted = definition["status"].get("acceptedNames") or {}
    if accepted.get("plural") != definition["spec"]["names"]["plural"] or not accepted.get("kind"):
        return ()
    stored = storage_version(definition)
    versions = sorted(definition["spec"]["versions"], key=lambda one: one["name"] != stored)
    served = [one for one in versions if one.get("served")]
    if not served and is_ending(definition):
        # The objects can be deleted only while their type is served.
        served = versions[:1]
    known = _versions(definition, stored, weight)
    converter = _converter(definition, known, webhooks)
    return tuple(_row(definition, one, known, converter) for one in served)


def _row(
    definition: Object, version: Mapping[str, Json], versions: TypeVersions, converter: VersionConverter
) -> Resource:
    spec = definition["spec"]
    names = definition["status"]["acceptedNames"]
    group, name, kind = spec["group"], version["name"], names["kind"]
    api_version = f"{group}/{name}"
    schema = versions.schema(api_version, "to")
    subresources = version.get("subresources") or {}
    scale = ScalePaths.of(subresources.get("scale"))
    parts = []
    if subresources.get("status") is not None:
        parts.append(Subresource("status", _CHANGES))
    if scale is not None:
        parts.append(Subresource("scale", _CHANGES, "Scale", "autoscaling", "v1", scale=scale))
    # Objects are served exactly as they are stored if the type has no defaults and never had another version.
    is_plain = len(spec["versions"]) == 1 and definition["metadata"].get("generation") == 1 and not schema.has_defaults
    deprecation = ""
    if version.get("deprecated"):
        deprecation = version.get("deprecationWarning") or f"{group}/{name} {kind} is deprecated"
    strategy = CustomStrategy(
        schema,
        has_status=subresources.get("status") is not None,
        scale=scale,
        selectable=schema.selectable,
        deprecation=deprecation,
        is_ending=is_ending(definition),
    )
    return Resource(
        group,
        name,
        names["plural"],
        names.get("singular") or kind.lower(),
        kind,
        spec["scope"] == "Namespaced",
        tuple(names.get("shortNames") or ()),
        tuple(names.get("categories") or ()),
        verbs=_VERBS,
        subresources=tuple(parts),
        strategy=strategy,
        printer=column_printer(version.get("additionalPrinterColumns") or ()),
        conversion=None if is_plain else VersionConversion(versions, converter, api_version),
        list_kind=names.get("listKind") or f"{kind}List",
        own_schema=schema,
    )


def _versions(definition: Object, stored: str, weight: Callable[[Object], int]) -> TypeVersions:
    """Return all versions of a definition with their schemas, including versions that are not served."""
    group, kind = definition["spec"]["group"], definition["status"]["acceptedNames"]["kind"]
    schemas = {
        f"{group}/{one['name']}": CustomSchema(
            GVK(group, one["name"], kind),
            (one.get("schema") or {}).get("openAPIV3Schema") or {},
            [field["jsonPath"] for field in one.get("selectableFields") or ()],
        )
        for one in definition["spec"]["versions"]
    }
    return TypeVersions(definition["metadata"]["name"], kind, f"{group}/{stored}", schemas, weight)


def _converter(definition: Object, versions: TypeVersions, webhooks: ConversionWebhooks) -> VersionConverter:
    conversion = definition["spec"].get("conversion") or {}
    if conversion.get("strategy") == "Webhook":
        return WebhookConverter(versions, conversion, webhooks)
    return NoneConverter(versions)
