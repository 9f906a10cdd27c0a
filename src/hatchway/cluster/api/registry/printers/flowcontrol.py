"""Printers of FlowSchemas and PriorityLevelConfigurations (`pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of
from hatchway.cluster.api.registry.printers.humanize import NONE

__all__ = ["FLOW_SCHEMA", "PRIORITY_LEVEL"]


def _flow_schema(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    conditions = (obj.get("status") or {}).get("conditions") or ()
    dangling = next((one.get("status", "?") for one in conditions if one.get("type") == "Dangling"), "?")
    return [
        name_of(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or NONE,
        spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age_of(obj, now),
        dangling,
    ]


def _priority_level(obj: Json, now: float) -> Cells:
    spec = obj.get("spec") or {}
    limited, exempt = spec.get("limited"), spec.get("exempt")
    shares: Any = NONE
    queues: list[Any] = [NONE, NONE, NONE]
    if limited is not None:
        shares = limited.get("nominalConcurrencyShares", NONE)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            queues = [queuing.get(key, NONE) for key in ("queues", "handSize", "queueLengthLimit")]
    elif exempt is not None:
        shares = exempt.get("nominalConcurrencyShares", NONE)
    return [name_of(obj), spec.get("type") or NONE, shares, *queues, age_of(obj, now)]


FLOW_SCHEMA = Printer(
    _flow_schema,
    NAME,
    Column("PriorityLevel", description="The priority level of the matching requests"),
    Column("MatchingPrecedence", description="If several schemas match a request, the lowest precedence counts"),
    Column("DistinguisherMethod", description="How requests are divided into flows"),
    AGE,
    Column("MissingPL", description="Whether the priority level does not exist"),
)
PRIORITY_LEVEL = Printer(
    _priority_level,
    NAME,
    Column("Type", description="Exempt or Limited"),
    Column("NominalConcurrencyShares", description="The nominal share of the server's capacity"),
    Column("Queues", description="The number of queues"),
    Column("HandSize", description="The number of queues for each flow"),
    Column("QueueLengthLimit", description="The most requests that wait in one queue"),
    AGE,
)
