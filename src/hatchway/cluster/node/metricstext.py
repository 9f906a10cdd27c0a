"""Builds metrics in Prometheus' text format 0.0.4. (The code is too small to need a library.)"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

MetricLabels = Mapping[str, str]
Samples = Iterable[tuple[MetricLabels, float]]


class MetricsText:
    """Builds the text of metrics. milliseconds: the samples' time in POSIX milliseconds; None for no time."""

    def __init__(self, milliseconds: int | None = None) -> None:
        self._lines: list[str] = []
        self._suffix = "" if milliseconds is None else f" {milliseconds}"

    def family(self, name: str, kind: str, text: str, samples: Samples) -> None:
        """Add a metric; without samples, add nothing. kind: "gauge" or "counter". samples: (labels, value) pairs."""
        found = [f"{name}{_shown(labels)} {value:.15g}{self._suffix}" for labels, value in samples]
        if found:
            self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *found]

    def encode(self) -> bytes:
        """Return the text."""
        return "".join(line + "\n" for line in self._lines).encode()


def _shown(labels: MetricLabels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items()) + "}" if labels else ""
