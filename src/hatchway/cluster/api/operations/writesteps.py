"""The steps of a write that use only its object, so that they can run on a thread when the object is large.

They may look up single objects in the store. `verbs.py` calls them in order: default, prepare, judge.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.errors import Cause
from hatchway.kube.api import Object


def default_created(row: Resource, ctx: WriteContext, obj: Object) -> None:
    """Set the defaults of a new object."""
    if not obj["metadata"].get("name") and obj["metadata"].get("generateName"):
        # Before defaults, which may depend on the name.
        meta.fill_created(row, obj, ctx.now)
    row.strategy.default(obj)


def prepare_created(row: Resource, ctx: WriteContext, obj: Object) -> Any:
    """Admit a new object and fill in what the server sets. Return the resourceVersion that the client set, or None."""
    strategy = row.strategy
    strategy.admit(ctx, obj, None)
    version = obj["metadata"].pop("resourceVersion", None)
    meta.fill_created(row, obj, ctx.now)
    strategy.prepare_create(ctx, obj)
    return version


def judge_created(row: Resource, obj: Object) -> tuple[list[Cause], list[str]]:
    """Validate a new object; return (errors, warnings). With errors, there are no warnings."""
    causes = meta.validate_created(row, obj) + row.strategy.validate(obj)
    return causes, [] if causes else row.strategy.warnings(obj, None)


def default_updated(strategy: Strategy, obj: Object, old: Object) -> None:
    """Restore what only the server sets, and set the defaults of a changed object."""
    meta.keep_owned(obj, old)
    strategy.default(obj, old)


def prepare_updated(row: Resource, ctx: WriteContext, obj: Object, old: Object, status: bool) -> None:
    """Admit a changed object and prepare it for storage. status: the change is one of its status."""
    strategy = row.strategy
    if status:
        strategy.prepare_status(ctx, obj, old)
    else:
        strategy.admit(ctx, obj, old)
        strategy.prepare_update(ctx, obj, old)


def judge_updated(row: Resource, obj: Object, old: Object, status: bool) -> tuple[list[Cause], list[str]]:
    """Validate a change; return (errors, warnings). Without errors, set the next generation if the spec changed."""
    strategy = row.strategy
    causes = strategy.validate_status(obj, old) if status else strategy.validate_update(obj, old)
    causes = meta.validate_updated(row, obj, old) + causes
    if causes or status:
        return causes, []
    if strategy.generation and strategy.changed(obj, old):
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return [], strategy.warnings(obj, old)
