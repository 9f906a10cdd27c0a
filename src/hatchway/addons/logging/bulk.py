"""Executes `_bulk` requests: many writes in one request, each with its own result."""

from __future__ import annotations

from typing import Any

import msgspec

from hatchway.addons.logging.documentstore import LoggingStore, Written
from hatchway.addons.logging.problems import EsProblem, illegal

_ACTIONS = ("index", "create", "update", "delete")
_STATUS = {"created": 201, "updated": 200, "deleted": 200, "not_found": 404}


def written_body(written: Written) -> dict[str, Any]:
    """Return the body of the answer to one write."""
    return {
        "_index": written.index,
        "_type": "_doc",
        "_id": written.id,
        "_version": written.version,
        "result": written.result,
        "_shards": {"total": 1, "successful": 1, "failed": 0},
        "_seq_no": written.seq,
        "_primary_term": 1,
    }


def status_of(written: Written) -> int:
    """Return the HTTP status of a write."""
    return _STATUS[written.result]


def run(store: LoggingStore, body: bytes, default_index: str) -> tuple[bool, list[dict[str, Any]]]:
    """Execute a bulk request.

    Args:
        store: all indices.
        body: lines of JSON: an action, then its document, except after a deletion.
        default_index: the index of actions that name none.

    Returns:
        (True when any write has failed, one item for each action).

    Raises:
        EsProblem: 400 when a line is malformed. The writes of earlier lines are not undone.
    """
    if not body.strip():
        raise EsProblem(400, "parse_exception", "request body is required")
    if not body.endswith(b"\n"):
        raise illegal("The bulk request must be terminated by a newline [\\n]")
    lines = iter(enumerate(body.split(b"\n"), 1))
    items: list[dict[str, Any]] = []
    errors = False
    touched: set[tuple[str, str]] = set()
    seen: set[str] = set()
    for number, line in lines:
        if not line.strip():
            continue
        action, index, id = _action(line, number, default_index)
        source = b""
        if action != "delete":
            source = next(lines, (0, b""))[1]
            if not source.strip():
                raise illegal(f"Malformed action/metadata line [{number}], the line after it must hold a document")
        # A refresh makes earlier writes visible. It is needed before the first write to each index, and before this
        # request writes the same document again.
        refresh = index not in seen or (id is not None and (index, id) in touched)
        try:
            written = _write(store, action, index, id, source, refresh)
        except EsProblem as problem:
            errors = True
            failed = {"_index": index, "_type": "_doc", "_id": id, "status": problem.status, "error": problem.error()}
            items.append({action: failed})
            continue
        seen.add(index)
        touched.add((index, written.id))
        items.append({action: {**written_body(written), "status": status_of(written)}})
    return errors, items


def _write(store: LoggingStore, action: str, index: str, id: str | None, source: bytes, refresh: bool) -> Written:
    if not index:
        raise EsProblem(400, "action_request_validation_exception", "Validation Failed: 1: index is missing;")
    if action in ("index", "create"):
        return store.write(index, id, source, only_new=action == "create", refresh=refresh)
    if not id:
        raise EsProblem(400, "action_request_validation_exception", "Validation Failed: 1: id is missing;")
    if action == "update":
        return store.update(index, id, source, refresh=refresh)
    return store.erase(index, id, refresh=refresh)


def _action(line: bytes, number: int, default_index: str) -> tuple[str, str, str | None]:
    try:
        parsed = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise illegal(f"Malformed action/metadata line [{number}]: {error}") from error
    if not isinstance(parsed, dict) or len(parsed) != 1:
        raise illegal(f"Malformed action/metadata line [{number}], expected one action in an object")
    action, meta = next(iter(parsed.items()))
    if action not in _ACTIONS or not isinstance(meta, dict):
        raise illegal(
            f"Malformed action/metadata line [{number}], expected field [create], [delete], [index] or [update] "
            f"but found [{str(action)[:64]}]"
        )
    index, id = meta.get("_index", default_index), meta.get("_id")
    if not isinstance(index, str) or not isinstance(id, (str, int, type(None))):
        raise illegal(f"Malformed action/metadata line [{number}], [_index] and [_id] are strings")
    return action, index, None if id is None else str(id)
