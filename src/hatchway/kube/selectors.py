"""Matches label selectors against an object's labels (apimachinery `pkg/apis/meta/v1/helpers.go`). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatchway.numerals import parse_int


def selector_is_empty(selector: Mapping[str, Any] | None) -> bool:
    """Return True for None, and for a LabelSelector without requirements."""
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def selector_matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return True when a LabelSelector selects these labels; an empty one selects everything."""
    return subset_matches(selector.get("matchLabels") or {}, labels) and all(
        requirement_matches(requirement, labels) for requirement in selector.get("matchExpressions") or ()
    )


def subset_matches(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return True when `labels` has all of the wanted labels with their values."""
    return all(labels.get(key) == value for key, value in wanted.items())


def requirement_matches(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return True when labels meet a requirement: {key, operator, values}.

    The requirement may come from a LabelSelector or from a node selector. Only node selectors have the operators Gt and
    Lt.
    """
    key, operator = requirement["key"], requirement["operator"]
    values = requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator in ("Gt", "Lt") and key in labels and len(values) == 1:
        have, limit = parse_int(labels[key]), parse_int(values[0])
        if have is None or limit is None:
            return False
        return have > limit if operator == "Gt" else have < limit
    return False
