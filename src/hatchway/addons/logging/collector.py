"""Follows the log files of all containers and indexes their lines.

A file is identified by its device, its inode and its first bytes, which contain a time in nanoseconds. A rotation
renames the file and changes none of these; a new file with a reused inode has other first bytes. The collector saves
how far each file has been indexed only after the documents are durable. A document's id is made from its file and its
line's offset, so a line that is read twice is indexed once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from hatchway.addons.logging import cri
from hatchway.addons.logging.documentstore import LoggingStore, put
from hatchway.addons.logging.mapping import FieldMapping
from hatchway.addons.logging.problems import EsProblem

logger = logging.getLogger(__name__)
T = TypeVar("T")

# Seconds between two rounds when there are no new lines; between two commits; between two checks of the indices' size.
POLL = 0.5
COMMIT = 5.0
BOUND = 30.0
# Seconds for which nothing is read after a failed commit. Then the same lines are read again.
PAUSE = 30.0
# Bytes read from one file before the next file is read, and the length at which a line is split.
PIECE = 256 * 1024
LINE_LIMIT = 256 * 1024
_SIGNATURE = 32
# How many files are kept open.
HANDLES = 400
_NODES_KNOWN = 4096
# An unfinished line that has not grown for this long (nanoseconds) is indexed as it is.
_IDLE_NS = 3_000_000_000


@dataclass(slots=True)
class _FollowedFile:
    """A log file that is followed.

    Attributes:
        source: the container that writes it.
        signature: its first bytes.
        handle: the open file, so that the last lines of a deleted file can be read; None when too many files are open.
        offset: the number of bytes that have been indexed.
        changed: its mtime at the last reading, nanoseconds since 1970.
        partial: the unfinished line of each stream: (its offset, its text so far).
        partial_indexed: True when the unfinished lines have been indexed as they are.
    """

    source: cri.LoggedContainer
    signature: bytes
    handle: BinaryIO | None
    offset: int = 0
    changed: int = 0
    partial: dict[str, tuple[int, cri.LogLine]] = field(default_factory=dict)
    partial_indexed: bool = False

    @property
    def resume(self) -> int:
        """Return where to continue after a restart: the offset of the first unfinished line, if any, else `offset`."""
        return min([self.offset, *(begun for begun, _ in self.partial.values())])


class LogCollector:
    """Indexes the lines of all log files of a node.

    Args:
        store: stores the documents.
        executor: the store's thread. All methods except `run` must be called on it.
        directory: the directory of the node's pod logs.
        positions: the file in which the collector saves how far it has read.
        host: the value of `kubernetes.host` when a pod's directory has no file with the node's name.
    """

    def __init__(self, store: LoggingStore, executor: Executor, *, directory: Path, positions: Path, host: str) -> None:
        self._store = store
        self._executor = executor
        self._directory = directory
        self._positions = positions
        self._host = host
        self._files: dict[tuple[int, int], _FollowedFile] = {}
        self._known = self._load()
        self._saved: dict[str, int] = {}
        self._nodes: dict[str, str] = {}
        self._refused: set[str] = set()

    async def run(self) -> None:
        """Collect lines until cancelled; make documents durable and limit the size of the indices at intervals."""
        loop = asyncio.get_running_loop()
        committed = bounded = loop.time()
        while True:
            more = await self._call(self.round)
            now = loop.time()
            if now - committed >= COMMIT:
                committed = now
                try:
                    await self._call(self.commit)
                except (OSError, ValueError) as error:  # For example a full disk.
                    logger.error("log lines cannot be written to disk, trying again in %d seconds: %s", PAUSE, error)
                    await asyncio.sleep(PAUSE)
            if now - bounded >= BOUND:
                bounded = now
                for name in await self._call(self._store.bound):
                    logger.warning("deleted the index %s: the logs were larger than HATCHWAY_LOG_LIMIT allows", name)
            if not more:
                await asyncio.sleep(POLL)

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def round(self) -> bool:
        """Read a piece of every file that has grown. Return True when there is more to read."""
        more = False
        present: set[tuple[int, int]] = set()
        for source, path in self._paths():
            try:
                status = os.stat(path)
                key = (status.st_dev, status.st_ino)
                present.add(key)
                known = self._files.get(key)
                if known is not None and (known.offset, known.changed) == (status.st_size, status.st_mtime_ns):
                    idle = time.time_ns() - status.st_mtime_ns > _IDLE_NS
                    if idle and known.partial and not known.partial_indexed:
                        # A container's last line may have no newline. If the line is continued later, the complete line
                        # replaces this document.
                        known.partial_indexed = True
                        self._index_partial(known)
                    continue
                more |= self._read(key, known, source, path)
            except OSError as error:
                logger.debug("cannot read %s: %s", path, error)
        for gone in self._files.keys() - present:
            self._finish(self._files.pop(gone))
        return more

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            if file.handle is not None:
                file.handle.close()
        self._files.clear()

    def commit(self) -> None:
        """Make indexed lines durable, then save the positions up to which they were read.

        A refresh that fails may lose lines of an index. (Clients can request a refresh, too.) These lines are read
        again from the saved positions, unless their files were deleted meanwhile.

        Raises:
            OSError, ValueError: lines or positions cannot be written.
        """
        try:
            self._store.refresh()
        finally:
            if self._store.take_lost_writes():
                self._rewind()
        now = {_name(key, file.signature): file.resume for key, file in self._files.items()}
        if now != self._saved:
            temporary = self._positions.with_suffix(".new")
            temporary.write_text(json.dumps(now))
            os.replace(temporary, self._positions)
            self._saved = now

    def _rewind(self) -> None:
        """Continue each file at its saved position."""
        for key, file in self._files.items():
            name = _name(key, file.signature)
            file.offset = self._saved.get(name, self._known.get(name, 0))
            file.changed = 0
            file.partial.clear()
            file.partial_indexed = False

    def _load(self) -> dict[str, int]:
        try:
            found = json.loads(self._positions.read_bytes())
            return {str(name): int(offset) for name, offset in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            logger.error("%s cannot be read, so all logs are read again: %s", self._positions, error)
            return {}

    def _paths(self) -> Iterator[tuple[cri.LoggedContainer, str]]:
        """Yield all log files. The older parts of a container's log come first."""
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
                return self._host  # The file does not exist, perhaps not yet.
            if len(self._nodes) >= _NODES_KNOWN:
                self._nodes.clear()
            self._nodes[pod.name] = known
        return known

    def _read(self, key: tuple[int, int], known: _FollowedFile | None, source: cri.LoggedContainer, path: str) -> bool:
        """Read a piece of a file. Return True when there is more to read. Raises OSError."""
        file = known.handle if known is not None and known.handle is not None else open(path, "rb")  # noqa: SIM115
        keep = known is not None and known.handle is not None
        try:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != key:
                return True  # The file was rotated just now: the next round finds both files.
            signature = os.pread(file.fileno(), _SIGNATURE, 0)
            if len(signature) < _SIGNATURE:
                return False
            if known is None or known.signature != signature or known.offset > status.st_size:
                offset = self._known.get(_name(key, signature), 0)
                if known is None and len(self._files) < HANDLES:
                    keep = True
                known = _FollowedFile(
                    source, signature, file if keep else None, offset if offset <= status.st_size else 0
                )
                self._files[key] = known
            known.changed = status.st_mtime_ns
            return self._piece(known, file.fileno()) and known.offset < status.st_size
        finally:
            if not keep:
                file.close()

    def _piece(self, known: _FollowedFile, descriptor: int) -> bool:
        """Index the complete lines of the next piece. Return True when the piece had the full size."""
        data = os.pread(descriptor, PIECE, known.offset)
        end = data.rfind(b"\n") + 1
        if end == 0:
            if len(data) < PIECE:
                return False
            end = len(data)  # A piece of full size without a newline is not a log: skip it.
        begin = 0
        while begin < end:
            stop = data.find(b"\n", begin, end)
            stop = end if stop < 0 else stop
            self._line(known, data[begin:stop], known.offset + begin)
            begin = stop + 1
        known.offset += end
        return len(data) == PIECE

    def _line(self, file: _FollowedFile, data: bytes, offset: int) -> None:
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
            file.partial_indexed = False
        else:
            self._index(file, line, begun)

    def _finish(self, file: _FollowedFile) -> None:
        """Index the rest of a file that was deleted, unfinished lines included."""
        if file.handle is not None:
            with file.handle as handle:
                while self._piece(file, handle.fileno()):
                    pass
        self._index_partial(file)

    def _index_partial(self, file: _FollowedFile) -> None:
        for begun, line in file.partial.values():
            self._index(file, line, begun)

    def _index(self, file: _FollowedFile, line: cri.LogLine, offset: int) -> None:
        document = file.source.to_document(line)
        where = f"{file.source.uid}/{file.source.container}/{file.signature.hex()}/{offset}"
        id = base64.urlsafe_b64encode(hashlib.sha256(where.encode()).digest()[:15]).decode()
        try:
            name = self._store.log_index(line.day)
            index = self._store.indices.get(name) or self._store.create(name, FieldMapping(dict(cri.FIELDS)))
            put(index, id, msgspec.json.encode(document), document)
        except EsProblem as problem:
            # A user may have made a mapping that the lines do not fit. Each kind of error is logged only once.
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
    """Return a sort key that puts older files first: by attempt, then rotated parts from the highest number down."""
    attempt, _, rest = name.partition(".log")
    return int(attempt), -int(rest[1:] or 0)


def _name(key: tuple[int, int], signature: bytes) -> str:
    return f"{key[0]}:{key[1]}:{signature.hex()}"
