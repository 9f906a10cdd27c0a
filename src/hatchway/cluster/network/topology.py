"""Builds the private network: the namespaces of the router, the nodes and the pods."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from hatchway.cluster.network import channel, containerstart, linuxnamespaces, processes, roottemplate
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.egress.egressgateway import EgressGateway, make_gateway
from hatchway.cluster.network.forked import ERROR_BYTES, child_exits
from hatchway.cluster.network.kernelfiles import mount_proc
from hatchway.cluster.network.mounts import make_read_only
from hatchway.cluster.network.nestedusers import make_namespaces, make_node_users
from hatchway.cluster.network.pidspace import (
    PidSpace,
    fork_below,
    fork_first,
    fork_into,
    make_node_space,
    make_pod_space,
)
from hatchway.cluster.network.residents import NodeNamespaces, PodNamespaces
from hatchway.cluster.network.router import PacketRouter
from hatchway.usermaps import UserMap

# Like in container engines, users other than root may listen on every port of a pod, and use ping.
_PORTS_FOR_ALL = (("net/ipv4/ip_unprivileged_port_start", "0"), ("net/ipv4/ping_group_range", "0 0"))


class Topology:
    """The namespaces of the private network, kept open by descriptors. The network's first process makes it.

    config: see `launcher.py`. users: the user map of the cluster's user namespace. Raises OSError when pods cannot run
    on this machine.

    template: the files of this machine that every container sees. own_pids: the first process's PID namespace.
    processes: how many processes a node may have.
    """

    def __init__(self, config: dict[str, Any], users: UserMap) -> None:
        self._config = config
        self._users = users
        self._links = 0
        self._own = linuxnamespaces.own_namespaces()
        self.own_pids = linuxnamespaces.open_namespace("self", "pid")
        self.router = PacketRouter(config, self._own)
        self.nodes = [self._make_node(index, node) for index, node in enumerate(config["nodes"])]
        self._spaces: dict[int, PidSpace] = {}
        self.processes = config["processes"] // 2
        processes.limit_here(config["processes"])
        self.template = roottemplate.prepare(config["scratch"], config["hidden"])
        self._in_new_pid_space(self._mount_machine_proc)
        make_read_only(f"{self.template.machine}/proc")
        self._try_container()

    def make_egress(self, config: dict[str, Any]) -> EgressGateway:
        """Make the gateway to other networks. config: `EgressTool.settings`. Raises OSError."""
        return make_gateway(config, self.router, self._own)

    def _make_node(self, index: int, node: dict[str, str]) -> NodeNamespaces:
        """Make the namespaces with a node's address and name, for its kubelet, node ports and pods with hostNetwork."""
        try:
            users = make_node_users(self._users)
        except OSError as error:
            # Without this user namespace, containers that may mount do not start.
            print(f"pods have no user namespace of their own: {error.strerror}", file=sys.stderr)
            users = -1
        try:
            _enter_new(users, linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
            own = linuxnamespaces.own_namespaces()
            socket.sethostname(node["name"])
            self.router.connect(f"hwn-{index}", node["ip"], node["gateway"])
        finally:
            self._own.enter()
        self.router.route_to(f"hwn-{index}", node["ip"], node["gateway"])
        return NodeNamespaces(own, node["name"], users)

    def _try_container(self) -> None:
        """Make a sandbox and a container's root, and remove them. Raises OSError when pods cannot start."""
        gateway = self._config["nodes"][0]["gateway"]
        message = {"node": 0, "hostname": "try", "ip": "169.254.1.2", "gateway": gateway, "etc": {}, "sysctls": {}}
        sandbox = self.make_sandbox(message)
        config = {"mounts": [], "read_only_root": False}
        try:
            self._in_new_pid_space(lambda: containerstart.make_root(self.template, sandbox.namespaces, {}, config))
        finally:
            self.router.remove(sandbox.link)
            sandbox.namespaces.close()

    def _mount_machine_proc(self) -> None:
        """Mount a /proc for all nodes. It belongs to a PID namespace that ends at once, so it never shows a process.

        This /proc describes only the machine. A /proc with processes would give access to the environment and the root
        directory (`/proc/PID/root`) of each process.
        """
        mount_proc(self.template.machine + "/proc", self.template.empty)

    def _in_new_pid_space(self, run: Callable[[], None]) -> None:
        """Call `run` in the only process of a new PID namespace, which ends with the process. Raises OSError."""
        errors, report = os.pipe()

        def child() -> NoReturn:
            with child_exits(report):
                run()
                os._exit(0)

        pid = fork_first(self.own_pids, child)
        os.close(report)
        with open(errors, "rb") as file:
            text = file.read(ERROR_BYTES).decode(errors="replace")
        os.waitpid(pid, 0)
        if text:
            raise OSError(text)

    def make_sandbox(self, message: channel.Message) -> PodNamespaces:
        """Make a pod's namespaces, without a process in them. Raises OSError.

        message: `node` (index), `hostname`, `ip`, `gateway`, `etc`, `sysctls` (names with slashes), and `sharing`, the
        namespaces that the pod shares with its node (`Sharing` in `cluster/runtime.py`).
        """
        node, sharing = self.nodes[message["node"]], message.get("sharing") or {}
        on_node = bool(sharing.get("network"))
        self._links += 1
        link = "" if on_node else f"hw-{self._links}"
        own = None
        try:
            _enter_new(
                node.users,
                (0 if on_node else linux.CLONE_NEWNET | linux.CLONE_NEWUTS)
                | (0 if sharing.get("ipc") else linux.CLONE_NEWIPC),
            )
            if on_node:
                linux.setns(node.namespaces.net, linux.CLONE_NEWNET)
                linux.setns(node.namespaces.uts, linux.CLONE_NEWUTS)
            if sharing.get("ipc"):
                linux.setns(node.namespaces.ipc, linux.CLONE_NEWIPC)
            own = linuxnamespaces.own_namespaces()
            if not on_node:
                socket.sethostname(message["hostname"])
                self.router.connect(link, message["ip"], message["gateway"])
                for name, value in _PORTS_FOR_ALL:
                    linuxnamespaces.set_sysctl(name, value)
            for name, value in message["sysctls"].items():
                linuxnamespaces.set_wanted_sysctl(name, value)
        except OSError:
            if own is not None:
                own.close()
            raise
        finally:
            self._own.enter()
        made = PodNamespaces(own, link, message["etc"], node)
        try:
            if link:
                self.router.route_to(link, message["ip"], message["gateway"])
            made.shares_node_processes = sharing.get("processes") == "node"
            if sharing.get("processes") in ("node", "pod") and not linux.CAN_FORK_SIBLING:
                raise OSError(errno.ENOSYS, "containers cannot share processes on this machine's architecture")
            if sharing.get("processes") == "pod":
                made.space = make_pod_space(
                    self.template, own, "pod", self.node_space(node), self.own_pids, self.processes // 2
                )
                self._spaces[made.space.pid] = made.space
        except OSError:
            own.close()
            raise
        return made

    def node_space(self, node: NodeNamespaces) -> PidSpace:
        """Return the node's PID namespace; make it at the first call. Raises OSError."""
        if node.space is None:
            node.space = make_node_space(self.template, node.namespaces, node.name, self.own_pids, self.processes)
            self._spaces[node.space.pid] = node.space
        return node.space

    def forker(self, sandbox: PodNamespaces) -> tuple[Callable[[Callable[[], NoReturn]], int], PidSpace | None]:
        """Return a function that forks a container of this sandbox, and the PID namespace that the container joins.

        The PID namespace is None for a container that gets its own PID namespace. Raises OSError.
        """
        space = self.node_space(sandbox.node) if linux.CAN_FORK_SIBLING else None
        shared = space if sandbox.shares_node_processes else sandbox.space

        def fork(start: Callable[[], NoReturn]) -> int:
            if space is None:
                return fork_first(self.own_pids, start)
            if shared is not None:
                return fork_into(shared, self.own_pids, start)
            pid, own = fork_below(space, self.own_pids, start)
            os.close(own)
            return pid

        return fork, shared

    def forget_space(self, pid: int) -> None:
        """Drop a PID namespace whose reaper, and so all its processes, have ended."""
        space = self._spaces.pop(pid, None)
        if space is None:
            return
        space.forget()
        for node in self.nodes:
            if node.space is space:
                node.space = None


def _enter_new(users: int, kinds: int) -> None:
    """Move this process into new namespaces. users: see `NodeNamespaces.users`. kinds: CLONE_NEW... Raises OSError."""
    if users < 0:
        linux.unshare(kinds)
    elif kinds:
        made = make_namespaces(users, kinds)
        try:
            made.enter()
        finally:
            made.close()
