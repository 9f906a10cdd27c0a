"""Adds an ephemeral container to a running pod, to get a shell beside a container that has none.

An ephemeral container cannot be removed from the pod
(https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/).
"""

from __future__ import annotations

import asyncio
from typing import Final

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Client, Object
from hatchway.kube.podstart import container_state, random_suffix, wait_until_running

IMAGE_HINT: Final = "--image chooses another image"

# The maximum number of seconds to wait until the status of a container shows its end.
_STATUS_SECONDS: Final = 3.0


async def add_shell_container(
    client: Client, pod: Object, image: str, target: str, command: list[str], *, tty: bool
) -> str:
    """Add an ephemeral container to a pod, and wait until it runs; return its name.

    Args:
        client: the client of the pod's API server.
        pod: the pod's object.
        image: the image, which must contain `command`.
        target: the name of the container whose processes the new container can see.
        command: the program and its arguments.
        tty: True to give the container a terminal.

    Raises:
        ApiError: the user may not do this, or the API server cannot be reached.
        HatchwayError: the container does not start.
    """
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    container = f"hatchway-{random_suffix()}"
    entry = {
        "name": container,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "stdin": True,
        "stdinOnce": True,
        "tty": tty,
        "targetContainerName": target,
        "terminationMessagePolicy": "File",
    }
    before = (pod.get("spec") or {}).get("ephemeralContainers") or []
    patch = {
        # With the resourceVersion, the patch fails when another client has added a container meanwhile. Without
        # the resourceVersion, the patch would remove that container.
        "metadata": {"resourceVersion": pod["metadata"].get("resourceVersion")},
        "spec": {"ephemeralContainers": [*before, entry]},
    }
    try:
        await client.patch("pods", name, patch, namespace, subresource="ephemeralcontainers")
    except ApiError as error:
        if error.code == 409:
            fresh = await client.get("pods", name, namespace)
            patch["metadata"] = {"resourceVersion": fresh["metadata"].get("resourceVersion")}
            known = (fresh.get("spec") or {}).get("ephemeralContainers") or []
            patch["spec"] = {"ephemeralContainers": [*known, entry]}
            await client.patch("pods", name, patch, namespace, subresource="ephemeralcontainers")
        elif error.code == 404 and not (error.details or {}).get("name"):
            raise HatchwayError(
                "this API server does not support ephemeral containers (Kubernetes 1.25 and later do)"
            ) from error
        else:
            raise
    await wait_until_running(client, namespace, name, container, hint=IMAGE_HINT)
    return container


async def exit_code_of(client: Client, namespace: str, name: str, container: str) -> int:
    """Return the exit code of a container after attaching to it; 0 while it still runs, or when the code is not known.

    The API reports no exit code on an attached connection.
    """
    try:
        async with asyncio.timeout(_STATUS_SECONDS):
            async for event in client.watch("pods", namespace, field_selector=f"metadata.name={name}"):
                ended = container_state(event.object, container).get("terminated")
                if event.type == "DELETED":
                    return 0
                if ended is not None:
                    return int(ended.get("exitCode") or 0)
    except (TimeoutError, ApiError):
        return 0
    return 0
