"""`pods/resize` over the API: accepted changes, refused changes, and admission (`ValidatePodResize`)."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.podresources import pod_resources, reserved_spec
from tests.integration.api.world import World, world

PODS = "/api/v1/namespaces/default/pods"
AT = f"{PODS}/p/resize"
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
JSON = {"Content-Type": "application/json-patch+json"}
RESTART = {"resourceName": "memory", "restartPolicy": "RestartContainer"}


def pod(**container: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m"}}
    first = {"name": "a", "image": "x", "resources": resources, **container}
    return {"metadata": {"name": "p"}, "spec": {"containers": [first, {"name": "b", "image": "x"}]}}


def change(**resources: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "a", "resources": resources}]}}


@pytest.fixture
async def api() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def test_a_resize_changes_resources_and_nothing_else(api: World) -> None:
    await api.send("POST", PODS, pod())
    before = (await api.send("GET", AT)).json
    patch = change(requests={"cpu": "150m"}, limits={"memory": "128Mi"})
    patch["metadata"] = {"labels": {"a": "b"}}
    patch["spec"]["containers"][0]["image"] = "y"
    patch["spec"]["activeDeadlineSeconds"] = 5
    after = (await api.send("PATCH", AT, patch, STRATEGIC)).json
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    wanted = copy.deepcopy(before["spec"])
    wanted["containers"][0]["resources"] = {
        "requests": {"cpu": "150m", "memory": "64Mi"},
        "limits": {"cpu": "200m", "memory": "128Mi"},
    }
    assert after["spec"] == wanted
    assert "labels" not in after["metadata"]
    # A missing request is defaulted from the limit, as for a new pod.
    assert (await api.send("PUT", AT, after)).json["metadata"]["generation"] == after["metadata"]["generation"]
    managers = {one["subresource"] for one in after["metadata"]["managedFields"] if "subresource" in one}
    assert managers == {"resize"}
    assert (await api.send("PATCH", f"{PODS}/p", change(requests={"cpu": "1"}), STRATEGIC)).status == 422


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (change(requests={"memory": None}), "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"),
        (change(limits=None), "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"),
        (change(requests={"ephemeral-storage": "1Gi"}), "spec: Forbidden: only cpu and memory resources are mutable"),
        (change(requests={"cpu": "300m"}), "must be less than or equal to cpu limit"),
        (change(requests={"cpu": "x"}), "quantities must match the regular expression"),
        (
            change(requests={"cpu": "200m", "memory": "64Mi"}, limits={"memory": "64Mi"})
            | {"spec": {"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "200m"}, "limits": {"memory": "64Mi"}}},
                {"name": "b", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}},
            ]}},
            'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing',
        ),
        ({"spec": {"containers": [{"name": "c", "image": "x"}]}}, "containers may not be added or removed on resize"),
        ({"spec": {"containers": [{"name": "a", "resizePolicy": [RESTART]}]}}, "only cpu and memory resources are mutable"),
    ],
)  # fmt: skip
async def test_changes_that_are_refused(api: World, patch: dict[str, Any], message: str) -> None:
    await api.send("POST", PODS, pod())
    reply = await api.send("PATCH", AT, patch, STRATEGIC)
    assert reply.status in (400, 422)
    assert message in reply.json["message"]


async def test_containers_cannot_be_reordered(api: World) -> None:
    made = (await api.send("POST", PODS, pod())).json
    made["spec"]["containers"].reverse()
    reply = await api.send("PUT", AT, made)
    assert "spec.containers[0].name: Forbidden: containers may not be renamed or reordered" in reply.json["message"]
    assert (await api.send("PUT", AT, {**made, "metadata": {**made["metadata"], "resourceVersion": "1"}})).status == 409
    assert (await api.send("PATCH", f"{PODS}/none/resize", {}, STRATEGIC)).status == 404
    assert (await api.send("DELETE", AT)).status == 405


@pytest.mark.parametrize(
    ("policy", "spec", "message"),
    [
        ([{"resourceName": "disk", "restartPolicy": "NotRequired"}], {}, 'Unsupported value: "disk"'),
        ([{"resourceName": "cpu", "restartPolicy": "Perhaps"}], {}, 'Unsupported value: "Perhaps"'),
        ([RESTART, RESTART], {}, 'resizePolicy[1]: Duplicate value: "memory"'),
        ([RESTART], {"restartPolicy": "Never"}, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"),
    ],
)
async def test_resize_policies_that_are_refused(api: World, policy: list[Any], spec: Any, message: str) -> None:
    wanted = pod(resizePolicy=policy)
    wanted["spec"] |= spec
    reply = await api.send("POST", PODS, wanted)
    assert reply.status == 422
    assert message in reply.json["message"]


async def test_a_resize_must_fit_the_node_the_limit_range_and_the_quota(api: World) -> None:
    node = await api.client.create("nodes", {"metadata": {"name": "n"}})
    status = {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "9"}}
    await api.client.update("nodes", {**node, "status": status}, subresource="status")
    wanted = pod()
    wanted["spec"]["nodeName"] = "n"
    await api.send("POST", PODS, wanted)
    large = change(requests={"cpu": "2", "memory": "2Gi"}, limits={"cpu": "3"})
    reply = await api.send("PATCH", AT, large, STRATEGIC)
    assert reply.status == 403
    assert (
        "node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000; "
        "memory, requested: 2147483648, allocatable: 1073741824"
    ) in reply.json["message"]
    limits = {"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"memory": "512Mi"}}]}}
    await api.send("POST", "/api/v1/namespaces/default/limitranges", limits)
    reply = await api.send("PATCH", AT, change(requests={"memory": "600Mi"}, limits={"memory": "600Mi"}), STRATEGIC)
    assert "maximum memory usage per Container is 512Mi" in reply.json["message"]


async def test_a_quota_counts_the_new_requests(api: World) -> None:
    wanted = pod()
    del wanted["spec"]["containers"][1]
    await api.send("POST", PODS, wanted)
    quotas = "/api/v1/namespaces/default/resourcequotas"
    await api.send("POST", quotas, {"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "180m"}}})
    await api.store.wait_for_revision(api.store.revision + 1, 5)
    reply = await api.send("PATCH", AT, change(requests={"cpu": "190m"}), STRATEGIC)
    assert reply.status == 403
    assert "exceeded quota: q, requested: requests.cpu=90m, used: requests.cpu=100m" in reply.json["message"]
    assert (await api.send("PATCH", AT, change(requests={"cpu": "170m"}), STRATEGIC)).status == 200
    assert (await api.send("GET", f"{quotas}/q")).json["status"]["used"] == {"requests.cpu": "170m"}


def test_the_largest_of_wanted_allocated_and_effective_requests_is_reserved() -> None:
    spec = {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}}]}
    running = {
        "name": "a",
        "allocatedResources": {"cpu": "2"},
        "resources": {"requests": {"cpu": "3", "memory": "2Mi"}},
    }
    found: dict[str, Any] = {"spec": spec, "status": {"containerStatuses": [running]}}
    requests = pod_resources(reserved_spec(found), "requests")
    assert {name: str(one) for name, one in requests.items()} == {"cpu": "3", "memory": "2Mi"}
    spec["containers"][0]["resources"]["requests"]["cpu"] = "9"
    assert str(pod_resources(reserved_spec(found), "requests")["cpu"]) == "9"
    found["status"]["conditions"] = [{"type": "PodResizePending", "reason": "Infeasible"}]
    assert str(pod_resources(reserved_spec(found), "requests")["cpu"]) == "3"
