"""Elasticsearch's errors: statuses, types, and the form of their bodies."""

from __future__ import annotations

from typing import Any


class EsProblem(Exception):
    """An error with the answer that Elasticsearch gives.

    Attributes:
        status: the HTTP status.
        kind: the error's `type`.
        reason: the error's `reason`.
        more: further fields of the error.
        cause: the entry of `root_cause` when it is different (a query that has failed on an index).
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
        """Return the value of `error`, without `root_cause` (the form in items of `_bulk`)."""
        return {"type": self.kind, "reason": self.reason, **self.more}

    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        cause = self.cause if self.cause is not None else self.error()
        return {"error": {"root_cause": [cause], **self.error()}, "status": self.status}


def no_index(name: str) -> EsProblem:
    """Return the error for an index that does not exist: 404."""
    more = {"resource.type": "index_or_alias", "resource.id": name, "index_uuid": "_na_", "index": name}
    return EsProblem(404, "index_not_found_exception", f"no such index [{name}]", more=more)


def illegal(reason: str) -> EsProblem:
    """Return the error for a value that is not allowed (400)."""
    return EsProblem(400, "illegal_argument_exception", reason)


def too_large(what: str, less: str) -> EsProblem:
    """Return the error for an answer that would take too much memory (429).

    less: the part of the request to make smaller.
    """
    return EsProblem(429, "circuit_breaking_exception", f"Data too large: {what} need too much memory, use less {less}")


def parsing(reason: str) -> EsProblem:
    """Return the error for a malformed body (400)."""
    return EsProblem(400, "parsing_exception", reason)


def failed_query(kind: str, reason: str, index: str) -> EsProblem:
    """Return the error for a query that cannot be executed on an index (400, `search_phase_execution_exception`).

    Args:
        kind: Elasticsearch's name of the cause.
        reason: the reason of the cause.
        index: the index's name.
    """
    cause = {"type": kind, "reason": reason, "index": index}
    failed = [{"shard": 0, "index": index, "reason": cause}]
    more = {"phase": "query", "grouped": True, "failed_shards": failed}
    return EsProblem(400, "search_phase_execution_exception", "all shards failed", more=more, cause=cause)
