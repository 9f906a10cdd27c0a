"""One index: a tantivy index on disk, its mapping, and the documents in it. Synchronous; one thread at a time.

DIR/meta.json    name, uuid, creation time, mapping
DIR/data/        tantivy's files
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import tantivy

from hatchway.addons.logging.execute import QueryBuilder
from hatchway.addons.logging.mapping import FieldMapping
from hatchway.addons.logging.problems import too_large
from hatchway.addons.logging.query import Query

# The limit of a writer's memory in bytes: the lowest limit that tantivy accepts.
_WRITER_MEMORY = 15_000_000
_NO_TIME = -(2**63) + 1
_TOKEN_LENGTH = 255
# The memory in bytes that a hit takes besides its document.
_HIT_BYTES = 512
_ANALYZER = "standard"


# The format of an index's files. Format 1, of older versions of Hatchway, has no columns.
_FORMAT = 2


def _schema(version: int = _FORMAT) -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("id", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_bytes_field("source", stored=True)
    builder.add_unsigned_field("version", stored=True)
    builder.add_unsigned_field("seq", stored=True, fast=True)
    builder.add_integer_field("time", indexed=True, fast=True)
    builder.add_text_field("terms", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("ranges", tokenizer_name="raw", index_option="basic")
    builder.add_json_field("words", tokenizer_name=_ANALYZER, index_option="position")
    builder.add_text_field("everything", tokenizer_name=_ANALYZER, index_option="position")
    if version > 1:
        builder.add_json_field("columns", fast=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


def _analyzer() -> tantivy.TextAnalyzer:
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(_TOKEN_LENGTH))
        .filter(tantivy.Filter.lowercase())
        .build()
    )


@dataclass(slots=True)
class Stored:
    """A stored document.

    Attributes:
        id: its id.
        source: its JSON, byte for byte as it was written.
        version: 1 for the first write, increased by each later one.
        seq: the sequence number of its last write in its index.
    """

    id: str
    source: bytes
    version: int
    seq: int

    def document(self) -> dict[str, Any]:
        """Return the parsed JSON."""
        found: dict[str, Any] = msgspec.json.decode(self.source)
        return found


@dataclass(slots=True)
class Hit:
    """A document that was found.

    Attributes:
        index: the name of its index.
        key: the value by which hits are sorted: a score, nanoseconds since 1970 (None: the document has no time), or a
            sequence number.
        stored: the document.
    """

    index: str
    key: Any
    stored: Stored


class AnswerRoom:
    """The memory for the documents of one answer. left: the bytes that are still free."""

    def __init__(self, left: int = 48 << 20) -> None:
        self.left = left

    def take(self, size: int) -> None:
        """Reserve memory for a document of this size in bytes. Raises EsProblem 429 when there is not enough."""
        self.left -= size + _HIT_BYTES
        if self.left < 0:
            raise too_large("the documents of the answer", "[size]")


class EsIndex:
    """An open index.

    Attributes:
        name: its name.
        uuid: its id; a new index with the same name has another id.
        mapping: its fields.
        created: milliseconds since 1970.
        has_columns: True when aggregations can be computed; False for an index of an older version of Hatchway.
        dirty: True while there are writes that a refresh must make durable.
        size: bytes on disk at the last refresh.
        lost_writes: True after a failed refresh, which drops all writes since the refresh before it. The user of the
            index sets it to False.
    """

    def __init__(self, directory: Path) -> None:
        """Open an index that `create` has made. Raises OSError or ValueError when it is damaged."""
        self._directory = directory
        meta = json.loads((directory / "meta.json").read_bytes())
        self.name: str = meta["name"]
        self.uuid: str = meta["uuid"]
        self.created: int = meta["created"]
        self.mapping = FieldMapping(meta["fields"])
        self._saved_fields = len(self.mapping.fields)
        self._analyzer = _analyzer()
        self._format: int = meta.get("format", 1)
        self.has_columns = self._format > 1
        self._index = tantivy.Index(_schema(self._format), str(directory / "data"))
        self._index.register_tokenizer(_ANALYZER, self._analyzer)
        self._index.config_reader("manual")
        self._index.reload()
        self._searcher = self._index.searcher()
        self._writer: tantivy.IndexWriter | None = None
        self.dirty = False
        self.lost_writes = False
        self.size = self._measure()
        self._used = time.monotonic()
        newest = self._searcher.search(tantivy.Query.all_query(), 1, order_by_field="seq").hits
        self._seq = newest[0][0] + 1 if newest else 0

    @classmethod
    def create(cls, directory: Path, name: str, mapping: FieldMapping) -> EsIndex:
        """Create an empty index. directory: must not exist. Raises OSError."""
        (directory / "data").mkdir(parents=True, mode=0o700)
        meta = {
            "name": name,
            "uuid": secrets.token_urlsafe(16),
            "created": int(time.time() * 1000),
            "fields": mapping.fields,
            "format": _FORMAT,
        }
        _write(directory / "meta.json", meta)
        return cls(directory)

    def tokens(self, text: str) -> list[str]:
        """Return the words of a text, as they are indexed."""
        found: list[str] = self._analyzer.analyze(text)
        return found

    def put(self, id: str, source: bytes, document: dict[str, Any], version: int = 1) -> int:
        """Store a document, and return its sequence number. It replaces a document with the same id.

        The document is visible and durable after the next `refresh`. Raises DocumentError.
        """
        analyzed = self.mapping.analyze(document, self.tokens)
        if self._writer is None:
            self._writer = self._index.writer(_WRITER_MEMORY, 1)
        made = tantivy.Document()
        made.add_text("id", id)
        made.add_bytes("source", source)
        made.add_unsigned("version", version)
        made.add_unsigned("seq", self._seq)
        made.add_integer("time", _NO_TIME if analyzed.time is None else analyzed.time)
        for term in analyzed.terms:
            made.add_text("terms", term)
        for key in analyzed.ranges:
            made.add_text("ranges", key)
        for text in analyzed.everything:
            made.add_text("everything", text)
        if analyzed.words:
            # tantivy takes JSON strings with the form of a date as dates. A blank at the end makes them texts.
            made.add_json("words", {path: [f"{text} " for text in texts] for path, texts in analyzed.words.items()})
        if analyzed.columns and self.has_columns:
            made.add_json("columns", analyzed.columns)
        self._writer.delete_documents_by_term("id", id)
        self._writer.add_document(made)
        self.dirty = True
        self._seq += 1
        return self._seq - 1

    def delete(self, id: str) -> int:
        """Delete a document by its id, if it exists, and return the sequence number of the deletion."""
        if self._writer is None:
            self._writer = self._index.writer(_WRITER_MEMORY, 1)
        self._writer.delete_documents_by_term("id", id)
        self.dirty = True
        self._seq += 1
        return self._seq - 1

    def refresh(self) -> None:
        """Make all writes durable and visible.

        Raises:
            OSError: the mapping cannot be written; a later refresh tries again.
            ValueError: the documents cannot be written. All writes since the last refresh are lost (`lost_writes`).
        """
        if not self.dirty:
            return
        if len(self.mapping.fields) != self._saved_fields:
            self.save_mapping()
        assert self._writer is not None
        try:
            self._writer.commit()
        except BaseException:  # A panic of tantivy is no Exception.
            # tantivy has dropped documents, and a thread that indexes documents. With the same writer, the next commit
            # would succeed, but lack documents.
            self._writer = None
            self.dirty = False
            self.lost_writes = True
            raise
        self._index.reload()
        self._searcher = self._index.searcher()
        self.dirty = False
        self.size = self._measure()
        self._used = time.monotonic()

    def save_mapping(self) -> None:
        """Make the mapping durable."""
        meta = {
            "name": self.name,
            "uuid": self.uuid,
            "created": self.created,
            "fields": self.mapping.fields,
            "format": self._format,
        }
        _write(self._directory / "meta.json", meta)
        self._saved_fields = len(self.mapping.fields)

    def close_idle_writer(self, idle: float) -> bool:
        """Close the writer and its threads if nothing was written for `idle` seconds. Return True if it was closed."""
        if self._writer is None or self.dirty or time.monotonic() - self._used <= idle:
            return False
        writer, self._writer = self._writer, None
        writer.wait_merging_threads()
        return True

    def close(self) -> None:
        """Make all writes durable, and close the writer."""
        self.refresh()
        self.close_idle_writer(-1)

    def remove(self) -> None:
        """Delete the index and its files."""
        self._writer = None
        shutil.rmtree(self._directory)

    @property
    def count(self) -> int:
        """Return the number of documents at the last refresh."""
        found: int = self._searcher.num_docs
        return found

    def _measure(self) -> int:
        return sum(_size(entry) for entry in os.scandir(self._directory / "data"))

    def get(self, id: str) -> Stored | None:
        """Return the document with this id as of the last refresh; None when there is none."""
        query = tantivy.Query.term_query(_SCHEMA, "id", id, "basic")
        hits = self._searcher.search(query, 1, count=False).hits
        return self._stored(hits[0][1]) if hits else None

    def _stored(self, address: tantivy.DocAddress) -> Stored:
        found = self._searcher.doc(address).to_dict()
        return Stored(found["id"][0], bytes(found["source"][0]), found["version"][0], found["seq"][0])

    def build(self, query: Query, now: datetime | None = None) -> tantivy.Query:
        """Return a query in tantivy's form. Raises QueryError. now: for date mathematics; None for the present time."""
        return QueryBuilder(self._index, self.mapping, self.tokens, now or datetime.now(UTC)).build(query)

    def count_matches(self, query: tantivy.Query) -> int:
        """Return the number of documents that match."""
        return _count(self._searcher.search(query, 1))

    def aggregate(self, query: tantivy.Query, wanted: dict[str, Any]) -> dict[str, Any]:
        """Compute tantivy's aggregations over the documents that match. Raises ValueError for too many buckets.

        wanted: aggregations in tantivy's form. Fields are "time" and "columns.NAME" with a name of `mapping.column`.
        """
        found: dict[str, Any] = self._searcher.aggregate(query, wanted)
        return found

    def search(
        self,
        query: tantivy.Query,
        limit: int,
        order: str = "",
        ascending: bool = False,
        room: AnswerRoom | None = None,
    ) -> tuple[list[Hit], int]:
        """Return (the first hits, the number of all documents that match).

        Args:
            query: a query of `build`.
            limit: the maximum number of hits to return.
            order: "" (score), "time" or "seq". Documents without a time come last.
            ascending: the direction for "time" and "seq".
            room: the memory for the documents; None: as much as one answer may have.

        Raises:
            EsProblem: 429, there is not enough memory for the documents.
        """
        room = room if room is not None else AnswerRoom()
        direction = tantivy.Order.Asc if ascending else tantivy.Order.Desc
        if not order:
            result = self._searcher.search(query, max(limit, 1))
        elif order == "time" and ascending:
            return self._by_time(query, limit, room)
        else:
            result = self._searcher.search(query, max(limit, 1), order_by_field=order, order=direction)
        return list(self._hits(result.hits[:limit], room)), _count(result)

    def _by_time(self, query: tantivy.Query, limit: int, room: AnswerRoom) -> tuple[list[Hit], int]:
        timed = tantivy.Query.range_query(_SCHEMA, "time", tantivy.FieldType.Integer, _NO_TIME + 1, None)
        timed = tantivy.Query.const_score_query(timed, 0.0)
        found: list[Hit] = []
        total = 0
        for occur in (tantivy.Occur.Must, tantivy.Occur.MustNot):
            part = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (occur, timed)])
            result = self._searcher.search(part, max(limit, 1), order_by_field="time", order=tantivy.Order.Asc)
            total += _count(result)
            found.extend(self._hits(result.hits[: limit - len(found)], room))
        return found, total

    def _hits(self, hits: Iterable[tuple[Any, tantivy.DocAddress]], room: AnswerRoom) -> Iterable[Hit]:
        for key, address in hits:
            stored = self._stored(address)
            room.take(len(stored.source))
            yield Hit(self.name, None if key == _NO_TIME else key, stored)


def _count(result: tantivy.SearchResult) -> int:
    found: int = getattr(result, "count")  # noqa: B009  missing from tantivy's type stubs
    return found


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # tantivy has merged the file into another one.
        return 0


def _write(path: Path, meta: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(json.dumps(meta).encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


_SCHEMA = _schema()
