"""The start of an add-on on first use: one write for all uses, and a limited number of waiting requests."""

# ruff: noqa: ASYNC110  the class that holds clients reports no events

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hatchway.cluster.api.connect.firststart import FirstStart
from hatchway.cluster.firstuse import STARTED_ON_USE, FirstUseStarts, deployment_to_start
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.firstuse import STARTS_ON_FIRST_USE
from hatchway.kube.readyendpoints import ready_endpoints
from hatchway.proxy.routing import ProxyError


class Scales:
    """A client that records changes of the `scale` subresource."""

    def __init__(self, error: ApiError | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.error = error

    async def patch(self, *arguments: Any, **more: Any) -> Object:
        self.calls.append((*arguments, more))
        if self.error is not None:
            raise self.error
        return {}


def service(name: str, namespace: str = "kube-system", state: str = "waiting") -> Object:
    metadata = {"name": name, "namespace": namespace, "annotations": {STARTS_ON_FIRST_USE: state}}
    return {"metadata": metadata, "spec": {"selector": {"k8s-app": "x"}, "ports": [{"port": 80}]}}


@pytest.mark.parametrize(
    ("found", "deployment"),
    [
        (service("kibana-logging"), "elasticsearch-logging"),
        (service("monitoring-grafana", state="starting"), "prometheus"),
        (service("prometheus", state=""), ""),
        (service("prometheus", state="true"), ""),
        (service("prometheus", "default"), ""),
        (service("kube-dns"), ""),
        ({"metadata": {"name": "prometheus", "namespace": "kube-system"}}, ""),
    ],
)
def test_only_services_of_add_ons_start_on_first_use(found: Object, deployment: str) -> None:
    assert deployment_to_start(found) == deployment


def test_the_reason_says_that_the_add_on_starts_on_first_use() -> None:
    assert ready_endpoints(service("prometheus"), [], []).why == "starts on first use"
    assert ready_endpoints(service("prometheus", "default"), [], []).why == "no pod matches its selector k8s-app=x"


async def test_many_uses_cause_one_write() -> None:
    client, now = Scales(), [0.0]
    starts = FirstUseStarts(client, lambda: now[0])  # type: ignore[arg-type]
    for _ in range(1000):
        starts.report("prometheus")
    await asyncio.sleep(0)
    change = {"spec": {"replicas": 1}}
    expected = ("deployments.apps", "prometheus", change, "kube-system", {"subresource": "scale"})
    assert client.calls == [expected]
    now[0] = 1.0
    starts.report("prometheus")
    await asyncio.sleep(0)
    assert client.calls == [expected, expected], "the first write may have been lost"


async def test_no_other_deployments_are_scaled_and_errors_are_ignored() -> None:
    client = Scales(ApiError(403, "Forbidden", "no"))
    starts = FirstUseStarts(client, lambda: 0.0)  # type: ignore[arg-type]
    for name in ("kube-dns", "kibana-logging", "", "web"):
        starts.report(name)
    starts.report("prometheus")
    starts.report("elasticsearch-logging")
    await asyncio.sleep(0)
    assert [call[1] for call in client.calls] == list(reversed(STARTED_ON_USE))
    starts.close()


class Objects:
    """Services and their EndpointSlices, as in the API server."""

    def __init__(self, *services: Object) -> None:
        self.services = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in services}
        self.slices: list[Object] = []
        self.changed = asyncio.Event()

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        return self.services.get((namespace, name))

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        return self.slices

    async def wait_for_change(self) -> None:
        self.changed.clear()
        await self.changed.wait()

    def make_ready(self) -> None:
        self.slices = [{"endpoints": [{"conditions": {"ready": True}}]}]
        self.changed.set()


async def test_a_port_forward_waits_for_pods() -> None:
    objects, used = Objects(service("prometheus"), service("web", "default")), []
    first = FirstStart(objects, used.append)
    await first.wait_for_port_forward("default", "web")
    await first.wait_for_port_forward("kube-system", "missing")
    assert used == []
    waiting = asyncio.create_task(first.wait_for_port_forward("kube-system", "prometheus"))
    while not len(first):
        await asyncio.sleep(0)
    assert used == ["prometheus"]
    objects.make_ready()
    await waiting
    await first.wait_for_port_forward("kube-system", "prometheus")
    assert used == ["prometheus"]


async def test_waiting_requests_are_limited_in_number_and_time() -> None:
    first = FirstStart(Objects(), lambda _: None, most=2, seconds=0.05)
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(asyncio.wait_for(_refused(first), 20)) for _ in range(3)]
    messages = sorted(task.result() for task in held)
    late = "prometheus starts on first use, and is not ready after 0 s"
    assert messages == ["prometheus is being started, and 2 requests wait for it already", late, late]
    assert len(first) == 0


async def test_a_client_that_disconnects_frees_its_place() -> None:
    first = FirstStart(Objects(), lambda _: None)
    waiting = asyncio.create_task(first.wait("prometheus", lambda: False))
    while not len(first):
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert len(first) == 0


async def _refused(first: FirstStart) -> str:
    with pytest.raises(ProxyError) as error:
        await first.wait("prometheus", lambda: False)
    return error.value.message
