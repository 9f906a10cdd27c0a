"""Creates, opens and reads the SQLite file of a store. Unusable objects are set aside and reported.

A row without a valid object does not prevent the start of a cluster. The row is moved into the table `quarantine`, with
the reason, and the log names the object.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hatchway.cluster.api.work import HEAVY
from hatchway.errors import HatchwayError
from hatchway.kube.api import Object

__all__ = ["Fault", "Loaded", "load"]

# Returns why the object stored under (resource, namespace, name) cannot be used; "" for a usable object.
Fault = Callable[[str, str, str, Object], str]
ObjectTree = dict[str, dict[str, dict[str, Object]]]

_VERSION = 1
_SCHEMA = """
create table if not exists meta (key text primary key, value integer not null) without rowid;
create table if not exists objects (
  resource text not null, namespace text not null, name text not null,
  revision integer not null, data blob not null,
  primary key (resource, namespace, name)
);
create table if not exists quarantine (
  resource, namespace, name, revision, data, reason text not null, moved text not null default current_timestamp
);
"""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Loaded:
    """An open store file with its contents.

    revision: the highest revision that was ever used. weights: sizes of the large objects (bytes of JSON), by resource
    and (namespace, name).
    """

    connection: sqlite3.Connection
    revision: int
    objects: ObjectTree
    weights: dict[str, dict[tuple[str, str], int]]


def load(path: Path | None, fault: Fault, *, durable: bool = True) -> Loaded:
    """Open or create the file at `path` (None: in memory only) and read everything.

    durable: True if commits must survive a crash of the machine; False is quicker.

    Raises HatchwayError when the file cannot be opened or is not a store of Hatchway.
    """
    connection = None
    try:
        connection = sqlite3.connect(
            str(path) if path else ":memory:", check_same_thread=False, isolation_level=None, cached_statements=32
        )
        if path:
            path.chmod(0o600)
        return _read(connection, path, fault, durable)
    except (sqlite3.Error, OSError) as error:
        if connection is not None:
            connection.close()
        raise HatchwayError(f"cannot open the store {path}: {error}", _hint(error)) from error
    except HatchwayError:
        if connection is not None:
            connection.close()
        raise


def _hint(error: Exception) -> str:
    text = str(error)
    if "full" in text:
        return "make room on the disk and try again"
    if "readonly" in text or isinstance(error, PermissionError):
        return "it must belong to the user who starts the cluster, and be writable"
    if "locked" in text:
        return "another program has the file open"
    return "to begin with an empty cluster, move away the file, and those beside it whose names begin with its name"


def _read(connection: sqlite3.Connection, path: Path | None, fault: Fault, durable: bool) -> Loaded:
    execute = connection.execute
    version = execute("pragma user_version").fetchone()[0]
    if version > _VERSION:
        raise HatchwayError(
            f"the store {path} was written by a newer release of Hatchway",
            "use that release, or move the file away to begin with an empty cluster",
        )
    execute("pragma journal_mode = wal")
    execute(f"pragma synchronous = {'full' if durable else 'off'}")
    connection.executescript(_SCHEMA)
    if version != _VERSION:
        execute(f"pragma user_version = {_VERSION}")
    row = execute("select value from meta where key = 'revision'").fetchone()
    revision = row[0] if row and type(row[0]) is int and row[0] > 0 else 1
    objects: ObjectTree = {}
    weights: dict[str, dict[tuple[str, str], int]] = {}
    rejected: list[tuple[int, str]] = []
    for number, resource, namespace, name, written, data in execute(
        "select rowid, resource, namespace, name, revision, data from objects"
    ):
        obj, why = _decoded(resource, namespace, name, data)
        if obj is not None and not why:
            why = fault(resource, namespace, name, obj)
        if obj is None or why:
            _log.error("the store holds an object that cannot be used and is set aside: %s %s/%s: %s",
                       resource, namespace, name, why)  # fmt: skip
            rejected.append((number, why))
            continue
        if type(written) is int:
            revision = max(revision, written)
        objects.setdefault(resource, {}).setdefault(namespace, {})[name] = obj
        if len(data) >= HEAVY:
            weights.setdefault(resource, {})[namespace, name] = len(data)
    _set_aside(connection, rejected)
    return Loaded(connection, revision, objects, weights)


def _decoded(resource: Any, namespace: Any, name: Any, data: Any) -> tuple[Object | None, str]:
    if not all(isinstance(part, str) for part in (resource, namespace, name)):
        return None, "its key is not text"
    if not isinstance(data, bytes | str):
        return None, "it is not JSON"
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, f"it is not JSON: {error}"
    metadata = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(metadata, dict):
        return None, "it is not an object with metadata"
    if metadata.get("name") != name or (metadata.get("namespace") or "") != namespace:
        return None, "its metadata says another name or namespace"
    return found, ""


def _set_aside(connection: sqlite3.Connection, rejected: list[tuple[int, str]]) -> None:
    if not rejected:
        return
    execute = connection.execute
    execute("begin immediate")
    try:
        for number, why in rejected:
            execute(
                "insert into quarantine (resource, namespace, name, revision, data, reason)"
                " select resource, namespace, name, revision, data, ? from objects where rowid = ?",
                (why, number),
            )
            execute("delete from objects where rowid = ?", (number,))
        execute("commit")
    except sqlite3.Error:
        if connection.in_transaction:
            execute("rollback")
        raise
