"""Keeps the stored `rules` of aggregated ClusterRoles equal to the rules of the roles that their selectors select.

From kube-controller-manager's `clusterroleaggregation`. Authorization does not use the stored rules: `auth/rbac.py`
resolves aggregated roles when they are used. The stored rules are for people who read the role.
"""

from __future__ import annotations

from hatchway.cluster.auth.rbac import selects
from hatchway.cluster.auth.source import CLUSTER_ROLES
from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import labels_of
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

__all__ = ["ClusterRoleAggregator", "aggregate"]


def aggregate(role: Object, others: list[Object]) -> list[Object]:
    """Return the rules of all roles that `role` selects, in the order of the roles' names, without duplicates."""
    rules: list[Object] = []
    name = role["metadata"]["name"]
    for other in sorted(others, key=lambda one: str(one["metadata"]["name"])):
        if other["metadata"]["name"] == name or not any(
            selects(selector, labels_of(other))
            for selector in role["aggregationRule"].get("clusterRoleSelectors") or ()
        ):
            continue
        rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregator(Controller):
    """Keeps the rules of every ClusterRole with an aggregationRule."""

    name = "clusterrole-aggregation-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.roles = context.cache(CLUSTER_ROLES)
        self.roles.subscribe(self._changed)

    def _changed(self, _kind: str, _obj: Object, _before: Object | None) -> None:
        # The changed role may be part of any aggregated role, so all aggregated roles are queued. There are only a few.
        for role in self.roles:
            if role.get("aggregationRule"):
                self.enqueue(role)

    async def reconcile(self, key: Key) -> float | None:
        """Write the rules of the aggregated role `key`, when they differ from the stored rules."""
        role = self.roles.get(key)
        if role is None or not role.get("aggregationRule"):
            return None
        rules = aggregate(role, list(self.roles))
        if rules != (role.get("rules") or []):
            await self.roles.wait_for_write(await self.client.update(CLUSTER_ROLES, {**role, "rules": rules}))
        return None
