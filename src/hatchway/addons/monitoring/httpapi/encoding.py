"""Writes the JSON of Prometheus' API: numbers as strings in Go's format, times with milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from hatchway.addons.monitoring.promql.golang import format_float
from hatchway.addons.monitoring.promql.query import QueryResult
from hatchway.addons.monitoring.tsdb.labels import Labels

T = TypeVar("T")

# Prometheus' message, which clients recognize.
TRUNCATED = "results truncated due to limit"
# The number of samples between two calls of `tick`.
_SLICE = 4096


def encode(value: object) -> str:
    """Return a value as JSON, without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def time_text(milliseconds: int) -> str:
    """Return a time in seconds, with three decimals; without decimals for whole seconds."""
    sign = "-" if milliseconds < 0 else ""
    seconds, rest = divmod(abs(milliseconds), 1000)
    return f"{sign}{seconds}.{rest:03d}" if rest else f"{sign}{seconds}"


def _metric(labels: Labels) -> str:
    return encode(dict(labels))


def _number(value: float) -> str:
    text = repr(value)
    if text[-2:] == ".0":
        return text[:-2] if "e" not in text else format_float(value, exponents=True)
    return format_float(value, exponents=True) if "e" in text or "n" in text else text


def _samples(times: Sequence[int], values: Sequence[float | None], texts: dict[int, str]) -> str:
    """Return samples as JSON. texts: a cache of the texts of times, because the series of a result have equal times."""
    parts = []
    for time, value in zip(times, values, strict=True):
        if value is None:
            continue
        text = texts.get(time)
        if text is None:
            text = texts[time] = time_text(time)
        parts.append(f'[{text},"{_number(value)}"]')
    return ",".join(parts)


def result_text(result: QueryResult, tick: Callable[[], None]) -> str:
    """Return the `data` of a query's answer. tick: called at intervals; it may raise an exception to stop."""
    if result.type == "scalar":
        value: str = f'[{time_text(result.time)},"{_number(result.value)}"]'
    elif result.type == "string":
        value = f"[{time_text(result.time)},{encode(result.text)}]"
    else:
        parts, texts, count = [], dict[int, str](), 0
        for labels, times, values in result.series:
            count += len(values)
            if count > _SLICE:
                tick()
                count = 0
            text = _samples(times, values, texts)
            shown = f'"value":{text}' if result.type == "vector" else f'"values":[{text}]'
            parts.append(f'{{"metric":{_metric(labels)},{shown}}}')
        value = f"[{','.join(parts)}]"
    return f'{{"resultType":"{result.type}","result":{value}}}'


def cut(found: Sequence[T], limit: int) -> tuple[Sequence[T], list[str]]:
    """Return at most `limit` results (0 for all), and the warnings of the answer."""
    if 0 < limit < len(found):
        return found[:limit], [TRUNCATED]
    return found, []


def success(data: str, warnings: Iterable[str] = ()) -> bytes:
    """Return the body of an answer. data: JSON."""
    shown = list(warnings)
    extra = f',"warnings":{encode(shown)}' if shown else ""
    return f'{{"status":"success","data":{data}{extra}}}'.encode("utf-8", "replace")


def failure(kind: str, message: str) -> bytes:
    """Return the body of an error. kind: Prometheus' errorType."""
    return encode({"status": "error", "errorType": kind, "error": message}).encode("utf-8", "replace")
