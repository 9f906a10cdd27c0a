"""Create-or-update of the objects that belong to the cluster itself, idempotently at every start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from hatchway.cluster.controllers.objectfields import clone
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

log = logging.getLogger(__name__)

# Fields of metadata that are set here; the others belong to the server or the user.
_OWN_METADATA = ("labels", "annotations")
# Seconds until an object is read again that another write has changed. Reads see only what is committed, and a write
# that is under way is committed in a later turn of the event loop: without a pause it would never be.
_PAUSE = 0.005
# A resource and an object of it, as `Client` takes them.
_Wanted = tuple[str, Object]


async def ensure(client: Client, wanted: Iterable[_Wanted]) -> None:
    """Create or update each (resource, object); fields that the object does not name stay as they are.

    Objects are applied in order. Raises ApiError when the server refuses one.
    """
    for resource, obj in wanted:
        await _ensure_one(client, resource, obj)


async def ensure_each(client: Client, wanted: Iterable[_Wanted]) -> list[str]:
    """Create or update objects as `ensure` does; one that fails does not stop the others.

    Returns what is wrong with those, for people; the log has it, too.
    """
    problems = []
    for resource, obj in wanted:
        try:
            await _ensure_one(client, resource, obj)
        except ApiError as error:
            metadata = obj["metadata"]
            place = "/".join(filter(None, (resource, metadata.get("namespace"), metadata["name"])))
            problems.append(f"{place}: {error.message}")
            log.error("cannot write %s, which the cluster needs: %s", place, error.message)
    return problems


async def _ensure_one(client: Client, resource: str, wanted: Object) -> None:
    metadata = wanted["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace")
    while True:
        try:
            current = await client.get(resource, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            try:
                await client.create(resource, clone(wanted), namespace)
            except ApiError as failure:
                if failure.reason == "AlreadyExists":
                    await asyncio.sleep(_PAUSE)
                    continue
                raise
            return
        merged = merge(current, wanted)
        if merged == current:
            return
        try:
            await client.update(resource, merged)
        except ApiError as error:
            # It was written or deleted in between: read it again.
            if error.code in (404, 409) and error.reason in ("Conflict", "NotFound"):
                await asyncio.sleep(_PAUSE)
                continue
            raise
        return


def merge(current: Object, wanted: Object) -> Object:
    """Return `current` with the fields of `wanted` put in.

    A list is replaced as a whole, unless its entries lack nothing but defaults.
    """
    out = clone(current)
    for key, value in wanted.items():
        if key == "metadata":
            for field in _OWN_METADATA:
                if field in value:
                    out["metadata"][field] = {**(out["metadata"].get(field) or {}), **value[field]}
        elif key == "rules" and wanted.get("aggregationRule"):
            # These belong to the controller that aggregates roles (`reconcile_role.go` leaves them, too).
            continue
        elif key not in ("apiVersion", "kind", "status"):
            out[key] = _overlay(out.get(key), value)
    return out


def _overlay(current: Any, wanted: Any) -> Any:
    if isinstance(wanted, dict) and isinstance(current, dict):
        return {**current, **{key: _overlay(current.get(key), value) for key, value in wanted.items()}}
    if isinstance(wanted, list) and isinstance(current, list) and len(wanted) == len(current):
        return [_overlay(have, want) for have, want in zip(current, wanted, strict=True)]
    return clone(wanted)
