"""Property tests: no pod is placed on a node that a filter refuses, and incremental counts equal new counts."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.controllers.placement import choose
from hatchway.cluster.controllers.scheduling.clusterstate import ClusterState
from hatchway.cluster.controllers.scheduling.filters import PodFilters
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.kube.api import Object
from tests.unit.controllers.scheduling.shapes import HOST, PREFERRED, REQUIRED, ZONE, node, pod, term

_APPS = st.sampled_from(("web", "db"))
_KEYS = st.sampled_from((HOST, ZONE))
_EFFECTS = st.sampled_from(("NoSchedule", "PreferNoSchedule", "NoExecute"))


@st.composite
def _nodes(draw: st.DrawFn) -> list[Object]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        taints = [{"key": "t", "effect": draw(_EFFECTS)}] if draw(st.integers(0, 3)) == 0 else []
        labels = draw(st.sampled_from(({}, {ZONE: "1"}, {ZONE: "2"})))
        room = {"cpu": draw(st.sampled_from(("1", "2", "4"))), "pods": draw(st.sampled_from(("2", "5", "110")))}
        found.append(node(f"n{number}", labels=labels, allocatable=room, taints=taints))
    return found


@st.composite
def _pod(draw: st.DrawFn, name: str) -> Object:
    spec: dict[str, Any] = {"priority": draw(st.integers(0, 2))}
    if draw(st.booleans()):
        kind = draw(st.sampled_from(("podAffinity", "podAntiAffinity")))
        wanted = term(draw(_KEYS), app=draw(_APPS))
        if draw(st.booleans()):
            spec["affinity"] = {kind: {REQUIRED: [wanted]}}
        else:
            spec["affinity"] = {kind: {PREFERRED: [{"weight": draw(st.integers(1, 100)), "podAffinityTerm": wanted}]}}
    if draw(st.booleans()):
        constraint = {
            "maxSkew": draw(st.integers(1, 2)),
            "topologyKey": draw(_KEYS),
            "whenUnsatisfiable": draw(st.sampled_from(("DoNotSchedule", "ScheduleAnyway"))),
            "labelSelector": {"matchLabels": {"app": draw(_APPS)}},
        }
        spec["topologySpreadConstraints"] = [constraint]
    if draw(st.booleans()):
        spec["tolerations"] = [{"operator": "Exists"}]
    return pod(name, {"app": draw(_APPS)}, cpu=draw(st.sampled_from(("", "300m", "1"))), **spec)


@st.composite
def _clusters(draw: st.DrawFn) -> tuple[list[Object], list[Object]]:
    return draw(_nodes()), [draw(_pod(f"p{number}")) for number in range(draw(st.integers(1, 8)))]


def _place_all(nodes: list[Object], pods: list[Object]) -> ClusterState:
    cluster = ClusterState(nodes)
    for one in pods:
        info = PodInfo.of(one)
        decision = choose(info, cluster)
        refusals = {state.name: PodFilters(info, cluster).refusal(state) for state in cluster.nodes.values()}
        if decision.node:
            assert refusals[decision.node] is None
            cluster.place(info, decision.node)
        else:
            assert all(refusals.values())
    return cluster


@settings(max_examples=60, deadline=None)
@given(_clusters())
def test_a_pod_is_never_placed_on_a_node_that_a_filter_refuses(drawn: tuple[list[Object], list[Object]]) -> None:
    cluster = _place_all(*drawn)
    for state in cluster.nodes.values():
        room = state.allocatable("cpu")
        assert room is not None and sum(one.requests.get("cpu", 0) for one in state.pods.values()) <= room
        assert len(state.pods) <= (state.allocatable("pods") or 0)


@settings(max_examples=60, deadline=None)
@given(_clusters(), st.data())
def test_a_pod_fits_when_its_victims_are_gone(drawn: tuple[list[Object], list[Object]], data: st.DataObject) -> None:
    nodes, pods = drawn
    cluster = _place_all(nodes, pods)
    wanted = data.draw(_pod("high"))
    wanted["spec"]["priority"] = 10
    info = PodInfo.of(wanted)
    before = choose(info, cluster)
    again = choose(info, cluster)
    assert (before.node, before.message, before.preemption) == (again.node, again.message, again.preemption)
    if not before.preemption.node:
        return
    assert all(one.priority < 10 for one in before.preemption.victims)
    for one in before.preemption.victims:
        cluster.remove(one.key)
    assert PodFilters(info, cluster).refusal(cluster.nodes[before.preemption.node]) is None


@settings(max_examples=60, deadline=None)
@given(_clusters(), st.data())
def test_incremental_counts_equal_new_counts(drawn: tuple[list[Object], list[Object]], data: st.DataObject) -> None:
    cluster = _place_all(*drawn)
    placed = [(state, one) for state in cluster.nodes.values() for one in state.pods.values()]
    info = PodInfo.of(data.draw(_pod("new")))
    filters = PodFilters(info, cluster)
    for state, one in placed:
        if data.draw(st.booleans()):
            filters.update(one, state, -1)
            cluster.remove(one.key)
    anew = PodFilters(info, cluster)
    for state in cluster.nodes.values():
        assert filters.refusal(state) == anew.refusal(state)
    empty = all(not one.pods for one in cluster.nodes.values())
    assert not empty or all(not one.used.total() and not one.groups and not one.ports for one in cluster.nodes.values())
