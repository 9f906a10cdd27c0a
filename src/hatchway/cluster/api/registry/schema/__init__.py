"""The schemas of the built-in types: one generated table, and the code that reads it.

    check(gvk, obj)            checks the types of fields; returns the object to store and the unknown fields
    apply_defaults(gvk, obj)   the defaults of Kubernetes' `SetDefaults_*` functions
    decode_protobuf(body)      kubectl's request bodies as JSON-shaped objects
    load().message(gvk)        the schema itself

Strategic merge patch (`patch/`), OpenAPI (`describe/openapi_schemas.py`) and field ownership (`fields/atoms.py`) read
the same table.
"""

from hatchway.cluster.api.registry.schema.check import CheckedObject, ShapeError, check
from hatchway.cluster.api.registry.schema.defaults import apply_defaults
from hatchway.cluster.api.registry.schema.protobuf import decode_protobuf
from hatchway.cluster.api.registry.schema.scalars import canonical_quantity, quantity_value
from hatchway.cluster.api.registry.schema.strict import strict_errors
from hatchway.cluster.api.registry.schema.table import GVK, Field, Schema, TypeDefinition, UnknownKind, load

__all__ = [
    "GVK",
    "CheckedObject",
    "Field",
    "Schema",
    "ShapeError",
    "TypeDefinition",
    "UnknownKind",
    "apply_defaults",
    "canonical_quantity",
    "check",
    "decode_protobuf",
    "load",
    "quantity_value",
    "strict_errors",
]
