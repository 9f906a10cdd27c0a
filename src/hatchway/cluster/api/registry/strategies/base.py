"""The rules that a type may override. The defaults are the rules of ordinary types.

Each row of the registry has one strategy, which serves all requests. The verbs (`operations/verbs.py`) call its methods
in the order of kube-apiserver's stores (apiserver `registry/generic/registry/store.go`): default → admit → prepare →
validate. Methods may change their argument `obj` in place. They must not change `old`, because it is shared.

For a large object, all methods except `before_create`, `check_deletion` and `allocate` are called on a worker thread.
On this thread, a strategy may use only the store's methods `latest` and `get`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import Cause
from hatchway.kube.api import Object

# A function that reads the value of one field of an object, for field selectors.
FieldReader = Callable[[Object], str]


@dataclass(frozen=True, slots=True)
class WriteContext:
    """The parts of a request that a strategy may use.

    now: RFC 3339 in seconds, UTC. warnings: texts for the response's Warning headers, to which a strategy may append.
    """

    store: Store
    user: UserInfo
    group: str
    plural: str
    namespace: str
    now: str
    dry_run: bool
    warnings: list[str]


def field(*path: str) -> FieldReader:
    """Return a function that reads the scalar at a path of keys; "" if it is missing."""

    def read(obj: Object) -> str:
        found = obj
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None  # type: ignore[assignment]
        return "" if found is None else str(found)

    return read


def readers(found: dict[str, FieldReader]) -> Mapping[str, FieldReader]:
    """Return an immutable mapping for `Strategy.selectable`."""
    return MappingProxyType(found)


class Strategy:
    """The rules of an ordinary type, which has no metadata.generation."""

    # True when metadata.generation counts changes of the spec.
    generation = False
    # True when a PUT may create the object (`AllowCreateOnUpdate`).
    create_on_update = False
    # True when a PUT may leave out metadata.resourceVersion (`AllowUnconditionalUpdate`).
    unconditional_update = True
    # True when DELETE answers with the object instead of a Status (`ReturnDeletedObject`).
    return_deleted = False
    # True when every stored object must have a spec, because other code relies on it.
    requires_spec = False
    # True when the type's objects grant rights. A client that writes them must itself have these rights
    # (`admission/escalation.py`, `paramaccess.py`).
    grants_rights = False
    # True when a new object gets an empty status. Without it, a JSON patch of the status would fail.
    empty_status = False
    # The propagation policy of a DELETE without a policy (`DefaultGarbageCollectionPolicy`); "" for Background.
    default_propagation = ""
    # The warning about a DELETE without a propagation policy; "" for no warning.
    propagation_warning = ""
    # True when a finalizer must have a domain or be one of Kubernetes' own. Custom types allow any finalizer.
    qualifies_finalizers = True
    # True when checking even a small object may take long. All checks are then made on the worker thread.
    is_costly = False
    # The warning in every response about the type; "" for no warning.
    deprecation = ""
    # Field selectors beyond metadata.name and metadata.namespace.
    selectable: Mapping[str, FieldReader] = MappingProxyType({})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in a name. prefix: True for a generateName, which may end with a dash."""
        return v.dns1123_subdomain(_masked(name) if prefix else name)

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set defaults that the schema does not have, on create and update."""

    async def before_create(self, ctx: WriteContext, obj: Object) -> None:
        """Wait for another object that the new object needs, if a controller is about to create it."""

    def check_deletion(self, obj: Object) -> None:
        """Raise ApiError 403 when the object must not be deleted."""

    def admit(self, ctx: WriteContext, obj: Object, old: Object | None) -> None:
        """Raise ApiError for an object that the type never accepts (see also `api/admission/`)."""

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set the fields that only the server sets, and drop fields that clients may not set. Raises ApiError."""
        if self.has_status(obj):
            obj.pop("status", None)
        if self.empty_status:
            obj["status"] = {}

    def allocate(self, ctx: WriteContext, obj: Object, old: Object | None) -> None:
        """Allocate values that must be unique (addresses, ports), and check the unique values that the client has set.

        `old` is None on create. The method must be quick, because it always runs on the event loop. Raises ApiError.
        """

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the stored status, because only the subresource `status` may change it."""
        keep(obj, old, "status")

    def prepare_status(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Undo all changes outside of status and metadata in an update of the subresource `status`."""
        for key in set(obj) | set(old):
            if key not in ("status", "metadata", "kind", "apiVersion"):
                keep(obj, old, key)

    def has_status(self, obj: Object) -> bool:
        """Return True when a create request drops the client's status, which only the subresource `status` may set."""
        return True

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in a new object, except errors in its metadata and errors that its schema finds."""
        return []

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return all errors in an update. By default, these are the errors that `validate` finds."""
        return self.validate(obj)

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings about a valid object. `old` is None on create."""
        return []

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change of the status."""
        return []

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """Return the grace period of a deletion in seconds; None when the object is deleted immediately.

        asked: the number of seconds in the client's request; None if the request has no number.
        """
        return None

    def begin_deletion(self, obj: Object) -> bool:
        """Mark `obj` as being deleted. Return True when it stays in the store until another request removes it."""
        return False

    def is_held(self, obj: Object) -> bool:
        """Return True while finalizers keep an object that is being deleted."""
        return bool(obj["metadata"].get("finalizers"))

    def stays(self, obj: Object, old: Object) -> bool:
        """Return True when an object being deleted stays in the store after the update that removes its finalizers."""
        return False

    def scale_selector(self, obj: Object) -> Object | None:
        """Return the label selector of the object's pods, for its Scale."""
        found: Object | None = obj["spec"].get("selector")
        return found

    def changed(self, obj: Object, old: Object) -> bool:
        """Return True when an update has changed more than metadata and status, and so increases the generation."""
        return any(obj.get(key) != old.get(key) for key in set(obj) | set(old) if key not in ("metadata", "status"))


def keep(obj: Object, old: Object, key: str) -> None:
    """Set `obj[key]` to its value in `old`; remove it if `old` does not have the key."""
    if key in old:
        obj[key] = old[key]
    else:
        obj.pop(key, None)


_trailing_dash = re.compile("-+$").sub


def _masked(prefix: str) -> str:
    # A generateName may end with a dash, because the random suffix follows (`maskTrailingDash`).
    return _trailing_dash(lambda dashes: "a" * len(dashes[0]), prefix) if len(prefix) > 1 else prefix


def label_name_errors(name: str, prefix: bool) -> list[str]:
    """Return the errors in a name that is one DNS label (namespaces, services)."""
    return v.dns1123_label(_masked(name) if prefix else name)
