"""The next step of a DaemonSet. After enough steps there is one pod of its template on each of its nodes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.controllers.daemonplan import (
    DaemonView,
    daemon_spec,
    daemon_status,
    new_daemon_pod,
    node_wants,
    plan_daemon,
    target_node,
)
from hatchway.kube.api import Object

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def daemon_set(pod: Object | None = None, **rules: Any) -> Object:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0, **rules}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod or {"containers": [{"name": "c"}]}}
    metadata = {"name": "agent", "namespace": "d", "uid": "ds", "generation": 1}
    spec = {"template": template, "updateStrategy": strategy}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def node(name: str, *taints: Object, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}


def pod(name: str, where: str, label: str = "new", *, phase: str = "Running", ready: bool = True) -> Object:
    owner = daemon_set()
    found = new_daemon_pod(owner, daemon_spec(owner), where, label)
    found["metadata"] |= {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2025-12-31T00:00:00Z"}]
    found["status"] = {"phase": phase, "conditions": conditions}
    return found


def planned(owner: Object, nodes: list[Object], *pods: Object) -> tuple[list[str], list[str]]:
    """Return the nodes that get a pod, and the names of the pods to delete."""
    plan = plan_daemon(DaemonView(owner, nodes, list(pods), "new", NOW))
    return plan.create, sorted(one["metadata"]["name"] for one in plan.delete)


def test_a_pod_selects_one_node_and_tolerates_its_taints() -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    owner = daemon_set({"affinity": affinity, "hostNetwork": True, "tolerations": [{"operator": "Exists"}]})
    made = new_daemon_pod(owner, daemon_spec(owner), "n1", "hash")
    assert target_node(made) == "n1"
    assert made["metadata"]["labels"] == {"a": "b", "controller-revision-hash": "hash"}
    tolerated = [one.get("key", "").rpartition("/")[2] for one in made["spec"]["tolerations"]]
    assert tolerated == [
        "",
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
        "network-unavailable",
    ]


@pytest.mark.parametrize(
    ("spec", "where", "wanted"),
    [
        ({}, node("n"), (True, True)),
        ({"nodeSelector": {"disk": "ssd"}}, node("n"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("n", disk="ssd"), (True, True)),
        ({"nodeName": "other"}, node("n"), (False, False)),
        ({}, node("n", {"key": "x", "effect": "NoSchedule"}), (False, True)),
        ({}, node("n", {"key": "x", "effect": "NoExecute"}), (False, False)),
        ({}, node("n", {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}), (True, True)),
        ({"tolerations": [{"operator": "Exists"}]}, node("n", {"key": "x", "effect": "NoExecute"}), (True, True)),
    ],
)
def test_nodes_that_get_a_pod(spec: Object, where: Object, wanted: tuple[bool, bool]) -> None:
    assert node_wants(daemon_spec(daemon_set(spec)), where) == wanted


NODES = [node("n1"), node("n2"), node("n3")]
OLD = [pod("a", "n1", "old"), pod("b", "n2", "old"), pod("c", "n3", "old")]


@pytest.mark.parametrize(
    ("owner", "pods", "wanted"),
    [
        (daemon_set(), [], (["n1", "n2", "n3"], [])),
        (daemon_set(), [pod("a", "n1"), pod("b", "n1"), pod("c", "n2"), pod("d", "n3")], ([], ["b"])),
        (daemon_set(), [pod("a", "n1", phase="Failed"), pod("c", "n2"), pod("d", "n3")], ([], ["a"])),
        (daemon_set(), [pod("a", "gone"), pod("b", "n1"), pod("c", "n2"), pod("d", "n3")], ([], ["a"])),
        (daemon_set(), OLD, ([], ["a"])),
        (daemon_set(maxUnavailable="50%"), OLD, ([], ["a", "b"])),
        (daemon_set(), [pod("a", "n1", ready=False), *OLD[1:]], ([], [])),
        (daemon_set(), [pod("a", "n1", "old", ready=False), *OLD[1:]], ([], ["a"])),
        (daemon_set(maxSurge=1, maxUnavailable=0), OLD, (["n1"], [])),
        (daemon_set(maxSurge=1, maxUnavailable=0), [*OLD, pod("d", "n1", ready=False)], ([], [])),
        (daemon_set(maxSurge=1, maxUnavailable=0), [*OLD, pod("d", "n1")], ([], ["a"])),
    ],
)
def test_steps(owner: Object, pods: list[Object], wanted: tuple[list[str], list[str]]) -> None:
    assert planned(owner, NODES, *pods) == wanted


def test_on_delete_does_not_delete_old_pods() -> None:
    owner = daemon_set()
    owner["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert planned(owner, NODES, *OLD) == ([], [])


def test_the_status() -> None:
    tainted = node("n4", {"key": "x", "effect": "NoSchedule"})
    pods = [pod("a", "n1"), pod("b", "n2", "old"), pod("c", "n3", ready=False), pod("d", "n4")]
    status = daemon_status(DaemonView(daemon_set(), [*NODES, tainted], pods, "new", NOW), 0)
    assert status == {
        "currentNumberScheduled": 3,
        "numberMisscheduled": 1,
        "desiredNumberScheduled": 3,
        "numberReady": 2,
        "observedGeneration": 1,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
        "numberUnavailable": 1,
    }


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["n1", "n2", "n3", "gone"]), st.sampled_from(["old", "new"]), st.booleans()),
        max_size=6,
    ),
    st.sampled_from(
        [{}, {"maxUnavailable": 3}, {"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": "100%", "maxUnavailable": 0}]
    ),
)
def test_in_the_end_each_node_has_one_pod_of_the_template(found: list[tuple[str, str, bool]], rules: Any) -> None:
    owner = daemon_set(**rules)
    pods = {f"p{at}": pod(f"p{at}", where, label, ready=ready) for at, (where, label, ready) in enumerate(found)}
    number = len(pods)
    for _ in range(60):
        plan = plan_daemon(DaemonView(owner, NODES, list(pods.values()), "new", NOW))
        for one in plan.delete:
            del pods[one["metadata"]["name"]]
        for one in list(pods.values()):
            # Pods become ready one step after their creation.
            one["status"]["conditions"][0]["status"] = "True"
        for where in plan.create:
            pods[f"p{number}"] = pod(f"p{number}", where, ready=False)
            number += 1
        again = plan_daemon(DaemonView(owner, NODES, list(pods.values()), "new", NOW))
        waiting = any(one["status"]["conditions"][0]["status"] == "False" for one in pods.values())
        if not waiting and not again.create and not again.delete:
            break
    else:
        raise AssertionError("it never rests")
    assert sorted(target_node(one) for one in pods.values()) == ["n1", "n2", "n3"]
    assert {one["metadata"]["labels"]["controller-revision-hash"] for one in pods.values()} == {"new"}
