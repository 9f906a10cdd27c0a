"""CustomResourceDefinitions (apiextensions.k8s.io/v1): the types that users add.

From apiextensions-apiserver's `pkg/registry/customresourcedefinition/strategy.go`,
`pkg/apis/apiextensions/v1/defaults.go` and `pkg/apis/apiextensions/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.custom.definition import CLEANUP_FINALIZER, condition_is_true
from hatchway.cluster.api.registry.custom.formats import FORMATS
from hatchway.cluster.api.registry.custom.jsonpath import JSONPath, JSONPathError
from hatchway.cluster.api.registry.custom.schemacheck import schema_errors
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.conversions import conversion_errors, set_conversion_defaults
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["CustomResourceDefinitionStrategy"]

Json = Any
Source = Mapping[str, Json]

_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_MOST_SELECTABLE = 8
# The number is limited, because each version is a separate type in the discovery documents, which are rebuilt after
# each change of a definition.
_MOST_VERSIONS = 100
_APPROVAL = "api-approved.kubernetes.io"
# Fields of a version, with the names that Kubernetes' messages use when all versions have the same value.
_SHARED = {
    "schema": "validation",
    "subresources": "subresources",
    "additionalPrinterColumns": "additionalPrinterColumns",
    "selectableFields": "selectableFields",
}


class CustomResourceDefinitionStrategy(Strategy):
    """The rules of CustomResourceDefinitions."""

    generation = True
    unconditional_update = False
    requires_spec = True
    qualifies_finalizers = False
    # Validation compiles each pattern in the schemas.
    is_costly = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the names that are derived from other names, and the conversion strategy."""
        spec = obj.setdefault("spec", {})
        names = spec.setdefault("names", {})
        kind = names.get("kind") or ""
        if kind and not names.get("singular"):
            names["singular"] = kind.lower()
        if kind and not names.get("listKind"):
            names["listKind"] = f"{kind}List"
        set_conversion_defaults(spec.setdefault("conversion", {"strategy": "None"}))

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set the status that every new definition has."""
        stored = [one["name"] for one in _versions(obj) if one.get("storage")]
        obj["status"] = {
            "conditions": None,
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored[:1],
        }

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status, but add a new storage version to `storedVersions`."""
        super().prepare_update(ctx, obj, old)
        status = obj.get("status") or {}
        known = status.get("storedVersions") or []
        stored = [one["name"] for one in _versions(obj) if one.get("storage")][:1]
        if stored and stored[0] not in known:
            obj["status"] = {**status, "storedVersions": [*known, *stored]}

    def begin_deletion(self, obj: Object) -> bool:
        """Keep the definition until its objects are deleted."""
        finalizers = obj["metadata"].get("finalizers") or []
        if CLEANUP_FINALIZER not in finalizers:
            obj["metadata"]["finalizers"] = [*finalizers, CLEANUP_FINALIZER]
        status = obj.get("status") or {}
        others = [one for one in status.get("conditions") or () if one.get("type") != "Terminating"]
        pending = {
            "type": "Terminating",
            "status": "True",
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        }
        obj["status"] = {**status, "conditions": [*others, pending]}
        return True

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the names, the versions, the schemas and the conversion of a definition."""
        return self._errors(obj, None)

    def _errors(self, obj: Object, before: Source | None) -> list[Cause]:
        """Return the errors in a definition. before: the stored `spec.conversion`; None for a new definition."""
        spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
        causes: list[Cause] = []
        names = spec.get("names") or {}
        if name != f"{names.get('plural', '')}.{spec.get('group', '')}":
            causes.append(v.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
        causes += _spec_errors(spec)
        causes += conversion_errors(spec.get("conversion") or {}, before)
        causes += _stored_version_errors(obj)
        causes += _approval_errors(obj)
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the new definition, and errors for changes of immutable fields."""
        spec, former = obj.get("spec") or {}, old["spec"]
        names, known = spec.get("names") or {}, former.get("names") or {}
        causes = self._errors(obj, former.get("conversion") or {})
        if condition_is_true(old, "Established"):
            causes += v.immutable(spec.get("scope"), former.get("scope"), "spec.scope")
            causes += v.immutable(names.get("kind"), known.get("kind"), "spec.names.kind")
        causes += v.immutable(spec.get("group"), former.get("group"), "spec.group")
        return causes + v.immutable(names.get("plural"), known.get("plural"), "spec.names.plural")

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the accepted names."""
        accepted = (obj.get("status") or {}).get("acceptedNames") or {}
        return list(_name_errors(accepted, "status.acceptedNames"))

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return warnings about formats that are not checked, and about lists of type set that contain objects."""
        found, before = _schema_warnings(obj), _schema_warnings(old) if old is not None else []
        return [one for one in found if one not in before]


def _versions(obj: Object) -> list[dict[str, Json]]:
    found: list[dict[str, Json]] = (obj.get("spec") or {}).get("versions") or []
    return found


def _spec_errors(spec: Source) -> Iterator[Cause]:
    group, scope, versions = spec.get("group") or "", spec.get("scope") or "", spec.get("versions") or []
    if not group:
        yield v.required("spec.group")
    elif errors := v.dns1123_subdomain(group):
        yield v.invalid("spec.group", group, ",".join(errors))
    elif "." not in group:
        yield v.invalid("spec.group", group, "should be a domain with at least one dot")
    if not scope:
        yield v.required("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield v.not_supported("spec.scope", scope, ("Cluster", "Namespaced"))
    for index, one in enumerate(versions):
        if not (one.get("schema") or {}).get("openAPIV3Schema"):
            yield v.required(f"spec.versions[{index}].schema.openAPIV3Schema")
    if spec.get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        yield v.invalid("spec.preserveUnknownFields", True, text)
    yield from _version_errors(versions)
    names = spec.get("names") or {}
    for key in ("plural", "singular", "kind", "listKind"):
        if not names.get(key):
            yield v.required(f"spec.names.{key}")
    yield from _name_errors(names, "spec.names")


def _version_errors(versions: list[Source]) -> Iterator[Cause]:
    shared = {key for key in _SHARED if all(one.get(key) == versions[0].get(key) for one in versions)}
    for index, version in enumerate(versions):
        at, name = f"spec.versions[{index}]", version.get("name") or ""
        if errors := v.dns1035_label(name):
            yield v.invalid(f"{at}.name", name, ",".join(errors))
        yield from _deprecation_errors(version, at)
        yield from _part_errors(version, {key: f"{at}.{key}" for key in _SHARED if key not in shared})
    names = [one.get("name") for one in versions]
    if len(set(names)) < len(names):
        yield v.invalid("spec.versions", versions, "must contain unique version names")
    if sum(bool(one.get("storage")) for one in versions) != 1:
        yield v.invalid("spec.versions", versions, "must have exactly one version marked as storage version")
    if len(versions) > _MOST_VERSIONS:
        yield v.too_many("spec.versions", len(versions), _MOST_VERSIONS)
    if versions:
        yield from _part_errors(versions[0], {key: f"spec.{_SHARED[key]}" for key in _SHARED if key in shared})


def _part_errors(version: Source, fields: Mapping[str, str]) -> Iterator[Cause]:
    """Check some parts of a version. fields: maps each part to check to its field in error messages."""
    subresources = version.get("subresources") or {}
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if "schema" in fields and schema:
        has_status = subresources.get("status") is not None
        yield from schema_errors(schema, f"{fields['schema']}.openAPIV3Schema", has_status=has_status)
    if "subresources" in fields:
        yield from _scale_errors(subresources.get("scale"), f"{fields['subresources']}.scale")
    if "additionalPrinterColumns" in fields:
        for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
            yield from _column_errors(column, f"{fields['additionalPrinterColumns']}[{index}]")
    if "selectableFields" in fields and version.get("selectableFields"):
        yield from _selectable_errors(version["selectableFields"], schema or {}, fields["selectableFields"])


def _deprecation_errors(version: Source, at: str) -> Iterator[Cause]:
    warning = version.get("deprecationWarning")
    if warning is None:
        return
    field = f"{at}.deprecationWarning"
    if not version.get("deprecated"):
        yield v.invalid(field, warning, "can only be set for deprecated versions")
    if len(warning.encode()) > 256:
        yield v.invalid(field, warning, "must be <= 256 characters long")
    if not warning:
        yield v.invalid(field, warning, "must not be an empty string")
    for index, one in enumerate(warning):
        if not one.isprintable():
            place = len(warning[:index].encode())
            text = f"must only contain printable UTF-8 characters; non-printable character found at index {place}"
            yield v.invalid(field, warning, text)
            break


def _name_errors(names: Source, at: str) -> Iterator[Cause]:
    for key in ("plural", "singular", "kind", "listKind"):
        name = names.get(key) or ""
        mixed = key in ("kind", "listKind")
        errors = v.dns1035_label(name.lower() if mixed else name) if name else []
        if errors:
            why = "may have mixed case, but should otherwise match: " if mixed else ""
            yield v.invalid(f"{at}.{key}", name, why + ",".join(errors))
    for index, name in enumerate(names.get("shortNames") or ()):
        if errors := v.dns1035_label(name):
            yield v.invalid(f"{at}.shortNames[{index}]", name, ",".join(errors))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield v.invalid(f"{at}.listKind", names["listKind"], "kind and listKind may not be the same")
    for index, name in enumerate(names.get("categories") or ()):
        if errors := v.dns1035_label(name):
            yield v.invalid(f"{at}.categories[{index}]", name, ",".join(errors))


def _scale_errors(scale: Source | None, at: str) -> Iterator[Cause]:
    if scale is None:
        return
    for key, below in (("specReplicasPath", (".spec.",)), ("statusReplicasPath", (".status.",))):
        path = scale.get(key) or ""
        if not path:
            yield v.required(f"{at}.{key}")
        else:
            yield from _path_errors(path, below, f"{at}.{key}")
    selector = scale.get("labelSelectorPath")
    if selector:
        yield from _path_errors(selector, (".spec.", ".status."), f"{at}.labelSelectorPath")


def _path_errors(path: str, below: tuple[str, ...], at: str) -> Iterator[Cause]:
    if not path.startswith("."):
        yield v.invalid(at, path, "must be a simple json path starting with .")
    elif not path.startswith(below):
        where = below[0].strip(".") if len(below) == 1 else ""
        yield v.invalid(at, path, f"should be a json path under .{where}" if where else _UNDER_EITHER)


_UNDER_EITHER = "should be a json path under either .spec or .status"


def _column_errors(column: Source, at: str) -> Iterator[Cause]:
    kind, format, path = (column.get(key) or "" for key in ("type", "format", "jsonPath"))
    if not column.get("name"):
        yield v.required(f"{at}.name")
    text = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        yield v.required(f"{at}.type", text)
    elif kind not in _COLUMN_TYPES:
        yield v.invalid(f"{at}.type", kind, text)
    if format and format not in _COLUMN_FORMATS:
        yield v.invalid(f"{at}.format", format, f"must be one of {','.join(_COLUMN_FORMATS)}")
    if not path:
        yield v.required(f"{at}.JSONPath")
    elif not path.startswith("."):
        yield v.invalid(f"{at}.JSONPath", path, "must be a simple json path starting with .")


def _selectable_errors(fields: list[Source], schema: Source, at: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, field in enumerate(fields):
        path, where = field.get("jsonPath") or "", f"{at}[{index}].jsonPath"
        if not path:
            yield v.required(where)
            continue
        try:
            JSONPath(path)
            found = _schema_at(schema, path)
        except (JSONPathError, LookupError) as error:
            yield v.invalid(where, path, f"is an invalid path: {error}")
            continue
        if path.removeprefix(".").split(".")[0] == "metadata":
            yield v.invalid(where, path, "must not point to fields in metadata")
        if found.get("type") not in ("string", "boolean", "integer"):
            text = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            yield v.invalid(where, path, text)
        if path in seen:
            yield v.duplicate(where, path)
        seen.add(path)
    if len(seen) > _MOST_SELECTABLE:
        yield v.too_many(at, len(seen), _MOST_SELECTABLE)


def _schema_at(schema: Source, path: str) -> Source:
    """Return the schema of the field at a simple path. Raises LookupError when there is none."""
    for name in path.removeprefix(".").split("."):
        found = (schema.get("properties") or {}).get(name)
        if found is None:
            raise LookupError(f"does not refer to a valid field: {name}")
        schema = found
    return schema


def _stored_version_errors(obj: Object) -> Iterator[Cause]:
    stored = (obj.get("status") or {}).get("storedVersions") or []
    at, versions = "status.storedVersions", _versions(obj)
    if not stored:
        yield v.invalid(at, stored, "must have at least one stored version")
        return
    known = {one.get("name") for one in versions}
    for one in versions:
        if one.get("storage") and one.get("name") not in stored:
            yield v.invalid(at, stored, f"must have the storage version {one.get('name')}")
    for index, name in enumerate(stored):
        if name not in known:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            yield v.invalid(f"{at}[{index}]", name, text)


def _approval_errors(obj: Object) -> Iterator[Cause]:
    """Check the annotation that definitions in Kubernetes' own groups must have."""
    group = (obj.get("spec") or {}).get("group") or ""
    if not (group == "k8s.io" or group.endswith((".k8s.io", ".kubernetes.io")) or group == "kubernetes.io"):
        return
    value = (obj["metadata"].get("annotations") or {}).get(_APPROVAL) or ""
    field = f"metadata.annotations[{_APPROVAL}]"
    if not value:
        text = "protected groups must have approval annotation "
        yield v.required(field, f'{text}"{_APPROVAL}", see https://github.com/kubernetes/enhancements/pull/1111')
    elif not value.startswith(("https://", "http://", "unapproved")):
        text = 'protected groups must have approval annotation "'
        yield v.invalid(
            field,
            value,
            f'{text}{_APPROVAL}" with either a URL or a reason starting with "unapproved", see '
            "https://github.com/kubernetes/enhancements/pull/1111",
        )


def _schema_warnings(obj: Object) -> list[str]:
    formats: list[str] = []
    sets: set[str] = set()
    waiting = [
        one["schema"]["openAPIV3Schema"] for one in _versions(obj) if (one.get("schema") or {}).get("openAPIV3Schema")
    ]
    while waiting:
        schema = waiting.pop(0)
        format, kind = schema.get("format") or "", schema.get("type") or ""
        if format and not _is_known(format, kind):
            formats.append(f"unrecognized format {v.quote(format)}")
        items = schema.get("items")
        if schema.get("x-kubernetes-list-type") == "set" and isinstance(items, dict):
            inner = items.get("type")
            if inner in ("object", "array"):
                sets.add(
                    f"x-kubernetes-list-type: set for items of type {v.quote(inner)} is not supported by server-side "
                    "apply or CEL validation rules"
                )
        waiting += (schema.get("properties") or {}).values()
        waiting += [one for key in ("allOf", "anyOf", "oneOf") for one in schema.get(key) or ()]
        waiting += [
            one for one in (items, schema.get("additionalProperties"), schema.get("not")) if isinstance(one, dict)
        ]
    return [*dict.fromkeys(formats), *sorted(sets)]


def _is_known(format: str, kind: str) -> bool:
    if kind in ("", "string"):
        return format.replace("-", "") in FORMATS
    known = {"integer": ("int32", "int64"), "number": ("float", "double")}
    return format in known.get(kind, ())
