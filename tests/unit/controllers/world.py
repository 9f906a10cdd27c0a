"""A small simulated cluster: the API in memory, real controllers, and simulated kubelets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hatchway.cluster.api.registry.types import Registry, scalable_resources
from hatchway.cluster.apiserver import served_types
from hatchway.cluster.controllers.controller import Controller, ControllerConfig, ControllerContext
from hatchway.kube.api import Object
from tests.unit.fake_client import FakeClient, copied

START = datetime(2026, 1, 1, tzinfo=UTC)


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(self, obj: Object, type: str, reason: str, message: str) -> None:
        self.events.append((obj["metadata"]["name"], reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


class World:
    def __init__(self, *kinds: type[Controller], config: ControllerConfig | None = None) -> None:
        self.client = FakeClient()
        self.recorder = Recorder()
        self.moment = START
        types = config.types if config and config.types.all() else served_types(Registry())
        self.context = ControllerContext(
            self.client,
            replace(config or ControllerConfig(), types=types, scalable=scalable_resources()),
            lambda _: self.recorder,
            clock=lambda: self.moment,
        )
        self.controllers = [kind(self.context) for kind in kinds]
        self._next_ip = 10

    def controller(self, kind: type[Controller]) -> Any:
        return next(found for found in self.controllers if isinstance(found, kind))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(cache.run()) for cache in self.context.caches.values()]
            tasks += [group.create_task(controller.run()) for controller in self.controllers]
            try:
                await self.settle()
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    async def settle(self) -> None:
        """Wait until no controller has queued work, work to retry, or work in progress."""
        for _ in range(400):
            await self.client.settle([lambda c=c: c.queue.idle for c in self.controllers])
            loop = asyncio.get_running_loop()
            due = [t.when() for c in self.controllers for t in c.queue._timers.values() if t.when() < loop.time() + 1]
            if not due:
                return
            # Retries wait for a time of the loop's clock; run them now.
            for controller in self.controllers:
                for key, timer in list(controller.queue._timers.items()):
                    if timer.when() < loop.time() + 1:
                        controller.queue.add(key)
        raise AssertionError("retries never end")

    def pass_time(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    # --- the kubelets ------------------------------------------------------------------------------------------

    async def kubelets(self, *, ready: bool = True) -> None:
        """End deleted pods and start new pods, until no pod is left to end or to start."""
        for _ in range(500):
            busy = False
            for pod in self.client.all("pods"):
                namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
                if "deletionTimestamp" in pod["metadata"]:
                    await self.client.delete("pods", name, namespace, grace_period=0)
                    busy = True
                elif pod["status"]["phase"] == "Pending" and ready:
                    await self.set_ready(pod, True)
                    busy = True
            await self.settle()
            if not busy:
                return
        raise AssertionError("the kubelets never rest")

    async def set_ready(self, pod: Object, ready: bool) -> None:
        pod = copied(self.client.objects["pods", pod["metadata"]["namespace"], pod["metadata"]["name"]])
        status = pod["status"]
        status["phase"] = "Running"
        if "podIP" not in status:
            status["podIP"] = f"10.244.{self._next_ip // 250}.{self._next_ip % 250}"
            self._next_ip += 1
        stamp = self.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": stamp}
        status["conditions"] = [
            condition,
            *(c for c in status.get("conditions", []) if c["type"] != "Ready"),
        ]
        await self.client.update("pods", pod, subresource="status")

    # --- objects -----------------------------------------------------------------------------------------------

    def pods(self, **labels: str) -> list[Object]:
        return [
            pod
            for pod in self.client.all("pods")
            if "deletionTimestamp" not in pod["metadata"]
            and all(pod["metadata"].get("labels", {}).get(key) == value for key, value in labels.items())
        ]

    async def node(self, name: str, **more: Any) -> Object:
        spec = {key: value for key, value in more.items() if key in ("taints", "unschedulable")}
        return await self.client.create(
            "nodes",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **more.get("labels", {})}},
                "spec": spec,
                "status": {
                    "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110", **more.get("allocatable", {})},
                    "conditions": [{"type": "Ready", "status": "True" if more.get("ready", True) else "False"}],
                },
            },
        )


def container(**more: Any) -> Object:
    return {"name": "c", "image": "x", **more}


def template(labels: dict[str, str], **spec: Any) -> Object:
    return {"metadata": {"labels": dict(labels)}, "spec": {"containers": [container()], **spec}}


def replica_set(name: str, replicas: int, **more: Any) -> Object:
    labels = more.pop("labels", {"app": name})
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template(labels),
            **more,
        },
    }


def deployment(name: str, replicas: int, **more: Any) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template(labels),
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            **more,
        },
    }


def pod(name: str, **more: Any) -> Object:
    labels = more.pop("labels", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container()], **more},
    }


def service(name: str, selector: dict[str, str] | None, **more: Any) -> Object:
    labels = more.pop("labels", {})
    spec: Object = {"clusterIP": "10.96.0.50", "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}], **more}
    if selector:
        spec["selector"] = selector
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec}
