"""Carries out the node agent's requests: sandboxes, containers, exec, signals (`private.py` sends them)."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from hatchway.cluster.network import channel, containerstart, linuxnamespaces
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.children import Children
from hatchway.cluster.network.commandlookup import StartFailure
from hatchway.cluster.network.pidspace import PidSpace
from hatchway.cluster.network.residents import Child, PodNamespaces
from hatchway.cluster.network.topology import Topology
from hatchway.usermaps import UserMap


class AgentRequests:
    """Carries out requests, and keeps the pods' sandboxes.

    users: the user map of the cluster's user namespace. tell: sends a message to the agent, with copies of descriptors.
    unsafe: why containers of images must not run on this machine; "" when they may.
    """

    def __init__(
        self,
        topology: Topology,
        users: UserMap,
        children: Children,
        tell: Callable[[channel.Message, Sequence[int]], None],
        unsafe: str,
    ) -> None:
        self._topology = topology
        self._users = users
        self._children = children
        self._tell = tell
        self._sandboxes: dict[str, PodNamespaces] = {}
        self._unsafe = unsafe

    @property
    def has_sandboxes(self) -> bool:
        """Return True while at least one sandbox exists."""
        return bool(self._sandboxes)

    def handle(self, message: channel.Message, descriptors: list[int]) -> None:
        """Carry out the request that `op` names. If the request has an `id`, an error is sent as the answer.

        descriptors: the descriptors that came with the request; the caller closes them.
        """
        try:
            getattr(self, f"_do_{message['op']}")(message, descriptors)
        except (OSError, StartFailure) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            if "id" in message:
                self._tell({"id": message["id"], "error": text or repr(error)}, ())

    def remove_all(self) -> None:
        """Kill the processes of all sandboxes, and remove each sandbox as soon as it is empty."""
        for sandbox in self._sandboxes.values():
            sandbox.removing = sandbox.removing or 0
        self._children.kill()
        for name in list(self._sandboxes):
            self.remove_if_empty(name)

    def _do_sandbox(self, message: channel.Message, _: list[int]) -> None:
        sandbox = self._sandboxes[message["sandbox"]] = self._topology.make_sandbox(message)
        self._tell({"id": message["id"]}, (sandbox.namespaces.net,))

    def _do_start(self, message: channel.Message, descriptors: list[int]) -> None:
        sandbox = self._sandbox(message)
        config = self._config(message, descriptors)
        config["node_users"] = sandbox.node.users
        guest = "container" in message
        privileges = config["privileges"] if config["image"] is not None else None

        def run(report: socket.socket, *, is_first: bool) -> NoReturn:
            template, etc = self._topology.template, sandbox.etc
            containerstart.start(template, sandbox.namespaces, etc, config, report, is_first=is_first)

        if guest:
            with self._entering(message["container"]) as (target, pids):
                start = functools.partial(run, is_first=False)
                child = self._children.fork(self._forker_into(pids), start, message, descriptors, is_container=True)
                child.guest_of = PidSpace(target.pid, os.dup(pids))
                child.privileges, child.node_users = privileges, sandbox.node.users
            return
        fork, shared = self._topology.forker(sandbox)
        # The first process of a PID namespace sets the limit of processes. A shared namespace already has the limit.
        start = functools.partial(run, is_first=shared is None)
        child = self._children.fork(fork, start, message, descriptors, is_container=True)
        child.shared = shared
        child.privileges, child.node_users = privileges, sandbox.node.users

    def _do_exec(self, message: channel.Message, descriptors: list[int]) -> None:
        sandbox = self._sandbox(message)
        config = self._config(message, descriptors)
        with self._entering(message["container"]) as (target, pids):
            if target.mounts < 0:
                raise StartFailure("the container cannot be entered: the cluster has had too many open files")

            # The process gets the container's rights, whatever the request says.
            config["privileges"], config["account"] = target.privileges, target.account
            config["container_pid"], config["node_users"] = target.pid, sandbox.node.users
            if target.privileges is not None and target.account is None:
                raise StartFailure("the container's user is not known")

            def run(report: socket.socket) -> NoReturn:
                containerstart.enter(sandbox.namespaces, target.mounts, config, report)

            child = self._children.fork(self._forker_into(pids), run, message, descriptors, is_container=False)
            child.container, child.node_users = target, sandbox.node.users

    @contextlib.contextmanager
    def _entering(self, key: int) -> Iterator[tuple[Child, int]]:
        """Yield a running container and a descriptor of its PID namespace, valid in the block. Raises StartFailure."""
        target = self._children.find(key)
        if target is None:
            raise StartFailure("the container is not running")
        try:
            # This is the container's PID namespace, because no process can leave its own.
            pids = linuxnamespaces.open_namespace(str(target.pid), "pid")
        except FileNotFoundError as error:
            raise StartFailure("the container is not running") from error
        try:
            yield target, pids
        finally:
            os.close(pids)

    def _forker_into(self, pids: int) -> Callable[[Callable[[], NoReturn]], int]:
        """Return a function that forks a process into the PID namespace `pids`."""

        def fork(start: Callable[[], NoReturn]) -> int:
            linux.setns(pids, linux.CLONE_NEWPID)
            try:
                pid = linux.fork_without_arguments()
                if pid == 0:
                    start()
                return pid
            finally:
                linux.setns(self._topology.own_pids, linux.CLONE_NEWPID)

        return fork

    def _config(self, message: channel.Message, descriptors: list[int]) -> dict[str, Any]:
        """Return the configuration of a process to start. If it gets a terminal, `console` is a socket."""
        config = {
            **message["config"],
            "processes": self._topology.processes,
            "users": self._users.way,
            "unsafe": self._unsafe,
            "root_of_machine": any(extent.inside == 0 == extent.outside for extent in self._users.users),
        }
        if config["terminal"]:
            config["console"] = descriptors[0]
        return config

    def _do_kill(self, message: channel.Message, _: list[int]) -> None:
        child = self._children.find(message["process"])
        if child is not None:
            try:
                child.kill(message["signal"])
            except ProcessLookupError:
                return

    def _do_remove(self, message: channel.Message, _: list[int]) -> None:
        sandbox = self._sandbox(message)
        sandbox.removing = message["id"]
        self._children.kill(message["sandbox"])
        self.remove_if_empty(message["sandbox"])

    def _sandbox(self, message: channel.Message) -> PodNamespaces:
        sandbox = self._sandboxes.get(message["sandbox"])
        if sandbox is None or sandbox.removing is not None:
            raise StartFailure("the sandbox is gone")
        return sandbox

    def remove_if_empty(self, name: str) -> None:
        """Remove a sandbox whose removal was requested, if no process is left in it, and tell the agent."""
        sandbox = self._sandboxes[name]
        if sandbox.removing is None or self._children.are_in(name):
            return
        del self._sandboxes[name]
        if sandbox.space is not None:
            sandbox.space.close()
        try:
            if sandbox.link:
                self._topology.router.remove(sandbox.link)
        except OSError as error:
            # The interface is deleted later, together with its namespace.
            print(f"interface {sandbox.link} is not deleted: {error}", file=sys.stderr)
        sandbox.namespaces.close()
        self._tell({"id": sandbox.removing}, ())
