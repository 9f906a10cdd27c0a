"""Writes findings as SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), for code scanning in CI. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from hatchway import __version__
from hatchway.exposure.exposurereport import findings
from hatchway.exposure.findings import RULES, Exposure, Issue
from hatchway.exposure.snapshot import Unread
from hatchway.printable import printable

_LEVELS: Final = {"high": "error", "medium": "warning", "low": "note", "info": "none"}
# GitHub sorts findings by these numbers, which have the scale of CVSS scores.
_SCORES: Final = {"high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}


def as_sarif(exposures: Sequence[Exposure], unread: Sequence[Unread]) -> dict[str, Any]:
    """Return a SARIF log with one result for each finding."""
    found = findings(exposures)
    used = sorted({issue.rule for _, issue in found})
    worst = {issue.rule: issue.severity for _, issue in reversed(found)}
    rules = [
        {
            "id": rule,
            "shortDescription": {"text": RULES[rule]},
            "helpUri": "https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/",
            "properties": {"security-severity": _SCORES[worst[rule]], "tags": ["security"]},
        }
        for rule in used
    ]
    notifications = [{"level": "warning", "message": {"text": _text(str(one))}} for one in unread]
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "hatchway", "version": __version__, "rules": rules}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notifications}],
        "results": [_result(exposure, issue, used.index(issue.rule)) for exposure, issue in found],
    }
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _result(exposure: Exposure, issue: Issue, index: int) -> dict[str, Any]:
    where = "/".join(("namespaces", exposure.namespace, exposure.kind.lower(), exposure.name))
    fingerprint = hashlib.sha256("\0".join((issue.rule, where, exposure.way)).encode()).hexdigest()
    shown = printable(where)
    result: dict[str, Any] = {
        "ruleId": issue.rule,
        "ruleIndex": index,
        "level": _LEVELS[issue.severity],
        "message": {"text": _text(f"{exposure.spelled} ({exposure.way}): {issue.message}. To mend it: {issue.mend}")},
        "locations": [
            {
                # Programs for SARIF expect a file: the object's path in the API stands for it.
                "physicalLocation": {"artifactLocation": {"uri": _as_uri(where)}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": shown, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"hatchwayExposure/v1": fingerprint},
    }
    if exposure.accepted:
        result["suppressions"] = [{"kind": "external", "justification": printable(exposure.accepted)}]
    return result


def _text(message: str) -> str:
    """Return a message without links (`[text](target)`, section 3.11.6), which names of objects could contain."""
    return printable(message).replace("](", "] (")


def _as_uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
