"""A pod or a ReplicaSet without an owner, made after a workload that selects it, is adopted at once."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.controllers.controller import Controller
from hatchway.cluster.controllers.daemonset import DaemonSetController
from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.job import JobController
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.statefulset import StatefulSetController
from hatchway.kube.api import Object
from tests.unit.controllers.world import World, deployment, pod, replica_set, template

LABELS = {"app": "web"}


def workload(kind: str, **spec: Any) -> Object:
    whole = {"selector": {"matchLabels": LABELS}, "template": template(LABELS), **spec}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "web"}, "spec": whole}


def owners(obj: Object) -> list[str]:
    return [ref["name"] for ref in obj["metadata"].get("ownerReferences") or ()]


@pytest.mark.parametrize(
    ("controller", "resource", "owner"),
    [
        (ReplicaSetController, "replicasets.apps", replica_set("web", 3)),
        (
            StatefulSetController,
            "statefulsets.apps",
            workload("StatefulSet", replicas=3, serviceName="web", updateStrategy={"type": "OnDelete"}),
        ),
        (DaemonSetController, "daemonsets.apps", workload("DaemonSet", updateStrategy={"type": "OnDelete"})),
        (
            JobController,
            "jobs.batch",
            workload("Job", parallelism=3, completions=5, backoffLimit=6, completionMode="NonIndexed"),
        ),
    ],
)
async def test_a_pod(controller: type[Controller], resource: str, owner: Object) -> None:
    world = World(controller)
    await world.node("n1")
    await world.client.create(resource, owner, "d")
    async with world.running():
        # For the StatefulSet, this is the second pod, while the first is not ready; for other workloads, a surplus pod.
        await world.client.create("pods", pod("web-1", labels=LABELS, nodeName="n1"), "d")
        await world.client.create("pods", pod("foreign", labels={"app": "other"}), "d")
        await world.settle()
        found = {obj["metadata"]["name"]: obj for obj in world.client.all("pods")}
        # A surplus pod is deleted after its adoption, because only an owner deletes it.
        assert "web-1" not in found or owners(found["web-1"]) == ["web"]
        assert owners(found["foreign"]) == []


async def test_a_replica_set() -> None:
    world = World(DeploymentController)
    await world.client.create("deployments.apps", deployment("web", 1), "d")
    async with world.running():
        await world.client.create("replicasets.apps", replica_set("old", 0, labels=LABELS), "d")
        await world.settle()
        found = {obj["metadata"]["name"]: obj for obj in world.client.all("replicasets.apps")}
        assert owners(found["old"]) == ["web"]
