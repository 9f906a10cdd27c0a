"""An API server with controllers, without kubelets and scheduler, as in the recordings of the REST API."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hatchway.cluster.api.registry.types import scalable_resources
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import credentialfiles, pki
from hatchway.cluster.controllers.controller import ControllerConfig, ControllerContext, supervise
from hatchway.cluster.controllers.loadbalancer import LoadBalancerController
from hatchway.cluster.controllers.manager import CONTROLLERS
from hatchway.cluster.controllers.nodelife import NodeLifecycleController
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.cluster.state import StateDir
from hatchway.kube.events import EventRecorder
from hatchway.proxy.server import serve
from tests.conformance import replay
from tests.conformance.backends import dial
from tests.conformance.cluster import recorded_cluster
from tests.integration.test_conformance_server import GROUPS, fill


@dataclass
class Recorded:
    server: ApiServer
    port: int
    tokens: dict[str, str]

    async def send(self, recording: replay.Recording) -> replay.Answer:
        """Send a recorded request to this server, with this server's token for alice."""
        recording, ours = dict(recording), {"alice-token": self.tokens["alice"], "10.96.77.77": "10.97.77.77"}
        for theirs, here in ours.items():
            if recording["body"] is not None:
                recording["body"] = recording["body"].replace(theirs, here)
        answer = await replay.send(recording, self.port, None, real={}, tokens=self.tokens)
        for theirs, here in ours.items():
            answer.body = answer.body.replace(here, theirs)
        return answer

    async def account(self, namespace: str) -> None:
        """Wait until the controllers have created the objects that every namespace has."""
        wanted = (("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt"))
        async with asyncio.timeout(20):
            async for event in self.server.client.watch("configmaps", namespace):
                if all(self.server.api.store.get(resource, namespace, name) for resource, name in wanted):
                    return
                del event

    async def settle(self) -> None:
        """Wait, at most 10 s, until controllers have finished: until no write was made for 0.1 s."""
        store = self.server.api.store
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while await store.wait_for_revision(store.revision + 1, 0.1):
                    pass


async def _run_controllers(server: ApiServer, config: ControllerConfig) -> None:
    """Run all controllers except those for nodes and load balancers, which this cluster does not have."""
    client = server.client
    context = ControllerContext(client, config, lambda component: EventRecorder(client, component))
    absent = (Scheduler, NodeLifecycleController, LoadBalancerController)
    controllers = [make(context) for make in CONTROLLERS if make not in absent]
    async with asyncio.TaskGroup() as group:
        watches: dict[str, asyncio.Task[None]] = {}

        def start(cache: ObjectCache) -> None:
            watches[cache.resource] = group.create_task(supervise(f"watch of {cache.resource}", cache.run))

        context.run_caches(start, lambda resource: watches.pop(resource).cancel())
        for controller in controllers:
            group.create_task(supervise(controller.name, controller.run))


@asynccontextmanager
async def recorded_server(directory: Path) -> AsyncIterator[Recorded]:
    state = StateDir(directory / "state")
    state.create()
    keys = pki.ensure(state.pki, cluster_name="c", node_names=["node-1"], node_ips=["127.0.0.9"])
    server = ApiServer(state, Store.open(None), keys, dial=dial, allow_loopback_pods=True)
    await server.bootstrap("192.0.2.1", 6443)
    await fill(server.client, recorded_cluster("10.78.0.10", "10.78.0.11", "10.78.0.1", "10.78.0.0/24", 10250))
    # No TLS, because it would take most of the time.
    listener = socket.create_server(("127.0.0.1", 0))
    listening = await serve(server.filters.route, sock=listener)
    config = ControllerConfig(
        ca_certificate=keys.ca_pem.decode(),
        certificate_authority=(keys.ca.cert, keys.ca.key),
        types=server.types,
        scalable=scalable_resources(),
    )
    controllers = asyncio.create_task(_run_controllers(server, config))
    tokens = {
        user: credentialfiles.mint_token(state, user=user, groups=groups, seconds=600)
        for user, groups in GROUPS.items()
    }
    try:
        yield Recorded(server, listener.getsockname()[1], tokens)
    finally:
        controllers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await controllers
        await listening.close()
        await server.close(0)
