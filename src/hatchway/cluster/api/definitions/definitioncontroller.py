"""Establishes CustomResourceDefinitions, and deletes the objects of definitions that are being deleted.

Source: apiextensions-apiserver `pkg/controller/status`, `establish`, `finalizer` and `apiapproval`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.api.definitions.customtypes import DEFINITIONS, is_built_in
from hatchway.cluster.api.definitions.namequeue import NameQueue
from hatchway.cluster.api.definitions.names import accept_names, approval_condition
from hatchway.cluster.api.registry.custom.definition import CLEANUP_FINALIZER, condition_is_true
from hatchway.cluster.auth.source import StoredObjects
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

__all__ = ["DefinitionController"]

_KIND = "customresourcedefinitions"
# Seconds until a definition that still has objects is handled again.
_AGAIN = 0.5
# The maximum number of definitions whose objects are deleted at the same time, and the maximum number of objects of one
# definition.
_DEFINITIONS_AT_ONCE, _AT_ONCE = 10, 20


class DefinitionController:
    """Watches the definitions in a store. Call `start` in an event loop, and `aclose` at the end.

    Args:
        source: has the definitions and the objects.
        client: writes the definitions, and deletes objects.
        prepare: called with a definition before its status is written.
    """

    def __init__(self, source: StoredObjects, client: Client, prepare: Callable[[Object], Awaitable[None]]) -> None:
        self._source = source
        self._prepare = prepare
        self._client = client
        # One definition at a time, so that two definitions never get the same name.
        self._waiting = NameQueue(_KIND, self._reconcile)
        self._emptying = NameQueue(_KIND, self._finish, at_once=_DEFINITIONS_AT_ONCE)
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch the definitions. Definitions that are already stored are handled first."""
        for definition in self._source.list(DEFINITIONS):
            self._waiting.add(definition["metadata"]["name"])
        self._end = self._source.subscribe(DEFINITIONS, self._follow)
        self._waiting.start()
        self._emptying.start()

    async def aclose(self) -> None:
        """Stop."""
        self._end()
        await self._waiting.aclose()
        await self._emptying.aclose()

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._waiting.add(new["metadata"]["name"])
        if new is None or (old is not None and _accepted(old) != _accepted(new)):
            # This definition has given up names. Other definitions of the group may wait for them.
            group = (new or old or {})["spec"]["group"]
            for other in self._source.list(DEFINITIONS):
                if other["spec"]["group"] == group and not condition_is_true(other, "NamesAccepted"):
                    self._waiting.add(other["metadata"]["name"])

    async def _reconcile(self, name: str) -> None:
        definition = self._source.get(DEFINITIONS, "", name)
        if definition is None:
            return
        if definition["metadata"].get("deletionTimestamp"):
            self._emptying.add(name)
            return
        found = accept_names(definition, self._source.list(DEFINITIONS))
        conditions = {"NamesAccepted": (found.status, found.reason, found.message)}
        if not condition_is_true(definition, "Established"):
            conditions["Established"] = ("False", "NotAccepted", "not all names are accepted")
            if found.status == "True":
                message = "the initial names have been accepted"
                conditions["Established"] = ("True", "InitialNamesAccepted", message)
        approval = approval_condition(definition)
        if approval is not None:
            conditions["KubernetesAPIApprovalPolicyConformant"] = approval
        await self._write(definition, conditions, found.names)

    async def _write(
        self, definition: Object, conditions: dict[str, tuple[str, str, str]], names: dict[str, Any] | None = None
    ) -> None:
        """Write the conditions and the accepted names if they have changed."""
        before = definition.get("status") or {}
        known = {one["type"]: one for one in before.get("conditions") or ()}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for kind, (status, reason, message) in conditions.items():
            old = known.get(kind, {})
            since = old.get("lastTransitionTime", now) if old.get("status") == status else now
            known[kind] = {
                "type": kind,
                "status": status,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        after: dict[str, Any] = {**before, "conditions": list(known.values())}
        if names is not None:
            after["acceptedNames"] = names
        if after != before:
            changed = {**definition, "status": after}
            await self._prepare(changed)
            await self._client.update(DEFINITIONS, changed, subresource="status")

    # Deletion

    async def _finish(self, name: str) -> float | None:
        """Delete all objects of a definition, then remove its finalizer. Return the seconds until the next attempt."""
        definition = self._source.get(DEFINITIONS, "", name)
        if definition is None or not _is_to_be_emptied(definition):
            return None
        if not await self._empty(definition):
            return _AGAIN
        await self._release(definition)
        return None

    async def _empty(self, definition: Object) -> bool:
        """Delete the remaining objects of a definition. Return True when it has no objects left."""
        resource = definition["metadata"]["name"]
        # The objects of a built-in type never belong to a definition, even if its status says so.
        left = [] if is_built_in(resource) else list(self._source.list(resource))
        if not condition_is_true(definition, "Established"):
            found = accept_names(definition, self._source.list(DEFINITIONS))
            if left and found.status == "True":
                # A client has changed the status, or the objects are those of an earlier definition. They can be
                # deleted only while their type is served.
                message = "the initial names have been accepted"
                await self._write(definition, {"Established": ("True", "InitialNamesAccepted", message)}, found.names)
                return False
            # A type whose names another definition has cannot be served, so its objects are left, as in Kubernetes.
            text = "resource was never established"
            await self._write(definition, {"Terminating": ("False", "NeverEstablished", text)})
            return True
        if not left:
            text = "removed all instances"
            await self._write(definition, {"Terminating": ("False", "InstanceDeletionCompleted", text)})
            return True
        text = "CustomResource deletion is in progress"
        await self._write(definition, {"Terminating": ("True", "InstanceDeletionInProgress", text)})
        waiting = [one["metadata"] for one in left if not one["metadata"].get("deletionTimestamp")]
        # An object that cannot be deleted must not prevent the deletion of the others.
        failed: list[BaseException] = []
        for at in range(0, len(waiting), _AT_ONCE):
            part = (self._delete(resource, one) for one in waiting[at : at + _AT_ONCE])
            failed += [one for one in await asyncio.gather(*part, return_exceptions=True) if one is not None]
        if failed:
            raise failed[0]
        return not list(self._source.list(resource))

    async def _delete(self, resource: str, metadata: dict[str, Any]) -> None:
        try:
            await self._client.delete(resource, metadata["name"], metadata.get("namespace"), uid=metadata["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _release(self, emptied: Object) -> None:
        """Remove the finalizer by a write of the status, as Kubernetes does (crd_finalizer.go).

        Many admission policies and webhooks for definitions, such as the policy of the Gateway API, do not match writes
        of the status.
        """
        metadata = emptied["metadata"]
        definition = self._source.get(DEFINITIONS, "", metadata["name"])
        if definition is None or definition["metadata"]["uid"] != metadata["uid"] or not _is_to_be_emptied(definition):
            return
        metadata = definition["metadata"]
        finalizers = [one for one in metadata.get("finalizers") or () if one != CLEANUP_FINALIZER]
        released = {**definition, "metadata": {**metadata, "finalizers": finalizers}}
        await self._client.update(DEFINITIONS, released, subresource="status")


def _is_to_be_emptied(definition: Object) -> bool:
    metadata = definition["metadata"]
    return bool(metadata.get("deletionTimestamp")) and CLEANUP_FINALIZER in (metadata.get("finalizers") or ())


def _accepted(definition: Object) -> Any:
    return (definition.get("status") or {}).get("acceptedNames")
