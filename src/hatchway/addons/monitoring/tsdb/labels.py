"""Labels of a series, and the marker of a series that has ended (`model/labels`, `model/value` of Prometheus)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable

# Sorted by name. Names are unique, and values are not empty.
Labels = tuple[tuple[str, str], ...]

METRIC_NAME = "__name__"
BUCKET_LABEL = "le"
# A NaN with special bits, which a parsed NaN never has. A sample with this value means that the series has ended.
STALE_BYTES = struct.pack("<Q", 0x7FF0_0000_0000_0002)
STALE: float = struct.unpack("<d", STALE_BYTES)[0]

_pack = struct.Struct("<d").pack


def is_stale(value: float) -> bool:
    """Return True when a sample's value is the staleness marker."""
    return value != value and _pack(value) == STALE_BYTES


def make_labels(pairs: Iterable[tuple[str, str]]) -> Labels:
    """Return sorted labels, without those that have an empty value. pairs: names must be unique."""
    return tuple(sorted(pair for pair in pairs if pair[1]))


def without_name(labels: Labels) -> Labels:
    """Return the labels without the metric's name."""
    return tuple([pair for pair in labels if pair[0] != METRIC_NAME])


def only(labels: Labels, names: Collection[str]) -> Labels:
    """Return the labels whose names are among `names`."""
    return tuple([pair for pair in labels if pair[0] in names])


def without(labels: Labels, names: Collection[str]) -> Labels:
    """Return the labels whose names are not among `names`."""
    return tuple([pair for pair in labels if pair[0] not in names])


def value_of(labels: Labels, name: str) -> str:
    """Return the value of a label; "" when the label is missing."""
    for known, value in labels:
        if known == name:
            return value
    return ""


def with_label(labels: Labels, name: str, value: str) -> Labels:
    """Return the labels with one label set to a value; "" removes the label."""
    rest = [pair for pair in labels if pair[0] != name]
    if value:
        rest.append((name, value))
        rest.sort()
    return tuple(rest)
