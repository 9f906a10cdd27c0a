"""Elasticsearch's errors: statuses, types, and the shape of the body."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """status: HTTP status. kind, reason: the error's `type` and `reason`. more: further fields of the error.

    cause: the `root_cause` entry when it differs (a query that failed on the shards of an index).
    """

    def __init__(
        self,
        status: int,
        kind: str,
        reason: str,
        *,
        more: dict[str, Any] | None = None,
        cause: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.kind = kind
        self.reason = reason
        self.more = more or {}
        self.cause = cause

    def error(self) -> dict[str, Any]:
        """The value of `error`, without `root_cause` (as items of `_bulk` have it)."""
        return {"type": self.kind, "reason": self.reason, **self.more}

    def body(self) -> dict[str, Any]:
        cause = self.cause if self.cause is not None else self.error()
        return {"error": {"root_cause": [cause], **self.error()}, "status": self.status}


def no_index(name: str) -> Problem:
    more = {"resource.type": "index_or_alias", "resource.id": name, "index_uuid": "_na_", "index": name}
    return Problem(404, "index_not_found_exception", f"no such index [{name}]", more=more)


def illegal(reason: str) -> Problem:
    return Problem(400, "illegal_argument_exception", reason)


def parsing(reason: str) -> Problem:
    return Problem(400, "parsing_exception", reason)


def failed_query(kind: str, reason: str, index: str) -> Problem:
    """A query that cannot be run: 400, as `search_phase_execution_exception` when an index had to look at it."""
    cause = {"type": kind, "reason": reason, "index": index}
    failed = [{"shard": 0, "index": index, "reason": cause}]
    more = {"phase": "query", "grouped": True, "failed_shards": failed}
    return Problem(400, "search_phase_execution_exception", "all shards failed", more=more, cause=cause)
