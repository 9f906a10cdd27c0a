"""Real load scales a ReplicaSet: from /proc to the kubelet's metrics, the metrics server and the autoscaler."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hatchway.addons.metrics.exposition import parse
from hatchway.addons.metrics.metricsapi import MetricsApi
from hatchway.addons.metrics.usage import METRICS, UsageStore
from hatchway.cluster.api.registry.types import scalable_resources
from hatchway.cluster.controllers.controller import ControllerConfig, ControllerContext
from hatchway.cluster.controllers.horizontal import RESOURCE, HorizontalController
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.kube.api import Object
from hatchway.proxy.routing import Peer, RequestHead
from tests.integration.node.world import NODE, World, open_world

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this platform has no /proc")

SETS = "replicasets.apps"


class Events:
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def event(self, _obj: Object, _type: str, reason: str, message: str) -> None:
        self.reasons.append(f"{reason}: {message}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found, found.node():
        yield found


async def test_load_adds_pods(world: World) -> None:
    usage = UsageStore()
    api = MetricsApi(usage, {}, world.pods.items, lambda: True)

    async def fetch(namespace: str) -> list[Object]:
        usage.add(NODE.name, parse((await world.ask("/metrics/resource"))[1], METRICS), time.time())
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods".encode()
        answer = api.route(RequestHead("GET", path, path, None, [], "1.1", Peer(None, "https", b"front-proxy")))
        found: list[Object] = json.loads(answer.body)["items"]
        return found

    events = Events()
    config = ControllerConfig(
        scalable=scalable_resources(), pod_metrics=fetch, autoscaler_sync=0.2, cpu_initialization=0.0
    )
    context = ControllerContext(world.client, config, lambda _: events)
    controllers = [ReplicaSetController(context), HorizontalController(context)]
    container = {
        "name": "c",
        "image": "hatchway/host",
        "command": ["sh", "-c", "while :; do :; done"],
        # The request is so small that the load exceeds it even on a busy machine.
        "resources": {"requests": {"cpu": "10m"}},
    }
    spec = {"nodeName": NODE.name, "automountServiceAccountToken": False, "containers": [container]}
    template: Any = {"metadata": {"labels": {"app": "load"}}, "spec": {**spec, "terminationGracePeriodSeconds": 0}}
    selector = {"matchLabels": {"app": "load"}}
    replica_set = {"metadata": {"name": "load"}, "spec": {"replicas": 1, "selector": selector, "template": template}}
    await world.client.create(SETS, replica_set, "default")
    target = {"type": "Utilization", "averageUtilization": 50}
    autoscaler = {
        "metadata": {"name": "load"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "load"},
            "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }
    await world.client.create(RESOURCE, autoscaler, "default")
    scaled = asyncio.Event()

    def changed(_kind: str, obj: Object, _before: Object | None) -> None:
        if obj["status"].get("desiredReplicas") == 3:
            scaled.set()

    context.cache(RESOURCE).subscribe(changed)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache.run()) for cache in context.caches.values()]
        tasks += [group.create_task(controller.run()) for controller in controllers]
        try:
            async with asyncio.timeout(300):
                await scaled.wait()
        finally:
            for task in tasks:
                task.cancel()
    assert (await world.client.get(SETS, "load", "default"))["spec"]["replicas"] == 3
    status = (await world.client.get(RESOURCE, "load", "default"))["status"]
    assert status["currentMetrics"][0]["resource"]["current"]["averageUtilization"] > 50
    reason = "SuccessfulRescale: New size: 3; reason: cpu resource utilization (percentage of request) above target"
    assert reason in events.reasons
