"""What the server knows of its types: one generated table of facts, and everything that reads it.

    check(gvk, obj)            does it fit its type; what is kept of it; which fields are unknown
    apply_defaults(gvk, obj)   the defaults of Kubernetes' `SetDefaults_*` functions
    decode_protobuf(body)      kubectl's request bodies as JSON-shaped objects
    load().message(gvk)        the facts themselves

Strategic merge patch, OpenAPI and tables (`cluster/api/patch.py`, `openapi.py`, `tables.py`) read the same table.
"""

from hatchway.cluster.api.schema.check import Checked, ShapeError, check
from hatchway.cluster.api.schema.defaults import apply_defaults
from hatchway.cluster.api.schema.protobuf import decode_protobuf, encode_protobuf
from hatchway.cluster.api.schema.scalars import canonical_quantity, quantity_value
from hatchway.cluster.api.schema.strict import strict_errors
from hatchway.cluster.api.schema.table import GVK, Field, Message, Schema, UnknownKind, load

__all__ = [
    "GVK",
    "Checked",
    "Field",
    "Message",
    "Schema",
    "ShapeError",
    "UnknownKind",
    "apply_defaults",
    "canonical_quantity",
    "check",
    "decode_protobuf",
    "encode_protobuf",
    "load",
    "quantity_value",
    "strict_errors",
]
