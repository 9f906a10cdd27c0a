"""Parses Prometheus' text format and OpenMetrics (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hatchway.addons.monitoring.tsdb.labels import METRIC_NAME

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_name = re.compile(_NAME).match
_label = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\.)*)"[ \t]*,?').match
_escaped = re.compile(r"\\(.)")
_comment = re.compile(rf"#[ \t]+(HELP|TYPE|UNIT)[ \t]+({_NAME})(?:[ \t]+(.*))?$").match
_ESCAPES = {"n": "\n", "\\": "\\", '"': '"'}
_LONGEST_HELP = 1024
# The maximum number of lines of one text, comments included. The scraper has a lower limit for lines with samples.
_MOST_LINES = 200_000
# The maximum number of characters of comments that are kept for one target.
_COMMENT_TEXT = 256 * 1024
_TYPES = frozenset(
    {"counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown", "untyped"}
)
# Error messages show at most this many characters of a line.
_SHOWN = 80


class ExpositionError(ValueError):
    """A text is not in the format. The message says where."""


@dataclass(slots=True)
class SampleLine:
    """A sample.

    series: the text before the value; it identifies the series. time: milliseconds; None when the line has no time.
    """

    series: str
    value: float
    time: int | None


@dataclass(slots=True)
class MetricFacts:
    """The facts about a metric that comments of a text state."""

    type: str = "unknown"
    help: str = ""
    unit: str = ""


@dataclass(slots=True)
class ExpositionParser:
    """Parses the texts of one target. Comments are parsed only once.

    A text may come in pieces: call `begin`, then `parse` with the lines of each piece, then `finish`.

    openmetrics: True for OpenMetrics: times are seconds, the text ends with `# EOF`, samples may have exemplars.
    facts: the facts about each metric, from the comments of all texts.
    """

    openmetrics: bool = False
    facts: dict[str, MetricFacts] = field(default_factory=dict)
    _comments: set[str] = field(default_factory=set)
    _comment_text: int = 0
    _lines: int = 0
    _ended: bool = False

    def begin(self) -> None:
        """Begin another text."""
        self._lines, self._ended = 0, False

    def samples(self, text: str) -> Iterator[SampleLine]:
        """Yield the samples of a whole text, as `parse` does."""
        self.begin()
        yield from self.parse(text.split("\n", _MOST_LINES))
        self.finish()

    def parse(self, lines: Iterable[str]) -> Iterator[SampleLine]:
        """Yield the samples of lines, without exemplars. Raises ExpositionError at the first malformed line."""
        for line in lines:
            self._lines += 1
            if self._lines > _MOST_LINES:
                raise ExpositionError(f"more than {_MOST_LINES} lines")
            if not line or line.isspace():
                continue
            if self._ended:
                raise ExpositionError(f"line {self._lines}: data after # EOF")
            if line[0] == "#":
                self._ended = self.openmetrics and line.rstrip() == "# EOF"
                if line not in self._comments:
                    self._remember(line, self._lines)
                continue
            yield self._sample(line, self._lines)

    def finish(self) -> None:
        """End the text. Raises ExpositionError when something is missing."""
        if self.openmetrics and not self._ended:
            raise ExpositionError("data does not end with # EOF")

    def _remember(self, line: str, number: int) -> None:
        self._comment_text += len(line)
        if self._comment_text > _COMMENT_TEXT:
            self._comments.clear()
            self.facts.clear()
            self._comment_text = len(line)
        found = _comment(line.rstrip("\r"))
        if found is None:
            if len(line) <= _COMMENT_TEXT:
                self._comments.add(line)
            return
        kind, name, rest = found.groups()
        if kind == "TYPE" and rest not in _TYPES:
            raise ExpositionError(f"line {number}: {(rest or '')[:_SHOWN]!r} is no type of a metric")
        if len(line) > _COMMENT_TEXT:
            return
        self._comments.add(line)
        facts = self.facts.setdefault(name, MetricFacts())
        if kind == "HELP":
            facts.help = _escaped.sub(_unescape, rest or "")[:_LONGEST_HELP]
        elif kind == "TYPE":
            facts.type = "unknown" if rest in (None, "untyped") else rest
        else:
            facts.unit = (rest or "")[:64]

    def _sample(self, line: str, number: int) -> SampleLine:
        if "}" in line:
            if self.openmetrics and " # " in line:
                end = series_end(line, number)
                series, rest = line[:end].rstrip(), line[end:].partition("# ")[0]
            else:
                head, brace, rest = line.rpartition("}")
                series = head + brace
        else:
            parts = line.split(None, 1) or [""]
            series, rest = parts[0], parts[1] if len(parts) > 1 else ""
            if self.openmetrics:
                rest = rest.partition(" # ")[0]
        fields = rest.split()
        if not 1 <= len(fields) <= 2:
            raise ExpositionError(f"line {number}: expected a value, and perhaps a time, after {series[:_SHOWN]!r}")
        try:
            value = float(fields[0])
            if "_" in rest:
                raise ValueError
            time = None
            if len(fields) > 1:
                seconds = float(fields[1]) * (1000 if self.openmetrics else 1)
                if not math.isfinite(seconds) or abs(seconds) >= 2**53:
                    raise ValueError
                time = int(seconds)
        except ValueError:
            raise ExpositionError(f"line {number}: no number after {series[:_SHOWN]!r}: {rest[:_SHOWN]!r}") from None
        return SampleLine(series, value, time)


def series_end(line: str, number: int) -> int:
    """Return the offset at which a line's series ends: after its labels. Raises ExpositionError."""
    return _parsed(line, number)[1]


def parse_series(text: str) -> list[tuple[str, str]]:
    """Return the labels of a series' text in their order, the name as `__name__`. Raises ExpositionError."""
    pairs, end = _parsed(text, 0)
    if text[end:].strip():
        raise ExpositionError(f"{text[:_SHOWN]!r} is no series")
    return pairs


def _parsed(line: str, number: int) -> tuple[list[tuple[str, str]], int]:
    where = f"line {number}: " if number else ""
    found = _name(line)
    pairs: list[tuple[str, str]] = []
    at = 0
    if found is not None:
        pairs.append((METRIC_NAME, found.group()))
        at = found.end()
    while line[at : at + 1] in (" ", "\t"):
        at += 1
    if line[at : at + 1] != "{":
        if not pairs:
            raise ExpositionError(f"{where}{line[:_SHOWN]!r} does not begin with a metric's name")
        return pairs, at
    at += 1
    seen: set[str] = {METRIC_NAME} if pairs else set()
    while True:
        label = _label(line, at)
        if label is None:
            while line[at : at + 1] in (" ", "\t"):
                at += 1
            if line[at : at + 1] != "}":
                raise ExpositionError(f"{where}malformed labels: {line[at : at + _SHOWN]!r}")
            break
        name, value = label[1], label[2]
        if name in seen:
            raise ExpositionError(f"{where}the label {name} is there twice")
        seen.add(name)
        pairs.append((name, _escaped.sub(_unescape, value) if "\\" in value else value))
        at = label.end()
    if METRIC_NAME not in seen:
        raise ExpositionError(f"{where}{line[:_SHOWN]!r} has no metric's name")
    return pairs, at + 1


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], found[0])
