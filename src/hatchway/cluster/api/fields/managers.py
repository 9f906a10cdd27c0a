"""The owners of fields in `metadata.managedFields` (apimachinery's `util/managedfields/internal/managedfields.go`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import msgspec

from hatchway.cluster.api.fields.pathset import BadFields, PathSet, canonical, union

__all__ = [
    "ANCIENT",
    "BEFORE_FIRST_APPLY",
    "BadManagedFields",
    "Managed",
    "ManagerIdentity",
    "OwnedFields",
    "decode_entries",
]

Json = Any
WriteKind = Literal["Apply", "Update"]
# If an object has no managed fields before its first server-side apply, this manager gets its existing fields.
BEFORE_FIRST_APPLY = "before-first-apply"
# If an object has too many managers, this manager gets the fields of the oldest updates.
ANCIENT = "ancient-changes"
_MOST_UPDATE_MANAGERS = 10
# The maximum number of entries that a client's managed fields may have.
_MOST_ENTRIES = 1000
_encode = msgspec.json.Encoder().encode


class BadManagedFields(Exception):
    """Raised when a list of managed fields cannot be decoded."""


class ManagerIdentity(NamedTuple):
    """The identity of a manager.

    api_version: "" for Apply, because a manager that applies owns its fields in all versions.
    """

    manager: str
    kind: WriteKind
    api_version: str
    subresource: str

    @property
    def text(self) -> str:
        """Return the identity in Kubernetes' spelling, by which managers are sorted."""
        found = {
            "manager": self.manager,
            "operation": self.kind,
            "apiVersion": self.api_version,
            "subresource": self.subresource,
        }
        return _encode({key: value for key, value in found.items() if value}).decode()

    @property
    def shown(self) -> str:
        """Return the manager's name for messages about conflicts (`internal/conflict.go`)."""
        text = _encode(self.manager).decode()
        if self.subresource:
            text += f" with subresource {_encode(self.subresource).decode()}"
        return f"{text} using {self.api_version}" if self.kind == "Update" else text


@dataclass(frozen=True, slots=True)
class OwnedFields:
    """The fields of one manager, in `api_version`. time: the time of their last change, RFC 3339; "" if unknown."""

    fields: PathSet
    api_version: str
    time: str = ""


Managed = dict[ManagerIdentity, OwnedFields]


def decode_entries(entries: Any, *, trusted: bool = False) -> Managed:
    """Return the owners in managed fields. trusted: True if the server made the list. Raises BadManagedFields."""
    if not trusted and len(entries or ()) > _MOST_ENTRIES:
        raise BadManagedFields("there are too many managers")
    found: Managed = {}
    for one in entries or ():
        kind, version = one.get("operation"), one.get("apiVersion") or ""
        if kind not in ("Apply", "Update"):
            raise BadManagedFields("operation must be `Apply` or `Update`")
        if not version:
            raise BadManagedFields("apiVersion must not be empty")
        if one.get("fieldsType") != "FieldsV1":
            raise BadManagedFields("invalid fieldsType")
        identity = ManagerIdentity(
            one.get("manager") or "", kind, version if kind == "Update" else "", one.get("subresource") or ""
        )
        fields = one.get("fieldsV1") or {}
        try:
            found[identity] = OwnedFields(fields if trusted else canonical(fields), version, one.get("time") or "")
        except BadFields as error:
            raise BadManagedFields(str(error)) from None
    return found


# Sets of fields by their JSON. Many objects have equal sets, for example the pods of a workload.
_shared: dict[bytes, PathSet] = {}
_MOST_SHARED = 256
_LARGEST_SHARED = 4096


def share(fields: PathSet) -> PathSet:
    """Return an equal set that several objects can share. This saves memory."""
    text = _encode(fields)
    if len(text) > _LARGEST_SHARED:
        return fields
    if len(_shared) >= _MOST_SHARED:
        _shared.clear()
    return _shared.setdefault(text, fields)


def encode_entries(managed: Managed) -> list[Json]:
    """Return the owners as a list of managed fields, in Kubernetes' order."""
    return [
        {
            **({"manager": identity.manager} if identity.manager else {}),
            "operation": identity.kind,
            "apiVersion": owned.api_version,
            **({"time": owned.time} if owned.time else {}),
            "fieldsType": "FieldsV1",
            "fieldsV1": owned.fields,
            **({"subresource": identity.subresource} if identity.subresource else {}),
        }
        for identity, owned in sorted(managed.items(), key=_order)
    ]


def _order(item: tuple[ManagerIdentity, OwnedFields]) -> tuple[str, ...]:
    identity, owned = item
    # Times are RFC 3339 in UTC and in whole seconds, so comparing their texts gives the right order.
    return identity.kind, owned.time, identity.manager, owned.api_version, identity.subresource


def cap(managed: Managed) -> Managed:
    """Return the managers. If there are more than ten managers of updates, the oldest are joined (`capmanagers.go`).

    Only managers of the same version are joined.
    """
    updaters = [identity for identity in managed if identity.kind == "Update"]
    excess = len(updaters) - _MOST_UPDATE_MANAGERS
    if excess <= 0:
        return managed
    found = dict(managed)
    updaters.sort(key=lambda identity: (managed[identity].time, identity.text))
    first: dict[str, ManagerIdentity] = {}
    for identity in updaters:
        if excess <= 0:
            break
        owned = found[identity]
        version = owned.api_version
        if version not in first:
            first[version] = identity
            continue
        bucket = ManagerIdentity(ANCIENT, "Update", version, "")
        if bucket not in found:
            found[bucket] = found.pop(first[version])
        found[bucket] = replace(owned, fields=union(owned.fields, found[bucket].fields))
        if identity != bucket:
            del found[identity]
        excess -= 1
    return found


def is_reset(entries: Any) -> bool:
    """Return True for a list that removes all managed fields: an empty list, or a list of one empty entry."""
    return isinstance(entries, list) and (not entries or entries == [{}])


def same_but_times(left: Iterable[Json], right: Iterable[Json]) -> bool:
    """Return True when two lists differ only in their times."""
    return [{**one, "time": ""} for one in left] == [{**one, "time": ""} for one in right]
