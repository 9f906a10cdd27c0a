"""One node's kubelet: its registration, its pods' workers and its API."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from pathlib import Path

from hatchway import usermaps
from hatchway.cluster import plan
from hatchway.cluster.descriptors import limits_for_pods
from hatchway.cluster.node.apiaccess import Access
from hatchway.cluster.node.config import AgentConfig, NodeSpec
from hatchway.cluster.node.imagestock import ImageStock
from hatchway.cluster.node.kubeletapi import KubeletApi
from hatchway.cluster.node.podcontext import NodeServices
from hatchway.cluster.node.processusage import Meter
from hatchway.cluster.node.registration import USERS, Registration
from hatchway.cluster.node.resizing import NodeLedger
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.node.volumes import remove_files
from hatchway.cluster.node.worker import PodWorker
from hatchway.cluster.packetrules import PodAdmission
from hatchway.cluster.runtime import NodeFiles, Runtime
from hatchway.cluster.state import StateDir
from hatchway.kube.api import Client, Object
from hatchway.kube.client import ConnectionClient
from hatchway.kube.connection import Connection
from hatchway.kube.events import EventRecorder
from hatchway.kube.informer import Informer
from hatchway.kube.serversettings import with_certificate
from hatchway.proxy.server import serve

log = logging.getLogger(__name__)

# All nodes share one meter, because one process runs them, and their pods are processes of one machine.
_METER = Meter()
# A pod whose worker has failed is started again after this many seconds.
_CRASH_SECONDS = 10.0
# The maximum number of seconds to wait for the first statuses of pods that are older than this kubelet.
_STATUS_SECONDS = 3.0


class Kubelet:
    """Runs the pods of one node until `run` is cancelled. Call `shut_down` before that to end the pods gracefully."""

    def __init__(
        self,
        config: AgentConfig,
        node: NodeSpec,
        runtime: Runtime,
        client: Client,
        sources: Sources,
        services: Informer,
        policies: PodAdmission | None = None,
        images: ImageStock | None = None,
    ) -> None:
        self.node = node
        self._config = config
        self._runtime = runtime
        self._client = client
        self._events = EventRecorder(client, "kubelet", node.name)
        self._registration = Registration(
            client,
            node,
            self._events,
            loopback=config.loopback,
            images=images.summary if images is not None else None,
        )
        self._registration.annotations[USERS] = usermaps.explain(runtime.users)
        self.pods = Informer(client, "pods", field_selector=f"spec.nodeName={node.name}")
        state = StateDir(Path(config.state_dir))
        self.shared = NodeServices(
            config=config,
            node=node,
            client=client,
            runtime=runtime,
            events=self._events,
            sources=sources,
            services=lambda: list(services.items.values()),
            allocatable=self._registration.resources,
            pods=state.pods,
            memory=state.memory,
            logs=state.logs,
            policies=policies,
            images=images,
            ledger=NodeLedger(self._registration.resources),
        )
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._finished: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        self._ending = False
        sources.subscribe(self._source_changed)

    async def run(self) -> None:
        """Listen, register the node, and run its pods. Raises OSError when it cannot listen on the node's address."""
        api = KubeletApi(self.shared, self.pods, self.workers, _METER, lambda: self._registration.port)
        access = Access(self._client, self.node.name)
        sock = await self._listen()
        self._registration.port = sock.getsockname()[1]
        limits = None if self._config.loopback else limits_for_pods()
        server = await serve(api.guarded(access), sock=sock, ssl=self._tls(), limits=limits)
        try:
            async with asyncio.TaskGroup() as self._group:
                group = self._group
                group.create_task(self.shared.sources.run(), name=f"sources of {self.node.name}")
                group.create_task(self.pods.run(), name=f"pods of {self.node.name}")
                await self.pods.synced()
                self.pods.subscribe(self._pod_event)
                await self._wait_for_statuses()
                group.create_task(self._registration.run(), name=f"registration {self.node.name}")
        finally:
            await server.close()
            await api.close()
            await self._events.aclose()

    async def wait_until_registered(self) -> None:
        """Wait until the node is registered and its status is Ready."""
        await self._registration.registered.wait()

    async def shut_down(self, longest: float) -> None:
        """End the processes of all pods, within about `longest` seconds. The pods stay in the API."""
        self._ending = True
        for worker in self.workers.values():
            worker.shut_down(longest)
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=longest + 2)

    async def _listen(self) -> socket.socket:
        try:
            return await self._runtime.listen(self.node.ip, plan.KUBELET_PORT)
        except OSError as error:
            if not self._config.loopback or error.errno != errno.EADDRINUSE:
                raise
            # Clusters on loopback addresses share the nodes' addresses, so use any free port. The Node object contains
            # it.
            return await self._runtime.listen(self.node.ip, 0)

    async def _wait_for_statuses(self) -> None:
        """Wait until each pod has its first status from this kubelet, at most `_STATUS_SECONDS`.

        When an earlier agent has ended, its pods' processes have ended, too, but the API still shows the pods as
        running. The node must not become Ready before their statuses are corrected.
        """
        written = [asyncio.ensure_future(worker.status_written.wait()) for worker in self.workers.values()]
        if written:
            _, late = await asyncio.wait(written, timeout=_STATUS_SECONDS)
            for task in late:
                task.cancel()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.load_cert_chain(*self._config.certificate(f"kubelet-{self.node.name}"))
        context.load_verify_locations(self._config.ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _pod_event(self, kind: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        worker = self.workers.get(uid)
        if kind == "DELETED":
            self._finished.discard(uid)
            if worker is not None:
                worker.handle_removal()
        elif worker is not None:
            worker.update(pod)
        elif uid not in self._finished and not self._ending:
            self._start(pod)

    def _start(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        try:
            worker = self.workers[uid] = PodWorker(self.shared, pod)
        except (AttributeError, KeyError, TypeError, ValueError):
            # The status in the API may be invalid: users with the right to write statuses may have changed it.
            log.exception("pod %s cannot be run", pod["metadata"]["name"])
            self._finished.add(uid)
            self.shared.events.event(pod, "Warning", "FailedSync", "Error syncing pod: see node.log")
            return
        if pod["metadata"].get("deletionTimestamp"):
            worker.update(pod)
        assert self._group is not None, "pods are started only inside run()"
        self.shared.sources.follow(uid, pod["metadata"].get("namespace", ""), worker.references)
        self._tasks[uid] = self._group.create_task(self._work(uid, worker), name=f"pod {pod['metadata']['name']}")

    async def _work(self, uid: str, worker: PodWorker) -> None:
        failed = False
        try:
            await worker.run()
        except Exception:
            # An error in one pod's worker must not end the other pods.
            log.exception("the worker of pod %s has failed", worker.pod["metadata"]["name"])
            failed = True
        finally:
            del self.workers[uid]
            del self._tasks[uid]
            self.shared.sources.release(uid)
        key = worker.pod["metadata"].get("namespace", ""), worker.pod["metadata"]["name"]
        if failed:
            self.shared.events.event(worker.pod, "Warning", "FailedSync", "Error syncing pod: see node.log")
            await asyncio.sleep(_CRASH_SECONDS)
            current = self.pods.items.get(key)
            if current is not None and current["metadata"]["uid"] == uid and uid not in self.workers:
                self._start(current)
        elif (current := self.pods.items.get(key)) is not None and current["metadata"]["uid"] == uid:
            # Finalizers may keep the pod's object, but the pod's processes have ended and are not started again.
            self._finished.add(uid)

    def _source_changed(self, resource: str, namespace: str, name: str) -> None:
        for worker in self.workers.values():
            if worker.pod["metadata"].get("namespace") == namespace:
                worker.handle_source_change(resource, name)


def clean_up(state: StateDir, known: set[str], files: NodeFiles, *, older_than: float) -> None:
    """Delete files of pods whose UID is not in `known`, if nothing was written to them for `older_than` seconds."""
    limit = time.time() - older_than
    for directory in (state.pods, state.memory, state.logs):
        if not directory.is_dir():
            continue
        for entry in directory.iterdir():
            # Log directories are called NAMESPACE_NAME_UID, the others UID.
            uid = entry.name.rpartition("_")[2]
            try:
                if uid not in known and _last_change(entry) < limit:
                    remove_files(entry, files)
            except OSError as error:
                log.warning("cannot clean up %s: %s", entry, error)


def _last_change(path: Path) -> float:
    return max((found.stat().st_mtime for found in (path, *path.glob("*/*.log"))), default=0.0)


def open_client(config: AgentConfig, name: str) -> ConnectionClient:
    """Return a client of the API with a certificate of the cluster. name: the certificate's name in `config`."""
    certificate, key = map(Path, config.certificate(name))
    settings = with_certificate(config.api_server, config.ca_file, certificate, key)
    return Connection.fixed(settings, "kubelet").client
