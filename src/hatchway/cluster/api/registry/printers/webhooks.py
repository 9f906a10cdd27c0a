"""The printer of webhook configurations (`pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of

__all__ = ["WEBHOOK_CONFIGURATION"]


def _configuration(obj: Json, now: float) -> Cells:
    return [name_of(obj), len(obj.get("webhooks") or ()), age_of(obj, now)]


WEBHOOK_CONFIGURATION = Printer(
    _configuration,
    NAME,
    Column("Webhooks", "integer", description="The number of webhooks in the configuration"),
    AGE,
)
