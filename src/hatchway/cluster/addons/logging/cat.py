"""`_cat`: tables for people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hatchway.cluster.addons.logging.index import EsIndex

# Columns that stand on the right of their column.
_RIGHT = frozenset(
    ("pri", "rep", "docs.count", "docs.deleted", "store.size", "pri.store.size", "count", "epoch", "shards")
)
_UNITS = ("b", "kb", "mb", "gb", "tb")


def indices(found: Sequence[EsIndex], params: Mapping[str, str]) -> list[dict[str, str]]:
    rows = []
    for index in found:
        size = human_size(index.size, params.get("bytes", ""))
        rows.append(
            {
                "health": "green",
                "status": "open",
                "index": index.name,
                "uuid": index.uuid,
                "pri": "1",
                "rep": "0",
                "docs.count": str(index.count),
                "docs.deleted": "0",
                "store.size": size,
                "pri.store.size": size,
            }
        )
    return rows


def health(found: Sequence[EsIndex], cluster: str) -> list[dict[str, str]]:
    count = str(len(found))
    now = time.time()
    return [
        {
            "epoch": str(int(now)),
            "timestamp": time.strftime("%H:%M:%S", time.gmtime(now)),
            "cluster": cluster,
            "status": "green",
            "node.total": "1",
            "node.data": "1",
            "shards": count,
            "pri": count,
            "relo": "0",
            "init": "0",
            "unassign": "0",
            "pending_tasks": "0",
            "max_task_wait_time": "-",
            "active_shards_percent": "100.0%",
        }
    ]


def count(total: int) -> list[dict[str, str]]:
    now = time.time()
    stamp = time.strftime("%H:%M:%S", time.gmtime(now))
    return [{"epoch": str(int(now)), "timestamp": stamp, "count": str(total)}]


def human_size(size: int, unit: str = "") -> str:
    """`4.5kb`; in a given unit the bare number."""
    if unit in _UNITS:
        return str(size // 1024 ** _UNITS.index(unit))
    amount = float(size)
    for name in _UNITS:
        if amount < 1024 or name == _UNITS[-1]:
            text = f"{amount:.1f}".removesuffix(".0")
            return f"{text}{name}"
        amount /= 1024
    raise AssertionError(size)


def select(rows: list[dict[str, str]], params: Mapping[str, str]) -> list[dict[str, str]]:
    """The columns (`h`) and order (`s`) asked for."""
    for key in reversed([part for part in params.get("s", "").split(",") if part]):
        name, _, direction = key.partition(":")
        rows = sorted(rows, key=lambda row: _sortable(row.get(name, "")), reverse=direction == "desc")
    wanted = [name for name in params.get("h", "").split(",") if name]
    if wanted:
        rows = [{name: row[name] for name in wanted if name in row} for row in rows]
    return rows


def _sortable(value: str) -> tuple[int, float, str]:
    return (0, float(value), "") if value.isdigit() else (1, 0.0, value)


def table(rows: list[dict[str, Any]], *, header: bool) -> str:
    """Aligned columns, a line for each row."""
    lines = [dict(zip(rows[0], rows[0], strict=True)), *rows] if header and rows else rows
    widths = {name: max(len(line[name]) for line in lines) for name in (rows[0] if rows else ())}
    text = []
    for line in lines:
        cells = [
            value.rjust(widths[name]) if name in _RIGHT else value.ljust(widths[name]) for name, value in line.items()
        ]
        text.append(" ".join(cells).rstrip() + "\n")
    return "".join(text)
