"""Reads and writes the part of Prometheus' text format (exposition format 0.0.4) that this add-on needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["CONTENT_TYPE", "MetricSample", "line", "parse"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

# name, labels, value, time in milliseconds
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?[0-9]+))?\s*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n"}


class MetricSample(NamedTuple):
    """One sample. time: seconds since the epoch; None when the line has none."""

    name: str
    labels: dict[str, str]
    value: float
    time: float | None


def parse(text: str, names: frozenset[str]) -> Iterator[MetricSample]:
    """Yield the samples of the metrics in `names`. Other lines, and lines that are not valid, are left out."""
    for one in text.split("\n"):
        if one.startswith("#") or one.partition("{")[0].partition(" ")[0] not in names:
            continue
        match = _SAMPLE.fullmatch(one)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = {found[1]: _unescaped(found[2]) for found in _LABEL.finditer(match[2] or "")}
        yield MetricSample(match[1], labels, value, int(match[4]) / 1000 if match[4] else None)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), text) if "\\" in text else text


def line(name: str, labels: Mapping[str, str], value: float) -> str:
    """Return one sample as a line, with its newline."""
    return f"{name}{_shown(labels)} {value:.17g}\n"


def _shown(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value
