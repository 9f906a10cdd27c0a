"""The steps of a write that use only its object, so that they can run on a thread when the object is large.

They may look up single objects in the store. `verbs.py` calls them in this order: default, prepare, validate.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.fields.ownership import FieldWrite
from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.operations.tracking import set_managed, track
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.strategies.base import WriteContext
from hatchway.errors import Cause
from hatchway.kube.api import Object


def default_created(request: Operation, ctx: WriteContext, write: FieldWrite | None, obj: Object) -> None:
    """Set the defaults of a new object, and compute its managed fields. write: None if they are computed already."""
    row = request.row
    given = obj["metadata"].pop("managedFields", None)
    if not obj["metadata"].get("name") and obj["metadata"].get("generateName"):
        # The name is generated first, because the defaults may depend on it.
        meta.fill_created(row, obj, ctx.now)
    row.strategy.default(obj)
    if write is not None:
        track(write, request, obj, None, given)
    set_managed(request, obj)


def prepare_created(request: Operation, ctx: WriteContext, obj: Object) -> Any:
    """Admit a new object and set the server's fields. Return the resourceVersion that the client set, or None."""
    row = request.row
    strategy = row.strategy
    strategy.admit(ctx, obj, None)
    version = obj["metadata"].pop("resourceVersion", None)
    meta.fill_created(row, obj, ctx.now)
    strategy.prepare_create(ctx, obj)
    set_managed(request, obj)
    return version


def validate_created(row: Resource, obj: Object) -> tuple[list[Cause], list[str]]:
    """Validate a new object. Return (errors, warnings). There are no warnings when there are errors."""
    causes = meta.validate_created(row, obj) + row.strategy.validate(obj)
    return causes, [] if causes else row.strategy.warnings(obj, None)


def default_updated(request: Operation, write: FieldWrite | None, obj: Object, old: Object) -> None:
    """Restore the metadata that only the server sets, set defaults, and compute the managed fields of a changed object.

    write: None if the managed fields are computed already. (Changes of admission plugins have no owner.)
    """
    given = obj["metadata"].get("managedFields")
    meta.keep_owned(obj, old)
    request.row.strategy.default(obj, old)
    if write is not None:
        track(write, request, obj, old, given)
    set_managed(request, obj)


def prepare_updated(request: Operation, ctx: WriteContext, obj: Object, old: Object, status: bool) -> None:
    """Admit a changed object and prepare it for storage. status: True if only the status changes."""
    strategy = request.row.strategy
    if status:
        strategy.prepare_status(ctx, obj, old)
    else:
        strategy.admit(ctx, obj, old)
        strategy.prepare_update(ctx, obj, old)
    set_managed(request, obj)


def validate_updated(row: Resource, obj: Object, old: Object, status: bool) -> tuple[list[Cause], list[str]]:
    """Validate a change. Return (errors, warnings). Increase the generation if the spec changed and is valid."""
    strategy = row.strategy
    causes = strategy.validate_status(obj, old) if status else strategy.validate_update(obj, old)
    causes = meta.validate_updated(row, obj, old) + causes
    if causes or status:
        return causes, []
    if strategy.generation and strategy.changed(obj, old):
        obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    return [], strategy.warnings(obj, old)
