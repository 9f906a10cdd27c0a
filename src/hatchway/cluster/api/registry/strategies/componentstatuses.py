"""ComponentStatuses, a read-only and deprecated type (`pkg/registry/core/componentstatus`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.strategies.base import Strategy

__all__ = ["ComponentStatusStrategy"]


class ComponentStatusStrategy(Strategy):
    """ComponentStatuses. `cluster/componentstatus.py` computes them for each request."""

    deprecation = "v1 ComponentStatus is deprecated in v1.19+"
