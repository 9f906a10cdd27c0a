"""One node's kubelet: its registration, its pods' workers and its API."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import time
from pathlib import Path

from hatchway.cluster import plan
from hatchway.cluster.node.access import Access
from hatchway.cluster.node.api import KubeletApi
from hatchway.cluster.node.config import AgentConfig, NodeSpec
from hatchway.cluster.node.registration import Registration
from hatchway.cluster.node.runtime import NodeFiles, Runtime
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.node.surroundings import NodeServices
from hatchway.cluster.node.volumes import remove_files
from hatchway.cluster.node.worker import PodWorker
from hatchway.cluster.state import StateDir
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.kube.http import HttpClient
from hatchway.kube.informer import Informer
from hatchway.proxy.server import serve

log = logging.getLogger(__name__)

_CRASH_SECONDS = 10.0
_TELL_SECONDS = 3.0


class Kubelet:
    """Runs the pods of one node. `run` until cancelled; `shut_down` first for a gentle end."""

    def __init__(
        self,
        config: AgentConfig,
        node: NodeSpec,
        runtime: Runtime,
        client: Client,
        sources: Sources,
        services: Informer,
    ) -> None:
        self.node = node
        self._config = config
        self._runtime = runtime
        self._client = client
        self._events = EventRecorder(client, "kubelet", node.name)
        self._registration = Registration(client, node, self._events, loopback=config.loopback)
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
        )
        self.workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._finished: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        self._ending = False
        sources.subscribe(self._source_changed)

    async def run(self) -> None:
        """Listen, register, run pods. Raises OSError when the node's address cannot be listened on."""
        api = KubeletApi(self.node.name, self.pods, self.workers, self.shared.logs, self._registration.resources)
        access = Access(self._client, self.node.name)
        sock = await self._listen()
        self._registration.port = sock.getsockname()[1]
        server = await serve(api.guarded(access), sock=sock, ssl=self._tls())
        try:
            async with asyncio.TaskGroup() as self._group:
                group = self._group
                group.create_task(self.shared.sources.run(), name=f"sources of {self.node.name}")
                group.create_task(self.pods.run(), name=f"pods of {self.node.name}")
                await self.pods.synced()
                self.pods.subscribe(self._pod_event)
                await self._tell_of_restarts()
                group.create_task(self._registration.run(), name=f"registration {self.node.name}")
        finally:
            await server.close()
            await self._events.aclose()

    async def registered(self) -> None:
        """Wait until the node is registered and says Ready."""
        await self._registration.registered.wait()

    async def shut_down(self, longest: float) -> None:
        """End all pods' processes, within `longest` seconds and a little; the pods stay in the API."""
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
            # Clusters without networks of their own share their nodes' addresses; the Node says which port it is.
            return await self._runtime.listen(self.node.ip, 0)

    async def _tell_of_restarts(self) -> None:
        """Wait until no pod of an earlier life counts as running: a node that says Ready must not contradict itself."""
        told = [asyncio.ensure_future(worker.told.wait()) for worker in self.workers.values()]
        if told:
            _, late = await asyncio.wait(told, timeout=_TELL_SECONDS)
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
                worker.removed()
        elif worker is not None:
            worker.update(pod)
        elif uid not in self._finished and not self._ending:
            self._start(pod)

    def _start(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        try:
            worker = self.workers[uid] = PodWorker(self.shared, pod)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Anybody with the right to may write a status that makes no sense.
            log.exception("pod %s cannot be run", pod["metadata"]["name"])
            self._finished.add(uid)
            self.shared.events.event(pod, "Warning", "FailedSync", "Error syncing pod: see node.log")
            return
        if pod["metadata"].get("deletionTimestamp"):
            worker.update(pod)
        assert self._group is not None, "pods are seen after run() has begun"
        self.shared.sources.follow(uid, pod["metadata"].get("namespace", ""), worker.references)
        self._tasks[uid] = self._group.create_task(self._work(uid, worker), name=f"pod {pod['metadata']['name']}")

    async def _work(self, uid: str, worker: PodWorker) -> None:
        failed = False
        try:
            await worker.run()
        except Exception:
            # One pod that breaks its worker must not end all others.
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
            # Finalizers may keep the object; its processes are gone for good.
            self._finished.add(uid)

    def _source_changed(self, resource: str, namespace: str, name: str) -> None:
        for worker in self.workers.values():
            if worker.pod["metadata"].get("namespace") == namespace:
                worker.source_changed(resource, name)


def clean_up(state: StateDir, known: set[str], files: NodeFiles, *, older_than: float) -> None:
    """Delete files of pods that are not in `known` (uids), if nothing was written to them for `older_than` seconds."""
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


def open_client(config: AgentConfig, name: str) -> HttpClient:
    """The client that speaks with the certificate called `name`: a kubelet's, or the service proxy's."""
    return HttpClient(config.api_server, config.ca_file, cert=config.certificate(name))
