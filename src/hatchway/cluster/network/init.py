"""The first process of the private network: `python -m hatchway.cluster.network.init CONFIG` (see `launcher.py`).

It makes the namespaces, builds the nodes' network, starts the node agent (again, when it ends by accident), and then
forks sandboxes and containers for the agent. Everything inside is its descendant and ends with it. It ends when the
agent ends in order, or as soon as the control plane's end of the lifeline is closed, for whatever reason.

It is small, single-threaded and without an event loop, because each container begins as a fork of it. A sandbox has no
process: its namespaces are kept open by descriptors here. The mount namespace with which a container was started is
kept open, too. exec enters this one: a container can make others for itself, in which paths lead anywhere.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from hatchway.cluster import descriptors
from hatchway.cluster.network import channel, containerstart, imagestart, kernelfiles, linuxnamespaces, processes
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.agentlink import AgentLink
from hatchway.cluster.network.deaths import Deaths
from hatchway.cluster.network.egress import egresskeeper
from hatchway.cluster.network.egress.egresskeeper import KeeperLink
from hatchway.cluster.network.forked import child_exits, report_pair
from hatchway.cluster.network.oomscores import OomScores
from hatchway.cluster.network.pidspace import PidSpace
from hatchway.cluster.network.programs import StartFailure
from hatchway.cluster.network.residents import Child, PodNamespaces
from hatchway.cluster.network.topology import Topology
from hatchway.cluster.network.userchanges import FollowedContainers
from hatchway.usermaps import UserMap


class Init:
    """The first process: reads messages of the agent and the control plane, and reaps processes.

    config: see `launcher.py`. lifeline: the socket to the control plane. users: those of the user namespace.
    keeper: the process that connects the network to this machine's network; None for a network without a way to the
    outside.
    """

    def __init__(
        self, config: dict[str, Any], lifeline: socket.socket, users: UserMap, keeper: KeeperLink | None
    ) -> None:
        self._users = users
        self._lifeline = lifeline
        self._handlers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._sandboxes: dict[str, PodNamespaces] = {}
        self._by_pid: dict[int, Child] = {}
        self._by_key: dict[int, Child] = {}
        # Children whose program does not run yet, by number, the earliest deadline first.
        self._starting: dict[int, Child] = {}
        self._start_seconds: float = config["start_seconds"]
        self._followed = FollowedContainers(
            self._watch, self._unwatch, lambda key, uid, gid: self._tell_agent({"user": key, "uid": uid, "gid": gid})
        )
        self._deaths = Deaths()
        self._scores = OomScores()
        self._unsafe = imagestart.why_not_safe()
        self._deadline: float | None = None
        self._topology = Topology(config, users)
        self._wakeup = self._watch_children()
        if not config["agent"]:
            channel.send(lifeline, {"ready": True})
            os._exit(0)
        self._watch(self._lifeline, self._lifeline_readable)
        self._watch(self._wakeup, self._reap)
        self._agent = AgentLink(
            config["agent"],
            config["dial"],
            [node.namespaces.net for node in self._topology.nodes],
            not self._topology.router.no_filter,
            users.way,
            self._poll,
            self._asked,
        )
        self._agent.start()
        if keeper is not None:
            # The agent needs longer to start.
            self._open_egress(config["egress"], keeper)

    def _open_egress(self, config: dict[str, Any], keeper: KeeperLink) -> None:
        try:
            keeper.give(self._topology.make_egress(config))
        except OSError as error:
            with contextlib.suppress(OSError):
                keeper.give_up(error.strerror or str(error))

    # The agent

    def _tell_agent(self, message: channel.Message) -> None:
        self._agent.tell(message)

    def _asked(self, message: channel.Message, descriptors: list[int]) -> None:
        try:
            getattr(self, f"_do_{message['op']}")(message, descriptors)
        except (OSError, StartFailure) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            if "id" in message:
                self._tell_agent({"id": message["id"], "error": text or repr(error)})

    def _agent_ended(self, code: int) -> None:
        """End all pods, since the agent held their logs, and start another agent unless the network is ending."""
        restart = self._deaths.record(code)
        self._agent.close()
        if self._deadline is not None or not restart:
            self._end(code)
        channel.send(self._lifeline, {"restarted": code})
        for sandbox in self._sandboxes.values():
            sandbox.removing = sandbox.removing or 0
        for child in self._by_pid.values():
            child.kill(signal.SIGKILL)
        for name in list(self._sandboxes):
            self._remove_if_empty(name)

    def _start_anew(self) -> None:
        """Start the agent again when nothing is left of the last agent's pods, so that names and addresses are free."""
        if not self._agent.running and not self._sandboxes and not self._by_pid:
            self._agent.start()

    # Requests of the agent

    def _do_sandbox(self, message: channel.Message, _: list[int]) -> None:
        sandbox = self._sandboxes[message["sandbox"]] = self._topology.make_sandbox(message)
        self._agent.tell({"id": message["id"]}, (sandbox.namespaces.net,))

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
                child = self._fork(self._forker_into(pids), start, message, descriptors, is_container=True)
                child.guest_of = PidSpace(target.pid, os.dup(pids))
                child.privileges, child.node_users = privileges, sandbox.node.users
            return
        fork, shared = self._topology.forker(sandbox)
        # A shared PID namespace has its limit already.
        start = functools.partial(run, is_first=shared is None)
        child = self._fork(fork, start, message, descriptors, is_container=True)
        child.shared = shared
        child.privileges, child.node_users = privileges, sandbox.node.users

    def _do_exec(self, message: channel.Message, descriptors: list[int]) -> None:
        sandbox = self._sandbox(message)
        config = self._config(message, descriptors)
        with self._entering(message["container"]) as (target, pids):
            if target.mounts < 0:
                raise StartFailure("the container cannot be entered: the cluster has had too many open files")

            # With the container's rights, whatever the request says.
            config["privileges"], config["account"] = target.privileges, target.account
            config["container_pid"], config["node_users"] = target.pid, sandbox.node.users
            if target.privileges is not None and target.account is None:
                raise StartFailure("the container's user is not known")

            def run(report: socket.socket) -> NoReturn:
                containerstart.enter(sandbox.namespaces, target.mounts, config, report)

            child = self._fork(self._forker_into(pids), run, message, descriptors, is_container=False)
            child.container, child.node_users = target, sandbox.node.users

    @contextlib.contextmanager
    def _entering(self, key: int) -> Iterator[tuple[Child, int]]:
        """Give a running container and a descriptor of its PID namespace. Raises StartFailure."""
        target = self._by_key.get(key)
        if target is None:
            raise StartFailure("the container is not running")
        try:
            # A process never leaves the PID namespace in which it was started.
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
        """Return the configuration of a process to start. With a terminal, `console` is a socket's descriptor."""
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
        child = self._by_key.get(message["process"])
        if child is not None:
            try:
                child.kill(message["signal"])
            except ProcessLookupError:
                return

    def _do_remove(self, message: channel.Message, _: list[int]) -> None:
        sandbox = self._sandbox(message)
        sandbox.removing = message["id"]
        for child in self._by_pid.values():
            if child.sandbox == message["sandbox"]:
                child.kill(signal.SIGKILL)
        self._remove_if_empty(message["sandbox"])

    def _sandbox(self, message: channel.Message) -> PodNamespaces:
        sandbox = self._sandboxes.get(message["sandbox"])
        if sandbox is None or sandbox.removing is not None:
            raise StartFailure("the sandbox is gone")
        return sandbox

    def _remove_if_empty(self, name: str) -> None:
        sandbox = self._sandboxes[name]
        if sandbox.removing is None or any(child.sandbox == name for child in self._by_pid.values()):
            return
        del self._sandboxes[name]
        if sandbox.space is not None:
            sandbox.space.close()
        try:
            if sandbox.link:
                self._topology.router.remove(sandbox.link)
        except OSError as error:
            # It is deleted with its namespace even so, only later.
            print(f"interface {sandbox.link} is not deleted: {error}", file=sys.stderr)
        sandbox.namespaces.close()
        self._tell_agent({"id": sandbox.removing})

    # Processes

    def _fork(
        self,
        fork: Callable[[Callable[[], NoReturn]], int],
        run: Callable[[socket.socket], NoReturn],
        message: channel.Message,
        descriptors: list[int],
        *,
        is_container: bool,
    ) -> Child:
        """Start a child that calls `run` with its end of `report_pair`. fork: forks it into its PID namespace."""
        report, theirs = report_pair()
        streams = [] if message["config"]["terminal"] else descriptors

        def start() -> NoReturn:
            with child_exits(theirs.fileno()):
                linux.keep_memory_private()
                os.setsid()
                null = os.open(os.devnull, os.O_RDWR)
                for target, descriptor in enumerate((*[null] * (3 - len(streams)), *streams)):
                    os.dup2(descriptor, target)
                run(theirs)

        try:
            with self._scores.inherited(message["config"]["oom_score"]):
                pid = fork(start)
        except OSError as error:
            report.close()
            raise StartFailure(f"cannot start a process: {error.strerror}") from error
        finally:
            theirs.close()
        child = Child(
            message["process"],
            pid,
            message["sandbox"],
            message["id"],
            report,
            time.monotonic() + self._start_seconds,
            is_container=is_container,
        )
        self._by_pid[pid] = self._by_key[child.key] = self._starting[pid] = child
        self._watch(report, lambda: self._reported(child))
        return child

    def _reported(self, child: Child) -> None:
        # The event may belong to a former socket with the same descriptor.
        if child.report is not None and (text := child.read_report()) is not None:
            self._started(child, text)

    def _started(self, child: Child, why_not: str) -> None:
        """Tell the agent that a child's program runs, or why it does not."""
        report, child.report = child.report, None
        assert report is not None
        del self._starting[child.pid]
        self._poll.unregister(report)
        del self._handlers[report.fileno()]
        report.close()
        if why_not:
            del self._by_key[child.key]
            self._tell_agent({"id": child.request, "error": why_not})
        else:
            self._tell_agent({"id": child.request, "pid": child.pid})
            self._followed.add(child.key, child.changes)

    def _end_late_starts(self) -> None:
        """Kill children whose program should run by now: a container can stop (SIGSTOP) what is started in it."""
        for child in list(self._starting.values()):
            if child.deadline > time.monotonic():
                return
            text = child.read_report()
            if text is None:
                child.kill(signal.SIGKILL)
                text = f"cannot start a process: its program did not run within {self._start_seconds:g} seconds"
            self._started(child, text)

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
        self._start_anew()

    def _reap_all(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._agent.pid:
                self._agent_ended(os.waitstatus_to_exitcode(status))
                continue
            child = self._by_pid.pop(pid, None)
            if child is None:
                self._topology.forget_space(pid)
                continue
            if child.report is not None:
                self._started(child, child.read_report() or "")
            self._end_execs_of(child)
            if child.shared is not None:
                self._clear(child)
            if child.guest_of is not None:
                self._clear_guest(child, child.guest_of)
            self._followed.remove(child.key)
            child.close()
            if self._by_key.pop(child.key, None) is not None:
                self._tell_agent({"exit": child.key, "status": status})
            self._remove_if_empty(child.sandbox)

    def _end_execs_of(self, ended: Child) -> None:
        """Kill the processes that exec has started in a container that has ended, in whichever namespace they are."""
        for child in self._by_pid.values():
            if child.container is ended:
                child.kill(signal.SIGKILL)

    def _clear(self, ended: Child) -> None:
        """Kill what a container leaves behind in a PID namespace that continues without it."""
        shared = ended.shared
        assert shared is not None
        others = {child.pid for child in self._by_pid.values() if child.shared is shared}
        if not others:
            # Processes that have hidden their origin end with the last container. (An exec's process is in this
            # namespace, too, but its container has ended.)
            shared.sweep(None, set())
        elif ended.mounts >= 0:
            shared.sweep(ended.mounts_name(), others)

    def _clear_guest(self, ended: Child, space: PidSpace) -> None:
        """Kill what a container leaves behind in another container's PID namespace."""
        if ended.mounts >= 0:
            space.sweep(ended.mounts_name(), set())
        space.forget()

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

    def _watch(self, source: socket.socket | int, handler: Callable[[], None]) -> None:
        descriptor = source if isinstance(source, int) else source.fileno()
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def _unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def run(self) -> NoReturn:
        """Serve until the network ends, then exit."""
        users = {"way": self._users.way, "reason": self._users.reason}
        channel.send(self._lifeline, {"ready": True, "no_filter": self._topology.router.no_filter, "users": users})
        while True:
            for descriptor, events in self._poll.poll(self._timeout()):
                if self._agent.handle(descriptor, events):
                    continue
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                os._exit(0)
            self._end_late_starts()
            self._followed.check()

    def _timeout(self) -> float | None:
        """Return the milliseconds until the next deadline; None when there is none."""
        first = next(iter(self._starting.values()), None)
        deadlines = [self._deadline, None if first is None else first.deadline, *self._followed.next_checks()]
        known = [deadline for deadline in deadlines if deadline is not None]
        return max(0.0, min(known) - time.monotonic()) * 1000 if known else None


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
        # The agent needs a socket for every service and connection; container engines do the same for pods.
        descriptors.raise_limit()
        keeper = None
        if config["egress"] is not None:
            keeper = egresskeeper.start_keeper(config["egress"], (config["lifeline"], config["dial"]))
        linuxnamespaces.leave_network()
        # Containers may see forks of this process before these have become containers.
        linux.keep_memory_private()
        init = Init(config, lifeline, users, keeper)
    except OSError as error:
        # Not every machine allows namespaces: `launcher.py` falls back to loopback, or reports the error.
        channel.send(lifeline, {"error": error.strerror or str(error)})
        os._exit(1)
    init.run()


if __name__ == "__main__":
    main()
