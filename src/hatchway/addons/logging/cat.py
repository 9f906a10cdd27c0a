"""Makes the tables of `_cat`, for people. A row is a dictionary: the cells by the names of their columns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hatchway.addons.logging.index import EsIndex

# Columns that are aligned to the right.
_RIGHT = frozenset(
    ("pri", "rep", "docs.count", "docs.deleted", "store.size", "pri.store.size", "count", "epoch", "shards")
)
_UNITS = ("b", "kb", "mb", "gb", "tb")


def indices(found: Sequence[EsIndex], params: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a row for each index. params: the request's parameters; `bytes` is the unit of sizes."""
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
    """Return the one row that describes the cluster. cluster: its name."""
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
    """Return the one row with a number of documents. total: the number."""
    now = time.time()
    stamp = time.strftime("%H:%M:%S", time.gmtime(now))
    return [{"epoch": str(int(now)), "timestamp": stamp, "count": str(total)}]


def human_size(size: int, unit: str = "") -> str:
    """Return a size as `4.5kb`; with a unit (b, kb, mb, gb, tb), as a number only. size: bytes."""
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
    """Return the rows with the columns (`h`) and in the order (`s`) that the request's parameters name."""
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
    """Return the rows as text in aligned columns. header: begin with a line of column names."""
    lines = [dict(zip(rows[0], rows[0], strict=True)), *rows] if header and rows else rows
    widths = {name: max(len(line[name]) for line in lines) for name in (rows[0] if rows else ())}
    text = []
    for line in lines:
        cells = [
            value.rjust(widths[name]) if name in _RIGHT else value.ljust(widths[name]) for name, value in line.items()
        ]
        text.append(" ".join(cells).rstrip() + "\n")
    return "".join(text)
