"""Kubernetes clusters for tests: the pytest plugin's public types.

The plugin itself is `hatchway.testing.plugin`; pytest loads it by the entry point `pytest11`. The names below are for
annotations and for `except`. They are imported on first use, so that the plugin does not delay the start of pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchway.testing.cluster import Cluster, Namespace
    from hatchway.testing.problems import ClusterError, CommandFailed, WaitTimeout

__all__ = ["Cluster", "ClusterError", "CommandFailed", "Namespace", "WaitTimeout"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in ("Cluster", "Namespace"):
        from hatchway.testing import cluster as module
    elif name in ("ClusterError", "CommandFailed", "WaitTimeout"):
        from hatchway.testing import problems as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
