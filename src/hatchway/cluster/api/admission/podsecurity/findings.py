"""The findings of checks of pods, and texts that several checks use. Pure.

Source: pod-security-admission's `policy/helpers.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["CheckFunction", "Finding", "Json", "every_container", "names", "plural", "quoted", "security", "setters"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """A pod's violation of a check. reason: a few words, for lists. detail: names and values; "" for none."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        """Return the reason and the detail for an error."""
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


# check(metadata, spec): checks the metadata and the spec of a pod. Returns None when the check finds no violation.
CheckFunction = Callable[[Json, Json], Finding | None]


def every_container(spec: Json) -> Iterator[Json]:
    """Yield all containers of a pod in the order of Kubernetes' messages."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def security(part: Json) -> Json:
    """Return the security context of a pod's spec or of a container, empty when there is none."""
    found: Json = part.get("securityContext") or {}
    return found


def plural(count: int, one: str, many: str = "") -> str:
    """Return a noun in the singular or plural. many: the plural; "" if it is the singular with an s."""
    return one if count == 1 else many or f"{one}s"


def quoted(values: Iterable[str]) -> str:
    """Return texts as a list in quotation marks: `"a", "b"`."""
    return ", ".join(f'"{value}"' for value in values)


def names(containers: list[str]) -> str:
    """Return the subject of a sentence about containers: `container "a"`, `containers "a", "b"`."""
    return f"{plural(len(containers), 'container')} {quoted(containers)}"


def setters(pod: bool, containers: list[str]) -> str:
    """Return the subject of a sentence about the pod and its containers. pod: True to include the pod itself."""
    return " and ".join([*(["pod"] if pod else []), *([names(containers)] if containers else [])])
