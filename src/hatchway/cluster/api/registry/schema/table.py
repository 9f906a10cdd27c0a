"""Loads the schema table: the facts about every type that the server knows.

`scripts/update-schema` generates `table.json` from Kubernetes' published OpenAPI, `types.go` and `generated.proto`
files. Checks, defaults, patches, field ownership, OpenAPI and protobuf all read this one table. Names of definitions
are shortened: `core.v1.PodSpec` stands for OpenAPI's `io.k8s.api.core.v1.PodSpec`, `meta.v1.ObjectMeta` for
`io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

__all__ = ["GVK", "Field", "Schema", "TypeDefinition", "UnknownKind", "load", "openapi_name"]

_META_KINDS = frozenset(("DeleteOptions", "Status", "WatchEvent"))
_META = "meta.v1."
_AGGREGATOR, _EXTENSIONS = "apiregistration.", "apiextensions."


class GVK(NamedTuple):
    """A kind: group ("" is the core group), version, kind. A plain tuple is accepted wherever a GVK is accepted."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """Return the group and version as objects write it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @classmethod
    def of(cls, api_version: str, kind: str) -> GVK:
        """Return the group, version and kind of an object's `apiVersion` and `kind`."""
        group, _, version = api_version.rpartition("/")
        return cls(group, version, kind)


class UnknownKind(LookupError):
    """Raised for a kind or definition that is not in the table. The message is that of apimachinery's `error.go`."""


class Field(msgspec.Struct, omit_defaults=True, gc=False):
    """One JSON field of a type.

    kind: the kind of one element: `string`, `bytes` (base64 in JSON), `boolean`, `int32`, `int64`, `double`, `time`,
        `microTime`, `quantity`, `intOrString`, `raw` (any JSON object), `json` (any JSON value), `strings` (a list of
        strings that is a message in protobuf), `message` (`ref` names its type), `schemaOrList` (a message of the type
        `ref`, or a list of such messages), `schemaOrBoolean` (such a message, or a boolean), `schemaOrStrings` (such
        a message, or a list of strings).
    container: "" for one element, `list`, or `map` (of elements by string).
    number: the protobuf field number. pointer: a missing field differs from a zero value (a pointer in Go).
    always: a struct that Kubernetes writes even when it is empty (`status: {}`).
    left_out: a required field that Kubernetes does not write when it is empty (`omitempty`).
    list_type, map_keys: `atomic`, `set` or `map` with its keys (x-kubernetes-list-type). map_type: `atomic` or "".
    strategy, merge_key: the values for strategic merge patch (`merge`, `replace`, `merge,retainKeys` ...).
    enum: the published values of the type. The server may accept other values.
    go: the Go type (without pointer) in error messages; "" if it can be derived from the other attributes.
    """

    name: str
    kind: str
    number: int = 0
    container: str = ""
    ref: str = ""
    required: bool = False
    pointer: bool = False
    always: bool = False
    left_out: bool = False
    default: str | int | bool | None = None
    list_type: str = ""
    map_keys: list[str] = []
    map_type: str = ""
    strategy: str = ""
    merge_key: str = ""
    enum: list[str] = []
    go: str = ""


class Inline(msgspec.Struct, gc=False):
    """A Go struct that is embedded without a JSON name. number: the protobuf field number of its message."""

    number: int
    ref: str


class TypeDefinition(msgspec.Struct, omit_defaults=True, dict=True):
    """A type.

    go: the name in errors, such as `v1.PodSpec`.
    own: the fields in Kubernetes' order, without the fields of embedded structs.
    inline: the embedded structs.
    gvks: the kinds that have this type; [] for a part of other types.
    atomic: a value has one owner as a whole (x-kubernetes-map-type: atomic).
    """

    go: str
    own: list[Field]
    inline: list[Inline] = []
    gvks: list[tuple[str, str, str]] = []
    atomic: bool = False

    name: str = ""

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """Return the JSON fields by name, including the fields of embedded structs."""
        found: dict[str, Field] = {}
        for part in self.inline:
            found.update(load().definitions[part.ref].fields)
        found.update({field.name: field for field in self.own})
        return found

    @functools.cached_property
    def numbers(self) -> dict[int, Field | Inline]:
        """Return fields and embedded structs by protobuf number."""
        found: dict[int, Field | Inline] = {field.number: field for field in self.own if field.number}
        found.update({part.number: part for part in self.inline})
        return found

    @functools.cached_property
    def always(self) -> tuple[Field, ...]:
        """Return the fields that Kubernetes always writes. A field that is not set is written as an empty object."""
        return tuple(field for field in self.fields.values() if field.always)


class Schema:
    """The loaded schema table."""

    def __init__(self, definitions: Mapping[str, TypeDefinition]) -> None:
        self.definitions = definitions
        self.kinds: dict[tuple[str, str, str], TypeDefinition] = {}
        for name, message in definitions.items():
            message.name = name
            for group, version, kind in message.gvks:
                self.kinds[group, version, kind] = message

    def message(self, which: tuple[str, str, str] | str) -> TypeDefinition:
        """Return the type of a kind (group, version, kind) or of a definition name. Raises UnknownKind.

        Kinds that every group has (DeleteOptions, Status, WatchEvent) are found under any group and version.
        """
        if isinstance(which, str):
            found = self.definitions.get(which)
            if found is None:
                raise UnknownKind(f'no type "{which}" in the schema')
            return found
        found = self.kinds.get(which)
        if found is None and which[2] in _META_KINDS:
            found = self.definitions.get(_META + which[2])
        if found is None:
            gvk = GVK(*which)
            raise UnknownKind(f'no kind "{gvk.kind}" is registered for version "{gvk.api_version}"')
        return found

    def has(self, which: tuple[str, str, str]) -> bool:
        """Return True when the table has the type (group, version, kind)."""
        return which in self.kinds or which[2] in _META_KINDS


def openapi_name(name: str) -> str:
    """Return the full definition name, as OpenAPI documents spell it."""
    if name.startswith(_META):
        return f"io.k8s.apimachinery.pkg.apis.{name}"
    if name.startswith(_AGGREGATOR):
        return f"io.k8s.kube-aggregator.pkg.apis.{name}"
    if name.startswith(_EXTENSIONS):
        return f"io.k8s.apiextensions-apiserver.pkg.apis.{name}"
    return f"io.k8s.api.{name}"


@functools.cache
def load() -> Schema:
    """Return the table. Each process reads the file once."""
    data = (Path(__file__).parent / "table.json").read_bytes()
    return Schema(msgspec.json.decode(data, type=dict[str, TypeDefinition]))
