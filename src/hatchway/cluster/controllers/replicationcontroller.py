"""Keeps the number of pods of ReplicationControllers: ReplicaSets with an older form of selector.

kube-controller-manager's `replication/` adapts the same controller.
"""

from __future__ import annotations

from hatchway.cluster.controllers.indexes import by_labels, by_plain_selector
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.kube.api import Object


class ReplicationController(ReplicaSetController):
    """Create and delete pods until every ReplicationController has the specified number, and write its status."""

    name = "replication-controller"
    resource = "replicationcontrollers"
    kind = "ReplicationController"
    counts_terminating = False

    def possible_owners(self, pod: Object) -> list[Object]:
        """Return the ReplicationControllers whose selector may select a pod."""
        return self.sets.index(by_plain_selector).get(*by_labels(pod))

    def selector_of(self, replica_set: Object) -> Object | None:
        """Return the plain labels as a label selector."""
        return {"matchLabels": replica_set["spec"].get("selector") or {}}
