"""Among the nodes that can run a pod, the best one is chosen (`pkg/scheduler/framework/plugins`)."""

from __future__ import annotations

import pytest

from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState
from hatchway.cluster.controllers.scheduling.podaffinity import affinity_scores
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.cluster.controllers.scheduling.scoring import node_scores
from hatchway.cluster.controllers.scheduling.spreading import spread_scores
from hatchway.kube.api import Object
from tests.unit.controllers.scheduling.shapes import (
    HOST,
    PREFERRED,
    REQUIRED,
    ZONE,
    cluster_of,
    decide,
    node,
    pod,
    term,
)

_WEB = {"app": "web"}
_UNWANTED = {"key": "k", "effect": "PreferNoSchedule"}


def _weighted(weight: int, wanted: Object) -> Object:
    return {"weight": weight, "podAffinityTerm": wanted}


def _zones() -> list[Object]:
    return [node("a", labels={ZONE: "1"}), node("b", labels={ZONE: "2"})]


@pytest.mark.parametrize(
    ("wanted", "nodes", "placed", "expected"),
    [
        # 3 x 100 points for the taint outweigh the points for free resources.
        (pod("p"), [node("a", taints=[_UNWANTED]), node("b")], {"b": [pod("q", cpu="1")]}, "b"),
        (
            pod("p", tolerations=[{"key": "k", "operator": "Exists"}]),
            [node("a", taints=[_UNWANTED]), node("b")],
            {"b": [pod("q", cpu="1")]},
            "a",
        ),
        (pod("p", cpu="100m"), [node("a"), node("b")], {"a": [pod("q", cpu="500m")]}, "b"),
        # The larger node has the larger share of free resources.
        (pod("p", cpu="1"), [node("a"), node("b", allocatable={"cpu": "8", "memory": "16Gi"})], {}, "b"),
        (
            pod(
                "p",
                affinity={
                    "nodeAffinity": {
                        PREFERRED: [
                            {
                                "weight": 1,
                                "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
                            }
                        ]
                    }
                },
            ),
            [node("a"), node("b", labels={"disk": "ssd"})],
            {"b": [pod("q", cpu="500m")]},
            "b",
        ),
        (
            pod("p", affinity={"podAffinity": {PREFERRED: [_weighted(10, term(app="web"))]}}),
            [node("a"), node("b")],
            {"b": [pod("q", _WEB, cpu="500m")]},
            "b",
        ),
        (
            pod("p", affinity={"podAntiAffinity": {PREFERRED: [_weighted(10, term(app="web"))]}}),
            [node("a"), node("b")],
            {"a": [pod("q", _WEB)], "b": [pod("r", cpu="500m")]},
            "b",
        ),
        # The score also counts required affinity of existing pods for the new pod.
        (
            pod("p", _WEB),
            [node("a"), node("b")],
            {"b": [pod("q", _WEB, cpu="300m", affinity={"podAffinity": {REQUIRED: [term(app="web")]}})]},
            "b",
        ),
    ],
    ids=["taint", "tolerated", "least allocated", "larger", "node", "together", "apart", "the other one's rule"],
)
def test_the_best_node(wanted: Object, nodes: list[Object], placed: dict[str, list[Object]], expected: str) -> None:
    assert decide(wanted, cluster_of(nodes, placed)).node == expected


def test_scores_of_pod_affinity_are_between_0_and_100() -> None:
    cluster = cluster_of(
        [node("a"), node("b"), node("c")], {"a": [pod("q", _WEB), pod("r", _WEB)], "b": [pod("s", _WEB)]}
    )
    wanted = PodInfo.of(pod("p", affinity={"podAffinity": {PREFERRED: [_weighted(7, term(app="web"))]}}))
    assert affinity_scores(wanted, cluster, list(cluster.nodes.values())) == {"a": 100, "b": 50, "c": 0}
    assert affinity_scores(PodInfo.of(pod("p")), cluster, list(cluster.nodes.values())) is None


def _spread_of(cluster: ClusterState, wanted: Object, selector: Object | None = None) -> dict[str, int] | None:
    return spread_scores(PodInfo.of(wanted), cluster, list(cluster.nodes.values()), selector)


def test_scores_of_spreading() -> None:
    cluster = cluster_of([*_zones(), node("none")], {"a": [pod("q", _WEB), pod("r", _WEB)], "b": [pod("s", _WEB)]})
    constraint = {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _WEB},
    }
    scores = _spread_of(cluster, pod("p", _WEB, topologySpreadConstraints=[constraint]))
    # Each existing pod counts log(2 + 2); the rounded sums are 3 and 1. A node without the label gets no points.
    assert scores == {"a": 33, "b": 100, "none": 0}
    assert _spread_of(cluster, pod("p", _WEB)) is None


def test_pods_without_constraints_are_spread_by_the_default_constraints() -> None:
    cluster = cluster_of([node("a"), node("b")], {"a": [pod("q", _WEB)]})
    selector = {"matchLabels": _WEB}
    scores = _spread_of(cluster, pod("p", _WEB), selector)
    assert scores is not None and scores["b"] > scores["a"]
    assert decide(pod("p", _WEB), cluster, default_selector=selector).node == "b"
    # The pod's own constraints replace the default ones.
    own = [{"maxSkew": 1, "topologyKey": HOST, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]
    assert _spread_of(cluster, pod("p", _WEB, topologySpreadConstraints=own), selector) is None


def test_balanced_use_counts_only_for_pods_with_requests() -> None:
    cluster = cluster_of([node("a"), node("b")], {"a": [pod("q", cpu="1")]})
    nodes = list(cluster.nodes.values())
    without = node_scores(PodInfo.of(pod("p")), cluster, nodes)
    # The average of the free percentages of CPU and memory (a pod counts as 200 MiB), and three times 100 points for
    # taints.
    assert without == {"a": 300 + (45 + 90) // 2, "b": 300 + (95 + 95) // 2}
    asking = node_scores(PodInfo.of(pod("p", cpu="100m")), cluster, nodes)
    # The shares in use are 55 % of CPU and 0 % of memory, or 5 % and 0 %. Half of the difference is the deviation.
    assert asking == {"a": without["a"] + 72, "b": without["b"] + 97}
