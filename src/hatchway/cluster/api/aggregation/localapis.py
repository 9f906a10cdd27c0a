"""Keeps the APIServices of the groups that this server serves itself (kube-aggregator `controllers/autoregister`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

from hatchway.cluster.api.registry.priorities import group_priority, is_builtin, version_priority
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.wellknown import API_SERVICES

__all__ = ["ensure_local_apis"]

_GROUP = "apiregistration.k8s.io"
_MANAGED = "kube-aggregator.kubernetes.io/automanaged"


def _api_service(group: str, version: str) -> Object:
    spec = {"groupPriorityMinimum": group_priority(group), "versionPriority": version_priority(group, version)}
    return {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "APIService",
        # `onstart` marks an APIService that is created only when the server starts. APIServices of custom types are
        # also created later.
        "metadata": {
            "name": f"{version}.{group}",
            "labels": {_MANAGED: "onstart" if is_builtin(group) else "true"},
        },
        "spec": {**({"group": group} if group else {}), "version": version, **spec},
    }


async def ensure_local_apis(client: Client, served: Iterable[tuple[str, str]]) -> list[str]:
    """Create or update the APIServices of versions that this server serves. Delete APIServices of former versions.

    Returns a message about each object that could not be written.
    """
    wanted = {f"{version}.{group}": _api_service(group, version) for group, version in served if group != _GROUP}
    known = {obj["metadata"]["name"]: obj for obj in await client.list(API_SERVICES)}
    work = []
    for name, obj in wanted.items():
        if name not in known:
            work.append(_wait_for(name, client.create(API_SERVICES, obj)))
        elif _is_managed(known[name]) and known[name]["spec"] != obj["spec"]:
            work.append(_wait_for(name, client.update(API_SERVICES, {**known[name], "spec": obj["spec"]})))
    for name, obj in known.items():
        if name not in wanted and _is_managed(obj):
            work.append(_wait_for(name, client.delete(API_SERVICES, name)))
    # The APIServices are written at the same time, because the store commits waiting writes in one transaction.
    return [problem for problem in await asyncio.gather(*work) if problem]


def _is_managed(obj: Object) -> bool:
    return _MANAGED in (obj["metadata"].get("labels") or {})


async def _wait_for(name: str, write: Awaitable[object]) -> str:
    """Wait for a write. Return "", or a message when the write has failed."""
    try:
        await write
    except ApiError as error:
        return f"apiservices {name}: {error.message}"
    return ""
