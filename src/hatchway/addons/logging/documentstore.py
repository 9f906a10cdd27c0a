"""Creates indices, finds them by names and patterns, and limits their size. Synchronous; for one thread at a time.

DIR/indices/NAME/    one index (`index.py`); names contain only characters that file systems allow
"""

from __future__ import annotations

import fnmatch
import logging
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hatchway.addons.logging.index import EsIndex, Stored
from hatchway.addons.logging.mapping import DocumentError, FieldMapping
from hatchway.addons.logging.problems import EsProblem, illegal, no_index
from hatchway.proxy.heap import give_back

logger = logging.getLogger(__name__)

INDEX_LIMIT = 500
_ID_LENGTH = 512
_FORBIDDEN = re.compile(r'[\\/*?"<>| ,#:\x00-\x1f\x7f]')
_DAILY = re.compile(r"logstash-\d{4}\.\d{2}\.\d{2}(-\d{6})?\Z")
# Seconds after which an unused writer is closed, to free its memory and threads.
_WRITER_IDLE = 20.0


@dataclass(frozen=True, slots=True)
class Written:
    """The result of a write.

    Attributes:
        index: the document's index.
        id: the document's id.
        version: the document's version after the write.
        seq: the sequence number of the write.
        result: created, updated, deleted or not_found.
    """

    index: str
    id: str
    version: int
    seq: int
    result: str


class LoggingStore:
    """The indices below a directory.

    Args:
        directory: the add-on's data.
        limit: the maximum number of bytes on disk, for all indices together. When they exceed it, `bound` deletes daily
            log indices.

    Attributes:
        indices: the open indices by name.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        """Open all indices below `directory`. Damaged indices are logged, and renamed to NAME.damaged."""
        self._directory = directory / "indices"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._limit = limit
        self.indices: dict[str, EsIndex] = {}
        for path in sorted(self._directory.iterdir()):
            if path.suffix == ".damaged":
                continue
            try:
                index = EsIndex(path)
            except (OSError, ValueError, KeyError) as error:
                logger.error("the index in %s cannot be read and is renamed to NAME.damaged: %s", path, error)
                aside = path.with_name(path.name + ".damaged")
                if aside.exists():
                    shutil.rmtree(aside)
                path.rename(aside)
            else:
                self.indices[index.name] = index

    def create(self, name: str, mapping: FieldMapping | None = None) -> EsIndex:
        """Create an index. Raises EsProblem 400 when the name is taken or not allowed."""
        if name in self.indices:
            index = self.indices[name]
            raise EsProblem(
                400,
                "resource_already_exists_exception",
                f"index [{name}/{index.uuid}] already exists",
                more={"index_uuid": index.uuid, "index": name},
            )
        _check_name(name)
        if len(self.indices) >= INDEX_LIMIT:
            raise illegal(f"this action would add an index, but this node has the maximum of {INDEX_LIMIT} open")
        directory = self._directory / name
        if directory.exists():  # A crash interrupted the creation of this index.
            shutil.rmtree(directory)
        index = EsIndex.create(directory, name, mapping or FieldMapping())
        self.indices[name] = index
        return index

    def delete(self, name: str) -> None:
        """Delete an index, which must exist, and its files."""
        self.indices.pop(name).remove()

    def resolve(self, expression: str, *, missing_ok: bool = False, patterns_need_match: bool = False) -> list[EsIndex]:
        """Return the indices of a list of names and patterns.

        Args:
            expression: for example `a,logs-*,-logs-old`; `_all` and "" mean all indices.
            missing_ok: leave out names without an index.
            patterns_need_match: True to raise an error for a pattern that matches no index.

        Raises:
            EsProblem: 404 for a name without an index.
        """
        found: dict[str, EsIndex] = {}
        for part in expression.split(",") if expression else ["*"]:
            if part in ("_all", "*", ""):
                found |= dict(sorted(self.indices.items()))
            elif part.startswith("-") and found:
                found = {name: index for name, index in found.items() if not fnmatch.fnmatchcase(name, part[1:])}
            elif "*" in part:
                matching = {name: index for name, index in sorted(self.indices.items()) if _matches(name, part)}
                if not matching and patterns_need_match:
                    raise no_index(part)
                found |= matching
            elif part in self.indices:
                found[part] = self.indices[part]
            elif not missing_ok:
                raise no_index(part)
        return list(found.values())

    def one(self, name: str, *, create: bool = False) -> EsIndex:
        """Return the index with this name. create: create the index if it does not exist.

        Raises EsProblem: 404 when the index does not exist and `create` is False; the errors of `self.create`.
        """
        index = self.indices.get(name)
        if index is not None:
            return index
        if create:
            return self.create(name)
        raise no_index(name)

    def write(
        self, name: str, id: str | None, source: bytes, *, only_new: bool = False, refresh: bool = True
    ) -> Written:
        """Index a document; create the index if it does not exist. Raises EsProblem 400, 409.

        id: None for a new id. source: the document as JSON. only_new: raise 409 when the id exists. refresh: make
        earlier writes visible first, so that an older version of the document is found.
        """
        document = _decode(source)
        index = self.one(name, create=True)
        if id is None:
            id = secrets.token_urlsafe(15)
            old = None
        else:
            _check_id(id)
            if refresh:
                index.refresh()
            old = index.get(id)
        if old is not None and only_new:
            raise EsProblem(
                409,
                "version_conflict_engine_exception",
                f"[{id}]: version conflict, document already exists (current version [{old.version}])",
                more={"index_uuid": index.uuid, "shard": "0", "index": name},
            )
        version = old.version + 1 if old else 1
        return Written(name, id, version, put(index, id, source, document, version), "updated" if old else "created")

    def update(self, name: str, id: str, change: bytes, *, refresh: bool = True) -> Written:
        """Apply a partial update: `{"doc": {...}, "doc_as_upsert": true}` or `{"upsert": {...}}`. Raises EsProblem.

        refresh: as in `write`.
        """
        wanted = _decode(change)
        if "script" in wanted:
            raise illegal("scripts are not supported by this server")
        index = self.one(name, create="upsert" in wanted or wanted.get("doc_as_upsert") is True)
        if refresh:
            index.refresh()
        old = index.get(id)
        patch = wanted.get("doc")
        if not isinstance(patch, dict) and not (old is None and isinstance(wanted.get("upsert"), dict)):
            raise EsProblem(
                400, "action_request_validation_exception", "Validation Failed: 1: script or doc is missing;"
            )
        if old is None:
            fresh = wanted.get("upsert", patch if wanted.get("doc_as_upsert") is True else None)
            if not isinstance(fresh, dict):
                raise missing_document(index, id)
            return self.write(name, id, msgspec.json.encode(fresh), refresh=False)
        merged = _merged(old.document(), patch)
        return self.write(name, id, msgspec.json.encode(merged), refresh=False)

    def erase(self, name: str, id: str, *, refresh: bool = True) -> Written:
        """Delete a document. The result is "not_found" if it does not exist. Raises EsProblem 404 without the index.

        refresh: as in `write`.
        """
        index = self.one(name)
        if refresh:
            index.refresh()
        old = index.get(id)
        if old is None:
            return Written(name, id, 1, 0, "not_found")
        return Written(name, id, old.version + 1, index.delete(id), "deleted")

    def get(self, name: str, id: str) -> Stored | None:
        """Make all writes visible; return a document, or None when it does not exist.

        Raises EsProblem 404 when the index does not exist.
        """
        index = self.one(name)
        index.refresh()
        return index.get(id)

    def refresh(self) -> None:
        """Make all writes durable and visible; close idle writers. Raises OSError, ValueError as `EsIndex.refresh`."""
        closed = False
        for index in self.indices.values():
            index.refresh()
            closed |= index.close_idle_writer(_WRITER_IDLE)
        if closed:
            give_back()

    def take_lost_writes(self) -> bool:
        """Return True when an index has lost writes, in a failed refresh, since the last call."""
        lost = False
        for index in self.indices.values():
            lost |= index.lost_writes
            index.lost_writes = False
        return lost

    def bound(self) -> list[str]:
        """Delete the oldest daily indices while all indices together exceed the limit. Return the deleted names."""
        sizes = {name: index.size for name, index in self.indices.items()}
        dropped: list[str] = []
        daily = sorted(name for name in sizes if _DAILY.match(name))
        while sum(sizes.values()) > self._limit and daily:
            oldest = daily.pop(0)
            self.delete(oldest)
            del sizes[oldest]
            dropped.append(oldest)
        return dropped

    def log_index(self, day: str) -> str:
        """Return the name of the index for the logs of a day (`2026.01.31`).

        When the index of a day exceeds a quarter of the limit, later logs of this day go to a new index, so that there
        is always an older index to delete. A new index is also begun when the day's index has no columns, because an
        older version of Hatchway made it.
        """
        base = f"logstash-{day}"
        newest = max((name for name in self.indices if name == base or name.startswith(base + "-")), default=base)
        found = self.indices.get(newest)
        if found is not None and (found.size > self._limit // 4 or not found.has_columns):
            number = int(newest[len(base) + 1 :] or "1")
            return f"{base}-{number + 1:06d}"
        return newest

    def close(self) -> None:
        """Make all writes durable and close all indices."""
        for index in self.indices.values():
            index.close()


def put(index: EsIndex, id: str, source: bytes, document: dict[str, Any], version: int = 1) -> int:
    """Index a document. Raises EsProblem."""
    try:
        return index.put(id, source, document, version)
    except DocumentError as error:
        raise EsProblem(400, error.kind, error.message) from error


def missing_document(index: EsIndex, id: str) -> EsProblem:
    """Return the error for a document that does not exist: 404."""
    more = {"index_uuid": index.uuid, "shard": "0", "index": index.name}
    return EsProblem(404, "document_missing_exception", f"[_doc][{id}]: document missing", more=more)


def _decode(source: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(source)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EsProblem(400, "mapper_parsing_exception", f"failed to parse: {error}") from error
    if not isinstance(document, dict):
        raise EsProblem(400, "mapper_parsing_exception", "failed to parse: the document is no object")
    return document


def _merged(old: Any, patch: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(patch, dict):
        return patch
    return {**old, **{key: _merged(old.get(key), value) for key, value in patch.items()}}


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]").replace("?", "[?]"))


def _check_name(name: str) -> None:
    why = ""
    if name != name.lower():
        why = "must be lowercase"
    elif _FORBIDDEN.search(name):
        why = 'must not contain the following characters [ , ", *, \\, <, |, ,, >, /, ?]'
    elif name[:1] in ("-", "_", "+"):
        why = "must not start with '_', '-', or '+'"
    elif name in ("", ".", ".."):
        why = "must not be '.' or '..'"
    elif len(name.encode()) > 200 or name.endswith(".damaged"):
        why = "index name is too long, (200 bytes are allowed) or reserved"
    if why:
        reason = f"Invalid index name [{name[:256]}], {why}"
        raise EsProblem(400, "invalid_index_name_exception", reason, more={"index_uuid": "_na_", "index": name[:256]})


def _check_id(id: str) -> None:
    if not id or len(id.encode()) > _ID_LENGTH:
        raise illegal(f"id is empty or too long, must be no longer than {_ID_LENGTH} bytes")
