"""Empties a namespace that is being deleted, then lets it go (`namespace/deletion/namespaced_resources_deleter.go`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hatchway.cluster.controllers.base import Context, Controller
from hatchway.cluster.controllers.objects import Key, clone, is_deleting, set_condition, uid_of
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.paths import parse_resource

RESOURCE = "namespaces"
FINALIZER = "kubernetes"
# When something is left that no cache tells of (events, objects with finalizers): how soon to look again.
_LOOK_AGAIN = 0.5
_AT_ONCE = 50


class NamespaceController(Controller):
    name = "namespace-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = context.cache(RESOURCE)
        self.contents = [
            resource for resource in context.config.resources.values() if parse_resource(resource).namespaced
        ]
        self.namespaces.subscribe(self.enqueue_changed)
        for resource in self.contents:
            if resource != "events":
                context.cache(resource).subscribe(self._content_changed)

    def _content_changed(self, kind: str, obj: Object, _before: Object | None) -> None:
        if kind != "DELETED":
            return
        namespace = self.namespaces.get(("", obj["metadata"]["namespace"]))
        if namespace is not None and is_deleting(namespace):
            self.enqueue(namespace)

    async def reconcile(self, key: Key) -> float | None:
        namespace = self.namespaces.get(key)
        if namespace is None or not is_deleting(namespace):
            return None
        finalizers = namespace["spec"].get("finalizers") or ()
        if finalizers and FINALIZER not in finalizers:
            return None
        # Pods first: what they use must not vanish under them.
        remaining, problems = await self._empty(key[1], ["pods"])
        if not remaining and not problems:
            remaining, problems = await self._empty(key[1], [r for r in self.contents if r != "pods"])
        if remaining or problems:
            await self._tell(namespace, remaining, problems)
            if problems:
                raise problems[0]
            return _LOOK_AGAIN
        if finalizers:
            await self._finalize(key[1], namespace)
        else:
            await self._remove(key[1], namespace)
        return None

    async def _empty(self, namespace: str, resources: Sequence[str]) -> tuple[dict[str, list[Object]], list[ApiError]]:
        """Delete all objects of these resources; what is still there afterwards, by resource, and what went wrong."""
        remaining: dict[str, list[Object]] = {}
        problems: list[ApiError] = []
        for resource in resources:
            try:
                found = await self.client.list(resource, namespace)
                for start in range(0, len(found), _AT_ONCE):
                    batch = found[start : start + _AT_ONCE]
                    results = await asyncio.gather(
                        *(self._delete(resource, obj) for obj in batch), return_exceptions=True
                    )
                    for failure in results:
                        if isinstance(failure, ApiError):
                            problems.append(failure)
                        elif isinstance(failure, BaseException):
                            raise failure
                if found and (left := await self.client.list(resource, namespace)):
                    remaining[resource] = left
            except ApiError as error:
                problems.append(error)
        return remaining, problems

    async def _delete(self, resource: str, obj: Object) -> None:
        if is_deleting(obj):
            return
        metadata = obj["metadata"]
        try:
            await self.client.delete(
                resource, metadata["name"], metadata["namespace"], uid=uid_of(obj), propagation="Background"
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _tell(self, namespace: Object, remaining: dict[str, list[Object]], problems: list[ApiError]) -> None:
        """The conditions by which `kubectl get namespace -o yaml` tells why one does not go."""
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
        await self.namespaces.shows(written)

    async def _remove(self, name: str, namespace: Object) -> None:
        """Of a namespace whose finalizers were taken away: delete it for good, now that it is empty."""
        try:
            await self.client.delete(RESOURCE, name, uid=uid_of(namespace))
        except ApiError as error:
            if error.code not in (404, 409):
                raise

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
