"""ComponentStatuses: whether the store, the controllers and the scheduler work (`pkg/registry/core/componentstatus`).

When this type is read, Kubernetes sends requests to the health ports of the components. In Hatchway, all components run
in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.kube.api import Object

__all__ = ["ComponentStatuses"]

_NOT_STARTED = MappingProxyType({"": "not started yet"})


class ComponentStatuses:
    """Makes ComponentStatuses from the current state of the components. store: the store of the API server."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # The controllers that do not run at the moment, by name, each with the reason (`supervise`).
        self.controllers: Mapping[str, str] = _NOT_STARTED

    def objects(self) -> list[Object]:
        """Return one object for each component, by name."""
        scheduler = self.controllers.get(Scheduler.name) or self.controllers.get("", "")
        others = next((f"{name}: {why}" if name else why for name, why in self._others()), "")
        return [
            _status("controller-manager", others),
            # Tools expect this name: in Kubernetes, it is the only member of etcd.
            _status("etcd-0", self._store.problem),
            _status("scheduler", scheduler),
        ]

    def _others(self) -> list[tuple[str, str]]:
        return sorted((name, why) for name, why in self.controllers.items() if name != Scheduler.name)


def _status(name: str, problem: str) -> Object:
    condition = {"type": "Healthy", "status": "False" if problem else "True"}
    condition |= {"error": problem} if problem else {"message": "ok"}
    return {
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [condition],
    }
