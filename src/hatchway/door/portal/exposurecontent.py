"""What the page "Exposure" shows: the ways into the cluster and what is wrong with them, and what was not looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hatchway.door.problems.problem import DoorProblem
from hatchway.errors import HatchwayError
from hatchway.exposure.findings import Exposure
from hatchway.exposure.snapshot import Unread


@dataclass(frozen=True, slots=True)
class ExposureReport:
    """One look at the cluster.

    namespace: the namespace that was looked at; "" for all.
    asked: the namespace that was asked for; "" for all. When it differs, the user may not list the namespaces.
    exposures: the ways in, the worst first.
    unread: what could not be looked at. rules: rules that would allow it, as YAML.
    namespaces: the names of the cluster's namespaces; () when they may not be listed.
    at: when it was made (seconds since the epoch).
    """

    namespace: str
    asked: str
    exposures: Sequence[Exposure]
    unread: Sequence[Unread]
    rules: Sequence[str]
    namespaces: Sequence[str]
    at: float


class ExposureSource(Protocol):
    """Where the page gets its content from (`door.exposurereports.ExposureReports`)."""

    async def report(self, namespace: str) -> tuple[ExposureReport | None, bool]:
        """Return the newest report, or None, and whether a newer one is being made.

        namespace: "" for all. Raises HatchwayError.
        """
        ...

    def forget(self, namespace: str) -> None:
        """Make the next `report` look again."""
        ...

    def problem(self, error: HatchwayError) -> DoorProblem:
        """Return the problem of an error of the API server."""
        ...
