"""Formats the results of `hatchway exposure`: data for programs, and rows for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from hatchway.exposure.findings import SEVERITIES, Exposure, Issue, Severity
from hatchway.exposure.snapshot import Unread

# The values of `Exposure.reach` and `Exposure.shield` in words for people.
REACH_WORDS: Final = {
    "unknown": "not known",
    "internet": "the Internet",
    "restricted": "chosen ranges",
    "private": "private networks",
    "machine": "one machine",
    "nobody": "nobody",
}
SHIELD_WORDS: Final = {"none": "-", "partial": "in part", "full": "shielded"}
_NONE: Final = "-"
# The maximum number of locations in one row.
_LOCATIONS = 2


def as_data(exposures: Sequence[Exposure], unread: Sequence[Unread], cluster: str) -> dict[str, Any]:
    """Return all results in the form that `-o json` and `-o yaml` print."""
    return {
        "cluster": cluster,
        "complete": not unread,
        "notLookedAt": [
            {"resource": one.resource, "namespaces": list(one.where), "reason": one.reason} for one in unread
        ],
        "findings": {severity: number for severity, number in count(exposures).items() if severity != "info"},
        "exposures": [exposure.as_dict() for exposure in exposures],
    }


def count(exposures: Iterable[Exposure]) -> dict[Severity, int]:
    """Return the number of findings of each severity, without those of objects that are exposed on purpose."""
    found = dict.fromkeys(SEVERITIES, 0)
    for exposure, issue in findings(exposures):
        if not exposure.accepted:
            found[issue.severity] += 1
    return found


def findings(exposures: Iterable[Exposure]) -> list[tuple[Exposure, Issue]]:
    """Return all findings, the worst first, and those of objects that are exposed on purpose last."""
    found = [(exposure, issue) for exposure in exposures for issue in exposure.issues]
    return sorted(found, key=lambda one: (bool(one[0].accepted), SEVERITIES.index(one[1].severity)))


def reaches(exposures: Iterable[Exposure], least: Severity) -> bool:
    """Return True when there is a finding of this severity or a worse one."""
    limit = SEVERITIES.index(least)
    return any(SEVERITIES.index(exposure.severity) <= limit for exposure in exposures)


def rows(exposures: Iterable[Exposure], *, namespaces: bool) -> list[list[str]]:
    """Return the table of ways in, with its header. namespaces: add a column with namespaces."""
    first = ["NAMESPACE"] if namespaces else []
    table = [[*first, "OBJECT", "WAY", "REACHED FROM", "POLICIES", "BEHIND", "AT", "FINDING"]]
    for one in exposures:
        shown = [str(location) for location in one.locations[:_LOCATIONS]]
        if len(one.locations) > _LOCATIONS:
            shown.append("...")
        behind = ", ".join(one.workloads) or ("?" if one.pods is None else _NONE)
        finding = "on purpose" if one.accepted else one.severity if one.issues else _NONE
        table.append(
            [
                *([one.namespace or _NONE] if namespaces else []),
                one.spelled,
                one.way,
                REACH_WORDS[one.reach],
                SHIELD_WORDS[one.shield],
                behind,
                ",".join(shown) or _NONE,
                finding,
            ]
        )
    return table
