"""The first process of the private network: `python -m hatchway.cluster.network.init CONFIG` (see `launcher.py`).

It makes the namespaces, builds the nodes' network, and starts the node agent, which it restarts after an accident. Then
it makes sandboxes and forks containers for the agent. All processes in the network are its descendants and end with it.
The first process itself ends when the agent ends in order, or when the control plane's end of the lifeline is closed,
for whatever reason.

The first process is small, single-threaded and without an event loop, because each container begins as a fork of it. A
sandbox has no process: descriptors in the first process keep its namespaces open. They also keep open the mount
namespace with which a container was started. exec enters this mount namespace, because a container can make other mount
namespaces, in which paths may lead anywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from hatchway.cluster import descriptors
from hatchway.cluster.network import channel, imagestart, kernelfiles, linuxnamespaces, processes
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.agentlink import AgentLink
from hatchway.cluster.network.agentrequests import AgentRequests
from hatchway.cluster.network.children import Children
from hatchway.cluster.network.deaths import Deaths
from hatchway.cluster.network.descriptorwatch import DescriptorWatch
from hatchway.cluster.network.egress import egresskeeper
from hatchway.cluster.network.egress.egresskeeper import KeeperLink
from hatchway.cluster.network.topology import Topology
from hatchway.usermaps import UserMap


class Init:
    """The first process: reads messages of the agent and the control plane, and reaps processes.

    config: see `launcher.py`. lifeline: the socket to the control plane. users: the user map of the cluster's user
    namespace.
    keeper: the egress keeper, which connects the network to this machine's network; None for a network that is not
    connected to other networks.
    """

    def __init__(
        self, config: dict[str, Any], lifeline: socket.socket, users: UserMap, keeper: KeeperLink | None
    ) -> None:
        self._users = users
        self._lifeline = lifeline
        self._descriptors = DescriptorWatch()
        self._deaths = Deaths()
        self._deadline: float | None = None
        self._children = Children(config["start_seconds"], self._descriptors, self._tell_agent)
        unsafe = imagestart.why_not_safe()
        self._topology = Topology(config, users)
        self._requests = AgentRequests(self._topology, users, self._children, self._tell_agent, unsafe)
        self._wakeup = self._watch_children()
        if not config["agent"]:
            channel.send(lifeline, {"ready": True})
            os._exit(0)
        self._descriptors.watch(self._lifeline, self._lifeline_readable)
        self._descriptors.watch(self._wakeup, self._reap)
        self._agent = AgentLink(
            config["agent"],
            config["dial"],
            [node.namespaces.net for node in self._topology.nodes],
            not self._topology.router.no_filter,
            users.way,
            self._descriptors.poll,
            self._requests.handle,
        )
        self._agent.start()
        if keeper is not None:
            # The agent is started first, because its start takes longer.
            self._open_egress(config["egress"], keeper)

    def _open_egress(self, config: dict[str, Any], keeper: KeeperLink) -> None:
        try:
            keeper.give(self._topology.make_egress(config))
        except OSError as error:
            with contextlib.suppress(OSError):
                keeper.give_up(error.strerror or str(error))

    # The agent

    def _tell_agent(self, message: channel.Message, descriptors: Sequence[int] = ()) -> None:
        self._agent.tell(message, descriptors)

    def _handle_agent_end(self, code: int) -> None:
        """End all pods, because the agent had their logs open. When all pods have ended, another agent is started.

        If the network is to end, or agents end too often, exit.
        """
        restart = self._deaths.record(code)
        self._agent.close()
        if self._deadline is not None or not restart:
            self._end(code)
        channel.send(self._lifeline, {"restarted": code})
        self._requests.remove_all()

    def _restart_agent(self) -> None:
        """Start another agent if no pod of the last agent is left, so that names and addresses are free."""
        if not self._agent.running and not self._requests.has_sandboxes and not self._children.are_any:
            self._agent.start()

    # Processes

    def _watch_children(self) -> socket.socket:
        wakeup, writer = socket.socketpair()
        wakeup.setblocking(False)
        writer.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        return wakeup

    def _reap(self) -> None:
        self._wakeup.recv(4096)
        self._reap_all()
        self._restart_agent()

    def _reap_all(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._agent.pid:
                self._handle_agent_end(os.waitstatus_to_exitcode(status))
                continue
            child = self._children.handle_end(pid, status)
            if child is None:
                self._topology.forget_space(pid)
            else:
                self._requests.remove_if_empty(child.sandbox)

    # The end

    def _lifeline_readable(self) -> None:
        received = channel.receive(self._lifeline)
        if received is None:
            os._exit(0)
        if not self._agent.running:
            os._exit(0)
        os.kill(self._agent.pid, signal.SIGTERM)
        self._deadline = time.monotonic() + received[0]["stop"]

    def _end(self, agent_exit: int) -> NoReturn:
        try:
            channel.send(self._lifeline, {"agent": agent_exit})
        finally:
            os._exit(0)

    def run(self) -> NoReturn:
        """Serve until the network ends, then exit."""
        users = {"way": self._users.way, "reason": self._users.reason}
        channel.send(self._lifeline, {"ready": True, "no_filter": self._topology.router.no_filter, "users": users})
        while True:
            for descriptor, events in self._descriptors.poll.poll(self._timeout()):
                if not self._agent.handle(descriptor, events):
                    self._descriptors.handle(descriptor)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                os._exit(0)
            self._children.end_late_starts()
            self._children.follow_users()

    def _timeout(self) -> float | None:
        """Return the milliseconds until the next deadline; None when there is none."""
        deadlines = self._children.deadlines()
        if self._deadline is not None:
            deadlines.append(self._deadline)
        return max(0.0, min(deadlines) - time.monotonic()) * 1000 if deadlines else None


def main() -> None:
    """Make the namespaces and run in them; the configuration is the first argument, JSON."""
    config = json.loads(sys.argv[1])
    lifeline = socket.socket(fileno=config["lifeline"])
    lifeline.setblocking(False)
    channel.keep_from_children()
    try:
        config["processes"] = processes.of_cluster()
        pid, users = linuxnamespaces.enter_namespaces()
        if pid:
            channel.send(lifeline, {"pid": pid})
            os._exit(0)
        linuxnamespaces.leave_keyring()
        kernelfiles.keep_devices()
        # The agent needs a socket for every service and connection. Container engines raise this limit for pods, too.
        descriptors.raise_limit()
        keeper = None
        if config["egress"] is not None:
            keeper = egresskeeper.start_keeper(config["egress"], (config["lifeline"], config["dial"]))
        linuxnamespaces.leave_network()
        # A container may see a fork of this process that has not yet become a container, and must not read its memory.
        linux.keep_memory_private()
        init = Init(config, lifeline, users, keeper)
    except OSError as error:
        # Not every machine allows namespaces: `launcher.py` falls back to loopback, or reports the error.
        channel.send(lifeline, {"error": error.strerror or str(error)})
        os._exit(1)
    init.run()


if __name__ == "__main__":
    main()
