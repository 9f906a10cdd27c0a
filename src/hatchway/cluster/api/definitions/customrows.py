"""Makes the registry's rows of a CustomResourceDefinition (apiextensions-apiserver `customresource_handler.go`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hatchway.cluster.api.registry.custom.columns import column_printer
from hatchway.cluster.api.registry.custom.customschema import CustomSchema
from hatchway.cluster.api.registry.custom.definition import condition_is_true, is_ending, storage_version
from hatchway.cluster.api.registry.custom.scaling import ScalePaths
from hatchway.cluster.api.registry.resource import Resource, Subresource
from hatchway.cluster.api.registry.schema.table import GVK
from hatchway.cluster.api.registry.strategies.customobjects import CustomStrategy
from hatchway.kube.api import Object

__all__ = ["custom_rows"]

Json = Any

_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_CHANGES = ("get", "patch", "update")


def custom_rows(definition: Object) -> tuple[Resource, ...]:
    """Return the rows of the served versions, that of the stored version first; () until it is established."""
    if not condition_is_true(definition, "Established"):
        return ()
    # The status may have been written by hand: it must not give the definition the objects of another one.
    accepted = definition["status"].get("acceptedNames") or {}
    if accepted.get("plural") != definition["spec"]["names"]["plural"] or not accepted.get("kind"):
        return ()
    stored = storage_version(definition)
    versions = sorted(definition["spec"]["versions"], key=lambda one: one["name"] != stored)
    served = [one for one in versions if one.get("served")]
    if not served and is_ending(definition):
        # The objects can be deleted only while their type is served.
        served = versions[:1]
    return tuple(_row(definition, one, stored) for one in served)


def _row(definition: Object, version: Mapping[str, Json], stored: str) -> Resource:
    spec = definition["spec"]
    names = definition["status"]["acceptedNames"]
    group, name, kind = spec["group"], version["name"], names["kind"]
    selectable = [one["jsonPath"] for one in version.get("selectableFields") or ()]
    schema = CustomSchema(
        GVK(group, name, kind), (version.get("schema") or {}).get("openAPIV3Schema") or {}, selectable
    )
    subresources = version.get("subresources") or {}
    scale = ScalePaths.of(subresources.get("scale"))
    parts = []
    if subresources.get("status") is not None:
        parts.append(Subresource("status", _CHANGES))
    if scale is not None:
        parts.append(Subresource("scale", _CHANGES, "Scale", "autoscaling", "v1", scale=scale))
    # Stored objects are what clients get, if nothing has a default and there never was another version.
    is_plain = len(spec["versions"]) == 1 and definition["metadata"].get("generation") == 1 and not schema.has_defaults
    deprecation = ""
    if version.get("deprecated"):
        deprecation = version.get("deprecationWarning") or f"{group}/{name} {kind} is deprecated"
    strategy = CustomStrategy(
        schema,
        has_status=subresources.get("status") is not None,
        scale=scale,
        selectable=selectable,
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
        to_storage=_with_version(f"{group}/{stored}") if name != stored else None,
        from_storage=None if is_plain else _from_storage(schema, f"{group}/{name}"),
        list_kind=names.get("listKind") or f"{kind}List",
        own_schema=schema,
    )


def _with_version(api_version: str) -> Callable[[Object], Object]:
    """Return a function that gives an object this apiVersion: versions differ in nothing else (strategy None)."""

    def convert(obj: Object) -> Object:
        return obj if obj["apiVersion"] == api_version else {**obj, "apiVersion": api_version}

    return convert


def _from_storage(schema: CustomSchema, api_version: str) -> Callable[[Object], Object]:
    convert = _with_version(api_version)

    def read(obj: Object) -> Object:
        return schema.with_defaults(convert(obj))

    return read
