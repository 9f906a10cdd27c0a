"""Runs all controllers and the scheduler, each under supervision (kube-controller-manager and kube-scheduler)."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping

from hatchway.cluster.controllers.aggregation import ClusterRoleAggregator
from hatchway.cluster.controllers.certificatesigning import CertificateSigningController
from hatchway.cluster.controllers.controller import Controller, ControllerConfig, ControllerContext, supervise
from hatchway.cluster.controllers.cronjob import CronJobController
from hatchway.cluster.controllers.daemonset import DaemonSetController
from hatchway.cluster.controllers.deployment import DeploymentController
from hatchway.cluster.controllers.disruption import DisruptionController
from hatchway.cluster.controllers.endpoints import EndpointsController
from hatchway.cluster.controllers.endpointslice import EndpointSliceController
from hatchway.cluster.controllers.ephemeralvolumes import EphemeralVolumeController
from hatchway.cluster.controllers.firstuse import FirstUseController
from hatchway.cluster.controllers.garbage import GarbageCollector
from hatchway.cluster.controllers.horizontal import HorizontalController
from hatchway.cluster.controllers.ingressstart import IngressStartController
from hatchway.cluster.controllers.ipaddresses import IPAddressController
from hatchway.cluster.controllers.job import JobController
from hatchway.cluster.controllers.jobttl import JobTTLController
from hatchway.cluster.controllers.loadbalancer import LoadBalancerController
from hatchway.cluster.controllers.mirroring import MirroringController
from hatchway.cluster.controllers.namespace import NamespaceController
from hatchway.cluster.controllers.nodelife import NodeLifecycleController
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.podgc import PodGarbageCollector
from hatchway.cluster.controllers.provisioner import LocalPathProvisioner
from hatchway.cluster.controllers.replicaset import ReplicaSetController
from hatchway.cluster.controllers.replicationcontroller import ReplicationController
from hatchway.cluster.controllers.resourceclaims import ResourceClaimController
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.cluster.controllers.serviceaccount import ServiceAccountController
from hatchway.cluster.controllers.servicecidrs import ServiceCIDRController
from hatchway.cluster.controllers.statefulset import StatefulSetController
from hatchway.cluster.controllers.volumebinding import VolumeBindingController
from hatchway.cluster.controllers.volumeprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from hatchway.kube.api import Client
from hatchway.kube.events import EventRecorder

__all__ = ["CONTROLLERS", "ControllerConfig", "run_controllers"]

CONTROLLERS: tuple[type[Controller], ...] = (
    ServiceAccountController,
    Scheduler,
    ReplicaSetController,
    ReplicationController,
    DisruptionController,
    DeploymentController,
    StatefulSetController,
    DaemonSetController,
    JobController,
    JobTTLController,
    CronJobController,
    EndpointsController,
    EndpointSliceController,
    IPAddressController,
    ServiceCIDRController,
    MirroringController,
    LoadBalancerController,
    VolumeBindingController,
    LocalPathProvisioner,
    EphemeralVolumeController,
    ResourceClaimController,
    ClaimProtectionController,
    VolumeProtectionController,
    AttributesClassProtectionController,
    IngressStartController,
    FirstUseController,
    NamespaceController,
    GarbageCollector,
    NodeLifecycleController,
    PodGarbageCollector,
    ClusterRoleAggregator,
    CertificateSigningController,
    HorizontalController,
)


async def run_controllers(
    client: Client,
    *,
    config: ControllerConfig,
    scheduling: Client | None = None,
    problems: MutableMapping[str, str] | None = None,
) -> None:
    """Run until cancelled. A controller or a watch that fails is logged and started again with back-off.

    scheduling: the scheduler's client; None to use `client`.
    problems: while a controller or a watch does not run, this function puts the reason into this map, by name.
    """
    recorders: list[EventRecorder] = []

    def recorder(component: str) -> EventRecorder:
        recorders.append(EventRecorder(client, component))
        return recorders[-1]

    context = ControllerContext(client, config, recorder)
    controllers = [make(context) for make in CONTROLLERS]
    for controller in controllers:
        if isinstance(controller, Scheduler) and scheduling is not None:
            controller.client = scheduling
    try:
        async with asyncio.TaskGroup() as group:
            watches: dict[str, asyncio.Task[None]] = {}

            def start(cache: ObjectCache) -> None:
                work = supervise(f"watch of {cache.resource}", cache.run, problems)
                watches[cache.resource] = group.create_task(work, name=f"watch {cache.resource}")

            def stop(resource: str) -> None:
                watches.pop(resource).cancel()

            context.run_caches(start, stop)
            for controller in controllers:
                group.create_task(supervise(controller.name, controller.run, problems), name=controller.name)
    finally:
        await asyncio.gather(*(each.aclose(patience=0.2) for each in recorders))
