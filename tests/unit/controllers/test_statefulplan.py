"""The next step of a StatefulSet. After any change of its pods, the steps lead to the specified state, in order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.cluster.controllers.revisions import POD_HASH, surplus_revisions, template_of
from hatchway.cluster.controllers.statefulplan import StatefulView, new_pod, plan_stateful, stateful_status
from hatchway.kube.api import Object

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def revision(name: str, number: int = 1) -> Object:
    template = {"$patch": "replace", "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": name}]}}
    metadata = {"name": name, "labels": {POD_HASH: name}}
    return {"metadata": metadata, "data": {"spec": {"template": template}}, "revision": number}


OLD, NEW = revision("old", 1), revision("new", 2)


def stateful_set(replicas: int, **spec: Any) -> Object:
    metadata = {"name": "web", "namespace": "d", "uid": "set", "generation": 1}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    wanted = {"replicas": replicas, "serviceName": "svc", "updateStrategy": strategy}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": wanted | spec}


def rolling(**rules: Any) -> Object:
    return {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, **rules}}


def pod(
    ordinal: int, made_by: str = "new", *, phase: str = "Running", ready: bool = True, going: bool = False
) -> Object:
    view = StatefulView(stateful_set(0), [], OLD, OLD, NOW)
    found = new_pod(view, ordinal)
    found["metadata"]["labels"][POD_HASH] = made_by
    if going:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2025-12-31T23:59:50Z"}
    found["status"] = {"phase": phase, "conditions": [condition]}
    return found


def planned(owner: Object, *pods: Object, current: Object = NEW) -> tuple[list[str], list[str]]:
    """Return the names of the pods to create and to delete."""
    plan = plan_stateful(StatefulView(owner, list(pods), current, NEW, NOW))
    return [one["metadata"]["name"] for one in plan.create], [one["metadata"]["name"] for one in plan.delete]


def test_a_pod_has_its_name_its_host_name_and_its_labels() -> None:
    found = new_pod(StatefulView(stateful_set(1), [], OLD, NEW, NOW), 3)
    assert found["metadata"]["labels"] == {
        "a": "b",
        "statefulset.kubernetes.io/pod-name": "web-3",
        "apps.kubernetes.io/pod-index": "3",
        "controller-revision-hash": "new",
    }
    assert (found["spec"]["hostname"], found["spec"]["subdomain"]) == ("web-3", "svc")
    assert found["spec"]["containers"] == template_of(NEW)["spec"]["containers"] == [{"name": "new"}]


@pytest.mark.parametrize(
    ("spec", "pods", "wanted"),
    [
        ({}, [], (["web-0"], [])),
        ({}, [pod(0)], (["web-1"], [])),
        ({}, [pod(0, ready=False)], ([], [])),
        ({}, [pod(0, going=True)], ([], [])),
        ({}, [pod(0, phase="Failed")], ([], ["web-0"])),
        ({"minReadySeconds": 60}, [pod(0)], ([], [])),
        ({"podManagementPolicy": "Parallel"}, [pod(1, ready=False)], (["web-0", "web-2"], [])),
        ({"ordinals": {"start": 5}}, [pod(5)], (["web-6"], [])),
        # Surplus pods: the last pod is deleted first, and only while the other pods are healthy.
        ({}, [pod(one) for one in range(5)], ([], ["web-4"])),
        ({}, [*(pod(one) for one in range(4)), pod(4, going=True)], ([], [])),
        ({}, [*(pod(one) for one in range(4)), pod(4, ready=False)], ([], ["web-4"])),
        ({}, [*(pod(one) for one in range(3)), pod(3, ready=False), pod(4)], ([], ["web-4"])),
        ({}, [*(pod(one) for one in range(3)), pod(3, ready=False), pod(4, ready=False)], ([], [])),
        ({}, [pod(0, ready=False), *(pod(one) for one in range(1, 5))], ([], [])),
        ({"podManagementPolicy": "Parallel"}, [pod(one) for one in range(5)], ([], ["web-4", "web-3"])),
        # A rollout updates the pods from the last to the first.
        ({}, [pod(one, "old") for one in range(3)], ([], ["web-2"])),
        ({}, [pod(0, "old"), pod(1, "old"), pod(2)], ([], ["web-1"])),
        ({"updateStrategy": rolling(partition=2)}, [pod(0, "old"), pod(1, "old"), pod(2)], ([], [])),
        ({"updateStrategy": rolling(partition=2)}, [pod(one, "old") for one in range(3)], ([], ["web-2"])),
        (
            {"updateStrategy": rolling(maxUnavailable=2)},
            [pod(one, "old") for one in range(3)],
            ([], ["web-2", "web-1"]),
        ),
        (
            {"updateStrategy": rolling(maxUnavailable="67%"), "podManagementPolicy": "Parallel"},
            [pod(0, "old"), pod(1, "old"), pod(2, ready=False)],
            ([], ["web-1"]),
        ),
        ({"updateStrategy": {"type": "OnDelete"}}, [pod(one, "old") for one in range(3)], ([], [])),
    ],
)
def test_steps(spec: dict[str, Any], pods: list[Object], wanted: tuple[list[str], list[str]]) -> None:
    assert planned(stateful_set(3, **spec), *pods, current=OLD) == wanted


def test_below_the_partition_a_new_pod_has_the_old_template() -> None:
    view = StatefulView(stateful_set(3, updateStrategy=rolling(partition=2)), [], OLD, NEW, NOW)
    assert [view.revision_for(ordinal)["metadata"]["name"] for ordinal in range(3)] == ["old", "old", "new"]


def test_a_complete_rollout_makes_its_revision_the_current_one() -> None:
    view = StatefulView(stateful_set(2), [pod(0), pod(1)], OLD, NEW, NOW)
    status = stateful_status(view, 0)
    assert (status["currentRevision"], status["updateRevision"]) == ("new", "new")
    assert (status["replicas"], status["readyReplicas"], status["availableReplicas"]) == (2, 2, 2)
    half = stateful_status(StatefulView(stateful_set(2), [pod(0, "old"), pod(1)], OLD, NEW, NOW), 0)
    assert (half["currentRevision"], half["currentReplicas"], half["updatedReplicas"]) == ("old", 1, 1)


def test_old_unused_revisions_are_deleted() -> None:
    many = [revision(f"r{number}", number) for number in range(5)]
    assert [one["metadata"]["name"] for one in surplus_revisions(many, {"r0", "r4"}, 1)] == ["r1", "r2"]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 4),
    st.sampled_from(["OrderedReady", "Parallel"]),
    st.integers(0, 4),
    st.sampled_from([1, 2, "50%"]),
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["Running", "Pending", "Failed"]), st.booleans()), max_size=6
    ),
)
def test_the_steps_lead_to_the_specified_pods(
    size: int, policy: str, partition: int, most: int | str, given_pods: list[tuple[int, str, bool]]
) -> None:
    owner = stateful_set(
        size, podManagementPolicy=policy, updateStrategy=rolling(partition=partition, maxUnavailable=most)
    )
    pods = {ordinal: pod(ordinal, "old", phase=phase, going=going) for ordinal, phase, going in given_pods}
    for _ in range(100):
        view = StatefulView(owner, list(pods.values()), OLD, NEW, NOW)
        plan = plan_stateful(view)
        if policy == "OrderedReady":
            assert len(plan.create) + len(plan.delete) <= max(1, view.max_unavailable)
        for one in plan.create:
            one["status"] = {"phase": "Pending"}
            pods[int(one["metadata"]["name"].rpartition("-")[2])] = one
        for one in plan.delete:
            one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        busy = bool(plan.create or plan.delete)
        # Simulated kubelets end deleted pods and start new ones.
        for ordinal, one in list(pods.items()):
            if "deletionTimestamp" in one["metadata"]:
                del pods[ordinal]
                busy = True
            elif one["status"]["phase"] == "Pending":
                one["status"] = pod(0)["status"]
                busy = True
        if not busy:
            break
    else:
        raise AssertionError("it never rests")
    surplus = [ordinal for ordinal in pods if ordinal >= size]
    assert sorted(set(pods) - set(surplus)) == list(range(size))
    if surplus:
        # The last pod and another pod are unavailable, so nothing is done until a user deletes a pod.
        failed = [ordinal for ordinal in surplus if pods[ordinal]["status"]["phase"] == "Failed"]
        assert policy == "OrderedReady" and max(surplus) in failed and len(failed) > 1
        return
    for ordinal, one in pods.items():
        assert one["metadata"]["labels"][POD_HASH] == "new" or ordinal < partition


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_very_many_replicas_are_made_step_by_step(policy: str) -> None:
    owner = stateful_set(2**31 - 1, podManagementPolicy=policy)
    plan = plan_stateful(StatefulView(owner, [pod(0)], NEW, NEW, NOW))
    assert len(plan.create) == (1 if policy == "OrderedReady" else 500)
