"""Functions for commands that make a pod for their own use: make its name, and wait until it runs."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from hatchway.errors import HatchwayError
from hatchway.kube.api import Client, Object
from hatchway.printable import printable

# How long a container may take until it runs: scheduling, pulling and starting together (seconds).
PATIENCE: Final = 120.0
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
# A container that waits for one of these reasons will never start by itself.
_HOPELESS: Final = frozenset(
    {"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_PULLING: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
# Give up when the pod's status has said this many times that the image cannot be pulled.
_PULLS: Final = 3


def random_suffix() -> str:
    """Return five characters for a name, from the set that Kubernetes uses for names (no vowels)."""
    return "".join(secrets.choice(_LETTERS) for _ in range(5))


async def wait_until_running(client: Client, namespace: str, name: str, container: str, *, hint: str) -> None:
    """Wait until a container of a pod runs.

    hint: what to do when it does not start.

    Raises:
        HatchwayError: it has ended, cannot start, or takes too long.
        ApiError: the pod may not be watched.
    """
    why = "it is not known why"
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
                if reason in _HOPELESS or pulls >= _PULLS:
                    raise HatchwayError(f"container {container} of pod {name} does not start: {why}", hint)
    except TimeoutError as error:
        raise HatchwayError(
            f"container {container} of pod {name} did not start in {PATIENCE:g} s: {why}", hint
        ) from error


def container_state(pod: Object, container: str) -> dict[str, Any]:
    """Return the state of a container, an ephemeral one too; {} when the pod's status does not have it yet."""
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
