"""Claims made for pods, and their devices, with a real API server in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hatchway.cluster.api.registry.deviceselectors import device_matches
from hatchway.cluster.controllers.controller import ControllerConfig, ControllerContext
from hatchway.cluster.controllers.resourceclaims import CLAIM_FINALIZER, ResourceClaimController
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.resourceclaims import DEVICE_CLAIMS, DEVICE_CLASSES, DEVICE_SLICES, DEVICE_TEMPLATES
from tests.integration.api.world import world

DRIVER = "gpu.example.com"
EXACTLY = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpus"}}]}}


@dataclass
class Lab:
    client: Client
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def event(self, obj: Object, type: str, reason: str, message: str) -> None:
        self.events.append((obj["metadata"]["name"], reason, message))

    async def told(self, name: str, reason: str, part: str = "") -> None:
        await until(lambda: any((one, why) == (name, reason) and part in text for one, why, text in self.events))

    async def claims(self) -> list[Object]:
        return list(await self.client.list(DEVICE_CLAIMS, "default"))

    async def claim_is(self, name: str, what: Callable[[Object], Any]) -> Object:
        found: list[Object] = []

        async def reached() -> bool:
            found[:] = [await self.client.get(DEVICE_CLAIMS, name, "default")]
            return bool(what(found[0]))

        await until(reached)
        return found[0]

    async def node_of(self, name: str) -> str:
        nodes: list[str] = []

        async def bound() -> bool:
            nodes[:] = [(await self.client.get("pods", name, "default"))["spec"].get("nodeName") or ""]
            return bool(nodes[0])

        await until(bound)
        return nodes[0]

    async def device_class(self) -> None:
        selector = {"cel": {"expression": f"device.driver == '{DRIVER}'"}}
        body = {"metadata": {"name": "gpus"}, "spec": {"selectors": [selector]}}
        await self.client.create(DEVICE_CLASSES, body)

    async def devices(self, node: str, *names: str) -> None:
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": [{"name": one} for one in names]}
        await self.client.create(DEVICE_SLICES, {"metadata": {"name": f"slice-{node}"}, "spec": spec})

    async def claim(self, name: str) -> None:
        await self.client.create(DEVICE_CLAIMS, {"metadata": {"name": name}, "spec": EXACTLY}, "default")

    async def template(self, name: str) -> None:
        metadata = {"labels": {"made": "here"}}
        body = {"metadata": {"name": name}, "spec": {"metadata": metadata, "spec": EXACTLY}}
        await self.client.create(DEVICE_TEMPLATES, body, "default")

    async def pod(self, name: str, **claim: str) -> None:
        container = {"name": "c", "image": "x", "resources": {"claims": [{"name": "one"}]}}
        spec = {"containers": [container], "resourceClaims": [{"name": "one", **claim}]}
        await self.client.create("pods", {"metadata": {"name": name}, "spec": spec}, "default")

    async def finish(self, name: str) -> None:
        await self.client.patch("pods", name, {"status": {"phase": "Succeeded"}}, "default", subresource="status")


async def until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while True:
        found = what()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"never: {what.__qualname__}"
        await asyncio.sleep(0.005)


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with world() as api, contextlib.AsyncExitStack() as stack:
        made = Lab(api.client)
        for name in ("n1", "n2"):
            ready = {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "50"},
            }
            written = await api.client.create("nodes", {"metadata": {"name": name}, "status": ready})
            await api.client.update("nodes", {**written, "spec": {}})
        context = ControllerContext(api.client, ControllerConfig(select_device=device_matches), lambda _: made)
        controllers = [kind(context) for kind in (ResourceClaimController, Scheduler)]
        tasks = [asyncio.create_task(cache.run()) for cache in context.caches.values()]
        tasks += [asyncio.create_task(one.run()) for one in controllers]

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(stop)
        yield made


async def test_a_claim_from_a_template_is_deleted_with_its_pod(lab: Lab) -> None:
    await lab.device_class()
    await lab.devices("n2", "gpu-0")
    await lab.pod("p", resourceClaimTemplateName="t")
    text = 'PodResourceClaim one: resource claim template "t": resourceclaimtemplates.resource.k8s.io "t" not found'
    await lab.told("p", "FailedResourceClaimCreation", text)
    await lab.template("t")
    assert await lab.node_of("p") == "n2"
    assert not any(reason == "FailedScheduling" for _, reason, _ in lab.events)
    (claim,) = await lab.claims()
    pod = await lab.client.get("pods", "p", "default")
    name = claim["metadata"]["name"]
    assert name.startswith("p-one-")
    assert pod["status"]["resourceClaimStatuses"] == [{"name": "one", "resourceClaimName": name}]
    assert claim["metadata"]["labels"] == {"made": "here"}
    assert claim["metadata"]["annotations"] == {"resource.kubernetes.io/pod-claim-name": "one"}
    assert claim["metadata"]["finalizers"] == [CLAIM_FINALIZER]
    assert [one["uid"] for one in claim["metadata"]["ownerReferences"]] == [pod["metadata"]["uid"]]
    status = claim["status"]
    assert status["reservedFor"] == [{"resource": "pods", "name": "p", "uid": pod["metadata"]["uid"]}]
    result = {"request": "gpu", "driver": DRIVER, "pool": "n2", "device": "gpu-0"}
    assert status["allocation"]["devices"]["results"] == [result]
    await lab.finish("p")

    async def gone() -> bool:
        return not await lab.claims()

    await until(gone)


async def test_a_device_belongs_to_one_claim_until_the_claim_is_released(lab: Lab) -> None:
    await lab.device_class()
    await lab.devices("n1", "gpu-0")
    await lab.claim("first")
    await lab.claim("second")
    for name in ("a", "b"):
        await lab.pod(name, resourceClaimName="first")
    assert {await lab.node_of("a"), await lab.node_of("b")} == {"n1"}
    claim = await lab.claim_is("first", lambda one: len(one["status"]["reservedFor"]) == 2)
    assert claim["metadata"]["finalizers"] == [CLAIM_FINALIZER]
    await lab.pod("c", resourceClaimName="second")
    await lab.told("c", "FailedScheduling", "0/2 nodes are available: 2 cannot allocate all claims")
    await lab.finish("a")
    await lab.claim_is("first", lambda one: len(one["status"]["reservedFor"]) == 1)
    await lab.finish("b")
    free = await lab.claim_is("first", lambda one: "finalizers" not in one["metadata"])
    assert not free.get("status")
    assert await lab.node_of("c") == "n1"


async def test_missing_objects_are_reported(lab: Lab) -> None:
    await lab.devices("n1", "gpu-0")
    await lab.pod("p", resourceClaimName="c")
    await lab.told("p", "FailedScheduling", 'resourceclaims.resource.k8s.io "c" not found')
    await lab.claim("c")
    await lab.told("p", "FailedScheduling", "request gpu: device class gpus does not exist")
    await lab.device_class()
    assert await lab.node_of("p") == "n1"


async def test_a_pod_with_a_node_gets_its_reservation(lab: Lab) -> None:
    await lab.device_class()
    await lab.devices("n1", "gpu-0")
    await lab.claim("c")
    await lab.pod("p", resourceClaimName="c")
    await lab.node_of("p")
    spec = {
        "nodeName": "n1",
        "containers": [{"name": "c", "image": "x"}],
        "resourceClaims": [{"name": "one", "resourceClaimName": "c"}],
    }
    await lab.client.create("pods", {"metadata": {"name": "q"}, "spec": spec}, "default")
    await lab.claim_is("c", lambda one: [each["name"] for each in one["status"]["reservedFor"]] == ["p", "q"])


async def test_a_claim_is_allocated_anew_if_its_node_is_full(lab: Lab) -> None:
    await lab.device_class()
    await lab.devices("n1", "gpu-0")
    await lab.devices("n2", "gpu-0")
    await lab.claim("c")
    claim = await lab.client.get(DEVICE_CLAIMS, "c", "default")
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    result = {"request": "gpu", "driver": DRIVER, "pool": "n1", "device": "gpu-0"}
    allocation = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [term]}}
    await lab.client.update(DEVICE_CLAIMS, {**claim, "status": {"allocation": allocation}}, subresource="status")
    node = await lab.client.get("nodes", "n1")
    await lab.client.update("nodes", {**node, "spec": {"unschedulable": True}})
    await lab.pod("p", resourceClaimName="c")
    assert await lab.node_of("p") == "n2"
    found = await lab.claim_is("c", lambda one: one["status"].get("allocation"))
    assert found["status"]["allocation"]["devices"]["results"][0]["pool"] == "n2"


async def test_a_claim_in_use_keeps_its_allocation(lab: Lab) -> None:
    await lab.device_class()
    await lab.devices("n1", "gpu-0")
    await lab.claim("c")
    await lab.pod("p", resourceClaimName="c")
    await lab.node_of("p")
    await lab.client.delete(DEVICE_CLAIMS, "c", "default")
    await lab.pod("q", resourceClaimName="c")
    await lab.told("q", "FailedScheduling", 'resourceclaim "c" is being deleted')
    await lab.finish("p")

    async def gone() -> bool:
        with contextlib.suppress(ApiError):
            await lab.client.get(DEVICE_CLAIMS, "c", "default")
            return False
        return True

    await until(gone)


async def test_no_device_is_allocated_twice(lab: Lab) -> None:
    await lab.device_class()
    await lab.template("t")
    await lab.claim("shared")
    for node in ("n1", "n2"):
        await lab.devices(node, "gpu-0", "gpu-1")
    await asyncio.gather(
        *(lab.pod(f"s{index}", resourceClaimName="shared") for index in range(4)),
        *(lab.pod(f"p{index}", resourceClaimTemplateName="t") for index in range(8)),
    )

    async def all_have_run() -> bool:
        results = [
            (one["pool"], one["device"])
            for claim in await lab.claims()
            for one in ((claim.get("status") or {}).get("allocation") or {"devices": {}})["devices"].get("results")
            or ()
        ]
        assert len(set(results)) == len(results)
        pods = [one for one in await lab.client.list("pods", "default") if one["status"]["phase"] == "Pending"]
        for pod in [one for one in pods if one["spec"].get("nodeName")][:2]:
            await lab.finish(pod["metadata"]["name"])
        return not pods

    await until(all_have_run)
    assert not any("rejected" in text for _, _, text in lab.events)
