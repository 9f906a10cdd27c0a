"""Create-or-update of the objects that belong to the cluster itself, idempotently at every start."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from hatchway.cluster.controllers.objects import clone
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

log = logging.getLogger(__name__)

# Fields below metadata that are ours to set; the rest of metadata is the server's or the user's.
_OWN_METADATA = ("labels", "annotations")
# Where lists are sets of whole entries and ours replace what is there.
_Wanted = tuple[str, Object]


async def ensure(client: Client, wanted: Iterable[_Wanted]) -> None:
    """Make each (resource, object) exist and say what it says here; fields that it does not name stay as they are.

    Objects are applied in order. Raises ApiError when the server refuses one.
    """
    for resource, obj in wanted:
        await _ensure_one(client, resource, obj)


async def ensure_each(client: Client, wanted: Iterable[_Wanted]) -> list[str]:
    """Like `ensure`, but one that cannot be made as it should be does not keep the others from being made.

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
            log.error("%s is not as the cluster needs it: %s", place, error.message)
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
                    continue
                raise
            return
        merged = merge(current, wanted)
        if merged == current:
            return
        try:
            await client.update(resource, merged)
        except ApiError as error:
            # Somebody wrote, or deleted it, in between: look again.
            if error.code in (404, 409) and error.reason in ("Conflict", "NotFound"):
                continue
            raise
        return


def merge(current: Object, wanted: Object) -> Object:
    """`current` with what `wanted` names; a list is taken over as a whole unless its entries only lack defaults."""
    out = clone(current)
    for key, value in wanted.items():
        if key == "metadata":
            for field in _OWN_METADATA:
                if field in value:
                    out["metadata"][field] = {**(out["metadata"].get(field) or {}), **value[field]}
        elif key == "rules" and wanted.get("aggregationRule"):
            # The controller's, who finds the rules of labelled roles (`reconcile_role.go` leaves them, too).
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
