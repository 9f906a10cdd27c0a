"""Aggregated ClusterRoles have the rules of the roles that they select."""

from __future__ import annotations

from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.controllers.aggregation import ClusterRoleAggregator, aggregate
from hatchway.cluster.controllers.ensure import ensure
from hatchway.kube.api import Object
from tests.unit.controllers.world import World

ROLES = "clusterroles.rbac.authorization.k8s.io"


def role(name: str, labels: dict[str, str], *verbs: str, selects: dict[str, str] | None = None) -> Object:
    made: Object = {"metadata": {"name": name, "labels": labels}, "rules": [{"verbs": [verb]} for verb in verbs]}
    if selects is not None:
        made["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": selects}]}
    return made


def test_rules_are_collected_in_the_order_of_role_names_without_duplicates() -> None:
    whole = role("whole", {"part": "yes"}, "old", selects={"part": "yes"})
    parts = [role("b", {"part": "yes"}, "get", "list"), role("a", {"part": "yes"}, "watch", "get"), role("c", {}, "x")]
    assert aggregate(whole, [whole, *parts]) == [{"verbs": ["watch"]}, {"verbs": ["get"]}, {"verbs": ["list"]}]


def test_the_default_roles_are_already_aggregated() -> None:
    """The default roles are stored in their final form, so that a start of a cluster does not write them."""
    roles = [obj for resource, obj in bootstrap_objects() if resource == ROLES]
    aggregated = [one for one in roles if "aggregationRule" in one]
    assert len(aggregated) == 3
    for one in aggregated:
        assert aggregate(one, roles) == one["rules"], one["metadata"]["name"]


async def test_aggregated_roles_follow_changes_and_a_start_writes_none() -> None:
    world = World(ClusterRoleAggregator)
    async with world.running():
        whole = role("whole", {"into": "all"}, selects={"part": "yes"})
        await world.client.create(ROLES, whole)
        await world.client.create(ROLES, role("all", {}, selects={"into": "all"}))
        await world.client.create(ROLES, role("a", {"part": "yes"}, "get"))
        await world.settle()
        for name in ("whole", "all"):
            assert world.client.objects[ROLES, "", name]["rules"] == [{"verbs": ["get"]}]
        await ensure(world.client, [(ROLES, whole)])
        assert world.client.objects[ROLES, "", "whole"]["rules"] == [{"verbs": ["get"]}]
        await world.client.delete(ROLES, "a")
        await world.settle()
        for name in ("whole", "all"):
            assert world.client.objects[ROLES, "", name]["rules"] == []
