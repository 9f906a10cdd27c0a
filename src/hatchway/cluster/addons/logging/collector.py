"""Follows the log files of all containers and hands their lines to the store.

A file is known by its device, inode and first bytes (a line's time stamp, to the nanosecond), so that rotation by
renaming goes unnoticed and a reused inode does not. How far each file has been indexed is written down after the
documents are durable; a document's id follows from its file and its offset: a line that is read twice is indexed once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from hatchway.cluster.addons.logging import cri
from hatchway.cluster.addons.logging.problems import Problem
from hatchway.cluster.addons.logging.store import Store, put

logger = logging.getLogger(__name__)
T = TypeVar("T")

POLL = 0.5
COMMIT = 5.0
BOUND = 30.0
# What is read of one file before the next one has its turn, and the longest line that is kept whole.
PIECE = 256 * 1024
LINE_LIMIT = 256 * 1024
_SIGNATURE = 32
# Files that are kept open.
HANDLES = 400
_NODES_KNOWN = 4096


@dataclass(slots=True)
class _File:
    """handle: kept open, so that the last lines of a deleted file are read, too (None when there are too many files).
    offset: up to where lines were handed to the store. changed: the file's mtime at that time (ns). partial: by stream,
    where a line that goes on began, and what there is of it."""

    source: cri.Source
    signature: bytes
    handle: BinaryIO | None
    offset: int = 0
    changed: int = 0
    partial: dict[str, tuple[int, cri.Line]] = field(default_factory=dict)

    @property
    def resume(self) -> int:
        """Where to read on after a restart: nothing of an unfinished line is forgotten."""
        return min([self.offset, *(begun for begun, _ in self.partial.values())])


class Collector:
    """directory: the node's pod logs. positions: a file of ours. host: the node's name for `kubernetes.host`
    where a pod's directory does not say it.

    `run` works until it is cancelled; `round` is one look at all files (on the executor's thread).
    """

    def __init__(self, store: Store, executor: Executor, *, directory: Path, positions: Path, host: str) -> None:
        self._store = store
        self._executor = executor
        self._directory = directory
        self._positions = positions
        self._host = host
        self._files: dict[tuple[int, int], _File] = {}
        self._known = self._load()
        self._saved: dict[str, int] = {}
        self._nodes: dict[str, str] = {}
        self._refused: set[str] = set()

    async def run(self) -> None:
        """Collect, make durable now and then, keep the size bounded."""
        loop = asyncio.get_running_loop()
        committed = bounded = loop.time()
        while True:
            more = await self._call(self.round)
            now = loop.time()
            if now - committed >= COMMIT:
                committed = now
                try:
                    await self._call(self.commit)
                except (OSError, ValueError) as error:  # a full disk; what was not written is tried again
                    logger.error("log lines cannot be made durable: %s", error)
            if now - bounded >= BOUND:
                bounded = now
                for name in await self._call(self._store.bound):
                    logger.warning("dropped the index %s: the logs took more room than allowed", name)
            if not more:
                await asyncio.sleep(POLL)

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def round(self) -> bool:
        """Read a piece of every file that has grown; whether there is more to read at once."""
        more = False
        present: set[tuple[int, int]] = set()
        for source, path in self._paths():
            try:
                status = os.stat(path)
                key = (status.st_dev, status.st_ino)
                present.add(key)
                known = self._files.get(key)
                if known is not None and (known.offset, known.changed) == (status.st_size, status.st_mtime_ns):
                    continue
                more |= self._read(key, known, source, path)
            except OSError as error:
                logger.debug("cannot read %s: %s", path, error)
        for gone in self._files.keys() - present:
            self._finish(self._files.pop(gone))
        return more

    def close(self) -> None:
        """Let all files go."""
        for file in self._files.values():
            if file.handle is not None:
                file.handle.close()
        self._files.clear()

    def commit(self) -> None:
        """Make what was handed over durable, then write down how far that was. Raises OSError."""
        self._store.refresh()
        now = {_name(key, file.signature): file.resume for key, file in self._files.items()}
        if now != self._saved:
            temporary = self._positions.with_suffix(".new")
            temporary.write_text(json.dumps(now))
            os.replace(temporary, self._positions)
            self._saved = now

    def _load(self) -> dict[str, int]:
        try:
            found = json.loads(self._positions.read_bytes())
            return {str(name): int(offset) for name, offset in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            logger.error("the positions in %s cannot be read, all logs are read again: %s", self._positions, error)
            return {}

    def _paths(self) -> Iterator[tuple[cri.Source, str]]:
        """All log files, older parts of a container's log first."""
        for pod in _entries(self._directory):
            host = self._node(pod) if pod.is_dir() else ""
            for container in _entries(pod.path) if pod.is_dir() else ():
                source = cri.source_of(pod.name, container.name, host)
                if source is None or not container.is_dir():
                    continue
                names = [entry.name for entry in _entries(container.path) if cri.is_log(entry.name)]
                for name in sorted(names, key=_age):
                    yield source, f"{container.path}/{name}"

    def _node(self, pod: os.DirEntry[str]) -> str:
        known = self._nodes.get(pod.name)
        if known is None:
            try:
                known = Path(pod.path, ".node").read_text().strip() or self._host
            except (OSError, ValueError):
                return self._host  # not said, or not yet
            if len(self._nodes) >= _NODES_KNOWN:
                self._nodes.clear()
            self._nodes[pod.name] = known
        return known

    def _read(self, key: tuple[int, int], known: _File | None, source: cri.Source, path: str) -> bool:
        """Read a piece; whether there is more to read at once. Raises OSError."""
        file = known.handle if known is not None and known.handle is not None else open(path, "rb")  # noqa: SIM115
        keep = known is not None and known.handle is not None
        try:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != key:
                return True  # rotated in this moment: the next round sees both
            signature = os.pread(file.fileno(), _SIGNATURE, 0)
            if len(signature) < _SIGNATURE:
                return False
            if known is None or known.signature != signature or known.offset > status.st_size:
                offset = self._known.get(_name(key, signature), 0)
                if known is None and len(self._files) < HANDLES:
                    keep = True
                known = _File(source, signature, file if keep else None, offset if offset <= status.st_size else 0)
                self._files[key] = known
            known.changed = status.st_mtime_ns
            return self._piece(known, file.fileno()) and known.offset < status.st_size
        finally:
            if not keep:
                file.close()

    def _piece(self, known: _File, descriptor: int) -> bool:
        """Take the whole lines of the next piece; whether the piece was a full one."""
        data = os.pread(descriptor, PIECE, known.offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            if len(data) < PIECE:
                return False
            end = len(data)  # no newline in a whole piece: this is no log, go past it
        begin = 0
        while begin < end:
            stop = data.find(b"\n", begin, end)
            stop = end if stop < 0 else stop
            self._line(known, data[begin:stop], known.offset + begin)
            begin = stop + 1
        known.offset += end
        return len(data) == PIECE

    def _line(self, file: _File, data: bytes, offset: int) -> None:
        line = cri.parse_line(data)
        if line is None:
            return
        if line.stream in file.partial:
            begun, before = file.partial.pop(line.stream)
            line = replace(line, text=before.text + line.text)
        else:
            begun = offset
        if line.partial and len(line.text) < LINE_LIMIT:
            file.partial[line.stream] = (begun, line)
        else:
            self._index(file, line, begun)

    def _finish(self, file: _File) -> None:
        """The file is gone: read its rest; what was begun in it will not be continued."""
        if file.handle is not None:
            with file.handle as handle:
                while self._piece(file, handle.fileno()):
                    pass
        for begun, line in file.partial.values():
            self._index(file, line, begun)

    def _index(self, file: _File, line: cri.Line, offset: int) -> None:
        document = file.source.document(line)
        where = f"{file.source.uid}/{file.source.container}/{file.signature.hex()}/{offset}"
        id = base64.urlsafe_b64encode(hashlib.sha256(where.encode()).digest()[:15]).decode()
        try:
            name = self._store.log_index(line.day)
            index = self._store.one(name, create=True)
            put(index, id, msgspec.json.encode(document), document)
        except Problem as problem:
            # A user's own mapping may not fit; one line in the log for each kind, not one for each document.
            if problem.kind not in self._refused:
                self._refused.add(problem.kind)
                logger.error("log lines cannot be indexed: %s", problem.reason)


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _age(name: str) -> tuple[int, int]:
    """Attempts in order; within one, the rotated parts from the oldest on."""
    attempt, _, rest = name.partition(".log")
    return int(attempt), -int(rest[1:] or 0)


def _name(key: tuple[int, int], signature: bytes) -> str:
    return f"{key[0]}:{key[1]}:{signature.hex()}"
