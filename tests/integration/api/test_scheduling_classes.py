"""PriorityClasses and RuntimeClasses, and the fields of pods that admission sets from them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.api.world import World, world

PODS = "/api/v1/namespaces/default/pods"
PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"
MERGE = {"Content-Type": "application/merge-patch+json"}
Object = dict[str, Any]


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


def pod(name: str = "p", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def priority(name: str, value: int, **more: Any) -> Object:
    return {"metadata": {"name": name}, "value": value, **more}


async def test_priorities_of_pods(made: World) -> None:
    assert (await made.send("POST", PRIORITIES, priority("low", -5, preemptionPolicy="Never"))).status == 201
    first = (await made.send("POST", PODS, pod("a", priorityClassName="low"))).json
    assert (first["spec"]["priority"], first["spec"]["preemptionPolicy"]) == (-5, "Never")
    assert (await made.send("POST", PRIORITIES, priority("usual", 7, globalDefault=True))).status == 201
    second = (await made.send("POST", PODS, pod("b"))).json
    assert (second["spec"]["priority"], second["spec"]["priorityClassName"]) == (7, "usual")
    refused = await made.send("POST", PODS, pod("c", priorityClassName="none"))
    assert (refused.status, refused.json["message"]) == (
        403,
        'pods "c" is forbidden: no PriorityClass with name none was found',
    )
    other = await made.send("POST", PODS, pod("c", priorityClassName="low", preemptionPolicy="PreemptLowerPriority"))
    assert other.json["message"] == (
        'pods "c" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod '
        "spec; priority admission controller computed Never from the given PriorityClass name"
    )
    assert (await made.send("POST", PODS, pod("c", priorityClassName="low", priority=-5))).status == 201


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        (
            priority("x", 1_000_000_001),
            422,
            'PriorityClass.scheduling.k8s.io "x" is invalid: value: Forbidden: maximum allowed value of a user defined '
            "priority is 1000000000",
        ),
        (
            priority("system-x", 1),
            422,
            'PriorityClass.scheduling.k8s.io "system-x" is invalid: metadata.name: Forbidden: priority class names with '
            "'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
        ),
        (
            priority("x", 1, preemptionPolicy="Sometimes"),
            422,
            'PriorityClass.scheduling.k8s.io "x" is invalid: preemptionPolicy: Unsupported value: "Sometimes": supported '
            'values: "Never", "PreemptLowerPriority"',
        ),
        (
            priority("x", 1, globalDefault=True),
            403,
            'priorityclasses.scheduling.k8s.io "x" is forbidden: PriorityClass first is already marked as default. Only one '
            "default can exist",
        ),
    ],
)
async def test_priority_classes_that_are_refused(made: World, wanted: Object, code: int, message: str) -> None:
    assert (await made.send("POST", PRIORITIES, priority("first", 1, globalDefault=True))).status == 201
    reply = await made.send("POST", PRIORITIES, wanted)
    assert (reply.status, reply.json["message"]) == (code, message)


async def test_immutable_fields_of_priority_classes(made: World) -> None:
    assert (await made.send("POST", PRIORITIES, priority("x", 1))).json["metadata"]["generation"] == 1
    told = await made.send("PATCH", f"{PRIORITIES}/x", {"description": "why", "globalDefault": True}, MERGE)
    assert (told.status, told.json["metadata"]["generation"]) == (200, 1)
    for change, message in (
        ({"value": 2}, "value: Forbidden: may not be changed in an update."),
        ({"preemptionPolicy": "Never"}, 'preemptionPolicy: Invalid value: "Never": field is immutable'),
    ):
        reply = await made.send("PATCH", f"{PRIORITIES}/x", change, MERGE)
        assert reply.json["message"] == f'PriorityClass.scheduling.k8s.io "x" is invalid: {message}'


async def test_a_runtime_class_adds_to_its_pods(made: World) -> None:
    scheduling = {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm", "operator": "Exists"}]}
    one = {
        "metadata": {"name": "vm"},
        "handler": "kata",
        "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": scheduling,
    }
    assert (await made.send("POST", RUNTIMES, one)).status == 201
    found = (await made.send("POST", PODS, pod(runtimeClassName="vm", nodeSelector={"a": "b"}))).json["spec"]
    assert (found["overhead"], found["nodeSelector"]) == ({"cpu": "250m"}, {"a": "b", "kvm": "yes"})
    assert {"key": "kvm", "operator": "Exists"} in found["tolerations"]
    for spec, why in (
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        (
            {"runtimeClassName": "vm", "overhead": {"cpu": "1"}},
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"overhead": {"cpu": "1"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            {"runtimeClassName": "vm", "nodeSelector": {"kvm": "no"}},
            "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no",
        ),
    ):
        reply = await made.send("POST", PODS, pod("q", **spec))
        assert (reply.status, reply.json["message"]) == (403, f'pods "q" is forbidden: {why}')
    same = await made.send("POST", PODS, pod("q", runtimeClassName="vm", overhead={"cpu": "0.25"}))
    assert same.status == 201


async def test_runtime_classes_that_are_refused(made: World) -> None:
    reply = await made.send("POST", RUNTIMES, {"metadata": {"name": "x"}, "handler": "Kata"})
    assert reply.status == 422
    assert 'handler: Invalid value: "Kata": a lowercase RFC 1123 label' in reply.json["message"]
    assert (await made.send("POST", RUNTIMES, {"metadata": {"name": "x"}, "handler": "kata"})).status == 201
    changed = await made.send("PATCH", f"{RUNTIMES}/x", {"handler": "other"}, MERGE)
    assert changed.json["message"] == (
        'RuntimeClass.node.k8s.io "x" is invalid: handler: Invalid value: "other": field is immutable'
    )


async def test_label_keys_of_affinity_become_part_of_the_selector(made: World) -> None:
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": "web"}},
        "matchLabelKeys": ["version", "absent"],
        "mismatchLabelKeys": ["tenant"],
    }
    wanted = pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    wanted["metadata"]["labels"] = {"version": "2", "tenant": "t"}
    reply = await made.send("POST", PODS, wanted)
    [found] = reply.json["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert found["labelSelector"]["matchExpressions"] == [
        {"key": "version", "operator": "In", "values": ["2"]},
        {"key": "tenant", "operator": "NotIn", "values": ["t"]},
    ]
