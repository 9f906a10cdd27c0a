"""Empties namespaces that are being deleted (`namespace/deletion/namespaced_resources_deleter.go`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import clone, is_deleting, set_condition, uid_of
from hatchway.cluster.controllers.writes import delete_unless_gone
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

RESOURCE = "namespaces"
FINALIZER = "kubernetes"
# Seconds until the next check while objects are left. Deletions of Events, for example, are not watched.
_LOOK_AGAIN = 0.5
# The maximum number of objects that are deleted at the same time.
_AT_ONCE = 100


class NamespaceController(Controller):
    """Deletes the objects in namespaces that are being deleted, then the namespaces."""

    name = "namespace-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.namespaces = context.cache(RESOURCE)
        self.namespaces.subscribe(self.enqueue_changed)
        for resource in self._contents():
            if resource != "events":
                context.cache(resource).subscribe(self._content_changed)
        # Objects of types that are added later are not watched. The checks at intervals find them.

    def _contents(self) -> list[str]:
        """Return the resources whose objects are in namespaces."""
        return [served.resource for served in self.context.config.types.all() if served.namespaced]

    def _content_changed(self, kind: str, obj: Object, _before: Object | None) -> None:
        if kind != "DELETED":
            return
        namespace = self.namespaces.get(("", obj["metadata"]["namespace"]))
        if namespace is not None and is_deleting(namespace):
            self.enqueue(namespace)

    async def reconcile(self, key: Key) -> float | None:
        """Empty the namespace `key` if it is being deleted.

        Returns the seconds until the next check while objects are left, or None.
        """
        namespace = self.namespaces.get(key)
        if namespace is None or not is_deleting(namespace):
            return None
        finalizers = namespace["spec"].get("finalizers") or ()
        if finalizers and FINALIZER not in finalizers:
            return None
        # Pods first, because they may use the other objects.
        remaining, problems = await self._empty(key[1], ["pods"])
        if not remaining and not problems:
            remaining, problems = await self._empty(key[1], [r for r in self._contents() if r != "pods"])
        if remaining or problems:
            await self._write_conditions(namespace, remaining, problems)
            if problems:
                raise problems[0]
            return _LOOK_AGAIN
        if finalizers:
            await self._finalize(key[1], namespace)
        else:
            await self._remove(namespace)
        return None

    async def _empty(self, namespace: str, resources: Sequence[str]) -> tuple[dict[str, list[Object]], list[ApiError]]:
        """Delete all objects of these resources.

        Returns the objects that still exist afterwards, by resource; and the errors.
        """
        remaining: dict[str, list[Object]] = {}
        problems: list[ApiError] = []
        for resource in resources:
            try:
                found = await self.client.list(resource, namespace)
                problems += await self._delete_all(resource, found)
                if found and (left := await self.client.list(resource, namespace)):
                    remaining[resource] = left
            except ApiError as error:
                problems.append(error)
        return remaining, problems

    async def _delete_all(self, resource: str, objects: list[Object]) -> list[ApiError]:
        """Delete several objects at the same time, so that a deletion does not wait until another deletion is stored.

        Returns the errors.
        """
        left, problems = iter(objects), []

        async def worker() -> None:
            for obj in left:
                try:
                    await self._delete(resource, obj)
                except ApiError as error:
                    problems.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(objects))):
                group.create_task(worker())
        return problems

    async def _delete(self, resource: str, obj: Object) -> None:
        if not is_deleting(obj):
            await delete_unless_gone(self.client, resource, obj, propagation="Background")

    async def _write_conditions(
        self, namespace: Object, remaining: dict[str, list[Object]], problems: list[ApiError]
    ) -> None:
        """Write the conditions that show why a namespace still exists."""
        status = clone(namespace.get("status") or {})
        before = clone(status)
        for condition in _conditions(remaining, problems):
            status["conditions"] = set_condition(status.get("conditions") or (), condition, self.context.now())
        status["phase"] = "Terminating"
        if status == before:
            return
        try:
            written = await self.client.update(RESOURCE, {**namespace, "status": status}, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return
        await self.namespaces.wait_for_write(written)

    async def _remove(self, namespace: Object) -> None:
        """Delete an empty namespace whose finalizers were removed by another client."""
        await delete_unless_gone(self.client, RESOURCE, namespace)

    async def _finalize(self, name: str, namespace: Object) -> None:
        try:
            current = clone(await self.client.get(RESOURCE, name))
            if uid_of(current) != uid_of(namespace):
                return
            finalizers = [f for f in current["spec"].get("finalizers") or () if f != FINALIZER]
            current["spec"]["finalizers"] = finalizers
            await self.client.update(RESOURCE, current, subresource="finalize")
        except ApiError as error:
            if error.code != 404:
                raise


def _conditions(remaining: dict[str, list[Object]], problems: list[ApiError]) -> list[Object]:
    out = []
    if problems:
        message = "Failed to delete all resource types, {} remaining: {}".format(
            len(problems), ", ".join(problem.message for problem in problems)
        )
        out.append(_condition("NamespaceDeletionContentFailure", "True", "ContentDeletionFailed", message))
    else:
        message = "All content successfully deleted, may be waiting on finalization"
        out.append(_condition("NamespaceDeletionContentFailure", "False", "ContentDeleted", message))
    if remaining:
        listed = ", ".join(f"{r} has {len(found)} resource instances" for r, found in sorted(remaining.items()))
        message = f"Some resources are remaining: {listed}"
        out.append(_condition("NamespaceContentRemaining", "True", "SomeResourcesRemain", message))
    else:
        out.append(
            _condition("NamespaceContentRemaining", "False", "ContentRemoved", "All content successfully removed")
        )
    held: dict[str, int] = {}
    for found in remaining.values():
        for obj in found:
            for finalizer in obj["metadata"].get("finalizers") or ():
                held[finalizer] = held.get(finalizer, 0) + 1
    if held:
        listed = ", ".join(f"{finalizer} in {count} resource instances" for finalizer, count in sorted(held.items()))
        message = f"Some content in the namespace has finalizers remaining: {listed}"
        out.append(_condition("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", message))
    else:
        message = "All content-preserving finalizers finished"
        out.append(_condition("NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", message))
    return out


def _condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}
