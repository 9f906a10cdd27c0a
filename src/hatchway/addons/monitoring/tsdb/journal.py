"""The journal: appends scraped samples to a file, so that they are found after a restart.

Each append is one write to the kernel, so its samples are not lost when this program is killed. Only a crash of the
machine loses the last seconds. A file begins empty, and is deleted when a block contains its samples.
"""

from __future__ import annotations

import logging
import struct
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from hatchway.addons.monitoring.tsdb.frames import frame, frames
from hatchway.addons.monitoring.tsdb.labels import Labels

log = logging.getLogger(__name__)

_SERIES, _SAMPLES = 1, 2
_COUNT = struct.Struct("<BI")
_labels = msgspec.msgpack.Decoder(list[tuple[int, tuple[tuple[str, str], ...]]])


class Journal:
    """One file of the journal, open for appending.

    Args:
        path: the file; created if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = path.open("ab", buffering=0)
        self._known: set[int] = set()

    def append(
        self, numbers: array[int], times: array[int], values: array[float], labels_of: Callable[[int], Labels]
    ) -> None:
        """Append samples. An error is logged once; from then on samples are only in memory, until the next journal.

        Args:
            numbers: the number of each sample's series ("I").
            times: the times in milliseconds ("q").
            values: the values ("d").
            labels_of: returns the labels of a series.
        """
        if self._file is None or not numbers:
            return
        known = self._known
        unknown = [number for number in numbers if number not in known]
        data = b""
        if unknown:
            data = frame(bytes([_SERIES]) + msgspec.msgpack.encode([(one, labels_of(one)) for one in unknown]))
        body = numbers.tobytes() + times.tobytes() + values.tobytes()
        data += frame(_COUNT.pack(_SAMPLES, len(numbers)) + body)
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as error:
            log.error("%s cannot be written, samples are kept in memory only: %s", self.path, error)
            self.close()
            return
        self._known.update(unknown)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


# A record has the labels of series by their numbers, or samples: numbers of series, times, values.
Record = list[tuple[int, Labels]] | tuple["array[int]", "array[int]", "array[float]"]


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a file, up to its end or to an incomplete or damaged record. Raises OSError."""
    for payload in frames(path.read_bytes()):
        kind = payload[0] if payload else 0
        if kind == _SERIES:
            try:
                yield _labels.decode(payload[1:])
            except msgspec.DecodeError:
                return
        elif kind == _SAMPLES and len(payload) >= _COUNT.size:
            (_, count) = _COUNT.unpack_from(payload)
            at = _COUNT.size
            if len(payload) != at + 20 * count:
                return
            numbers = array("I", bytes(payload[at : at + 4 * count]))
            times = array("q", bytes(payload[at + 4 * count : at + 12 * count]))
            yield numbers, times, array("d", bytes(payload[at + 12 * count :]))
        else:
            return
