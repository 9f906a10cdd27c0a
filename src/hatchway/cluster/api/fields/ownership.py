"""Computes the owners of fields after a write, and the object after a server-side apply.

Source: structured-merge-diff's `merge/update.go` and the managers of apimachinery's `util/managedfields/internal`:
`fieldmanager.go`, `structuredmerge.go`, `stripmeta.go`, `managedfieldsupdater.go`, `skipnonapplied.go`,
`lastappliedmanager.go`, `lastappliedupdater.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from hatchway.cluster.api.fields import pathset
from hatchway.cluster.api.fields.atoms import Atom
from hatchway.cluster.api.fields.comparison import NO_CHANGE, BadItem, Comparison, compare
from hatchway.cluster.api.fields.managers import (
    BEFORE_FIRST_APPLY,
    BadManagedFields,
    Managed,
    ManagerIdentity,
    OwnedFields,
    cap,
    decode_entries,
    encode_entries,
    is_reset,
    share,
)
from hatchway.cluster.api.fields.merging import errors_in, field_set, merge, named_fields, reconcile, remove
from hatchway.cluster.api.fields.pathset import PathSet

__all__ = ["ApplyConflict", "BadConfiguration", "FieldType", "FieldWrite", "apply", "update"]

Json = Any
Object = dict[str, Any]
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# The manager that kubectl uses for server-side apply. It can take the fields of client-side apply without a conflict.
_KUBECTL = "kubectl"
# Only the server sets these fields, so they have no owner.
_STRIPPED = pathset.make(
    ("apiVersion",),
    ("kind",),
    ("metadata",),
    *(
        ("metadata", name)
        for name in (
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        )
    ),
)
# An object with more fields than this (path elements of all managers) is stored without managed fields. (kube-apiserver
# drops managed fields that make an object too large: `handlers/{create,update,patch}.go`.)
MOST_FIELDS = 8000
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class BadConfiguration(Exception):
    """Raised when an applied configuration cannot be merged."""


class FieldConflict(NamedTuple):
    """A field in an applied configuration that another manager has set to a different value."""

    owner: ManagerIdentity
    path: tuple[str, ...]


class ApplyConflict(Exception):
    """Raised when an applied configuration changes fields of other managers, and `force` is not set."""

    def __init__(self, conflicts: list[FieldConflict]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts

    @property
    def message(self) -> str:
        """Return the message for the client (`internal/conflict.go`)."""
        if len(self.conflicts) == 1:
            owner, path = self.conflicts[0]
            return f"Apply failed with 1 conflict: conflict with {owner.shown}: {pathset.show(path)}"
        lines = []
        last = None
        for owner, path in self.conflicts:
            if owner != last:
                lines.append(f"conflicts with {owner.shown}:")
                last = owner
            lines.append(f"- {pathset.show(path)}")
        return f"Apply failed with {len(self.conflicts)} conflicts: " + "\n".join(lines)


@dataclass(frozen=True, slots=True)
class FieldType:
    """An object's type in one version. convert: converts an object of any version to this version."""

    atom: Atom
    convert: Callable[[Object], Object] = lambda obj: obj


@dataclass(frozen=True, slots=True)
class FieldWrite:
    """The facts about one write.

    manager: the field manager; "" for `unknown`.
    api_version: the version of the written object.
    subresource: the written subresource; "" for the object itself.
    types: the object's type in each version that managers may name.
    blank: the object before any field is set (`blank_object`).
    reset: the fields that the server ignores in this write. The writer does not become their owner.
    now: the time of the write, RFC 3339.
    is_large: True if the object may have very many fields.
    is_custom: True for a custom type, whose schema may change at any time.
    """

    manager: str
    api_version: str
    subresource: str
    types: Mapping[str, FieldType]
    blank: Object
    reset: PathSet
    now: str
    is_large: bool = False
    is_custom: bool = False

    @property
    def atom(self) -> Atom:
        """Return the type in the written version."""
        return self.types[self.api_version].atom

    def identity(self, kind: Any, manager: str = "") -> ManagerIdentity:
        """Return the identity of the writer. kind: Apply or Update."""
        name = manager or self.manager or "unknown"
        return ManagerIdentity(name, kind, self.api_version if kind == "Update" else "", self.subresource)


def _bare(obj: Object) -> Object:
    """Return an object without its managed fields."""
    metadata = obj.get("metadata")
    if not metadata or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: one for key, one in metadata.items() if key != "managedFields"}}


# Updates


def update(write: FieldWrite, live: Object | None, new: Object, given: Any) -> list[Json] | None:
    """Return the managed fields after any write except an apply; None when the object gets none.

    live: the former object; None when the object is created.
    new: the new object.
    given: the managed fields that the client sent.
    """
    former = (live["metadata"].get("managedFields") or []) if live is not None else []
    managed: Managed | None = None
    if not write.subresource and given is not None and given != former:
        if is_reset(given):
            managed = {}
        else:
            try:
                # As in Kubernetes, a list without valid entries does not delete the managed fields.
                managed = decode_entries(given) or None
            except BadManagedFields:
                managed = None
    from_client = managed is not None
    if managed is None:
        managed = _decoded(former)
    if not managed and live is not None:
        # An existing object without managed fields gets managed fields only by its next apply.
        return None
    try:
        found, change = _updated(write, _bare(live) if live is not None else write.blank, _bare(new), managed)
    except (BadItem, RecursionError):
        # If an item has no key, or the object is nested too deeply, the owners stay the same.
        return former or None
    if change is NO_CHANGE and not from_client:
        return former or None
    if write.is_large and _is_too_much(found):
        return None
    entries = encode_entries(found)
    return former if entries == former else entries


def _is_too_much(managed: Managed) -> bool:
    return sum(pathset.count(owned.fields) for owned in managed.values()) > MOST_FIELDS


def _decoded(entries: list[Json]) -> Managed:
    try:
        return decode_entries(entries, trusted=True)
    except BadManagedFields:
        return {}


def _updated(
    write: FieldWrite, live: Object, new: Object, managed: Managed, manager: str = ""
) -> tuple[Managed, Comparison]:
    if write.is_custom:
        # Built-in types change only with a release, so reconciling their managed fields at each apply is enough.
        managed = _reconciled(write, managed)
    found, change = _taken_over(write, live, new, managed, None, force=True)
    own = pathset.difference(pathset.union(change.modified, change.added), _STRIPPED)
    if own:
        identity = write.identity("Update", manager)
        former = found.get(identity)
        fields = pathset.union(own, former.fields) if former is not None else own
        # To save memory, the states of an object share equal sets of fields.
        same = former is not None and fields == former.fields
        fields = former.fields if former is not None and same else share(fields)
        found[identity] = OwnedFields(fields, write.api_version, write.now)
    return cap(found), change


def _reconciled(write: FieldWrite, managed: Managed) -> Managed:
    found: Managed = {}
    for identity, owned in managed.items():
        type_ = write.types.get(owned.api_version)
        if type_ is not None:
            fields = reconcile(type_.atom, owned.fields)
            found[identity] = owned if fields is owned.fields else OwnedFields(fields, owned.api_version, owned.time)
    return found


def _taken_over(
    write: FieldWrite, live: Object, new: Object, managed: Managed, writer: ManagerIdentity | None, *, force: bool
) -> tuple[Managed, Comparison]:
    """Take the fields that a write changes from their managers. Return the new managers, and the changes of the write.

    writer: the manager of the write, from which no fields are taken; None to take fields from all managers.

    Raises ApplyConflict (only if `force` is False), BadItem.
    """
    change = compare(write.atom, live, new).without(write.reset)
    if not (change.removed or change.modified or change.added):
        change = NO_CHANGE
    changes = {write.api_version: (change, pathset.union(change.modified, change.added))}
    found: Managed = {}
    conflicts: list[FieldConflict] = []
    for identity, owned in managed.items():
        if identity == writer:
            found[identity] = owned
            continue
        seen = changes.get(owned.api_version)
        if seen is None:
            type_ = write.types.get(owned.api_version)
            if type_ is None:
                continue
            other = compare(type_.atom, type_.convert(live), type_.convert(new)).without(write.reset)
            seen = changes[owned.api_version] = other, pathset.union(other.modified, other.added)
        fields = owned.fields
        taken = pathset.intersection(fields, seen[1])
        if taken and not force:
            conflicts += [FieldConflict(identity, path) for path in pathset.paths(taken)]
        fields = pathset.difference(pathset.difference(fields, taken), seen[0].removed)
        if fields:
            # To save memory, the states of an object share equal sets of fields.
            same = fields == owned.fields
            found[identity] = owned if same else OwnedFields(fields, owned.api_version, owned.time)
    if conflicts:
        raise ApplyConflict(sorted(conflicts, key=lambda one: one.owner.text))
    # The writer is left out if its new configuration has no fields.
    return {identity: owned for identity, owned in found.items() if owned.fields}, change


# Apply


def apply(write: FieldWrite, live: Object | None, applied: Object, *, force: bool) -> Object:
    """Return the object after an apply, with its managed fields. It may share parts with the arguments.

    live: the current object in the written version; None when there is none.
    applied: the configuration.

    Raises ApplyConflict, BadConfiguration.
    """
    before = live if live is not None else write.blank
    managed = _decoded((before.get("metadata") or {}).get("managedFields") or [])
    bare = _bare(before)
    errors = errors_in(write.atom, applied)
    if errors:
        raise BadConfiguration(f"failed to create typed patch object ({_named(applied)}): {_joined(errors)}")
    try:
        if not managed and live is not None:
            managed, _ = _updated(write, write.blank, bare, {}, BEFORE_FIRST_APPLY)
        try:
            obj, found = _applied(write, bare, applied, managed, force)
        except ApplyConflict as error:
            if write.manager != _KUBECTL:
                raise
            left = _not_from_client_side_apply(write, bare, error.conflicts)
            if left:
                raise ApplyConflict(left) from None
            obj, found = _applied(write, bare, applied, managed, True)
    except BadItem as error:
        raise BadConfiguration(f"failed to merge config: {error}") from None
    if write.manager == _KUBECTL:
        obj = _with_last_applied(obj, applied)
    entries = encode_entries(found)
    metadata = {**(obj.get("metadata") or {})}
    if entries:
        metadata["managedFields"] = entries
    return {**obj, "metadata": metadata}


def _joined(errors: list[str]) -> str:
    # ValidationErrors.Error of structured-merge-diff.
    if len(errors) == 1:
        return errors[0]
    return "errors:\n" + "\n".join(f"  {one}" for one in errors)


def _named(obj: Object) -> str:
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    name, namespace = metadata.get("name") or "", metadata.get("namespace") or ""
    return f"{namespace}/{name}; {group}/{version}, Kind={obj.get('kind') or ''}"


def _applied(write: FieldWrite, live: Object, applied: Object, managed: Managed, force: bool) -> tuple[Object, Managed]:
    managed = _reconciled(write, managed)
    identity = write.identity("Apply")
    merged = merge(write.atom, live, applied)
    last = managed.get(identity)
    fields = pathset.recursive_difference(field_set(write.atom, applied), write.reset)
    managed = {**managed, identity: OwnedFields(fields, write.api_version, write.now)}
    new = _pruned(write, merged, managed, last)
    found, _ = _taken_over(write, live, new, managed, identity, force=force)
    own = pathset.difference(fields, _STRIPPED)
    if own:
        # The time changes only if the apply has changed the object.
        time = (last.time if last is not None else "") if new == live else write.now
        found[identity] = OwnedFields(own, write.api_version, time)
    else:
        found.pop(identity, None)
    return new, found


def _pruned(write: FieldWrite, merged: Object, managed: Managed, last: OwnedFields | None) -> Object:
    """Return the merged object without the fields that only the manager's previous apply had set.

    The manager does not apply these fields now, and no other manager owns them. As in `prune` of `merge/update.go`,
    fields are removed in the version of the previous apply. Fields that are owned in another version are then added
    in that version.

    last: the fields of the manager's previous apply; None for its first apply.
    """
    former = write.types.get(last.api_version) if last is not None and last.fields else None
    if last is None or former is None:
        return merged
    atom, whole = former.atom, former.convert(merged)
    pruned = remove(atom, whole, named_fields(atom, last.fields)) or {}
    owned: dict[str, list[PathSet]] = {}
    for one in managed.values():
        owned.setdefault(one.api_version, []).append(one.fields)
    current = whole
    # Begin with the version of the previous apply, because conversions to other versions may need fields that are owned
    # in this version.
    for version in sorted(owned, key=lambda one: one != last.api_version):
        other = write.types.get(version)
        if other is None:
            continue
        current, pruned = other.convert(current), other.convert(pruned)
        kept = named_fields(other.atom, field_set(other.atom, pruned))
        kept = pathset.union(kept, named_fields(other.atom, pathset.union_of(owned[version])))
        every = named_fields(other.atom, field_set(other.atom, current))
        pruned = remove(other.atom, current, pathset.difference(every, kept)) or {}
    # Fields that the previous apply did not own stay, even below a removed field.
    kept = named_fields(atom, field_set(atom, former.convert(pruned)))
    every = named_fields(atom, field_set(atom, whole))
    gone = pathset.intersection(pathset.difference(every, kept), named_fields(atom, last.fields))
    return write.types[write.api_version].convert(remove(atom, whole, gone) or {})


# From client-side apply


def _not_from_client_side_apply(write: FieldWrite, live: Object, conflicts: list[FieldConflict]) -> list[FieldConflict]:
    """Return all conflicts except conflicts about values that kubectl's last client-side apply has set."""
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return conflicts
    try:
        last = _decode(text.encode())
        if not isinstance(last, dict) or last.get("apiVersion") != write.api_version or errors_in(write.atom, last):
            return conflicts
        change = compare(write.atom, last, live)
        allowed = field_set(write.atom, last)
    except (msgspec.DecodeError, RecursionError, BadItem):
        return conflicts
    for fields in (change.modified, change.added, change.removed):
        allowed = pathset.difference(allowed, fields)
    return [one for one in conflicts if not pathset.has(allowed, one.path)]


def _with_last_applied(obj: Object, applied: Object) -> Object:
    """Return the object with the applied configuration in the annotation of client-side apply, if it has one."""
    metadata = obj.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if not annotations.get(LAST_APPLIED):
        return obj
    config = dict(applied)
    given = dict(config.get("metadata") or {})
    if "annotations" in given:
        given["annotations"] = {key: one for key, one in (given["annotations"] or {}).items() if key != LAST_APPLIED}
        if not given["annotations"]:
            del given["annotations"]
    config["metadata"] = given
    text = msgspec.json.encode(config, order="sorted").decode() + "\n"
    changed = {**annotations, LAST_APPLIED: text}
    if sum(len(key.encode()) + len(one.encode()) for key, one in changed.items()) > 256 * 1024:
        del changed[LAST_APPLIED]
    return {**obj, "metadata": {**metadata, "annotations": changed}}
