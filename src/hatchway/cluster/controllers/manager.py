"""Runs all controllers and the scheduler, each under supervision (kube-controller-manager and kube-scheduler)."""

from __future__ import annotations

import asyncio

from hatchway.cluster.controllers.aggregation import ClusterRoleAggregator
from hatchway.cluster.controllers.base import Context, Controller, ControllerConfig, supervise
from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.endpoints import EndpointsController
from hatchway.cluster.controllers.endpointslice import EndpointSliceController
from hatchway.cluster.controllers.garbage import GarbageCollector
from hatchway.cluster.controllers.mirroring import MirroringController
from hatchway.cluster.controllers.namespace import NamespaceController
from hatchway.cluster.controllers.nodelife import NodeLifecycleController
from hatchway.cluster.controllers.podgc import PodGarbageCollector
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.cluster.controllers.serviceaccount import ServiceAccountController
from hatchway.kube.api import Client
from hatchway.kube.events import EventRecorder

__all__ = ["CONTROLLERS", "ControllerConfig", "run_controllers"]

CONTROLLERS: tuple[type[Controller], ...] = (
    ServiceAccountController,
    Scheduler,
    ReplicaSetController,
    DeploymentController,
    EndpointsController,
    EndpointSliceController,
    MirroringController,
    NamespaceController,
    GarbageCollector,
    NodeLifecycleController,
    PodGarbageCollector,
    ClusterRoleAggregator,
)


async def run_controllers(client: Client, *, config: ControllerConfig) -> None:
    """Run until cancelled. A controller or a watch that fails is logged and started again with back-off."""
    recorders: list[EventRecorder] = []

    def recorder(component: str) -> EventRecorder:
        recorders.append(EventRecorder(client, component))
        return recorders[-1]

    context = Context(client, config, recorder)
    controllers = [make(context) for make in CONTROLLERS]
    try:
        async with asyncio.TaskGroup() as group:
            for cache in context.caches.values():
                group.create_task(supervise(f"watch of {cache.resource}", cache.run), name=f"watch {cache.resource}")
            for controller in controllers:
                group.create_task(supervise(controller.name, controller.run), name=controller.name)
    finally:
        await asyncio.gather(*(each.aclose(patience=0.2) for each in recorders))
