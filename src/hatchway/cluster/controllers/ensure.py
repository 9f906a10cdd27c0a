"""Creates or updates the cluster's own objects at each start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from hatchway.cluster.controllers.objectfields import clone
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

log = logging.getLogger(__name__)

# The fields of metadata that this file sets. All other fields belong to the API server or the user.
_OWN_METADATA = ("labels", "annotations")
# The pause (seconds) before an object is read again after a conflict with another client's write. Reads return only
# committed writes, and that write is committed in a later iteration of the event loop.
_PAUSE = 0.005
# (resource, object): arguments of `Client`'s methods.
_Wanted = tuple[str, Object]


async def ensure(client: Client, wanted: Iterable[_Wanted]) -> None:
    """Create or update each (resource, object), in order. An update keeps the fields that the object does not set.

    Raises ApiError when the API server refuses an object.
    """
    for resource, obj in wanted:
        await _ensure_one(client, resource, obj)


async def ensure_each(client: Client, wanted: Iterable[_Wanted]) -> list[str]:
    """Create or update objects as `ensure` does, but continue after an object that fails.

    Returns error messages about the objects that failed. They are logged, too.
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
            # Another client has changed or deleted the object meanwhile, so read it again.
            if error.code in (404, 409) and error.reason in ("Conflict", "NotFound"):
                await asyncio.sleep(_PAUSE)
                continue
            raise
        return


def merge(current: Object, wanted: Object) -> Object:
    """Return `current` with the fields of `wanted`.

    A list is merged entry by entry if both lists have the same length. Otherwise the wanted list replaces it.
    """
    out = clone(current)
    for key, value in wanted.items():
        if key == "metadata":
            for field in _OWN_METADATA:
                if field in value:
                    out["metadata"][field] = {**(out["metadata"].get(field) or {}), **value[field]}
        elif key == "rules" and wanted.get("aggregationRule"):
            # The rules of an aggregated role belong to the controller that aggregates them (as in `reconcile_role.go`).
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
