"""What may be special about a type, and what holds for all types that say nothing else.

A strategy is stateless: one instance per row of the registry. The verbs in `rest.py` call it in the order of the real
server's registry stores (apiserver `registry/generic/registry/store.go`): default → admit → prepare → validate.
Objects passed as `obj` are the caller's own and may be changed in place; `old` is shared and never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from hatchway.cluster.api import validation as v
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import Cause
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.registry import Resource
    from hatchway.cluster.api.store import Store

# Reads one value of an object for a field selector.
FieldReader = Callable[[Object], str]


@dataclass(frozen=True, slots=True)
class Context:
    """What a strategy may know of a request. `now`: RFC 3339 in seconds, UTC. `warnings`: sent as Warning headers."""

    store: Store
    user: UserInfo
    row: Resource
    namespace: str
    now: str
    dry_run: bool
    warnings: list[str]


def field(*path: str) -> FieldReader:
    """A reader of the scalar at a path of keys; "" where it is missing."""

    def read(obj: Object) -> str:
        found = obj
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None  # type: ignore[assignment]
        return "" if found is None else str(found)

    return read


def readers(found: dict[str, FieldReader]) -> Mapping[str, FieldReader]:
    """The value of `Strategy.selectable`."""
    return MappingProxyType(found)


class Strategy:
    """The rules of an ordinary type: nothing is special, and metadata.generation is not kept."""

    # Whether metadata.generation counts changes of the spec.
    generation = False
    # Whether a PUT may create the object (`AllowCreateOnUpdate`).
    create_on_update = False
    # Whether a PUT may leave out metadata.resourceVersion (`AllowUnconditionalUpdate`).
    unconditional_update = True
    # Whether DELETE answers with the object instead of a Status (`ReturnDeletedObject`).
    return_deleted = False
    # What every client of the type is warned of; "" for nothing.
    deprecation = ""
    # Field selectors beyond metadata.name and metadata.namespace.
    selectable: Mapping[str, FieldReader] = MappingProxyType({})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """What is wrong with a name (`prefix`: with a generateName, whose end may be a dash)."""
        return v.dns1123_subdomain(_masked(name) if prefix else name)

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Fill in what the schema's defaults leave open, on create and update."""

    async def before_create(self, ctx: Context, obj: Object) -> None:
        """Wait for what the object needs and somebody else is just making."""

    def may_delete(self, obj: Object) -> None:
        """Raises ApiError 403 when the object must stay."""

    def admit(self, ctx: Context, obj: Object, old: Object | None) -> None:
        """Look beyond the object: what admission plugins do. `old` is None on create. Raises ApiError."""

    def prepare_create(self, ctx: Context, obj: Object) -> None:
        """Set what the server owns, drop what a client may not say, claim what must be unique. Raises ApiError."""
        if self.has_status(obj):
            obj.pop("status", None)

    def prepare_update(self, ctx: Context, obj: Object, old: Object) -> None:
        """Keep the status: only its subresource changes it."""
        keep(obj, old, "status")

    def prepare_status(self, ctx: Context, obj: Object, old: Object) -> None:
        """Of a status update keep nothing but the status (and metadata)."""
        for key in set(obj) | set(old):
            if key not in ("status", "metadata", "kind", "apiVersion"):
                keep(obj, old, key)

    def has_status(self, obj: Object) -> bool:
        return True

    def validate(self, obj: Object) -> list[Cause]:
        """Everything that is wrong with the object beyond its metadata and its shape."""
        return []

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Everything that is wrong with the change; by default what is wrong with the new object."""
        return self.validate(obj)

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """What the client is warned of although the object is valid. `old` is None on create."""
        return []

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        return []

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        """Seconds that a deletion must wait for somebody to confirm it; None when it happens at once."""
        return None

    def changed(self, obj: Object, old: Object) -> bool:
        """Whether an update counts as a new generation: anything but metadata and status changed."""
        return any(obj.get(key) != old.get(key) for key in set(obj) | set(old) if key not in ("metadata", "status"))


def keep(obj: Object, old: Object, key: str) -> None:
    """Make `obj[key]` what it was in `old` (absent included)."""
    if key in old:
        obj[key] = old[key]
    else:
        obj.pop(key, None)


_trailing_dash = re.compile("-+$").sub


def _masked(prefix: str) -> str:
    # As `maskTrailingDash`: a generateName may end with a dash, the random suffix follows it.
    return _trailing_dash(lambda dashes: "a" * len(dashes[0]), prefix) if len(prefix) > 1 else prefix


def label_name_errors(name: str, prefix: bool) -> list[str]:
    """Names that are one DNS label (namespaces, services)."""
    return v.dns1123_label(_masked(name) if prefix else name)
