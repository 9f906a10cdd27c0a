"""Checks that a node has the runtime handler of a pod's RuntimeClass (`pkg/kubelet/runtimeclass`)."""

from __future__ import annotations

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.wellknown import RUNTIME_CLASSES

__all__ = ["HANDLERS", "check_runtime_class"]

# The handlers that nodes have; "" is used for pods without a RuntimeClass. Both run pods in the same way.
HANDLERS = ("", "hatchway")


async def check_runtime_class(client: Client, pod: Object) -> None:
    """Raise OSError when the pod's RuntimeClass does not exist, or has a handler that nodes do not have.

    The messages come from the kubelet with containerd. Raises ApiError when the API server cannot be reached.
    """
    name = pod["spec"].get("runtimeClassName")
    if not name:
        return
    try:
        found = await client.get(RUNTIME_CLASSES, name)
    except ApiError as error:
        if error.code != 404:
            raise
        raise OSError(f'runtimeclass.node.k8s.io "{name}" not found') from None
    if found["handler"] not in HANDLERS:
        why = f'failed to get sandbox runtime: no runtime for "{found["handler"]}" is configured'
        raise OSError(f"rpc error: code = Unknown desc = {why}")
