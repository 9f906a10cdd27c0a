"""The control plane: wires the API server, the network, the controllers and the built-in services of one cluster.

The only file that knows every room. It reports its progress as JSON lines on standard output (`lifecycle.py` reads
them), and ends on SIGTERM or SIGINT, or, attached, when its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from hatchway.cluster import beneath, lifecycle, plan
from hatchway.cluster.addons import apply as addons
from hatchway.cluster.addons import readiness
from hatchway.cluster.api import schema
from hatchway.cluster.api.proxyverb import rewriting_of
from hatchway.cluster.api.store import Store
from hatchway.cluster.api.storedshape import shape_fault
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import credentials, pki
from hatchway.cluster.controllers.manager import ControllerConfig, run_controllers
from hatchway.cluster.controllers.restart import forget_readiness
from hatchway.cluster.network import launcher
from hatchway.cluster.network.launcher import Network
from hatchway.cluster.node import config as node_config
from hatchway.cluster.node import registration
from hatchway.cluster.node.config import SHUT_DOWN_SECONDS, AgentConfig, NodeSpec
from hatchway.cluster.process import Process
from hatchway.cluster.state import ClusterConfig, Holder, StateDir
from hatchway.cluster.watchdog import Watchdog
from hatchway.errors import ApiError, HatchwayError
from hatchway.files import NO_ROOM
from hatchway.kube.api import Client
from hatchway.kube.clusterinfo import LABEL_SELECTOR, NAMESPACE, built_in
from hatchway.kube.informer import Informer, running

logger = logging.getLogger("hatchway.cluster")

_READY_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
# What the node agent needs beside the time that its pods may take (seconds).
_STOP_MARGIN = 3.0


def main(path: Path, *, attached: bool) -> int:
    """Run the control plane of the cluster whose state is in `path`. Returns the process's exit code."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    state = StateDir(path)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(state, attached))
    except HatchwayError as error:
        logger.error("%s", error.message)
        report("error", message=error.message, hint=error.hint)
        return 1
    except OSError as error:
        # A file of the state directory, most likely: the disk is full, or somebody else's file is in its place.
        logger.exception("the control plane has failed")
        message = f"cannot use {error.filename or path}: {error.strerror or error}"
        report("error", message=message, hint="" if error.errno in NO_ROOM else f"see {state.server_log}")
        return 1
    except Exception as error:
        logger.exception("the control plane has failed")
        message = f"the control plane has failed: {type(error).__name__}: {error}"
        report("error", message=message, hint=f"see {state.server_log}")
        return 1
    return 0


def report(event: str, **more: Any) -> None:
    """Tell whoever started this process; nobody may be listening any more."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(json.dumps({"event": event, **more}), flush=True)


async def _run(state: StateDir, attached: bool) -> None:
    config = state.load_config()
    if config is None:
        raise HatchwayError(f"{state.path} holds no cluster", "start it by `hatchway up`")
    lock = await _lock(state)
    holder = Holder(Process.of(os.getpid()))
    state.note(lock, holder)
    # One that was killed has left its own behind, with a process id that may be anybody's by now.
    state.run_file.unlink(missing_ok=True)
    ending = _Ending(state, lock, holder)
    watchdog = Watchdog()
    watchdog.start()
    try:
        ending.listen(attached)
        async with _Cluster(state, config).running(ending.has_network) as failed:
            failed.add_done_callback(lambda _: ending.begin())
            await ending.wait()
            # From here on nobody is to take it for a cluster that runs.
            state.run_file.unlink(missing_ok=True)
            if failed.done():
                raise HatchwayError(f"the cluster cannot go on: {failed.result()}", f"see {state.node_log}")
    except asyncio.CancelledError:
        raise HatchwayError(f'cluster "{state.path.name}" was stopped while it was starting') from None
    finally:
        watchdog.stop()
        state.run_file.unlink(missing_ok=True)
        try:
            # Whoever started this may have been killed: nobody's kubectl is to be left pointing here.
            lifecycle.restore_kubeconfig(state)
        except (HatchwayError, OSError) as error:
            logger.error("the kubeconfig was not restored: %s", error)
        if config.ephemeral:
            shutil.rmtree(state.path, ignore_errors=True)
        os.close(lock)


class _Ending:
    """The end of a control plane, asked for by a signal, or by the end of its standard input when it is attached."""

    def __init__(self, state: StateDir, lock: int, holder: Holder) -> None:
        self._state = state
        self._lock = lock
        self._holder = holder
        self._begun = asyncio.Event()
        self._starting: asyncio.Task[Any] | None = asyncio.current_task()

    def listen(self, attached: bool) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin)
        if attached:
            loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 64) else self.begin())

    def has_network(self, pid: int) -> None:
        """Write down which process the network's are descended from, for whoever has to end what is left of this one."""
        if pid:
            self._holder = replace(self._holder, network=Process.of(pid))
            self._state.note(self._lock, self._holder)

    def begin(self) -> None:
        """Idempotent: a second signal does not interrupt the end."""
        if self._begun.is_set():
            return
        self._begun.set()
        self._holder = replace(self._holder, stopping=True)
        # `hatchway down` gives more time to a process that has heard it.
        self._state.note(self._lock, self._holder)
        if self._starting is not None:
            self._starting.cancel()

    async def wait(self) -> None:
        """Everything is started: wait for the end."""
        self._starting = None
        await self._begun.wait()


async def _lock(state: StateDir) -> int:
    """The cluster's lock. Another process may hold it for a moment to see whether it is held, so try a few times."""
    for _ in range(20):
        descriptor = state.lock()
        if descriptor is not None:
            return descriptor
        await asyncio.sleep(0.05)
    raise HatchwayError(f'cluster "{state.path.name}" runs already', "`hatchway status` says how it is")


class _Cluster:
    """One cluster while it runs."""

    def __init__(self, state: StateDir, config: ClusterConfig) -> None:
        self.state = state
        self.config = config
        self.began = time.time()
        self.names = plan.node_names(config.workers)
        # What the store holds keeps no cluster from coming up, but it is said.
        self.problems: list[str] = []

    @contextlib.asynccontextmanager
    async def running(self, has_network: Callable[[int], None]) -> AsyncIterator[asyncio.Future[str]]:
        """Everything started and ready; the future ends, with the reason, when a part of it does.

        has_network: called with the process that the network's others descend from.
        """
        listener = _listen(self.config)
        port: int = listener.getsockname()[1]
        server = f"https://127.0.0.1:{port}"
        wanted = self.config.api_port if self.config.api_port is not None else plan.DEFAULT_API_PORT
        instead_of = wanted if port != wanted else 0
        if port != self.config.api_port:
            self.config = replace(self.config, api_port=port)
            self.state.save_config(self.config)
        credentials.admin_token(self.state)
        async with contextlib.AsyncExitStack() as stack:
            # The network is made by other processes, while this one reads its store.
            starting = asyncio.create_task(self._start_network(port))
            try:
                store = await asyncio.to_thread(_open_store, self.state)
                network = await starting
            finally:
                starting.cancel()
            stack.push_async_callback(network.stop)
            has_network(network.pid)
            loopback = network.isolation == "loopback"
            certificates = pki.load(self.state.pki)
            inside = ("127.0.0.1", port) if loopback else (plan.node_ip(0), plan.DEFAULT_API_PORT)
            api = ApiServer(
                self.state,
                store,
                certificates,
                dial=network.dialer.connect,
                allow_loopback_pods=loopback,
                address=f"{inside[0]}:{inside[1]}",
                rewriting=rewriting_of(self.config.rewrite),
            )
            stack.push_async_callback(api.close, _CLOSE_SECONDS)
            # Nodes end before the API server that they talk to: their connections are gone, and nobody waits for them.
            stack.push_async_callback(network.stop, SHUT_DOWN_SECONDS + _STOP_MARGIN)
            self.problems += await api.bootstrap(*inside)
            await self._remove_old_nodes(api.client, loopback)
            await self._ensure_control_plane(api.client, loopback)
            await forget_readiness(api.client)
            await api.listen(listener)
            report("api", server=server, instead_of=instead_of)
            if not loopback:
                for ip, private_port in ((plan.API_SERVICE_IP, 443), (plan.node_ip(0), plan.DEFAULT_API_PORT)):
                    await api.listen(await network.dialer.listen(ip, private_port))
            controllers = asyncio.create_task(
                run_controllers(api.client, config=ControllerConfig(ca_certificate=certificates.ca_pem.decode()))
            )
            stack.push_async_callback(_cancelled, controllers)
            await self._ready(api.client, network, server)
            failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

            def fail(why: str) -> None:
                if not failed.done():
                    failed.set_result(why)

            network.closed.add_done_callback(lambda done: fail(done.result()))
            controllers.add_done_callback(lambda _: fail("the controllers have ended"))
            yield failed

    async def _start_network(self, api_port: int) -> Network:
        """The private network where this machine allows it, else loopback, with what its node agent must know."""
        mode, why = self.config.network, "isolation was switched off with --network loopback"
        if mode != "loopback":
            try:
                return await launcher.start_private_network(self._settings(api_port, loopback=False))
            except launcher.Unavailable as error:
                if mode == "private":
                    raise
                why = error.message
        return await launcher.start_loopback_network(self._settings(api_port, loopback=True), why)

    def _settings(self, api_port: int, *, loopback: bool) -> launcher.Settings:
        state = self.state
        ips = [plan.node_ip(index, loopback=loopback) for index in range(len(self.names))]
        pki.ensure(
            state.pki,
            cluster_name=self.config.name,
            node_names=self.names,
            node_ips=ips,
            api_ips=() if loopback else ips[:1],
        )
        url = f"https://127.0.0.1:{api_port}" if loopback else f"https://{plan.API_SERVICE_IP}:443"
        agent = AgentConfig(
            state_dir=str(state.path),
            nodes=[NodeSpec(name, index, ip) for index, (name, ip) in enumerate(zip(self.names, ips, strict=True))],
            api_server=url,
            pod_api_server=url,
            isolation="loopback" if loopback else "private",
            cluster_dns=plan.DNS_SERVICE_IP if self.config.addons and not loopback else "",
            host_paths=self.config.host_paths,
        )
        # On loopback secrets lie there on the disk: what a killed cluster has left goes before anything starts.
        with beneath.opened(beneath.open_directory(state.path)) as top:
            beneath.remove_tree(top, state.memory.name)
        state.create()
        config_file = state.path / "agent.json"
        agent.save(config_file)
        directory = state.path / "network"
        directory.mkdir(mode=0o700, exist_ok=True)
        return launcher.Settings(
            nodes=len(self.names),
            agent=[sys.executable, "-m", "hatchway.cluster.node"],
            directory=directory,
            log=state.node_log,
            env={**os.environ, node_config.ENVIRONMENT: str(config_file)},
            hidden=[state.path],
        )

    async def _remove_old_nodes(self, client: Client, loopback: bool) -> None:
        """Forget nodes that the cluster does not have any more, or has elsewhere: addresses of a node never change."""
        ranges = {name: str(plan.pod_cidr(index, loopback=loopback)) for index, name in enumerate(self.names)}
        for node in await client.list("nodes"):
            name, spec = node["metadata"]["name"], node.get("spec", {})
            if spec.get("podCIDR") != ranges.get(name):
                try:
                    await client.delete("nodes", name)
                except ApiError as error:
                    self.problems.append(f"nodes/{name}: {error.message}")

    async def _ensure_control_plane(self, client: Client, loopback: bool) -> None:
        """Make the control plane's Node, or give it its role (as kubeadm does)."""
        node = NodeSpec(plan.CONTROL_PLANE, 0, plan.node_ip(0, loopback=loopback))
        wanted = registration.control_plane_object(node, loopback=loopback)
        try:
            try:
                await client.create("nodes", wanted)
            except ApiError as error:
                if error.code != 409:
                    raise
                await client.patch("nodes", node.name, {"metadata": {"labels": wanted["metadata"]["labels"]}})
        except ApiError as error:
            # What the store holds must not keep the cluster from coming up.
            self.problems.append(f"nodes/{node.name}: {error.message}")

    async def _ready(self, client: Client, network: Network, server: str) -> None:
        """Wait for nodes and built-in services, and say so as they come. Those that do not come in time are named, and
        the cluster runs without them, so that whoever it belongs to can see why. Raises HatchwayError when the network
        has ended."""
        services: list[Any] = []
        if self.config.addons:
            self.problems += await addons.ensure_addons(client)
            services = await client.list("services", NAMESPACE, label_selector=LABEL_SELECTOR)
        waiting = asyncio.create_task(self._await_ready(client, network, services))
        network.closed.add_done_callback(lambda _: waiting.cancel())
        try:
            await asyncio.wait({waiting})
            if waiting.cancelled():
                raise HatchwayError(
                    f"the cluster cannot start: {network.closed.result()}", f"see {self.state.node_log}"
                )
            waiting.result()
        finally:
            await _cancelled(waiting)
        for problem in self.problems:
            logger.error("%s", problem)
        run = {
            "pid": os.getpid(),
            "network_pid": network.pid,
            "server": server,
            "started": self.began,
            "private": not network.limits,
            "limits": network.limits,
            "built_in": [{"name": found.name, "url": found.url} for found in built_in(services, server)],
        }
        self.state.save_run(run)
        logger.info("ready at %s after %.1f s", server, time.time() - self.began)
        report("ready", **run, problems=self.problems)

    async def _await_ready(self, client: Client, network: Network, services: list[Any]) -> None:
        names = self.names
        nodes = Informer(client, "nodes")
        slices = Informer(client, "endpointslices.discovery.k8s.io", NAMESPACE)

        def missing_nodes() -> list[str]:
            return [name for name in names if not ((node := nodes.get(name)) and readiness.node_ready(node))]

        wanted = sorted(service["metadata"]["name"] for service in services)

        def missing_services() -> list[str]:
            return [name for name in wanted if not readiness.has_ready_endpoint(name, slices.items.values())]

        async with running(nodes, slices):
            await self._until(nodes, missing_nodes, "node")
            report("nodes", names=names, limits=network.limits)
            if self.config.addons:
                await self._until(slices, missing_services, "built-in service")
                report("built-in", names=wanted)

    async def _until(self, informer: Informer, missing: Callable[[], list[str]], what: str) -> None:
        """Wait until nothing is missing, looking again whenever the informer's objects change; after a while note what is."""
        changed = asyncio.Event()
        informer.subscribe(lambda _type, _obj: changed.set())
        try:
            async with asyncio.timeout(max(5.0, _READY_SECONDS - (time.time() - self.began))):
                while missing():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            self.problems += [f"{what} {name} is not ready: see {self.state.node_log}" for name in missing()]


def _open_store(state: StateDir) -> Store:
    schema.load()
    return Store.open(state.store_file, shape_fault)


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended; what it raised has been reported already."""
    task.cancel()
    await asyncio.wait({task})


def _listen(config: ClusterConfig) -> socket.socket:
    """The API server's socket: the port it has kept, else the default one, else any free one. Loopback only.

    Whether a port that somebody asks for is free has been looked at before (`lifecycle.configure`).
    """
    wanted = plan.DEFAULT_API_PORT if config.api_port is None else config.api_port
    try:
        return socket.create_server(("127.0.0.1", wanted))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise HatchwayError(f"cannot listen on 127.0.0.1:{wanted}: {os.strerror(error.errno or 0)}") from error
    return socket.create_server(("127.0.0.1", 0))
