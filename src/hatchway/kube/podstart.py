"""Names a pod that a command creates for its own use, and waits until the pod runs."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from hatchway.errors import HatchwayError
from hatchway.kube.api import Client, Object
from hatchway.printable import printable

# The maximum number of seconds until a container runs: scheduling, pulling its image and starting it together.
PATIENCE: Final = 120.0
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
# Reasons of the state "waiting" that do not end without a change of the pod.
_HOPELESS: Final = frozenset(
    {"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
# Give up when the pod's status has said this many times that the image cannot be pulled.
_PULL_FAILURES: Final = 3


def random_suffix() -> str:
    """Return five random characters for a name, from those that Kubernetes uses in generated names (no vowels)."""
    return "".join(secrets.choice(_LETTERS) for _ in range(5))


async def wait_until_running(client: Client, namespace: str, name: str, container: str, *, hint: str) -> None:
    """Wait at most `PATIENCE` seconds until a container of a pod runs.

    hint: the hint of the error when the container does not start.

    Raises:
        HatchwayError: the container has ended, cannot start, or did not start in time.
        ApiError: the pod may not be watched.
    """
    why = "the reason is not known"
    try:
        async with asyncio.timeout(PATIENCE):
            pulls = 0
            async for event in client.watch("pods", namespace, field_selector=f"metadata.name={name}"):
                if event.type == "SYNCED":
                    continue
                if event.type == "DELETED":
                    raise HatchwayError(f"pod {name} was deleted")
                state = container_state(event.object, container)
                if "running" in state:
                    return
                ended = state.get("terminated")
                if ended is not None:
                    code = ended.get("exitCode")
                    raise HatchwayError(
                        f"container {container} of pod {name} has ended with exit code {code}",
                        printable(str(ended.get("message") or "")),
                    )
                waiting = state.get("waiting") or _unscheduled(event.object)
                reason = str(waiting.get("reason") or "")
                why = str(waiting.get("message") or reason or why)
                pulls += reason in _PULLING
                if reason in _HOPELESS or pulls >= _PULL_FAILURES:
                    raise HatchwayError(f"container {container} of pod {name} does not start: {why}", hint)
    except TimeoutError as error:
        raise HatchwayError(
            f"container {container} of pod {name} did not start in {PATIENCE:g} s: {why}", hint
        ) from error


def container_state(pod: Object, container: str) -> dict[str, Any]:
    """Return the state of a container or an ephemeral container; {} when the pod's status has no such state yet."""
    status = pod.get("status") or {}
    for key in ("containerStatuses", "ephemeralContainerStatuses"):
        for one in status.get(key) or ():
            if one.get("name") == container:
                return one.get("state") or {}
    return {}


def _unscheduled(pod: Object) -> dict[str, Any]:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return {"reason": condition.get("reason"), "message": condition.get("message")}
    return {}
