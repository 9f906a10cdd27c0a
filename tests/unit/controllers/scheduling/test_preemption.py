"""The choice of pods to evict for a pod of higher priority (`framework/plugins/defaultpreemption`)."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.kube.api import Object
from tests.unit.controllers.scheduling.shapes import HOST, REQUIRED, cluster_of, decide, node, pod, term


def _low(name: str, cpu: str = "1", priority: int = 0, labels: dict[str, str] | None = None, **more: Any) -> Object:
    found = pod(name, labels, cpu=cpu, priority=priority)
    found["status"] = {"startTime": more.get("since", "2026-01-01T00:00:00Z"), **more.get("status", {})}
    return found


def _budget(allowed: int, **labels: str) -> Object:
    return {
        "metadata": {"name": "b", "namespace": "d"},
        "spec": {"selector": {"matchLabels": labels}},
        "status": {"disruptionsAllowed": allowed},
    }


def _victims(cluster: Any, wanted: Object, budgets: tuple[Object, ...] = ()) -> tuple[str, list[str]]:
    found = decide(wanted, cluster, budgets=budgets)
    assert not found.node
    return found.preemption.node, [one.key[1] for one in found.preemption.victims]


_HIGH = pod("high", cpu="1", priority=100)


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        # As few pods as possible are evicted; among pods of equal priority, the newest.
        ({"a": [_low("old"), _low("new", since="2026-01-02T00:00:00Z")]}, ("a", ["new"])),
        ({"a": [_low("more", priority=5), _low("less", priority=1)]}, ("a", ["less"])),
        # Chosen: the node whose most important victim has the lowest priority.
        ({"a": [_low("x", "2", 5)], "b": [_low("y", "2", 1)]}, ("b", ["y"])),
        # Chosen: the node with the fewest victims.
        ({"a": [_low("x", "700m"), _low("y", "700m"), _low("z", "600m")], "b": [_low("v", "2")]}, ("b", ["v"])),
        # Chosen: the node whose victims have run for the shortest time.
        ({"a": [_low("x", "2")], "b": [_low("y", "2", since="2026-01-02T00:00:00Z")]}, ("b", ["y"])),
    ],
)
def test_victims(placed: dict[str, list[Object]], expected: tuple[str, list[str]]) -> None:
    cluster = cluster_of([node(name) for name in placed], placed)
    assert _victims(cluster, _HIGH) == expected


def test_budgets_are_respected_where_there_is_a_choice() -> None:
    guarded = _low("guarded", "1", 0, {"app": "db"}, since="2026-01-02T00:00:00Z")
    cluster = cluster_of([node("a")], {"a": [guarded, _low("other", "1", 5)]})
    assert _victims(cluster, _HIGH, (_budget(0, app="db"),)) == ("a", ["other"])
    assert _victims(cluster, _HIGH, (_budget(1, app="db"),)) == ("a", ["guarded"])
    only = cluster_of([node("a")], {"a": [_low("guarded", "2", 0, {"app": "db"})]})
    assert _victims(only, _HIGH, (_budget(0, app="db"),)) == ("a", ["guarded"])
    both = cluster_of([node("a"), node("b")], {"a": [_low("g", "2", 0, {"app": "db"})], "b": [_low("o", "2", 9)]})
    assert _victims(both, _HIGH, (_budget(0, app="db"),)) == ("b", ["o"])


def test_pods_that_conflict_with_affinity_or_spreading_rules_are_victims() -> None:
    rule = {"podAntiAffinity": {REQUIRED: [term(app="web")]}}
    cluster = cluster_of([node("a")], {"a": [_low("web", "100m", 0, {"app": "web"}), _low("other", "100m")]})
    assert _victims(cluster, pod("high", priority=1, affinity=rule)) == ("a", ["web"])
    spread = {
        "maxSkew": 1,
        "topologyKey": HOST,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    full = cluster_of([node("a"), node("b", unschedulable=True)], {"a": [_low("web", "100m", 0, {"app": "web"})]})
    assert _victims(full, pod("high", {"app": "web"}, priority=1, topologySpreadConstraints=[spread])) == ("a", ["web"])


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (pod("p", cpu="1"), "1 No preemption victims found for incoming pod."),
        (pod("p", cpu="3", priority=9), "1 Preemption is not helpful for scheduling."),
        (pod("p", priority=9, nodeSelector={"a": "b"}), "1 Preemption is not helpful for scheduling."),
        # There is not enough CPU even after an eviction of all pods of lower priority.
        (pod("p", cpu="2", priority=1), "1 Insufficient cpu."),
    ],
)
def test_reasons_why_nothing_is_preempted(wanted: Object, text: str) -> None:
    cluster = cluster_of([node("a")], {"a": [_low("low"), _low("same", priority=9)]})
    found = decide(wanted, cluster).preemption
    assert (found.node, found.message, found.clear) == ("", f"0/1 nodes are available: {text}", True)


def test_pods_that_may_not_preempt() -> None:
    cluster = cluster_of([node("a")], {"a": [_low("low", "2")]})
    found = decide({**_HIGH, "spec": {**_HIGH["spec"], "preemptionPolicy": "Never"}}, cluster)
    assert found.message.endswith("preemption: not eligible due to preemptionPolicy=Never.")
    going = _low("low", "2", status={"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    ]})  # fmt: skip
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = cluster_of([node("a")], {"a": [going]})
    cluster.nominate(PodInfo.of(_HIGH), "a")
    found = decide(_HIGH, cluster)
    assert found.message.endswith("preemption: not eligible due to a terminating pod on the nominated node.")
    assert not found.preemption.clear
