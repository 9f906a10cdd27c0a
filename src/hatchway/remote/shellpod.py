"""Makes a small pod with a shell for one command, and removes it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import is_finished
from hatchway.kube.podstart import random_suffix, wait_until_running
from hatchway.remote.ephemeral import IMAGE_HINT

CONTAINER: Final = "shell"
_LABELS: Final = {"app.kubernetes.io/managed-by": "hatchway", "app.kubernetes.io/component": "shell"}
_SELECTOR: Final = ",".join(f"{key}={value}" for key, value in _LABELS.items())
# The maximum number of seconds by which the removal of the pod may delay the end of the process.
_REMOVAL_SECONDS: Final = 10.0


def shell_pod(namespace: str, image: str, command: list[str], deadline: int, *, tty: bool) -> Object:
    """Return the pod's object. The pod has no rights at the API server, and requests no privileges.

    deadline: seconds after which Kubernetes ends the pod, in case this command is killed before it removes the pod.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"hatchway-shell-{random_suffix()}", "namespace": namespace, "labels": dict(_LABELS)},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "stdin": True,
                    "stdinOnce": True,
                    "tty": tty,
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                }
            ],
        },
    }


@contextlib.asynccontextmanager
async def running_shell_pod(
    client: Client, namespace: str, image: str, command: list[str], deadline: int, *, tty: bool
) -> AsyncIterator[Object]:
    """Create the pod, wait until it runs, and remove it when the block is left in any way.

    Ended pods of earlier shells, if any were left, are removed, too.

    Raises:
        ApiError: the pod may not be created or watched.
        HatchwayError: the pod does not start.
    """
    pod = shell_pod(namespace, image, command, deadline, tty=tty)
    name = pod["metadata"]["name"]
    try:
        await client.create("pods", pod, namespace)
        await wait_until_running(client, namespace, name, CONTAINER, hint=IMAGE_HINT)
        yield pod
    finally:
        # A second Ctrl-C ends the wait, but not the request.
        await asyncio.shield(_remove(client, namespace, name))


async def _remove(client: Client, namespace: str, name: str) -> None:
    with contextlib.suppress(ApiError, TimeoutError):
        async with asyncio.timeout(_REMOVAL_SECONDS):
            with contextlib.suppress(ApiError):
                await client.delete("pods", name, namespace, grace_period=0)
            for pod in await client.list("pods", namespace, label_selector=_SELECTOR):
                if is_finished(pod) and pod["metadata"]["name"] != name:
                    with contextlib.suppress(ApiError):
                        await client.delete("pods", pod["metadata"]["name"], namespace, grace_period=0)
