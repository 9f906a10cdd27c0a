"""Columns of `kubectl get`: the type of printers, and cells that many types share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.registry.printers.humanize import NONE, age

__all__ = [
    "AGE",
    "NAME",
    "NAME_ONLY",
    "Cells",
    "Column",
    "Json",
    "Printer",
    "age_of",
    "metadata_of",
    "name_of",
    "shown_labels",
]

Json = dict[str, Any]
Cells = list[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    wide: True, or a priority above 0, for a column that only `kubectl get -o wide` shows. format: `name` for the column
    with the object's name, else "".
    """

    name: str
    type: str = "string"
    format: str = ""
    wide: int = False
    description: str = ""

    def definition(self) -> Json:
        """Return the column as a TableColumnDefinition."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": int(self.wide),
        }


def no_conditions(_obj: Json) -> list[Json]:
    """Return no conditions, as for most types."""
    return []


class Printer:
    """Makes the table of one type's objects: the columns, and the cells of each object.

    cells: returns the cells of an object, one for each column. Its arguments are the object, and the current time in
        seconds since the epoch.
    conditions: returns the conditions of an object's row, such as `Completed` for a pod.
    """

    def __init__(
        self,
        cells: Callable[[Json, float], Cells],
        *columns: Column,
        conditions: Callable[[Json], list[Json]] = no_conditions,
    ) -> None:
        self.cells = cells
        self.conditions = conditions
        self.definitions = [column.definition() for column in columns]


def metadata_of(obj: Json) -> Json:
    """Return the metadata of an object, empty when it has none."""
    found: Json = obj.get("metadata") or {}
    return found


def name_of(obj: Json) -> str:
    """Return the name of an object."""
    return str(metadata_of(obj).get("name", ""))


def age_of(obj: Json, now: float) -> str:
    """Return how long ago an object was created, as a text. now: seconds since the epoch."""
    return age(metadata_of(obj).get("creationTimestamp"), now)


def shown_labels(labels: Json | None) -> str:
    """Return labels as `a=1,b=2`, `<none>` for none."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else NONE


def _default(obj: Json, now: float) -> Cells:
    return [name_of(obj), metadata_of(obj).get("creationTimestamp")]


NAME = Column("Name", format="name", description="The object's name")
AGE = Column("Age", description="How long ago the object was created")
NAME_ONLY = Printer(_default, NAME, Column("Created At", "date", description="When the object was created"))
