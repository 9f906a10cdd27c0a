"""ComponentStatuses: a type that is read only, and deprecated (`pkg/registry/core/componentstatus`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.strategies.base import Strategy

__all__ = ["ComponentStatusStrategy"]


class ComponentStatusStrategy(Strategy):
    """ComponentStatuses: `cluster/componentstatus.py` makes them for each request."""

    deprecation = "v1 ComponentStatus is deprecated in v1.19+"
