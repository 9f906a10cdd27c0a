"""A pod's status: phases, conditions, and the changes that are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.node import podstatus
from hatchway.cluster.node.backoff import BackOff
from hatchway.cluster.node.podstatus import ContainerState, PodState
from hatchway.kube.api import Object

NOW, LATER = "2026-01-02T03:04:05Z", "2026-01-02T03:05:00Z"
RUNNING: Object = {"running": {"startedAt": NOW}}


def ended(code: int) -> Object:
    return {"terminated": {"exitCode": code}}


def waiting(reason: str) -> Object:
    return {"waiting": {"reason": reason}}


def container(state: Object, last: Object | None = None, name: str = "c", **more: Any) -> ContainerState:
    return ContainerState(name, "x", state=state, last=last or {}, **more)


def pod(policy: str = "Always", conditions: list[Object] | None = None, gates: tuple[str, ...] = ()) -> Object:
    return {
        "metadata": {"name": "web"},
        "spec": {"restartPolicy": policy, "readinessGates": [{"conditionType": gate} for gate in gates]},
        "status": {"conditions": conditions or []},
    }


def state(*containers: ContainerState, init: tuple[ContainerState, ...] = (), **more: Any) -> PodState:
    return PodState(init, containers, "172.18.0.3", NOW, initialized=more.pop("initialized", True), **more)


@pytest.mark.parametrize(
    ("policy", "states", "wanted"),
    [
        ("Always", [waiting("ContainerCreating")], "Pending"),
        ("Always", [waiting("ErrImagePull")], "Pending"),
        ("Always", [RUNNING], "Running"),
        ("Always", [RUNNING, waiting("ErrImagePull")], "Pending"),
        ("Always", [ended(0)], "Running"),
        ("Always", [ended(1), RUNNING], "Running"),
        ("OnFailure", [ended(0), ended(0)], "Succeeded"),
        ("OnFailure", [ended(1), ended(0)], "Running"),
        ("Never", [ended(0), ended(0)], "Succeeded"),
        ("Never", [ended(1), ended(0)], "Failed"),
        ("Never", [ended(1), RUNNING], "Running"),
    ],
)
def test_phases(policy: str, states: list[Object], wanted: str) -> None:
    assert podstatus.phase(pod(policy), state(*map(container, states))) == wanted


def test_phases_of_special_cases() -> None:
    crashed = container(waiting("CrashLoopBackOff"), last=ended(1))
    assert podstatus.phase(pod(), state(crashed)) == "Running"
    fresh = container(waiting("PodInitializing"))
    failed = container(ended(1), name="i")
    assert podstatus.phase(pod("Never"), state(fresh, init=(failed,), initialized=False)) == "Failed"
    assert podstatus.phase(pod("Always"), state(fresh, init=(failed,), initialized=False)) == "Pending"
    assert podstatus.phase(pod(), state(container(RUNNING), reason="DeadlineExceeded")) == "Failed"


def conditions(found: Object) -> dict[str, tuple[str, str, str]]:
    return {
        item["type"]: (item["status"], item.get("reason", ""), item.get("message", "")) for item in found["conditions"]
    }


def test_conditions_of_a_pod_that_is_not_ready() -> None:
    unready = state(
        container(RUNNING, name="b"), container(RUNNING, name="a", ready=True), has_sandbox=True, ip="10.244.0.2"
    )
    found = podstatus.build(pod(), unready, NOW)
    why = "containers with unready status: [b]"
    assert conditions(found) == {
        "PodReadyToStartContainers": ("True", "", ""),
        "Initialized": ("True", "", ""),
        "ContainersReady": ("False", "ContainersNotReady", why),
        "Ready": ("False", "ContainersNotReady", why),
        "PodScheduled": ("True", "", ""),
    }
    assert [item["name"] for item in found["containerStatuses"]] == ["a", "b"]
    assert (found["podIP"], found["podIPs"]) == ("10.244.0.2", [{"ip": "10.244.0.2"}])


def test_conditions_during_initialization_and_after_completion() -> None:
    init = container(waiting("PodInitializing"), name="i")
    found = podstatus.build(pod(), state(container(waiting("x")), init=(init,), initialized=False), NOW)
    assert conditions(found)["Initialized"] == (
        "False",
        "ContainersNotInitialized",
        "containers with incomplete status: [i]",
    )
    done = conditions(podstatus.build(pod("Never"), state(container(ended(0))), NOW))
    assert done["Ready"] == ("False", "PodCompleted", "")
    assert done["Initialized"] == ("True", "PodCompleted", "")
    failed = conditions(podstatus.build(pod("Never"), state(container(ended(2))), NOW))
    assert failed["Ready"] == ("False", "PodFailed", "")


def test_readiness_gates_and_foreign_conditions() -> None:
    ready = state(container(RUNNING, ready=True))
    foreign = {"type": "example.com/gate", "status": "False", "lastTransitionTime": NOW}
    found = podstatus.build(pod(conditions=[foreign], gates=("example.com/gate",)), ready, NOW)
    assert conditions(found)["ContainersReady"][0] == "True"
    assert conditions(found)["Ready"][:2] == ("False", "ReadinessGatesNotReady")
    assert foreign in found["conditions"]
    opened = {**foreign, "status": "True"}
    found = podstatus.build(pod(conditions=[opened], gates=("example.com/gate",)), ready, NOW)
    assert conditions(found)["Ready"] == ("True", "", "")


def test_transition_times_change_with_the_status_only() -> None:
    first = podstatus.build(pod(), state(container(RUNNING)), NOW)
    again = podstatus.build({**pod(), "status": first}, state(container(RUNNING)), LATER)
    assert podstatus.patch(first, again) == {}
    ready = podstatus.build({**pod(), "status": first}, state(container(RUNNING, ready=True)), LATER)
    assert set(podstatus.patch(first, ready)) == {"conditions", "containerStatuses"}
    moments = {item["type"]: item["lastTransitionTime"] for item in ready["conditions"]}
    assert (moments["Ready"], moments["Initialized"]) == (LATER, NOW)


def test_a_waiting_container_has_a_last_state() -> None:
    again = container(ended(3))
    again.wait("CrashLoopBackOff", "back-off 10s")
    assert again.state == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    again.wait("ContainerCreating")
    assert (again.state, again.last) == (waiting("ContainerCreating"), ended(3))


def test_missing_fields_and_null_are_equal_in_a_patch() -> None:
    assert podstatus.patch({"a": [{"x": 1}]}, {"a": [{"x": 1, "y": None, "z": {}}]}) == {}
    assert podstatus.patch({"a": 1}, {"a": 2, "b": 3}) == {"a": 2, "b": 3}


def test_the_back_off_doubles_to_five_minutes_and_is_reset_after_a_long_run() -> None:
    backoff = BackOff()
    assert [backoff.record_end(1) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert [backoff.record_end(601), backoff.record_end(1)] == [0, 10]


@given(st.lists(st.floats(0, 2000), max_size=30))
def test_the_back_off_has_a_minimum_and_a_maximum(runs: list[float]) -> None:
    backoff = BackOff()
    assert all(0 <= backoff.record_end(run) <= 300 for run in runs)
