"""The annotation by which a cluster of `hatchway up` marks Services that start on first use, and its values. Pure."""

from __future__ import annotations

from typing import Final, Literal

from hatchway.kube.api import Object

__all__ = ["STARTS_ON_FIRST_USE", "FirstUseState", "first_use_state"]

# On a Service, the value is its FirstUseState. On the Service's Deployment, the value is "true" until the first start.
STARTS_ON_FIRST_USE: Final = "hatchway.dev/starts-on-first-use"

# "waiting": no pod runs; the first connection or request starts a pod. "starting": the pod was started, but is not
# ready.
FirstUseState = Literal["", "waiting", "starting"]
_NAMESPACE = "kube-system"
_STATES: dict[str, FirstUseState] = {"waiting": "waiting", "starting": "starting"}


def first_use_state(service: Object) -> FirstUseState:
    """Return the state of a Service that starts on first use; "" for any other Service.

    The annotation is ignored outside kube-system, so that users of other namespaces cannot fake a state.
    """
    metadata = service["metadata"]
    if metadata.get("namespace") != _NAMESPACE:
        return ""
    return _STATES.get((metadata.get("annotations") or {}).get(STARTS_ON_FIRST_USE) or "", "")
