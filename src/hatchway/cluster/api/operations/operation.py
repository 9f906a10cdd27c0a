"""One call of a verb: its user, type, object and options, and the warnings of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hatchway.cluster.api.operations.requestoptions import DeleteOptions, FieldValidation
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object

__all__ = ["Operation", "clone", "decode", "encode"]

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


def clone(obj: Object) -> Object:
    """Return a deep copy. Encoding and decoding JSON is several times as fast as copy.deepcopy."""
    found: Object = decode(encode(obj))
    return found


@dataclass(slots=True)
class Operation:
    """One call of a verb.

    namespace, name: "" for none.
    warnings: texts that are sent in addition to the answer. The verbs add to them.
    size: bytes of JSON of the object or the patch; 0 when it is small. Large objects are handled on the worker thread.
    manager: the field manager, which owns the fields that the write sets.
    subresource: the subresource that is written; "" for the object itself.
    sees_managed: True if a patch needs the managed fields of the object. Copying them takes time.
    is_apply: True for a server-side apply.
    force: True for a server-side apply that takes fields from other managers.
    managed: the managed fields of the object, which the write computes.
    has_managed: True if `managed` is computed before the write begins.
    """

    user: UserInfo
    row: Resource
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    field_validation: FieldValidation = "Ignore"
    warnings: list[str] = field(default_factory=list)
    size: int = 0
    manager: str = ""
    subresource: str = ""
    managed: list[Any] | None = None
    has_managed: bool = False
    sees_managed: bool = False
    is_apply: bool = False
    force: bool = False
    # The errors that strict decoding finds in the document itself (duplicate keys). For JSON they replace the messages
    # about the types; for other formats they come before those messages.
    document_errors: tuple[str, ...] = ()
    yaml_errors: tuple[str, ...] = ()
    # The errors that strict decoding finds in a patch itself, and the patch.
    patch_errors: tuple[str, ...] = ()
    patch_body: bytes = b""
    # True for a patch, whose options are PatchOptions.
    is_patch: bool = False
    field_manager: str = ""
    # Annotations of the audit event, which admission plugins add.
    audit_annotations: dict[str, str] = field(default_factory=dict)

    def options_object(self, operation: str, options: DeleteOptions | None = None) -> Object:
        """Return the request's options as an object of meta.k8s.io/v1, for admission.

        operation: CREATE, UPDATE or DELETE.
        options: the options of a DELETE; None for other operations.
        """
        kind = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions"}.get(operation, "DeleteOptions")
        if self.is_patch and operation == "UPDATE":
            kind = "PatchOptions"
        found: Object = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
        if options is not None:
            found |= options.as_fields()
        else:
            if self.field_manager:
                found["fieldManager"] = self.field_manager
            if self.force:
                found["force"] = True
            found["fieldValidation"] = self.field_validation
        if self.dry_run:
            found["dryRun"] = ["All"]
        return found

    def check_strict(self, checked: schema.CheckedObject, gvk: tuple[str, str, str]) -> None:
        """Warn of unknown and repeated fields. Raises ShapeError 400 when the client asked for strict validation."""
        # Strict decoding of a document finds unknown fields of built-in types, but not those of custom types.
        of_type = tuple(dict.fromkeys((*self.document_errors, *checked.unknown)))
        errors = (*self.patch_errors, *self.yaml_errors, *of_type)
        if not errors:
            return
        if self.field_validation == "Strict":
            checked.require_strict(gvk, errors)
        elif self.field_validation == "Warn":
            self.warnings.extend(errors)
