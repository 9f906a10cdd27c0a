"""The content of the page "Exposure": ways into the cluster, problems with them, and objects that were not read."""

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
    """The result of one reading of the cluster.

    namespace: the namespace that was read; "" for all.
    asked: the requested namespace; "" for all. It differs from `namespace` when the user may not list namespaces.
    exposures: the ways into the cluster, the worst first.
    unread: the kinds of objects that could not be read.
    rules: RBAC rules that would allow the user to read them, as YAML.
    namespaces: the names of the cluster's namespaces; () when the user may not list them.
    at: when the report was made, in POSIX seconds.
    """

    namespace: str
    asked: str
    exposures: Sequence[Exposure]
    unread: Sequence[Unread]
    rules: Sequence[str]
    namespaces: Sequence[str]
    at: float


class ExposureSource(Protocol):
    """The source of the page's content (`door.exposurereports.ExposureReports`)."""

    async def report(self, namespace: str) -> tuple[ExposureReport | None, bool]:
        """Return the newest report (None if there is none), and True when a newer report is being made.

        namespace: "" for all. Raises HatchwayError.
        """
        ...

    def forget(self, namespace: str) -> None:
        """Make the next `report` read the objects again."""
        ...

    def problem(self, error: HatchwayError) -> DoorProblem:
        """Turn an error of the API server into a problem for a page."""
        ...
