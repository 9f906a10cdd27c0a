"""Starts and stops one cluster: its network, API server, controllers and built-in services."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hatchway import beneath, trees
from hatchway.cluster import addonnames, descriptors, firstuse, plan, readiness
from hatchway.cluster.addonmanifests import addons, ingress, metrics
from hatchway.cluster.api.connect.proxyverb import rewriting_of
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.deviceselectors import device_matches
from hatchway.cluster.api.registry.storedshape import shape_fault
from hatchway.cluster.api.registry.types import scalable_resources
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import is_busy
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import credentialfiles, pki
from hatchway.cluster.controllers.defaultstorage import ensure_storage_class
from hatchway.cluster.controllers.manager import ControllerConfig, run_controllers
from hatchway.cluster.controllers.readinessreset import reset_readiness
from hatchway.cluster.gcschedule import GcSchedule
from hatchway.cluster.imageservice import ImageService
from hatchway.cluster.localvolumes import LocalVolumes
from hatchway.cluster.network import cgroups, launcher
from hatchway.cluster.network.egress import tools
from hatchway.cluster.network.egress.egresslink import EgressSettings
from hatchway.cluster.network.launcher import ClusterNetwork
from hatchway.cluster.node import config as node_config
from hatchway.cluster.node import registration
from hatchway.cluster.node.config import SHUT_DOWN_SECONDS, AgentConfig, NodeSpec
from hatchway.cluster.progress import report
from hatchway.cluster.state import EGRESS_STARTS, ClusterConfig, StateDir
from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Client
from hatchway.kube.clusterinfo import LABEL_SELECTOR, NAMESPACE, built_in
from hatchway.kube.firstuse import first_use_state

logger = logging.getLogger("hatchway.cluster")

_READY_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
# At the end of a cluster, the node agent may take this many seconds in addition to the time of its pods.
_STOP_MARGIN = 3.0
_WITHOUT_NETWORK = "`hatchway up --network auto` runs pods on loopback addresses instead, without isolation"


class ControlPlane:
    """One cluster while it runs. state: the cluster's files. config: its configuration."""

    def __init__(self, state: StateDir, config: ClusterConfig) -> None:
        self.state = state
        self.config = config
        self.began = time.time()
        self.names = plan.node_names(config.workers)
        self.addons = addonnames.enabled(config.addons)
        self.image_store = Path(config.image_store) if config.image_store else state.image_store
        # Problems with stored objects. They are reported, but do not prevent the start.
        self.problems: list[str] = []
        self._groups: Path | None = None
        self._resources = ""

    @contextlib.asynccontextmanager
    async def running(self, on_network_started: Callable[[int], None]) -> AsyncIterator[asyncio.Future[str]]:
        """Start all parts of the cluster, wait until they are ready, and stop them at the end.

        Yields a future that is done when the network or the controllers have ended by themselves. Its result is the
        reason.

        on_network_started: called with the process id of the network's first process.
        """
        listener = _listen(self.config)
        port: int = listener.getsockname()[1]
        server = f"https://127.0.0.1:{port}"
        wanted = self.config.api_port if self.config.api_port is not None else plan.DEFAULT_API_PORT
        instead_of = wanted if port != wanted else 0
        if port != self.config.api_port:
            self.config = replace(self.config, api_port=port)
            self.state.save_config(self.config)
        credentialfiles.ensure_admin_token(self.state)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._remove_groups)
            # Other processes build the network while this process opens the store.
            starting = asyncio.create_task(self._start_network(port))
            try:
                store = await asyncio.to_thread(_open_store, self.state, durable=not self.config.ephemeral)
                network = await starting
            finally:
                starting.cancel()
            # Stops the network if an error occurs before the other call of `stop` is registered below.
            stack.push_async_callback(network.stop)
            on_network_started(network.pid)
            images = ImageService(self.state.image_socket, self.image_store, self.state.server_log)
            stack.push_async_callback(images.close)
            images.listen()
            loopback = network.isolation == "loopback"
            certificates = pki.load(self.state.pki)
            inside = ("127.0.0.1", port) if loopback else (plan.node_ip(0), plan.DEFAULT_API_PORT)
            api = ApiServer(
                self.state,
                store,
                certificates,
                dial=network.dialer.connect,
                pod_networks=network.dialer.pods,
                allow_loopback_pods=loopback,
                address=f"{inside[0]}:{inside[1]}",
                rewriting=rewriting_of(self.config.rewrite),
                no_policies=network.no_policies,
            )
            stack.push_async_callback(api.close, _CLOSE_SECONDS)
            # Callbacks run in reverse order, so this one stops the nodes first: then the API server, which is closed
            # next, has no connections of nodes to wait for.
            stack.push_async_callback(network.stop, SHUT_DOWN_SECONDS + _STOP_MARGIN)
            self.problems += await api.bootstrap(*inside)
            self.problems += await ensure_storage_class(api.client)
            await self._remove_old_nodes(api.client, loopback)
            await self._ensure_control_plane_node(api.client, loopback)
            await reset_readiness(api.client)
            await api.listen(listener)
            report("api", server=server, instead_of=instead_of)
            if not loopback:
                for ip, private_port in ((plan.API_SERVICE_IP, 443), (plan.node_ip(0), plan.DEFAULT_API_PORT)):
                    await api.listen(await network.dialer.listen(ip, private_port), descriptors.limits_for_pods())
            settings = self._controller_config(certificates, api)
            problems: dict[str, str] = {}
            api.components.controllers = problems
            work = run_controllers(api.client, config=settings, scheduling=api.scheduling, problems=problems)
            controllers = asyncio.create_task(work)
            stack.push_async_callback(_cancel_and_wait, controllers)
            await self._start_addons_and_wait(api.client, network, server, certificates)
            collecting = asyncio.create_task(GcSchedule(is_busy).run(), name="garbage")
            stack.push_async_callback(_cancel_and_wait, collecting)
            failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

            def fail(why: str) -> None:
                if not failed.done():
                    failed.set_result(why)

            network.closed.add_done_callback(lambda done: fail(done.result()))
            controllers.add_done_callback(lambda _: fail("the controllers have ended"))
            yield failed

    def _controller_config(self, certificates: pki.Pki, api: ApiServer) -> ControllerConfig:
        config = ControllerConfig(
            ca_certificate=certificates.ca_pem.decode(),
            certificate_authority=(certificates.ca.cert, certificates.ca.key),
            types=api.types,
            scalable=scalable_resources(),
            pod_metrics=api.pod_metrics,
            select_device=device_matches,
            metrics_apis=api,
            volume_directories=LocalVolumes(self.state.nodes, self.config.host_paths),
        )
        if "ingress" not in self.addons:
            return config
        return replace(
            config, ingress_controller=ingress.CONTROLLER, ingress_manifests=tuple(addons.ingress_controller())
        )

    def _make_groups(self) -> None:
        """Make the cluster's control group, where that is possible."""
        try:
            self._groups = cgroups.make_tree(cgroups.find_base(), self.config.name, self.state.path)
            self._resources = f"limits of CPU and memory are enforced (control group {self._groups})"
        except (cgroups.NoGroups, OSError) as error:
            self._resources = cgroups.why_none(error)

    def _remove_groups(self) -> None:
        """Remove the cluster's control group, in which no process runs any more."""
        if self._groups is not None:
            groups, self._groups = self._groups, None
            try:
                cgroups.remove_tree(groups)
            except OSError as error:
                # The next start of this cluster removes the control group.
                logger.error("the control group %s is not removed: %s", groups, error)

    async def _start_network(self, api_port: int) -> ClusterNetwork:
        """Start the private network if this machine allows it, otherwise a network on loopback addresses."""
        mode, why = self.config.network, "isolation was switched off with --network loopback"
        self._resources = no_network = cgroups.why_none(cgroups.NoGroups("the cluster has no private network"))
        self.state.egress_file.unlink(missing_ok=True)
        if mode != "loopback":
            await asyncio.to_thread(self._make_groups)
            try:
                return await launcher.start_private_network(self._prepare_network(api_port, loopback=False))
            except launcher.Unavailable as error:
                if mode == "private":
                    raise launcher.Unavailable(error.message, _WITHOUT_NETWORK) from error
                why = error.message
                self._remove_groups()
                self._resources = no_network
        return await launcher.start_loopback_network(self._prepare_network(api_port, loopback=True), why)

    def _prepare_network(self, api_port: int, *, loopback: bool) -> launcher.NetworkSettings:
        """Write the certificates and the node agent's configuration. Return the settings of the private network."""
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
        egress = None if loopback else self._egress()
        agent = AgentConfig(
            state_dir=str(state.path),
            nodes=[NodeSpec(name, index, ip) for index, (name, ip) in enumerate(zip(self.names, ips, strict=True))],
            api_server=url,
            pod_api_server=url,
            isolation="loopback" if loopback else "private",
            cluster_dns=plan.DNS_SERVICE_IP if "dns" in self.addons and not loopback else "",
            image_store=str(self.image_store),
            host_programs=self.config.host_programs,
            host_nameserver=plan.HOST_NAMESERVER if egress is not None else "",
            host_paths=self.config.host_paths,
            published=self._published(),
            control_groups=str(self._groups or ""),
        )
        # On loopback `state.memory` is on disk: delete secrets that a killed cluster left.
        with beneath.closing(beneath.open_directory(state.path)) as top:
            trees.remove_tree(top, state.memory.name)
        state.create()
        # The image store is hidden from pods. Only an existing directory can be hidden.
        self.image_store.mkdir(mode=0o700, parents=True, exist_ok=True)
        config_file = state.path / "agent.json"
        agent.save(config_file)
        directory = state.path / "network"
        directory.mkdir(mode=0o700, exist_ok=True)
        return launcher.NetworkSettings(
            nodes=len(self.names),
            agent=[sys.executable, "-m", "hatchway.cluster.nodeagent"],
            directory=directory,
            log=state.node_log,
            env={**os.environ, node_config.ENVIRONMENT: str(config_file)},
            hidden=[state.path, self.image_store],
            published=self._published(),
            egress=egress,
        )

    def _egress(self) -> EgressSettings | None:
        """Return the settings by which pods reach other networks; None when they do not. Raises HatchwayError."""
        mode = self.config.egress
        tool = tools.choose(mode)
        if tool is None:
            why = "switched off with --egress none" if mode == tools.NONE else tools.MISSING
        else:
            why = f"{obstacle}; {tools.REMEDY}" if (obstacle := tools.obstacle()) else ""
        if tool is None or why:
            self._note_egress("", False, why)
            return None
        self._note_egress(tool.name, False, EGRESS_STARTS)

        def changed(up: bool, why: str) -> None:
            self._note_egress(tool.name, up, why)

        return EgressSettings(tool, self.config.egress_to_host, changed)

    def _note_egress(self, tool: str, up: bool, why: str) -> None:
        try:
            self.state.save_egress(tool=tool, up=up, why=why)
        except OSError as error:
            # The disk is full, or the state of an ephemeral cluster is deleted already.
            logger.warning("the state of the way to other networks cannot be written: %s", error)

    def _published(self) -> list[str]:
        """Return the addresses of this machine on which node ports are published."""
        # 0.0.0.0 includes all addresses. A second socket on one of them would be refused.
        return ["0.0.0.0"] if "0.0.0.0" in self.config.publish else [plan.HOST_IP, *self.config.publish]

    async def _remove_old_nodes(self, client: Client, loopback: bool) -> None:
        """Delete Nodes that are no longer configured, and Nodes with another spec.podCIDR, which cannot be changed."""
        ranges = {name: str(plan.pod_cidr(index, loopback=loopback)) for index, name in enumerate(self.names)}
        for node in await client.list("nodes"):
            name, spec = node["metadata"]["name"], node.get("spec", {})
            if spec.get("podCIDR") != ranges.get(name):
                try:
                    await client.delete("nodes", name)
                except ApiError as error:
                    self.problems.append(f"nodes/{name}: {error.message}")

    async def _ensure_control_plane_node(self, client: Client, loopback: bool) -> None:
        """Create the control plane's Node object, or set its role labels if it exists (as kubeadm does)."""
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
            # No stored object may prevent the cluster from starting.
            self.problems.append(f"nodes/{node.name}: {error.message}")

    async def _start_addons_and_wait(
        self, client: Client, network: ClusterNetwork, server: str, certificates: pki.Pki
    ) -> None:
        """Create the objects of chosen add-ons, remove those of other add-ons, and report when the cluster is ready.

        Nodes and services that are not ready in time are reported as problems, but the cluster keeps running.

        Raises:
            HatchwayError: the network has ended.
        """
        removed, problems = await addons.remove_addons(client, self.addons)
        self.problems += problems
        if removed:
            report("removed", names=removed)
        services: list[Any] = []
        if self.addons:
            self.problems += await addons.ensure_addons(client, self.addons, _metrics_certificate(certificates))
            services = await client.list("services", NAMESPACE, label_selector=LABEL_SELECTOR)
        idle = readiness.without_replicas(services, await client.list(firstuse.DEPLOYMENTS, NAMESPACE))
        waiting = asyncio.create_task(self._await_ready(client, network, services, idle))
        network.closed.add_done_callback(lambda _: waiting.cancel())
        try:
            await asyncio.wait({waiting})
            if waiting.cancelled():
                raise HatchwayError(
                    f"the cluster cannot start: {network.closed.result()}", f"see {self.state.node_log}"
                )
            waiting.result()
        finally:
            await _cancel_and_wait(waiting)
        for problem in self.problems:
            logger.error("%s", problem)
        run = {
            "pid": os.getpid(),
            "network_pid": network.pid,
            "server": server,
            "started": self.began,
            "private": not network.limits,
            "limits": network.limits,
            "no_policies": network.no_policies,
            "users": network.users,
            "resources": self._resources,
            "addons": list(self.addons),
            "removed_addons": removed,
            "built_in": [found.as_dict() for found in built_in(services, server)],
        }
        self.state.save_run(run)
        logger.info("ready at %s after %.1f s", server, time.time() - self.began)
        report("ready", **run, problems=self.problems)

    async def _await_ready(self, client: Client, network: ClusterNetwork, services: list[Any], idle: set[str]) -> None:
        """Wait for nodes and built-in services. idle: names of services without pods, which need no waiting."""
        deadline = self.began + _READY_SECONDS
        names = sorted({service["metadata"]["name"] for service in services} - idle)
        async with asyncio.TaskGroup() as group:
            # Both waits run at the same time, because services may be ready before the last node.
            waiting = group.create_task(readiness.wait_for_built_in(client, names, deadline)) if names else None
            self._note_unready("node", await readiness.wait_for_nodes(client, self.names, deadline))
            report("nodes", names=self.names, limits=network.limits)
            if waiting:
                self._note_unready("built-in service", await waiting)
                apis = [metrics.METRICS_API] if "metrics" in self.addons else []
                self._note_unready("API", await readiness.wait_for_apis(client, apis, deadline))
                report("built-in", names=names)
            if first_use := sorted(one["metadata"]["name"] for one in services if first_use_state(one)):
                report("first-use", names=first_use)

    def _note_unready(self, what: str, names: list[str]) -> None:
        self.problems += [f"{what} {name} is not ready: see {self.state.node_log}" for name in names]


def _metrics_certificate(certificates: pki.Pki) -> metrics.ServerCertificate:
    """Return the metrics server's certificate; make or renew it when necessary."""
    pair = certificates.issue(metrics.METRICS, metrics.METRICS, dns=[metrics.METRICS_HOST], server=True)
    return metrics.ServerCertificate(pair.cert.read_bytes(), pair.key.read_bytes(), certificates.ca_pem)


def _open_store(state: StateDir, *, durable: bool) -> Store:
    schema.load()
    return Store.open(state.store_file, shape_fault, durable=durable)


async def _cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended. Its error, if any, has been reported already."""
    task.cancel()
    await asyncio.wait({task})


def _listen(config: ClusterConfig) -> socket.socket:
    """Open the API server's socket on 127.0.0.1: on the configured or default port; if that is taken, on any free port.

    If the user asked for a port that is taken, `startoptions.configure` has already refused to start.
    """
    wanted = plan.DEFAULT_API_PORT if config.api_port is None else config.api_port
    try:
        return socket.create_server(("127.0.0.1", wanted))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise HatchwayError(f"cannot listen on 127.0.0.1:{wanted}: {os.strerror(error.errno or 0)}") from error
    return socket.create_server(("127.0.0.1", 0))
