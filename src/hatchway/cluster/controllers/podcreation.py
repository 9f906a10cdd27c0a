"""Creates and deletes the pods of a workload, with the Events of `RealPodControl` (`controller_utils.go`)."""

from __future__ import annotations

import asyncio

from hatchway.cluster.controllers.controller import Recorder
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import uid_of
from hatchway.cluster.controllers.writes import is_namespace_terminating
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import key_of

# The random suffix of a generated name has 5 characters, and a name at most 63.
_MAX_PREFIX = 58
# Number of pods that are deleted at the same time.
_AT_ONCE = 50


def pod_prefix(name: str) -> str:
    """Return the generateName of the pods of an object."""
    return name + "-" if len(name) + 1 <= _MAX_PREFIX else name[: _MAX_PREFIX - 1] + "-"


async def create_pods(
    client: Client, pods: ObjectCache, events: Recorder, owner: Object, wanted: list[Object]
) -> list[Object]:
    """Create pods in batches of 1, 2, 4 ..., so that few requests are wasted when all are refused.

    pods: the cache of pods, which has the new pods when this returns.
    events: the recorder of the owner's Events.

    Returns the created pods; these are fewer than wanted when the namespace is being deleted. Raises ApiError when a
    pod is refused; the pods of earlier batches are kept.
    """
    namespace = owner["metadata"]["namespace"]
    made: list[Object] = []
    batch = 1
    while len(made) < len(wanted):
        some = wanted[len(made) : len(made) + batch]
        results = await asyncio.gather(*(client.create("pods", pod, namespace) for pod in some), return_exceptions=True)
        created = [found for found in results if isinstance(found, dict)]
        for pod in created:
            events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        for pod in created:
            await pods.wait_for_write(pod)
        made += created
        for failure in results:
            if isinstance(failure, BaseException):
                if isinstance(failure, ApiError):
                    if is_namespace_terminating(failure):
                        return made
                    events.event(owner, "Warning", "FailedCreate", f"Error creating: {failure.message}")
                raise failure
        batch *= 2
    return made


async def delete_pods(
    client: Client, pods: ObjectCache, events: Recorder, owner: Object, wanted: list[Object]
) -> list[Object]:
    """Delete pods. Return the pods that no longer exist. Raises ApiError when a deletion is refused."""
    deleted: list[Object] = []
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        results = await asyncio.gather(
            *(_delete(client, pods, events, owner, pod) for pod in some), return_exceptions=True
        )
        for failure in results:
            if isinstance(failure, BaseException):
                raise failure
        deleted += some
    return deleted


async def _delete(client: Client, pods: ObjectCache, events: Recorder, owner: Object, pod: Object) -> None:
    namespace, name = key_of(pod)
    try:
        await client.delete("pods", name, namespace, uid=uid_of(pod))
    except ApiError as error:
        # 409 means that another pod has the name now, so this pod no longer exists.
        if error.code not in (404, 409):
            events.event(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
    else:
        events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")
    await pods.wait_for_deletion(pod)
