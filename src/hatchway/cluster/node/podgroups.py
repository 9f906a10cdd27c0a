"""The control groups of one pod, which enforce its limits of CPU and memory, where the cluster has control groups.

Behaviour: `cm/pod_container_manager_linux.go`, and for resizes `doPodResizeAction` in
`kuberuntime/kuberuntime_manager.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from hatchway.cluster.node.groupresources import container_resources, pod_group_resources, qos_class
from hatchway.cluster.runtime import ControlGroups, Exit, GroupLimits, GroupUsage, StartError
from hatchway.kube.api import Object

log = logging.getLogger(__name__)

# A function that chooses one of two limits: the current limit, the wanted limit.
_Choose = Callable[["int | None", "int | None"], "int | None"]


class PodGroups:
    """The groups of one pod. groups: makes control groups; None where limits are not enforced. uid: the pod's UID."""

    def __init__(self, groups: ControlGroups | None, uid: str) -> None:
        self.groups = groups
        self._uid = uid
        self._present = GroupLimits()
        self._open = False

    def open(self, pod: Object) -> None:
        """Make the pod's group. pod: the object with the resources that its node has granted. Raises OSError."""
        if self.groups is not None:
            self._present = pod_group_resources(pod)
            self.groups.make_pod(self._uid, qos_class(pod), self._present)
            self._open = True

    def add(self, container: Object, name: str) -> str:
        """Make the group of a container; return its directory, "" where there is none. name: unique in the pod.

        Raises OSError.
        """
        if self.groups is None or not self._open:
            return ""
        return self.groups.make_container(self._uid, name, container_resources(container))

    def resize(self, group: str, container: Object) -> None:
        """Change a running container's limits. Raises OSError: EBUSY when it uses more memory than the new limit."""
        if self.groups is not None and group:
            self.groups.update_container(group, container_resources(container))

    def widen(self, pod: Object) -> None:
        """Raise the pod's limits to the limits of its new spec, but do not lower any limit.

        Call it before the pod's containers are resized.
        """
        self._set(pod, lambda old, new: None if old is None or new is None else max(old, new))

    def narrow(self, pod: Object) -> None:
        """Set the pod's limits to the limits of its spec. Call it after the pod's containers were resized."""
        self._set(pod, lambda _, new: new)

    def _set(self, pod: Object, choose: _Choose) -> None:
        if self.groups is None or not self._open:
            return
        old, new = self._present, pod_group_resources(pod)
        chosen = GroupLimits(new.shares, choose(old.cpu_quota, new.cpu_quota), choose(old.memory, new.memory))
        if chosen == old:
            return
        try:
            self.groups.make_pod(self._uid, qos_class(pod), chosen)
            self._present = chosen
        except OSError as error:
            log.warning("the limits of pod %s cannot be changed: %s", self._uid, error)

    async def close(self) -> None:
        """Remove the pod's group after its processes have ended. Idempotent."""
        if self.groups is None or not self._open:
            return
        self._open = False
        try:
            await asyncio.to_thread(self.groups.remove_pod, self._uid)
        except OSError as error:
            log.warning("the control group of pod %s is not removed: %s", self._uid, error)


class ContainerGroup:
    """The control group of a container's running process. pod: the groups of its pod. path: its directory, or ""."""

    def __init__(self, pod: PodGroups) -> None:
        self._pod = pod
        self.path = ""

    def make(self, container: Object, name: str) -> None:
        """Make the group for a new process. name: unique in the pod. Raises StartError."""
        try:
            self.path = self._pod.add(container, name)
        except OSError as error:
            raise StartError(f"cannot make the container's control group: {error.strerror}") from error

    def resize(self, container: Object) -> bool:
        """Give the process new limits.

        Return False when the change must wait, because the container uses more memory than the new limit.
        """
        try:
            self._pod.resize(self.path, container)
        except OSError as error:
            log.info("container %s is not resized yet: %s", container["name"], error.strerror)
            return False
        return True

    def usage(self) -> GroupUsage | None:
        """Return the usage of all processes of the container; None when it is not known. Blocks."""
        path = self.path
        return self._pod.groups.usage(path) if self._pod.groups is not None and path else None

    def end_reason(self, end: Exit) -> str:
        """Return the reason for the status of the container, whose process has ended."""
        groups = self._pod.groups
        with contextlib.suppress(OSError):
            if groups is not None and self.path and groups.was_out_of_memory(self.path):
                return "OOMKilled"
        return "Completed" if end.code == 0 else "Error"

    async def end(self) -> None:
        """Remove the group of a process that has ended. Idempotent."""
        path, self.path = self.path, ""
        if self._pod.groups is not None and path:
            try:
                await asyncio.to_thread(self._pod.groups.remove_container, path)
            except OSError as error:
                # The group is removed later, with the pod's group.
                log.debug("control group %s: %s", path, error)
