"""The agent of all nodes: one process, one client per node, one watch on what the nodes share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from hatchway.cluster.network.serviceproxy import ServiceProxy
from hatchway.cluster.node.config import PROXY, SHUT_DOWN_SECONDS, AgentConfig
from hatchway.cluster.node.kubelet import Kubelet, clean_up, open_client
from hatchway.cluster.node.runtime import Runtime
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.state import StateDir
from hatchway.kube.informer import Informer

log = logging.getLogger(__name__)

_CLEAN_UP_SECONDS = 60.0


async def run(config: AgentConfig, runtime: Runtime, stop: asyncio.Event) -> None:
    """Serve all nodes until `stop` is set, then end their pods' processes. Raises what a node cannot work without."""
    runtime.mount_memory(str(StateDir(Path(config.state_dir)).memory))
    async with _kubelets(config, runtime) as kubelets:
        log.info("agent of %s", ", ".join(kubelet.node.name for kubelet in kubelets))
        await stop.wait()
        await asyncio.gather(*(kubelet.shut_down(SHUT_DOWN_SECONDS) for kubelet in kubelets))


@contextlib.asynccontextmanager
async def _kubelets(config: AgentConfig, runtime: Runtime) -> AsyncIterator[list[Kubelet]]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(open_client(config, f"kubelet-{node.name}")) for node in config.nodes
        ]
        # Services are in the environment of every pod: watched once, in the first node's name.
        services = Informer(clients[0], "services")
        kubelets = [
            Kubelet(config, node, runtime, client, Sources(client), services)
            for node, client in zip(config.nodes, clients, strict=True)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(services.run(), name="informer services")]
            # A pod that starts must find its namespace's services in its environment.
            await services.synced()
            tasks += [group.create_task(kubelet.run(), name=f"kubelet {kubelet.node.name}") for kubelet in kubelets]
            tasks.append(group.create_task(_keep_clean(config, runtime, kubelets), name="clean-up"))
            if not config.loopback:
                proxier = await stack.enter_async_context(open_client(config, PROXY))
                proxy = ServiceProxy(proxier, node_ips=[node.ip for node in config.nodes])
                tasks.append(group.create_task(proxy.run(), name="service proxy"))
            try:
                yield kubelets
            finally:
                for task in tasks:
                    task.cancel()


async def _keep_clean(config: AgentConfig, runtime: Runtime, kubelets: list[Kubelet]) -> None:
    """Delete what removed pods have left: after a while, so that whoever collects logs has read them."""
    state = StateDir(Path(config.state_dir))
    for kubelet in kubelets:
        # Before it is known which pods there are, all of them would look removed.
        await kubelet.pods.synced()
    while True:
        await asyncio.sleep(_CLEAN_UP_SECONDS)
        known = {pod["metadata"]["uid"] for kubelet in kubelets for pod in kubelet.pods.items.values()}
        known |= {uid for kubelet in kubelets for uid in kubelet.workers}
        await asyncio.to_thread(clean_up, state, known, runtime, older_than=_CLEAN_UP_SECONDS)
