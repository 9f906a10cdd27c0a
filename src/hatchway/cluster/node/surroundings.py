"""What the containers of one pod share: its object, sandbox, volumes, environment, logs and events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hatchway.cluster.node import etcfiles, probes
from hatchway.cluster.node.config import AgentConfig, NodeSpec
from hatchway.cluster.node.env import Environment, base_environment, service_environment
from hatchway.cluster.node.logs import LogFile, log_path, pod_log_directory
from hatchway.cluster.node.projections import PodFacts, Projector
from hatchway.cluster.node.runtime import Mount, Runtime, Sandbox
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.node.volumes import Volumes, pod_directory
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.numerals import is_digits

log = logging.getLogger(__name__)

# Beside a pod's logs: the name of its node, which whoever collects logs wants to know.
NODE_FILE = ".node"
_TERMINATION_LOG = "/dev/termination-log"
_DEFAULT_GRACE = 30.0


@dataclass(frozen=True, slots=True)
class NodeServices:
    """What the workers of one node share. services(): all Services; allocatable: the node's, as quantities. memory:
    as `pods`, for what must not be on a disk."""

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


class Surroundings:
    """One pod's. Raises ValueError when its uid cannot name a directory.

    pod: the object as it is known now. dirty: set when the status may be another one. sources_changed: set, and
    replaced, when a ConfigMap or Secret that the pod refers to has changed.
    """

    def __init__(self, node: NodeServices, pod: Object) -> None:
        self.node = node
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.dirty = asyncio.Event()
        self.sources_changed = asyncio.Event()
        self.volumes = Volumes(
            pod_directory(node.pods, self.uid),
            Projector(node.client, node.sources.fresh),
            memory=pod_directory(node.memory, self.uid),
            files=node.runtime,
            node_index=node.node.index,
        )
        self._sandbox: Sandbox | None = None

    # --- the pod ---------------------------------------------------------------------------------------------------

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def full_name(self) -> str:
        """As messages call a pod (`format.Pod`)."""
        return f"{self.name}_{self.namespace}({self.uid})"

    def grace(self) -> float:
        """Seconds that its containers have for ending."""
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.pod["spec"].get("terminationGracePeriodSeconds")
        return _DEFAULT_GRACE if grace is None else float(grace)

    def changed(self) -> None:
        """Something that the status tells is another now."""
        self.dirty.set()

    def event(self, type: Literal["Normal", "Warning"], reason: str, message: str, container: str = "") -> None:
        """Report an event of the pod, or of one of its containers."""
        path = ""
        if container:
            init = any(spec["name"] == container for spec in self.pod["spec"].get("initContainers") or ())
            path = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
        self.node.events.event(self.pod, type, reason, message, field_path=path)

    # --- the sandbox -----------------------------------------------------------------------------------------------

    @property
    def sandbox(self) -> Sandbox:
        assert self._sandbox is not None, "containers start after the sandbox"
        return self._sandbox

    @property
    def has_sandbox(self) -> bool:
        return self._sandbox is not None

    @property
    def dial(self) -> probes.Dial:
        return self.node.runtime.dial

    async def make_sandbox(self) -> None:
        """Raises OSError."""
        config = self.node.config
        etc = {
            "hosts": etcfiles.hosts(self.pod),
            "resolv.conf": etcfiles.resolv_conf(
                self.pod, cluster_dns=config.cluster_dns, cluster_domain=config.cluster_domain
            ),
        }
        self._sandbox = await self.node.runtime.create_sandbox(
            node_index=self.node.node.index,
            uid=self.uid,
            namespace=self.namespace,
            name=self.name,
            hostname=etcfiles.hostname(self.pod),
            etc=etc,
        )
        self.changed()

    async def remove_sandbox(self) -> None:
        """Kill what is in it. Idempotent."""
        if self._sandbox is not None:
            sandbox, self._sandbox = self._sandbox, None
            await sandbox.remove()
            self.changed()

    # --- what a container starts with ------------------------------------------------------------------------------

    def facts(self) -> PodFacts:
        """For the downward API; the address is "" before there is a sandbox."""
        ip = self._sandbox.ip if self._sandbox is not None else ""
        return PodFacts(self.node.node.ip, ip, self.node.allocatable)

    async def environment(self, container: Object) -> dict[str, str]:
        """Raises ConfigError, ApiError."""
        node, pod = self.node, self.pod
        base = base_environment(etcfiles.hostname(pod))
        if node.config.loopback:
            base["HATCHWAY_POD_IP"] = self.sandbox.ip
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
            node.sources.fresh,
            base=base,
            services=services,
            host_ip=node.node.ip,
            pod_ip=self.sandbox.ip,
            allocatable=node.allocatable,
            skipped=skipped,
        )
        return await builder.build(container)

    def mounts(self, container: Object, environment: Mapping[str, str]) -> list[Mount]:
        """Volumes and the termination log. Raises ConfigError."""
        path = container.get("terminationMessagePath") or _TERMINATION_LOG
        return [
            *self.volumes.mounts(container, environment),
            self.volumes.termination_log(container["name"], path),
        ]

    def log_file(self, container: str, attempt: int) -> LogFile:
        """The file for a new attempt. The previous one's stays for `kubectl logs --previous`, older ones go."""
        directory = pod_log_directory(self.node.logs, self.namespace, self.name, self.uid)
        for old in (directory / container).glob("*.log*"):
            number = old.name.partition(".")[0]
            if is_digits(number) and int(number) < attempt - 1:
                old.unlink(missing_ok=True)
        self._sign(directory)
        return LogFile(log_path(directory, container, attempt))

    def _sign(self, directory: Path) -> None:
        """Say whose logs these are: one directory holds the logs of all nodes, and a pod's object does not last."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / NODE_FILE).write_text(self.node.node.name + "\n")
        except OSError as error:
            # A full disk: the log itself will say so, and its lines are worth having without the node's name.
            log.warning("cannot write %s: %s", directory / NODE_FILE, error.strerror)
