"""The contract of admission: the facts about one write, and the plugins that judge it.

The behaviour is that of apiserver's `pkg/admission` (`interfaces.go`, `attributes.go`). A plugin has two halves. The
mutating half (`admit`) sees an object after defaults and before validation, and may change it. The validating half
(`validate`) sees the object as it would be stored. For a deletion and for CONNECT both halves run one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object

__all__ = ["AdmissionAttributes", "AdmissionOperation", "AdmissionPlugin"]

AdmissionOperation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


def _no_options() -> Object | None:
    return None


@dataclass(slots=True)
class AdmissionAttributes:
    """The facts about one write (`admission.Attributes`).

    Attributes:
        user: the user of the request.
        operation: CREATE, UPDATE, DELETE or CONNECT.
        row: the registry's row of the resource in the URL.
        subresource: "" for none.
        namespace, name: "" for none. The name is "" for a collection, and for an object whose name is generated.
        kind: (group, version, kind) of `object`: the row's own, or that of a subresource (`Scale`).
        object: the new object, or the object that was posted to a subresource; the options of a CONNECT; None for a
            DELETE. A mutating half may change it in place, or replace it. Objects of a built-in type that is
            stored under another version are in the stored version's shape; those of a custom type are in the row's.
        old_object: the stored object of an UPDATE or a DELETE, else None. It is shared: never change it.
        dry_run: nothing will be stored, so a plugin must not have side effects.
        make_options: returns the CreateOptions, UpdateOptions, PatchOptions or DeleteOptions of the request; None for
            CONNECT.
        size: bytes of JSON of the object as sent, or as stored if that is more; 0 when it is small. A plugin whose work
            grows with the object passes it to `work.run_sized`.
        warnings: texts for the Warning header; plugins add to them.
        audit_annotations: annotations for the audit event, by key; plugins add to them.
        reinvoke: set by a plugin when the mutating halves must run once more, because it has changed the object.
        is_reinvocation: True while they run for the second time.
        state: data of plugins between their calls for the same write, by the plugin's name; None at first.
    """

    user: UserInfo
    operation: AdmissionOperation
    row: Resource
    subresource: str
    namespace: str
    name: str
    kind: tuple[str, str, str]
    object: Object | None
    old_object: Object | None
    dry_run: bool = False
    make_options: Callable[[], Object | None] = _no_options
    size: int = 0
    warnings: list[str] = field(default_factory=list)
    audit_annotations: dict[str, str] = field(default_factory=dict)
    reinvoke: bool = False
    is_reinvocation: bool = False
    state: dict[str, Any] | None = None

    @property
    def resource(self) -> str:
        """Return the resource as clients spell it: `pods`, `deployments.apps`."""
        return self.row.group_resource

    @property
    def object_name(self) -> str:
        """Return the request's name, or that of the object when it has one."""
        return self.name or ((self.object or {}).get("metadata") or {}).get("name") or ""


class AdmissionPlugin:
    """One admission plugin; by default its halves do nothing.

    name: its name in `chain.ORDER`, which decides when it runs.

    A half that is done returns None. One that has to wait (for a network answer, or for `work.run_sized`) returns an
    awaitable instead; other requests then run meanwhile, and the verbs check afterwards that the stored object is
    still the same. A refusal is an ApiError: 403 (`errors.forbidden`) unless Kubernetes' plugin uses another code.
    Mutating halves may run twice for one write, so they must be idempotent.
    """

    name = ""

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for writes that the plugin must see. The answer is remembered, so it must never change.

        resource: as `AdmissionAttributes.resource`.
        """
        return True

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when a half may return an awaitable for such a write, other than because of its size."""
        return False

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Change the object, or refuse the write before it is validated. Raises ApiError."""
        return None

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Refuse the write after it was validated. Raises ApiError."""
        return None
