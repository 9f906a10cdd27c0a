"""Establishes CustomResourceDefinitions, and deletes the objects of definitions that are being deleted.

Source: apiextensions-apiserver `pkg/controller/status`, `establish`, `finalizer` and `apiapproval`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.api.definitions.customtypes import DEFINITIONS, is_built_in
from hatchway.cluster.api.definitions.names import accept_names, approval_condition
from hatchway.cluster.api.registry.custom.definition import CLEANUP_FINALIZER, condition_is_true
from hatchway.cluster.auth.source import StoredObjects
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object

__all__ = ["DefinitionController"]

_log = logging.getLogger(__name__)
# Seconds until the next attempt, for a definition that could not be handled or still has objects.
_AGAIN = 0.5
# The most objects that are deleted at the same time.
_AT_ONCE = 20


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
        self._waiting: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._emptying: set[asyncio.Task[None]] = set()
        self._under_way: set[str] = set()
        self._end: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to watch the definitions. Definitions that are already stored are handled first."""
        for definition in self._source.list(DEFINITIONS):
            self._waiting[definition["metadata"]["name"]] = None
        self._end = self._source.subscribe(DEFINITIONS, self._follow)
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="CustomResourceDefinitions")

    async def aclose(self) -> None:
        """Stop."""
        self._end()
        tasks = [one for one in (self._task, *self._emptying) if one is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self, _type: str, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._waiting[new["metadata"]["name"]] = None
        if new is None or (old is not None and _accepted(old) != _accepted(new)):
            # This definition has given up names. Other definitions of the group may need them.
            group = (new or old or {})["spec"]["group"]
            for other in self._source.list(DEFINITIONS):
                if other["spec"]["group"] == group:
                    self._waiting[other["metadata"]["name"]] = None
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                name = next(iter(self._waiting))
                del self._waiting[name]
                try:
                    await self._reconcile(name)
                except ApiError as error:
                    if error.code not in (404, 409):
                        _log.warning("customresourcedefinitions %s: %s", name, error.message)
                        loop.call_later(_AGAIN, self._retry, name)
                except Exception:  # noqa: BLE001  a definition that cannot be handled must not stop the others
                    _log.exception("customresourcedefinitions %s", name)
                    loop.call_later(_AGAIN, self._retry, name)

    def _retry(self, name: str) -> None:
        self._waiting[name] = None
        self._wake.set()

    async def _reconcile(self, name: str) -> None:
        definition = self._source.get(DEFINITIONS, "", name)
        if definition is None:
            return
        if definition["metadata"].get("deletionTimestamp"):
            finalizers = definition["metadata"].get("finalizers") or ()
            if CLEANUP_FINALIZER in finalizers and name not in self._under_way:
                self._under_way.add(name)
                task = asyncio.get_running_loop().create_task(self._finish(name), name=f"empties {name}")
                self._emptying.add(task)
                task.add_done_callback(self._emptying.discard)
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

    async def _finish(self, name: str) -> None:
        """Delete all objects of a definition, then remove its finalizer."""
        try:
            while True:
                definition = self._source.get(DEFINITIONS, "", name)
                if definition is None or CLEANUP_FINALIZER not in (definition["metadata"].get("finalizers") or ()):
                    return
                try:
                    if await self._empty(definition):
                        await self._release(name)
                        continue
                except ApiError as error:
                    if error.code not in (404, 409):
                        _log.warning("customresourcedefinitions %s: %s", name, error.message)
                await asyncio.sleep(_AGAIN)
        finally:
            self._under_way.discard(name)

    async def _empty(self, definition: Object) -> bool:
        """Delete the remaining objects of a definition. Return True when it has no objects left."""
        resource = definition["metadata"]["name"]
        # The objects of a built-in type never belong to a definition, even if its status says so.
        left = [] if is_built_in(resource) else list(self._source.list(resource))
        if not condition_is_true(definition, "Established"):
            if left:
                # A client has changed the status. The objects can be deleted only while their type is served.
                names = accept_names(definition, self._source.list(DEFINITIONS)).names
                message = "the initial names have been accepted"
                await self._write(definition, {"Established": ("True", "InitialNamesAccepted", message)}, names)
                return False
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
        for at in range(0, len(waiting), _AT_ONCE):
            await asyncio.gather(*(self._delete(resource, one) for one in waiting[at : at + _AT_ONCE]))
        return not list(self._source.list(resource))

    async def _delete(self, resource: str, metadata: dict[str, Any]) -> None:
        try:
            await self._client.delete(resource, metadata["name"], metadata.get("namespace"), uid=metadata["uid"])
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _release(self, name: str) -> None:
        """Remove the finalizer by a write of the status, as Kubernetes does (crd_finalizer.go).

        Many admission policies and webhooks for definitions, such as the policy of the Gateway API, do not match writes
        of the status.
        """
        definition = self._source.get(DEFINITIONS, "", name)
        if definition is None:
            return
        metadata = definition["metadata"]
        finalizers = [one for one in metadata.get("finalizers") or () if one != CLEANUP_FINALIZER]
        released = {**definition, "metadata": {**metadata, "finalizers": finalizers}}
        await self._client.update(DEFINITIONS, released, subresource="status")


def _accepted(definition: Object) -> Any:
    return (definition.get("status") or {}).get("acceptedNames")
