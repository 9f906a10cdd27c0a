"""Compare an answer with that of Prometheus: numbers to 1e-9, series in any order unless the query sorts them."""

from __future__ import annotations

import math
from typing import Any

RELATIVE = 1e-9


def _same_number(ours: str, theirs: str) -> bool:
    a, b = float(ours), float(theirs)
    if a != a or b != b:
        return a != a and b != b
    # Sums that cancel out leave rounding errors, which depend on the order of the summation.
    return a == b or math.isclose(a, b, rel_tol=RELATIVE, abs_tol=1e-12)


def _same_samples(ours: list[Any], theirs: list[Any]) -> bool:
    return len(ours) == len(theirs) and all(
        a[0] == b[0] and _same_number(a[1], b[1]) for a, b in zip(ours, theirs, strict=True)
    )


def _key(series: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted(series["metric"].items())


def difference(ours: Any, theirs: Any, *, ordered: bool = False) -> str:
    """Return the difference between two answers; "" if there is none. ordered: whether the order of the series counts."""
    if ours["status"] != theirs["status"]:
        return f"status {ours} instead of {str(theirs)[:300]}"
    if theirs["status"] == "error":
        same = (ours["errorType"], ours["error"]) == (theirs["errorType"], theirs["error"])
        return "" if same else f"error {ours['error']!r} instead of {theirs['error']!r}"
    ours, theirs = ours["data"], theirs["data"]
    if ours["resultType"] != theirs["resultType"]:
        return f"type {ours['resultType']} instead of {theirs['resultType']}"
    if theirs["resultType"] == "scalar":
        same = _same_samples([ours["result"]], [theirs["result"]])
        return "" if same else f"{ours['result']} instead of {theirs['result']}"
    if theirs["resultType"] == "string":
        return "" if ours == theirs else f"{ours} instead of {theirs}"
    first, second = ours["result"], theirs["result"]
    if not ordered:
        first, second = sorted(first, key=_key), sorted(second, key=_key)
    if [_key(one) for one in first] != [_key(one) for one in second]:
        return f"series {[one['metric'] for one in first]} instead of {[one['metric'] for one in second]}"
    for a, b in zip(first, second, strict=True):
        x, y = (a["values"], b["values"]) if "values" in b else ([a["value"]], [b["value"]])
        if not _same_samples(x, y):
            for one, other in zip(x, y, strict=False):
                if not _same_samples([one], [other]):
                    return f"{a['metric']}: {one} instead of {other}"
            return f"{a['metric']}: {len(x)} samples instead of {len(y)}"
    return ""
