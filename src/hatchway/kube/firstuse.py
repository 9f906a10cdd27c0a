"""Services that start on first use: what a cluster of `hatchway up` says about them. Pure."""

from __future__ import annotations

from typing import Final, Literal

from hatchway.kube.api import Object

__all__ = ["STARTS_ON_FIRST_USE", "FirstUseState", "first_use_state"]

# On a Service: its state below. On its Deployment: "true" until it has started for the first time.
STARTS_ON_FIRST_USE: Final = "hatchway.dev/starts-on-first-use"

# "waiting": nothing runs, and a connection or a request starts it. "starting": it was started, and is not ready yet.
FirstUseState = Literal["", "waiting", "starting"]
_NAMESPACE = "kube-system"
_STATES: dict[str, FirstUseState] = {"waiting": "waiting", "starting": "starting"}


def first_use_state(service: Object) -> FirstUseState:
    """Return the state of a Service that starts on first use; "" for all others.

    Only Services of kube-system have one, so nobody else can put a false one into a list.
    """
    metadata = service["metadata"]
    if metadata.get("namespace") != _NAMESPACE:
        return ""
    return _STATES.get((metadata.get("annotations") or {}).get(STARTS_ON_FIRST_USE) or "", "")
