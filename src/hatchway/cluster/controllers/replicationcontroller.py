"""Keeps the number of pods that each ReplicationController specifies.

A ReplicationController is like a ReplicaSet with an older form of selector. So this controller is the ReplicaSets'
controller with another kind of selector, as in kube-controller-manager (`replication/`).
"""

from __future__ import annotations

from hatchway.cluster.controllers.indexes import by_labels, by_plain_selector
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.kube.api import Object


class ReplicationController(ReplicaSetController):
    """Creates and deletes pods until every ReplicationController has the specified number, and writes its status."""

    name = "replication-controller"
    resource = "replicationcontrollers"
    kind = "ReplicationController"
    counts_terminating = False

    def possible_owners(self, pod: Object) -> list[Object]:
        """Return the ReplicationControllers whose selector may select a pod."""
        return self.sets.index(by_plain_selector).get(*by_labels(pod))

    def selector_of(self, replica_set: Object) -> Object | None:
        """Return the ReplicationController's selector, a map of labels, as a LabelSelector."""
        return {"matchLabels": replica_set["spec"].get("selector") or {}}
