"""The files of a store: `NUMBER.journal`, and `NUMBER.block`, which replaces the journals with lower numbers.

Blocks must be written in the order of their numbers: a block removes the journals of all blocks with lower numbers.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from hatchway.addons.monitoring.tsdb import journal as journals
from hatchway.addons.monitoring.tsdb.block import BlockFile, SampleBlock, file_bytes, read_file
from hatchway.addons.monitoring.tsdb.journal import Journal
from hatchway.addons.monitoring.tsdb.labels import Labels
from hatchway.files import write_private

log = logging.getLogger(__name__)


class SampleSink(Protocol):
    """The store into which a directory's samples are loaded."""

    def adopt_block(self, block: SampleBlock, labels: Sequence[Labels]) -> None:
        """Add a block."""
        ...

    def replay(self, labels: dict[int, Labels], samples: tuple[array[int], array[int], array[float]]) -> None:
        """Add samples of a journal."""
        ...


class StoreFiles:
    """The directory of a store.

    Args:
        directory: created if it does not exist.

    Raises:
        OSError: the directory cannot be created or read.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        numbers = [int(path.stem) for path in directory.iterdir() if path.stem.isdecimal() and path.stem.isascii()]
        self._number = max(numbers, default=0) + 1
        self._old = self._numbered(".journal")
        self.journal = Journal(self._path(".journal"))

    def _path(self, suffix: str) -> Path:
        return self._directory / f"{self._number:010d}{suffix}"

    def _numbered(self, suffix: str) -> list[Path]:
        paths = [path for path in self._directory.glob(f"*{suffix}") if path.stem.isdecimal() and path.stem.isascii()]
        return sorted(paths, key=lambda path: int(path.stem))

    def load(self, store: SampleSink) -> None:
        """Load the directory's samples into the store. Damaged files are logged and removed."""
        # Parts of a block that was being written when the program was killed.
        self.remove(self._directory.glob(".*.block.*"))
        for path in self._numbered(".block"):
            try:
                block, labels = read_file(path)
            except (OSError, ValueError) as error:
                log.warning("the samples of %s are lost: %s", path, error)
                self.remove([path])
                continue
            # After a crash, the journals from which a block was made may still exist.
            self._old = [old for old in self._old if int(old.stem) >= int(path.stem)]
            for old in self._numbered(".journal"):
                if int(old.stem) < int(path.stem):
                    self.remove([old])
            store.adopt_block(block, labels)
        for path in self._old:
            self._replay(path, store)

    def _replay(self, path: Path, store: SampleSink) -> None:
        labels: dict[int, Labels] = {}
        try:
            for record in journals.read(path):
                if isinstance(record, list):
                    labels.update(record)
                else:
                    store.replay(labels, record)
        except OSError as error:
            log.warning("the samples of %s are lost: %s", path, error)

    def next_journal(self) -> BlockFile:
        """Begin a new journal; return the file for a block with the samples of the old journals."""
        old = (*self._old, self.journal.path)
        self._old = []
        self.journal.close()
        self._number += 1
        try:
            self.journal = Journal(self._path(".journal"))
        except OSError as error:
            log.error("samples are kept in memory only: %s", error)
        return BlockFile(self._path(".block"), old)

    def size_of(self, file: BlockFile) -> int:
        """Return the bytes of the journals that a block is to replace."""
        return sum(_size(path) for path in file.journals)

    def write_block(self, block: SampleBlock, labels: Sequence[Labels]) -> bool:
        """Write a block to a file, from which it is then read, and remove the journals that it replaces.

        Args:
            block: a block that is `unwritten`.
            labels: the labels of its series, in the order of its `places`.

        Returns:
            False after an error, which is logged. The journals stay then.
        """
        file = block.unwritten
        if file is None:
            return True
        content = file_bytes(block.begin, block.end, labels, list(block.places.values()), block.data)
        try:
            write_private(file.path, content)
            stored = read_file(file.path)[0]
        except (OSError, ValueError) as error:
            log.error("%s cannot be written, its samples stay in the journal: %s", file.path, error)
            self.remove([file.path])
            return False
        block.data, block.path, block.size, block.unwritten = stored.data, stored.path, stored.size, None
        self.remove(file.journals)
        return True

    def remove_block(self, block: SampleBlock) -> None:
        """Remove the file of a block, or the journals that contain its samples."""
        if block.path is not None:
            self.remove([block.path])
        if block.unwritten is not None:
            self.remove(block.unwritten.journals)

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files; errors are logged."""
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s cannot be removed: %s", path, error)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
