"""The options of a request, from its query or its DeleteOptions body (metav1 ListOptions, CreateOptions, ...)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.selectors import (
    EVERYTHING,
    FieldSelector,
    LabelSelector,
    parse_field_selector,
    parse_label_selector,
)
from hatchway.errors import ApiError, Cause, bad_request, invalid

QueryParameters = Mapping[str, Sequence[str]]
FieldValidation = Literal["Ignore", "Warn", "Strict"]
_META = "meta.k8s.io"
# No valid request has more fields in its query.
MAX_QUERY_FIELDS = 200


def parse_query(query: bytes | None) -> QueryParameters:
    """Return a raw query string as lists of values.

    Raises ApiError 400 when there are more fields than any request has.
    """
    if not query:
        return {}
    try:
        return parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise bad_request("the query of the request has too many fields") from None


def _text(query: QueryParameters, key: str) -> str:
    values = query.get(key)
    return values[0] if values else ""


def _integer(query: QueryParameters, key: str) -> int | None:
    text = _text(query, key)
    if not text:
        return None
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII):
        raise bad_request(f"strconv.ParseInt: parsing {v.quote(text)}: invalid syntax")
    if len(text) > 19 or not -(2**63) <= int(text) < 2**63:
        raise bad_request(f"strconv.ParseInt: parsing {v.quote(text)}: value out of range")
    return int(text)


def _boolean(query: QueryParameters, key: str) -> bool | None:
    # As in apimachinery's Convert_Slice_string_To_bool: only "0" and "false" are false; an empty value is true.
    values = query.get(key)
    if not values:
        return None
    return values[0].lower() not in ("0", "false")


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of lists and watches. resource_version: "" for the latest. timeout: the longest duration, in seconds."""

    labels: LabelSelector = EVERYTHING
    fields: FieldSelector = field(default_factory=FieldSelector)
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    bookmarks: bool = False
    send_initial_events: bool | None = None
    timeout: int | None = None

    @property
    def revision(self) -> int | None:
        """Return the resourceVersion as a number; None when unset."""
        return int(self.resource_version) if self.resource_version else None


def list_options(query: QueryParameters, *, watch: bool) -> ListOptions:
    """Parse and validate the options of a list or a watch (`ValidateListOptions`). Raises ApiError 400 or 422."""
    found = ListOptions(
        parse_label_selector(_text(query, "labelSelector")),
        parse_field_selector(_text(query, "fieldSelector")),
        _integer(query, "limit") or 0,
        _text(query, "continue"),
        _text(query, "resourceVersion"),
        _text(query, "resourceVersionMatch"),
        bool(_boolean(query, "allowWatchBookmarks")),
        _boolean(query, "sendInitialEvents"),
        _integer(query, "timeoutSeconds"),
    )
    causes = _validate_list(found, watch)
    if causes:
        raise invalid("ListOptions", "", causes, _META)
    version = found.resource_version
    if version and not re.fullmatch(r"\d{1,19}", version, re.ASCII):
        raise bad_request(
            f"resourceVersion: Invalid value: {v.quote(version)}: strconv.ParseUint: parsing {v.quote(version)}: "
            "invalid syntax"
        )
    return found


def _validate_list(found: ListOptions, watch: bool) -> list[Cause]:
    causes: list[Cause] = []
    match, version = found.resource_version_match, found.resource_version
    if found.send_initial_events is not None:
        if not watch:
            causes.append(v.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
        elif match != "NotOlderThan":
            causes.append(
                v.forbidden(
                    "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                )
            )
        return causes
    if not match:
        return causes
    if watch:
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        causes.append(v.forbidden("resourceVersionMatch", text))
        if match != "NotOlderThan":
            causes.append(v.not_supported("resourceVersionMatch", match, ("NotOlderThan",)))
        if found.continue_token:
            text = "resourceVersionMatch is forbidden when continue is provided"
            causes.append(v.forbidden("resourceVersionMatch", text))
        return causes
    if not version:
        causes.append(
            v.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
        )
    if found.continue_token:
        causes.append(
            v.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
        )
    if match not in ("Exact", "NotOlderThan"):
        causes.append(v.not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", "")))
    elif match == "Exact" and version == "0":
        causes.append(
            v.forbidden("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    return causes


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The options of a create, an update or a patch.

    field_manager: the field manager; "" when the client does not name one.
    force: True for a server-side apply that takes fields from other managers.
    """

    dry_run: bool = False
    field_validation: FieldValidation = "Warn"
    field_manager: str = ""
    force: bool = False


def _dry_run(values: Sequence[str], kind: str) -> tuple[bool, list[Cause]]:
    values = [value for value in values if value]
    if any(value != "All" for value in values):
        return False, [v.not_supported("dryRun", list(values), ("All",))]
    return bool(values), []


def manager_of(user_agent: str) -> str:
    """Return the default field manager: the name of the client's program (`handlers/create.go`)."""
    found = ""
    for character in user_agent.partition("/")[0]:
        if character.isprintable():
            if len(found.encode()) + len(character.encode()) > v.LONGEST_MANAGER:
                break
            found += character
    return found


def write_options(query: QueryParameters, kind: str, *, is_apply: bool = False) -> WriteOptions:
    """Parse and validate options of writes. kind: CreateOptions, UpdateOptions or PatchOptions. Raises ApiError 422."""
    causes = []
    manager = _text(query, "fieldManager")
    if is_apply and not manager:
        causes.append(v.required("fieldManager", "is required for apply patch"))
    if kind == "PatchOptions" and not is_apply and query.get("force"):
        causes.append(v.forbidden("force", "may not be specified for non-apply patch"))
    causes += v.field_manager(manager, "fieldManager")
    dry_run, found = _dry_run(query.get("dryRun", ()), kind)
    causes += found
    validation = _text(query, "fieldValidation")
    if validation not in ("", "Ignore", "Warn", "Strict"):
        causes.append(v.not_supported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
    if causes:
        raise invalid(kind, "", causes, _META)
    chosen: FieldValidation = "Ignore" if validation == "Ignore" else "Strict" if validation == "Strict" else "Warn"
    return WriteOptions(dry_run, chosen, manager, is_apply and bool(_boolean(query, "force")))


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of deletions.

    propagation: Background, Foreground, Orphan or "".
    uid, resource_version: preconditions, "" for none.
    """

    grace_period: int | None = None
    propagation: str = ""
    orphan: bool | None = None
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    def as_fields(self) -> dict[str, Any]:
        """Return the options as the fields of a DeleteOptions object, without `dryRun`."""
        found: dict[str, Any] = {}
        if self.grace_period is not None:
            found["gracePeriodSeconds"] = self.grace_period
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        if given := {key: value for key, value in preconditions.items() if value}:
            found["preconditions"] = given
        if self.orphan is not None:
            found["orphanDependents"] = self.orphan
        if self.propagation:
            found["propagationPolicy"] = self.propagation
        return found


def delete_options(query: QueryParameters, body: Any = None) -> DeleteOptions:
    """Parse the options of a DELETE from its body, or from its query if it has none. Raises ApiError 400 or 422."""
    if body:
        preconditions = body.get("preconditions") or {}
        grace, orphan = body.get("gracePeriodSeconds"), body.get("orphanDependents")
        propagation = body.get("propagationPolicy") or ""
        dry = body.get("dryRun") or ()
        uid, version = preconditions.get("uid") or "", preconditions.get("resourceVersion") or ""
    else:
        grace, orphan = _integer(query, "gracePeriodSeconds"), _boolean(query, "orphanDependents")
        propagation = _text(query, "propagationPolicy")
        dry = query.get("dryRun", ())
        uid = version = ""
    dry_run, causes = _dry_run(dry, "DeleteOptions")
    policies = ("Foreground", "Background", "Orphan")
    if propagation and orphan is not None:
        causes.append(
            v.invalid("propagationPolicy", propagation, "orphanDependents and deletionPropagation cannot be both set")
        )
    elif propagation and propagation not in policies:
        causes.append(v.not_supported("propagationPolicy", propagation, (*policies, "nil")))
    if causes:
        raise invalid("DeleteOptions", "", causes, _META)
    return DeleteOptions(grace, propagation, orphan, uid, version, dry_run)


def too_large_version(wanted: int, current: int) -> ApiError:
    """Return the error 504 for a version that does not exist yet (`storage.NewTooLargeResourceVersionError`)."""
    return ApiError(
        504,
        "Timeout",
        f"Too large resource version: {wanted}, current: {current}",
        {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )
