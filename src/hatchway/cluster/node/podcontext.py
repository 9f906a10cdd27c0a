"""The state that the containers of one pod share: object, sandbox, volumes, environment, logs and events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hatchway.cluster.node import nameresolution, sysctls
from hatchway.cluster.node.backoff import PullDelay
from hatchway.cluster.node.checkhttp import Dial
from hatchway.cluster.node.config import AgentConfig, NodeSpec
from hatchway.cluster.node.env import Environment, service_environment
from hatchway.cluster.node.imagestock import ImageStock
from hatchway.cluster.node.logfiles import NODE_FILE, ContainerLog, log_path, pod_log_directory
from hatchway.cluster.node.podgroups import PodGroups
from hatchway.cluster.node.projections import PodFacts, Projector
from hatchway.cluster.node.resizing import NodeLedger
from hatchway.cluster.node.runtimehandlers import check_runtime_class
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.node.volumes import Volumes, pod_directory
from hatchway.cluster.packetrules import PodAdmission
from hatchway.cluster.runtime import Mount, Runtime, Sandbox, SandboxConfig, Sharing
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.numerals import is_digits

log = logging.getLogger(__name__)

_TERMINATION_LOG = "/dev/termination-log"
_DEFAULT_GRACE = 30.0


@dataclass(frozen=True, slots=True)
class NodeServices:
    """The objects and settings that the workers of one node share.

    services: a function that returns all Services.
    allocatable: the node's resources, as quantities.
    pods, memory: the parent directories of the pods' directories, on disk and in memory.
    logs: the directory of the pods' logs.
    measuring: a lock, so that only one pod's files are measured at a time.
    ledger: the resources that are reserved for each pod.
    policies: the network policies; None when they are not enforced.
    images: the container images; None when there is no store of them.
    """

    config: AgentConfig
    node: NodeSpec
    client: Client
    runtime: Runtime
    events: EventRecorder
    sources: Sources
    services: Callable[[], list[Object]]
    allocatable: Mapping[str, str]
    pods: Path
    memory: Path
    logs: Path
    ledger: NodeLedger
    measuring: asyncio.Lock = field(default_factory=asyncio.Lock)
    policies: PodAdmission | None = None
    images: ImageStock | None = None


def sharing(pod: Object) -> Sharing:
    """Return the namespaces that the pod's spec shares: with the node, or among its containers."""
    spec = pod["spec"]
    processes: Literal["container", "pod", "node"] = "pod" if spec.get("shareProcessNamespace") else "container"
    return Sharing(
        network=bool(spec.get("hostNetwork")),
        ipc=bool(spec.get("hostIPC")),
        processes="node" if spec.get("hostPID") else processes,
    )


class PodContext:
    """The state that the containers of one pod share. Raises ValueError when its uid cannot be a directory's name.

    pod: the last known object.
    dirty: an event that is set when the status may have changed.
    sources_changed: an event that is set, and replaced, when a ConfigMap or Secret of the pod has changed.
    pull_delays: the delays of images that could not be pulled, by the image's name in the pod's spec.
    """

    def __init__(self, node: NodeServices, pod: Object) -> None:
        self.node = node
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.dirty = asyncio.Event()
        self.sources_changed = asyncio.Event()
        self.pull_delays: dict[str, PullDelay] = {}
        self.volumes = Volumes(
            pod_directory(node.pods, self.uid),
            Projector(node.client, node.sources.read),
            memory=pod_directory(node.memory, self.uid),
            files=node.runtime,
            node_index=node.node.index,
            node_name=node.node.name,
            read=node.sources.read,
            users=node.runtime.users,
            warn=lambda message: self.event("Warning", "UnknownVolumeOwners", message),
        )
        self.groups = PodGroups(node.runtime.control_groups, self.uid)
        self._sandbox: Sandbox | None = None
        self._starting = asyncio.Lock()

    # --- the pod ---------------------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        """Return the pod's namespace."""
        return str(self.pod["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        """Return the pod's name."""
        return str(self.pod["metadata"]["name"])

    @property
    def full_name(self) -> str:
        """Return the pod's name for messages (`format.Pod`): NAME_NAMESPACE(UID)."""
        return f"{self.name}_{self.namespace}({self.uid})"

    def _host(self) -> str:
        """Return the node's name if the pod uses the node's network, else ""."""
        on_node = bool(self.pod["spec"].get("hostNetwork")) and not self.node.config.loopback
        return self.node.node.name if on_node else ""

    def hostname(self) -> str:
        """Return the pod's host name in the kernel. Raises OSError for a name that is too long."""
        return self._host() or nameresolution.kernel_hostname(self.pod, self.node.config.cluster_domain)

    def grace(self) -> float:
        """Return the pod's grace period in seconds."""
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE if grace is None else float(grace)

    def mark_changed(self) -> None:
        """Request that the status is written, because one of its fields has changed."""
        self.dirty.set()

    def event(self, type: Literal["Normal", "Warning"], reason: str, message: str, container: str = "") -> None:
        """Report an event of the pod, or of one of its containers."""
        path = ""
        if container:
            kinds = ("initContainers", "ephemeralContainers")
            named = {spec["name"]: kind for kind in kinds for spec in self.pod["spec"].get(kind) or ()}
            path = f"spec.{named.get(container, 'containers')}{{{container}}}"
        self.node.events.event(self.pod, type, reason, message, field_path=path)

    # --- the sandbox -----------------------------------------------------------------------------------------------

    @property
    def sandbox(self) -> Sandbox:
        """Return the pod's sandbox. It must exist."""
        assert self._sandbox is not None, "containers start after the sandbox"
        return self._sandbox

    @property
    def has_sandbox(self) -> bool:
        """Return True while the pod has a sandbox."""
        return self._sandbox is not None

    @property
    def dial(self) -> Dial:
        """Return a function that connects to addresses of the pod's network."""
        return self.node.runtime.dial

    async def make_sandbox(self) -> None:
        """Make the pod's sandbox. Raises OSError, and ApiError when its RuntimeClass cannot be read."""
        await check_runtime_class(self.node.client, self.pod)
        config = self.node.config
        resolv_conf = nameresolution.resolv_conf(
            self.pod,
            cluster_dns=config.cluster_dns,
            cluster_domain=config.cluster_domain,
            host_nameserver=config.host_nameserver,
        )

        # On loopback addresses, no pod can use the cluster's nameserver. `hatchway up` reports that, not each pod.
        missing = "" if config.loopback else nameresolution.missing_dns(self.pod, config.cluster_dns)
        if missing:
            self.node.events.event(self.pod, "Warning", "MissingClusterDNS", missing)

        def etc(ip: str) -> dict[str, str]:
            return {
                "hosts": nameresolution.hosts(self.pod, ip, config.cluster_domain, self._host()),
                "resolv.conf": resolv_conf,
            }

        sandbox = await self.node.runtime.create_sandbox(
            SandboxConfig(
                node_index=self.node.node.index,
                uid=self.uid,
                hostname=self.hostname(),
                etc=etc,
                sysctls=sysctls.wanted(self.pod),
                sharing=sharing(self.pod),
            )
        )
        if self.node.policies is not None:
            try:
                await self.node.policies.admit(self.uid, sandbox.ip)
            except BaseException:
                self.node.policies.forget(self.uid)
                await sandbox.remove()
                raise
        self._sandbox = sandbox
        self.mark_changed()

    async def remove_sandbox(self) -> None:
        """Kill all processes in the sandbox and remove it, with the pod's control group. Idempotent."""
        if self._sandbox is not None:
            sandbox, self._sandbox = self._sandbox, None
            try:
                await sandbox.remove()
            finally:
                if self.node.policies is not None:
                    self.node.policies.forget(self.uid)
            self.mark_changed()
        await self.groups.close()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[], None]]:
        """Wait until no other container of the pod starts, then let the block start one container.

        Yield a function that lets the next container start before the block ends. As in the kubelet, a pod's containers
        start one after another: each starts after the postStart hook of the previous one.
        """
        await self._starting.acquire()
        held = True

        def end() -> None:
            nonlocal held
            if held:
                held = False
                self._starting.release()

        try:
            yield end
        finally:
            end()

    # --- what a container gets at its start ---------------------------------------------------------------------

    def facts(self) -> PodFacts:
        """Return facts of node and sandbox for the downward API. The pod's address is "" before there is a sandbox."""
        ip = self._sandbox.ip if self._sandbox is not None else ""
        return PodFacts(self.node.node.ip, ip, self.node.allocatable)

    async def environment(self, container: Object) -> dict[str, str]:
        """Return a container's own environment, without its image's variables. Raises ConfigError, ApiError."""
        node, pod = self.node, self.pod
        base = {"HATCHWAY_POD_IP": self.sandbox.ip} if node.config.loopback else {}
        links = pod["spec"].get("enableServiceLinks")
        services = service_environment(
            node.services(),
            self.namespace,
            links=links is None or bool(links),
            api_server=node.config.pod_api_server,
        )

        def skipped(source: str, keys: list[str]) -> None:
            message = (
                f"Keys [{', '.join(keys)}] from the EnvFrom {source} were skipped since they are considered invalid "
                "environment variable names."
            )
            self.event("Warning", "InvalidEnvironmentVariableNames", message)

        builder = Environment(
            pod,
            node.sources.read,
            base=base,
            services=services,
            host_ip=node.node.ip,
            pod_ip=self.sandbox.ip,
            allocatable=node.allocatable,
            skipped=skipped,
        )
        return await builder.build(container)

    def prepare_mounts(self, container: Object, environment: Mapping[str, str]) -> list[Mount]:
        """Create the container's subPath directories and termination log; return its mounts. Raises ConfigError."""
        path = container.get("terminationMessagePath") or _TERMINATION_LOG
        return [
            *self.volumes.prepare_mounts(container, environment),
            self.volumes.make_termination_log(container["name"], path),
        ]

    @property
    def log_directory(self) -> Path:
        """Return the directory of the pod's logs."""
        return pod_log_directory(self.node.logs, self.namespace, self.name, self.uid)

    def log_file(self, container: str, attempt: int) -> ContainerLog:
        """Return the log of a new attempt.

        The previous attempt's log stays (`kubectl logs --previous`); older logs are deleted.
        """
        directory = self.log_directory
        for old in (directory / container).glob("*.log*"):
            number = old.name.partition(".")[0]
            if is_digits(number) and int(number) < attempt - 1:
                old.unlink(missing_ok=True)
        self._write_node_name(directory)
        return ContainerLog(log_path(directory, container, attempt))

    def _write_node_name(self, directory: Path) -> None:
        """Write the node's name next to the logs, because one directory holds the logs of all nodes' pods."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / NODE_FILE).write_text(self.node.node.name + "\n")
        except OSError as error:
            # Most likely the disk is full. Continue, because the log is useful even without the node's name.
            log.warning("cannot write %s: %s", directory / NODE_FILE, error.strerror)
