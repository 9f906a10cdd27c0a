"""The first process of the private network: `python -m hatchway.cluster.network.init CONFIG` (see `launcher.py`).

It makes the namespaces, builds the nodes' network, starts the node agent (again, when it ends by accident), and then
forks sandboxes and containers when the agent asks. Everything inside is its descendant and ends when it does, and it
ends with an agent that has done its work, or as soon as the control plane's end of the lifeline is closed, however that
came about.

Small, single-threaded, without an event loop: each container begins as a fork of it. A sandbox has no process: its
namespaces are kept by descriptors here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from hatchway.cluster.network import channel, container, namespaces, rootfs
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.agentlink import AgentLink
from hatchway.cluster.network.deaths import Deaths
from hatchway.cluster.network.netlink import Netlink
from hatchway.cluster.network.programs import StartFailure

BRIDGE = "hw0"


class Sandbox:
    """A pod's namespaces. removing: the request to answer when its last process is gone."""

    def __init__(self, namespaces: container.Namespaces, link: str, etc: dict[str, str]) -> None:
        self.namespaces = namespaces
        self.link = link
        self.etc = etc
        self.removing: int | None = None


class Child:
    """A process of a sandbox. errors: the pipe that closes when its program runs, or tells why it does not."""

    def __init__(self, key: int, pid: int, sandbox: str, request: int, errors: int, *, is_container: bool) -> None:
        self.key = key
        self.pid = pid
        self.sandbox = sandbox
        self.request = request
        self.errors = errors
        self.is_container = is_container

    def kill(self, number: int) -> None:
        # The first process of a PID namespace takes everything in it along; an exec's has only its process group.
        if number == signal.SIGKILL and not self.is_container:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                # Forked a moment ago, it leads no group yet.
                os.kill(self.pid, number)
        else:
            os.kill(self.pid, number)


class Init:
    """The loop. config: see `launcher.py`."""

    def __init__(self, config: dict[str, Any], lifeline: socket.socket) -> None:
        self._config = config
        self._lifeline = lifeline
        self._handlers: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()
        self._sandboxes: dict[str, Sandbox] = {}
        self._by_pid: dict[int, Child] = {}
        self._by_key: dict[int, Child] = {}
        self._links = 0
        self._deaths = Deaths()
        self._deadline: float | None = None
        self._own = namespaces.own_namespaces()
        self._own_pids = namespaces.open_namespace("self", "pid")
        self._netlink = Netlink()
        self._bridge = self._make_network()
        self._template = rootfs.prepare(config["scratch"], config["hidden"])
        self._try_container()
        self._wakeup = self._watch_children()
        if not config["agent"]:
            channel.send(lifeline, {"ready": True})
            os._exit(0)
        self._watch(self._lifeline, self._lifeline_readable)
        self._watch(self._wakeup, self._reap)
        self._agent = AgentLink(config["agent"], config["dial"], self._poll, self._asked)
        self._agent.start()

    # The node's network

    def _make_network(self) -> int:
        self._netlink.set_up(loopback := socket.if_nametoindex("lo"))
        self._netlink.add_bridge(BRIDGE, self._config["addresses"][0][0])
        bridge = socket.if_nametoindex(BRIDGE)
        namespaces.set_sysctl(f"net/ipv6/conf/{BRIDGE}/disable_ipv6", "1")
        for address, prefix in self._config["addresses"]:
            self._netlink.add_address(bridge, address, prefix)
        self._netlink.set_up(bridge)
        for network, prefix in self._config["local"]:
            self._netlink.add_local_route(loopback, network, prefix)
        namespaces.set_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
        return bridge

    def _try_container(self) -> None:
        """Make a sandbox and a container's root once, and throw them away. Raises OSError when pods could not start."""
        message = {"hostname": "try", "ip": "169.254.1.2", "prefix": 16, "gateway": "169.254.1.1", "etc": {}}
        sandbox = self._make_sandbox(message)
        errors, report = os.pipe()
        linux.unshare(linux.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            with container.child_exits(report):
                container.make_root(self._template, sandbox.namespaces, {}, {"mounts": [], "read_only_root": False})
                os._exit(0)
        linux.setns(self._own_pids, linux.CLONE_NEWPID)
        os.close(report)
        with open(errors, "rb") as file:
            text = file.read(container.ERROR_BYTES).decode(errors="replace")
        os.waitpid(pid, 0)
        self._netlink.delete_link(sandbox.link)
        sandbox.namespaces.close()
        if text:
            raise OSError(text)

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
        """Without an agent nothing can be done with pods, whose logs it has held: they end, and another one begins."""
        again = self._deaths.again(code)
        self._agent.close()
        if self._deadline is not None or not again:
            self._end(code)
        channel.send(self._lifeline, {"again": code})
        for sandbox in self._sandboxes.values():
            sandbox.removing = sandbox.removing or 0
        for child in self._by_pid.values():
            child.kill(signal.SIGKILL)
        for name in list(self._sandboxes):
            self._remove_if_empty(name)

    def _start_anew(self) -> None:
        """Start the agent again when nothing is left of the last one's pods: their names and addresses are free."""
        if not self._agent.running and not self._sandboxes and not self._by_pid:
            self._agent.start()

    # What the agent asks for

    def _do_sandbox(self, message: channel.Message, _: list[int]) -> None:
        self._sandboxes[message["sandbox"]] = self._make_sandbox(message)
        self._tell_agent({"id": message["id"]})

    def _make_sandbox(self, message: channel.Message) -> Sandbox:
        self._links += 1
        link = f"hw-{self._links}"
        own = None
        try:
            linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC)
            own = namespaces.own_namespaces()
            self._make_pod_network(message, link)
        except OSError:
            if own is not None:
                own.close()
            raise
        finally:
            self._own.enter()
        try:
            namespaces.set_sysctl(f"net/ipv6/conf/{link}/disable_ipv6", "1")
            self._netlink.set_up(socket.if_nametoindex(link), self._bridge)
        except OSError:
            own.close()
            raise
        return Sandbox(own, link, message["etc"])

    def _make_pod_network(self, message: channel.Message, link: str) -> None:
        """Everything inside a pod's namespaces, in which this process is for the length of the call."""
        socket.sethostname(message["hostname"])
        with Netlink() as netlink:
            netlink.set_up(socket.if_nametoindex("lo"))
            netlink.add_veth("eth0", message["ip"], link, self._own.net)
            index = socket.if_nametoindex("eth0")
            # Addresses of IPv6 would only cost start-up time (duplicate detection); ::1 stays.
            namespaces.set_sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")
            netlink.add_address(index, message["ip"], message["prefix"])
            netlink.set_up(index)
            netlink.add_default_route(message["gateway"])
        namespaces.set_sysctl("net/ipv4/ip_unprivileged_port_start", "0")
        namespaces.set_sysctl("net/ipv4/ping_group_range", "0 0")

    def _do_start(self, message: channel.Message, descriptors: list[int]) -> None:
        sandbox = self._sandbox(message)

        def choose() -> None:
            linux.unshare(linux.CLONE_NEWPID)

        def run() -> NoReturn:
            container.start(self._template, sandbox.namespaces, sandbox.etc, message["config"])

        self._fork(choose, run, message, descriptors, is_container=True)

    def _do_exec(self, message: channel.Message, descriptors: list[int]) -> None:
        sandbox = self._sandbox(message)
        target = self._by_key.get(message["container"])
        if target is None:
            raise StartFailure("the container is not running")
        opened: list[int] = []
        try:
            opened += [namespaces.open_namespace(str(target.pid), kind) for kind in ("mnt", "pid")]
            mounts, pids = opened

            def choose() -> None:
                linux.setns(pids, linux.CLONE_NEWPID)

            def run() -> NoReturn:
                container.enter(sandbox.namespaces, mounts, message["config"])

            self._fork(choose, run, message, descriptors, is_container=False)
        except FileNotFoundError as error:
            raise StartFailure("the container is not running") from error
        finally:
            channel.close_all(opened)

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

    def _sandbox(self, message: channel.Message) -> Sandbox:
        sandbox = self._sandboxes.get(message["sandbox"])
        if sandbox is None or sandbox.removing is not None:
            raise StartFailure("the sandbox is gone")
        return sandbox

    def _remove_if_empty(self, name: str) -> None:
        sandbox = self._sandboxes[name]
        if sandbox.removing is None or any(child.sandbox == name for child in self._by_pid.values()):
            return
        del self._sandboxes[name]
        try:
            self._netlink.delete_link(sandbox.link)
        except OSError as error:
            # It goes with its namespace all the same, only later.
            print(f"interface {sandbox.link} is not deleted: {error}", file=sys.stderr)
        sandbox.namespaces.close()
        self._tell_agent({"id": sandbox.removing})

    # Processes

    def _fork(
        self,
        choose: Callable[[], None],
        run: Callable[[], NoReturn],
        message: channel.Message,
        descriptors: list[int],
        *,
        is_container: bool,
    ) -> None:
        """Fork a child that calls `run`. choose: sets the PID namespace for children, which is then set back."""
        errors, report = os.pipe()
        pid = -1
        try:
            choose()
            pid = os.fork()
        except OSError as error:
            channel.close_all((errors, report))
            raise StartFailure(f"cannot start a process: {error.strerror}") from error
        finally:
            if pid != 0:
                linux.setns(self._own_pids, linux.CLONE_NEWPID)
        if pid == 0:
            with container.child_exits(report):
                linux.keep_memory_private()
                os.setsid()
                for target, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *descriptors)):
                    os.dup2(descriptor, target)
                run()
        os.close(report)
        os.set_blocking(errors, False)
        child = Child(message["process"], pid, message["sandbox"], message["id"], errors, is_container=is_container)
        self._by_pid[pid] = self._by_key[child.key] = child
        self._watch(errors, lambda: self._started(child))

    def _started(self, child: Child) -> None:
        if child.errors < 0:
            return
        try:
            text = os.read(child.errors, container.ERROR_BYTES).decode(errors="replace")
        except BlockingIOError:
            # What was readable was a pipe that has had this descriptor before.
            return
        self._poll.unregister(child.errors)
        del self._handlers[child.errors]
        os.close(child.errors)
        child.errors = -1
        if text:
            del self._by_key[child.key]
            self._tell_agent({"id": child.request, "error": text})
        else:
            self._tell_agent({"id": child.request, "pid": child.pid})

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
                continue
            self._started(child)
            if self._by_key.pop(child.key, None) is not None:
                self._tell_agent({"exit": child.key, "status": status})
            self._remove_if_empty(child.sandbox)

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

    def run(self) -> NoReturn:
        channel.send(self._lifeline, {"ready": True})
        while True:
            timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000
            for descriptor, events in self._poll.poll(timeout):
                if self._agent.handle(descriptor, events):
                    continue
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                os._exit(0)


def main() -> None:
    config = json.loads(sys.argv[1])
    lifeline = socket.socket(fileno=config["lifeline"])
    lifeline.setblocking(False)
    channel.keep_from_children()
    try:
        pid = namespaces.enter_namespaces()
        if pid:
            channel.send(lifeline, {"pid": pid})
            os._exit(0)
        namespaces.leave_keyring()
        namespaces.raise_descriptor_limit()
        init = Init(config, lifeline)
    except OSError as error:
        # Not every machine allows it: whoever started this goes on without, or says why he does not.
        channel.send(lifeline, {"error": error.strerror or str(error)})
        os._exit(1)
    init.run()


if __name__ == "__main__":
    main()
