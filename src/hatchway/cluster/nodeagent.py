"""The node agent: `python -m hatchway.cluster.nodeagent [CONFIG]`, started inside the cluster's network.

One process serves all nodes. Each node has a kubelet and a client. All nodes share the service proxy, and one watch on
the services. CONFIG is the path of the file that `node/config.py` describes; without CONFIG, the environment variable
HATCHWAY_NODE_CONFIG has the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from hatchway.cluster import plan
from hatchway.cluster.firstuse import FirstUseStarts
from hatchway.cluster.network import runtimes
from hatchway.cluster.network.nodedirs import NodeDirectories, SharedDirectory
from hatchway.cluster.node.config import ENVIRONMENT, PROXY, SHUT_DOWN_SECONDS, AgentConfig
from hatchway.cluster.node.imagestock import ImageStock, ImageUnpacker
from hatchway.cluster.node.kubelet import Kubelet, clean_up, open_client
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.policies.enforcer import PolicyEnforcer
from hatchway.cluster.runtime import Runtime
from hatchway.cluster.services.nodeplaces import NodePlace, NodePlaces
from hatchway.cluster.services.serviceproxy import ServiceProxy
from hatchway.cluster.state import StateDir
from hatchway.errors import HatchwayError
from hatchway.images.pullservice.serviceclient import PullClient
from hatchway.images.store.store import ImageStore
from hatchway.kube.informer import Informer

log = logging.getLogger("hatchway.cluster.nodeagent")

# Seconds between two clean-ups, and the seconds for which the files of a removed pod are kept.
_CLEAN_UP_SECONDS = 60.0
_WITHOUT_NAMESPACES = (
    "containers of images need the private network, which this cluster does not have (`hatchway status` says why); the "
    "image hatchway/host runs a command with this machine's programs"
)


async def run(config: AgentConfig, runtime: Runtime, stop: asyncio.Event) -> None:
    """Serve all nodes until `stop` is set, then end their pods' processes.

    Raises the first error of a task that all nodes need.
    """
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
        # Every pod has the services in its environment. One informer, with the first node's credentials, serves all
        # nodes.
        services = Informer(clients[0], "services")
        proxier = await stack.enter_async_context(open_client(config, PROXY))
        policies = None
        if runtime.packets is not None:
            policies = PolicyEnforcer(proxier, runtime.packets, [node.ip for node in config.nodes])
        images = open_images(config, runtime)
        if images is not None:
            stack.push_async_callback(images.close)
        kubelets = [
            Kubelet(config, node, runtime, client, Sources(client), services, policies, images)
            for node, client in zip(config.nodes, clients, strict=True)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(services.run(), name="informer services")]
            pods = [kubelet.pods for kubelet in kubelets]
            if policies is not None:
                tasks.append(group.create_task(policies.run(pods), name="network policies"))
            # A pod that starts must have its namespace's services in its environment.
            await services.synced()
            tasks += [group.create_task(kubelet.run(), name=f"kubelet {kubelet.node.name}") for kubelet in kubelets]
            tasks.append(group.create_task(_keep_clean(config, runtime, kubelets), name="clean-up"))
            starts = FirstUseStarts(proxier, time.monotonic)
            stack.callback(starts.close)
            proxy = ServiceProxy(
                proxier,
                nodes=NodePlaces(
                    NodePlace(node.name, node.ip, plan.pod_cidr(node.index, loopback=config.loopback))
                    for node in config.nodes
                ),
                sockets=runtime.sockets,
                host_ips=config.published,
                cluster_ips=not config.loopback,
                pods=pods,
                report_use=starts.report,
                policy=policies,
            )
            if policies is not None:
                policies.on_change = proxy.policy_changed
            tasks.append(group.create_task(proxy.run(), name="service proxy"))
            try:
                yield kubelets
            finally:
                for task in tasks:
                    task.cancel()


def open_images(config: AgentConfig, runtime: Runtime) -> ImageStock | None:
    """Return the container images for the nodes; None when the cluster has no image store."""
    if not config.image_store:
        return None
    state, store = StateDir(Path(config.state_dir)), Path(config.image_store)

    def load_unpacker() -> ImageUnpacker:
        from hatchway.images.layers.layerstore import LayerStore

        return LayerStore(store, runtime.users)

    return ImageStock(
        ImageStore(store),
        PullClient(state.image_socket),
        load_unpacker,
        cluster=state.path.name,
        why_not=_WITHOUT_NAMESPACES if runtime.isolation == "loopback" else "",
    )


async def _keep_clean(config: AgentConfig, runtime: Runtime, kubelets: list[Kubelet]) -> None:
    """Delete the files of removed pods, after a while, so that log collectors can read them first."""
    state = StateDir(Path(config.state_dir))
    for kubelet in kubelets:
        # Before the pods have been listed, every pod would seem to be removed.
        await kubelet.pods.synced()
    while True:
        await asyncio.sleep(_CLEAN_UP_SECONDS)
        known = {pod["metadata"]["uid"] for kubelet in kubelets for pod in kubelet.pods.items.values()}
        known |= {uid for kubelet in kubelets for uid in kubelet.workers}
        await asyncio.to_thread(clean_up, state, known, runtime, older_than=_CLEAN_UP_SECONDS)


async def _run(config: AgentConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with runtimes.open_runtime(_directories(config), config.published, config.control_groups) as runtime:
        runtime.closed.add_done_callback(lambda _: stop.set())
        await run(config, runtime, stop)


def _directories(config: AgentConfig) -> NodeDirectories:
    """Return the directories of which the nodes' file systems are made."""
    state = StateDir(Path(config.state_dir))
    parts = [
        SharedDirectory(str(state.logs), plan.NODE_LOGS, read_only=True),
        SharedDirectory(str(state.log_index), plan.NODE_LOG_INDEX),
        SharedDirectory(str(state.samples), plan.NODE_SAMPLES),
        *(SharedDirectory(path, path) for path in sorted(config.host_paths)),
    ]
    names = [node.name for node in config.nodes]
    hidden = [state.path, Path(config.image_store or state.image_store)]
    return NodeDirectories(state.nodes, names, state.path / "network", parts, hidden=hidden)


def main(arguments: list[str]) -> int:
    """Run the agent. Returns the process's exit code."""
    # Containers inherit this mask. Hatchway's own private files are made with an explicit mode.
    os.umask(0o022)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    path = arguments[0] if arguments else os.environ.pop(ENVIRONMENT, "")
    try:
        if not path:
            raise HatchwayError(f"the node agent needs the path of its configuration ({ENVIRONMENT})")
        config = AgentConfig.load(Path(path))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(config))
    except HatchwayError as error:
        log.error("%s", error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
