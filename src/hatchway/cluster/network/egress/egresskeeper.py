"""The egress keeper: the process that runs the egress program (`tools.py`), and restarts this program.

The network's first process forks the keeper before the first process leaves this machine's network. So the keeper and
the program stay in this machine's network, but in the private network's user and PID namespaces: they have only the
user's rights on this machine, and the kernel ends them with the private network, even after kill -9.

The keeper configures the interface that the program creates, and lets the gateway refuse this machine's own addresses.
It reports its state to the control plane over a socket pair:

    {"nameserver": true}      with two descriptors: see `hostnames.py`
    {"up": true}              pods reach other networks
    {"up": false, "why": ..}  pods do not reach other networks: the program has ended, or the gateway cannot be
                              created ("final": true)
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from hatchway.cluster.network import channel
from hatchway.cluster.network import netlink as rtnetlink
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.egress import netmessages
from hatchway.cluster.network.egress.egressgateway import EgressGateway, GatewayRoutes
from hatchway.cluster.network.forked import child_exits

# Seconds before a restart: the first pause, the longest pause, and the running time after which the pause is reset.
_FIRST_PAUSE, _LONGEST_PAUSE, _WELL = 0.25, 30.0, 60.0
# A program that has not created its interface after this time (seconds) is killed.
_CONNECT_SECONDS = 10.0
# The maximum number of bytes of the program's output that are stored: the last ones.
_KEPT_BYTES = 4096
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
_MARKS = "FATAL:", "ERROR:", "Error:", "error:"


class KeeperLink:
    """The first process's end of the socket to the keeper. It is used once: to send the gateway, or an error."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def give(self, gateway: EgressGateway) -> None:
        """Send the gateway's descriptors to the keeper, and close them in this process. Raises OSError."""
        sockets = gateway.routes, gateway.links, gateway.queries, gateway.connections
        with self._socket:
            channel.send(self._socket, {}, [gateway.network, *(sock.fileno() for sock in sockets)])
        gateway.close()

    def give_up(self, why: str) -> None:
        """Tell the keeper that the gateway cannot be created; it reports this and ends. Raises OSError."""
        with self._socket:
            channel.send(self._socket, {"error": why})


def start_keeper(config: dict[str, Any], others: tuple[int, ...]) -> KeeperLink:
    """Fork the keeper. Call it in this machine's network. Raises OSError.

    config: `EgressTool.settings`, and `control`: the descriptor of the socket to the control plane.
    others: further descriptors, which the keeper must close.
    """
    ours, theirs = channel.pair()
    if os.fork() == 0:
        with child_exits():
            for descriptor in (*others, ours.fileno()):
                os.close(descriptor)
            linux.keep_memory_private()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            EgressKeeper(config, theirs).run()
    theirs.close()
    os.close(config["control"])
    return KeeperLink(ours)


class EgressKeeper:
    """The state of the keeper. config: see `start_keeper`. init: the socket to the network's first process."""

    def __init__(self, config: dict[str, Any], init: socket.socket) -> None:
        self._config = config
        self._init = init
        self._control = socket.socket(fileno=config["control"])
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._pid = 0
        self._process = self._output = -1
        self._printed = b""
        self._began = 0.0
        self._connected = False
        self._pause = _FIRST_PAUSE
        # The time to restart the program, or to kill it because it has not created its interface.
        self._deadline: float | None = None

    def run(self) -> NoReturn:
        """Wait for the gateway, then serve until the control plane or the private network ends."""
        links = self._begin()
        changes = rtnetlink.open_socket(netmessages.ROUTES)
        self._watch(self._control.fileno(), lambda: self._check_control())
        self._watch(links.fileno(), lambda: self._link_changed(links))
        self._watch(changes.fileno(), lambda: self._host_changed(changes))
        self._refuse_host()
        self._start()
        while True:
            timeout = None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000
            for descriptor, _ in self._poll.poll(timeout):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._late()

    def _begin(self) -> socket.socket:
        """Receive the gateway; return the netlink socket for messages about its interfaces."""
        self._init.setblocking(True)
        received = channel.receive(self._init)
        self._init.close()
        if received is None:
            os._exit(0)
        message, descriptors = received
        if "error" in message:
            self._tell({"up": False, "final": True, "why": message["error"]})
            os._exit(0)
        network, routes, links, queries, connections = descriptors
        self._mount(network)
        self._routes = GatewayRoutes(self._config, socket.socket(fileno=routes))
        self._tell({"nameserver": True}, (queries, connections))
        channel.close_all((network, queries, connections))
        found = socket.socket(fileno=links)
        found.setblocking(False)
        return found

    def _mount(self, network: int) -> None:
        """Mount the network namespace at a path, in the keeper's own mount namespace. Raises OSError."""
        linux.unshare(linux.CLONE_NEWNS)
        path = self._config["namespace"]
        # Hide the host's /run: it holds sockets of the host's services, which the program does not need.
        linux.mount("tmpfs", "/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "size=64k,mode=0755")
        os.makedirs(os.path.dirname(path))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        linux.mount(f"/proc/self/fd/{network}", path, None, linux.MS_BIND)

    # The program

    def _start(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._began = time.monotonic()
        self._deadline = self._began + _CONNECT_SECONDS
        self._connected, self._printed = False, b""
        pid = os.fork()
        if pid == 0:
            os.set_blocking(writing, True)
            with child_exits(writing):
                self._become_program(writing)
        os.close(writing)
        self._pid, self._output = pid, reading
        self._process = os.pidfd_open(pid)
        self._watch(self._output, self._read_output)
        self._watch(self._process, self._schedule_restart)

    def _become_program(self, output: int) -> NoReturn:
        linux.set_parent_death_signal(signal.SIGKILL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Python ignores SIGPIPE; pasta inherits that, and reports an error.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.chdir("/")
        os.execve(self._config["argv"][0], self._config["argv"], _ENVIRONMENT)

    def _read_output(self) -> None:
        while True:
            try:
                data = os.read(self._output, 65536)
            except BlockingIOError:
                return
            if not data:
                self._forget(self._output)
                self._output = -1
                return
            self._printed = (self._printed + data)[-_KEPT_BYTES:]

    def _schedule_restart(self) -> None:
        """Schedule a restart of the program after a pause, which doubles each time."""
        if self._output >= 0:
            self._read_output()
        if self._output >= 0:
            self._forget(self._output)
            self._output = -1
        _, status = os.waitpid(self._pid, 0)
        self._forget(self._process)
        self._pid, self._process = 0, -1
        now = time.monotonic()
        if now - self._began >= _WELL:
            self._pause = _FIRST_PAUSE
        self._deadline = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self._tell({"up": False, "why": why_ended(os.waitstatus_to_exitcode(status), self._printed)})

    def _late(self) -> None:
        self._deadline = None
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
        else:
            self._start()

    # Networks

    def _link_changed(self, links: socket.socket) -> None:
        for data in _datagrams(links):
            index = netmessages.new_link(data, self._config["interface"])
            if index is None or self._connected or not self._pid:
                continue
            try:
                self._routes.connect(index)
            except OSError as error:
                # The program has ended meanwhile, or will be killed at its deadline.
                self._printed += f"\n{error.strerror}".encode()
                continue
            self._connected, self._deadline = True, None
            self._tell({"up": True})

    def _host_changed(self, changes: socket.socket) -> None:
        """Handle changes of this machine's networks. A new network may allow an earlier restart of the program."""
        # b"" stands for messages that the kernel has dropped.
        if any(not data or netmessages.tells_of_local_network(data) for data in _datagrams(changes)):
            self._refuse_host()
        if not self._pid and self._deadline is not None:
            self._deadline = min(self._deadline, time.monotonic() + _FIRST_PAUSE)

    def _refuse_host(self) -> None:
        if not self._config["to_host"]:
            self._routes.refuse_only(netmessages.local_networks())

    # The control plane

    def _check_control(self) -> None:
        # The control plane sends nothing, so this is the end of the connection.
        if channel.receive(self._control) is None:
            os._exit(0)

    def _tell(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            channel.send(self._control, message, descriptors)
        except BlockingIOError:
            # About a hundred messages are unread, so the control plane is suspended. Drop this message: later
            # messages replace it.
            return
        except ConnectionError:
            os._exit(0)

    def _watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._handlers[descriptor]
        os.close(descriptor)


def _datagrams(sock: socket.socket) -> list[bytes]:
    """Read all datagrams of a netlink socket; b"" stands for dropped datagrams (ENOBUFS)."""
    found: list[bytes] = []
    while True:
        try:
            found.append(sock.recv(65536, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found.append(b"")


def why_ended(code: int, printed: bytes) -> str:
    """Return why the program has ended: its own error message if it has printed one.

    code: its exit code, negative for a signal.
    """
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()]
    if code < 0:
        return f"it was ended by signal {-code}"
    told = [line for line in lines if any(mark in line for mark in _MARKS)] or lines
    return told[-1][:300] if told else f"it has ended with exit code {code}"
