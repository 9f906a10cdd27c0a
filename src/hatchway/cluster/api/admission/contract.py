"""The contract of admission: the facts about one write, and the plugins that change or refuse it.

The behaviour is that of apiserver's `pkg/admission` (`interfaces.go`, `attributes.go`). A plugin has two phases. The
mutating phase (`admit`) runs after the defaults are set and before validation, and may change the object. The
validating phase (`validate`) runs after validation. For DELETE and CONNECT, there is no validation between the two
phases.
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
        kind: (group, version, kind) of `object`: the row's kind, or the kind of a subresource (`Scale`).
        object: the new object, or the object that was posted to a subresource; the options of a CONNECT; None for a
            DELETE. A mutating phase may change it in place, or replace it. Objects of built-in types are in the stored
            version; objects of custom types are in the row's version.
        old_object: the stored object for an UPDATE or a DELETE, otherwise None. It is shared: never change it.
        dry_run: True if the write will not be stored. Plugins must then have no side effects.
        make_options: returns the CreateOptions, UpdateOptions, PatchOptions or DeleteOptions of the request; None for
            CONNECT.
        size: bytes of JSON of the sent or the stored object, whichever is larger; 0 when both are small. A plugin whose
            work grows with the object passes the size to `work.run_sized`.
        warnings: texts for the Warning header; plugins add to them.
        audit_annotations: annotations for the audit event, by key; plugins add to them.
        reinvoke: set by a plugin that has changed the object; the mutating phase then runs once more.
        is_reinvocation: True while the mutating phase runs for the second time.
        state: data that plugins keep between their calls for the same write, by the plugin's name; None at first.
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
        """Return the name in the request. If the request has no name, return the name in the object."""
        return self.name or ((self.object or {}).get("metadata") or {}).get("name") or ""


class AdmissionPlugin:
    """One admission plugin. By default, its phases do nothing.

    name: its name in `chain.ORDER`, which decides when it runs.

    A phase returns None when it is done. If it has to wait (for a response from the network, or for `work.run_sized`),
    it returns an awaitable. Other requests run meanwhile. Afterwards, `operations/verbs.py` checks that the stored
    object is still the same. A plugin refuses a write by raising ApiError 403 (`errors.forbidden`), or the code that
    Kubernetes' plugin uses. The mutating phase may run twice for one write, so it must be idempotent.
    """

    name = ""

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for writes that the plugin handles. The result is cached, so it must never change.

        resource: in the form of `AdmissionAttributes.resource`.
        """
        return True

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True when a phase may return an awaitable for this kind of write, even if the object is small."""
        return False

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Change the object, or refuse the write before it is validated. Raises ApiError."""
        return None

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Refuse the write after it was validated. Raises ApiError."""
        return None
