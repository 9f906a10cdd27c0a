"""The records that the network's first process (`init.py`) keeps of nodes, sandboxes and processes."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

from hatchway.cluster.network.forked import answer_users, read_report
from hatchway.cluster.network.linuxnamespaces import Namespaces
from hatchway.cluster.network.nestedusers import make_nested_users
from hatchway.cluster.network.pidspace import PidSpace
from hatchway.cluster.network.userchanges import UserChanges


class NodeNamespaces:
    """A node's namespaces.

    users: a descriptor of the user namespace of its pods (`nestedusers.py`); -1 where this machine allows only the
    cluster's own user namespace. space: its PID namespace, which is made with the node's first pod.
    """

    def __init__(self, namespaces: Namespaces, name: str, users: int) -> None:
        self.namespaces = namespaces
        self.name = name
        self.users = users
        self.space: PidSpace | None = None


class PodNamespaces:
    """A pod's namespaces.

    link: the router's interface to the pod; "" when the pod uses the node's network. space: the PID namespace that its
    containers share; None when each container has its own. removing: the request for removal, which is answered when
    the last process has ended; None before.
    """

    def __init__(self, namespaces: Namespaces, link: str, etc: dict[str, str], node: NodeNamespaces) -> None:
        self.namespaces = namespaces
        self.link = link
        self.etc = etc
        self.node = node
        self.shares_node_processes = False
        self.space: PidSpace | None = None
        self.removing: int | None = None


class Child:
    """A process of a sandbox.

    report: the socket over which it reports errors until its program runs; None afterwards.
    deadline: the time by which its program must run (time.monotonic).
    shared: the PID namespace that it shares; None for the first process of a PID namespace.
    container: for a process of exec, its container.
    guest_of: the PID namespace of the other container that it has joined (targetContainerName).
    mounts: a descriptor of the mount namespace with which a container was started; -1 while unknown.
    users: the user and group of a container, and a descriptor of its own user namespace.
    privileges, account: the rights and the user of an image's container, as in messages; its execs get the same values.
        account is None until it is known.
    changes: answers changes of users in a container; None where the kernel does not support that.
    node_users: the attribute `users` of its node.
    """

    shared: PidSpace | None = None
    container: Child | None = None
    guest_of: PidSpace | None = None
    users: tuple[int, int, int] | None = None
    mounts = -1
    changes: UserChanges | None = None
    node_users = -1
    privileges: dict[str, Any] | None = None
    account: dict[str, Any] | None = None

    def __init__(
        self,
        key: int,
        pid: int,
        sandbox: str,
        request: int,
        report: socket.socket,
        deadline: float,
        *,
        is_container: bool,
    ) -> None:
        self.key = key
        self.pid = pid
        self.sandbox = sandbox
        self.request = request
        self.report: socket.socket | None = report
        self.deadline = deadline
        self.is_container = is_container

    def read_report(self) -> str | None:
        """Return the report: an error when the program does not run, "" when it runs, None before the report."""
        assert self.report is not None
        while True:
            try:
                found = read_report(self.report)
            except BlockingIOError:
                return None
            if found.users is not None:
                answer_users(self.report, self._nested_users(*found.users))
            elif found.listener >= 0:
                self.changes = UserChanges(found.listener, self.pid)
            elif found.mounts >= 0:
                self._close_mounts()
                self.mounts = found.mounts
            elif found.account is not None:
                self.account = found.account
            else:
                return found.text

    def _nested_users(self, uid: int, gid: int) -> int | OSError:
        """Return the user namespace of this container (for an exec: of its container), or the error of making it."""
        container = self.container or self
        if container.users is None or container.users[:2] != (uid, gid):
            try:
                made = make_nested_users(uid, gid, self.node_users)
            except OSError as error:
                return error
            container.close_users()
            container.users = (uid, gid, made)
        return container.users[2]

    def mounts_name(self) -> str:
        """Return the name of the mount namespace `mounts`, as in /proc/PID/ns/mnt."""
        return f"mnt:[{os.fstat(self.mounts).st_ino}]"

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        self._close_mounts()
        self.close_users()
        if self.changes is not None:
            self.changes.close()
            self.changes = None

    def close_users(self) -> None:
        """Close the descriptor of `users`. Idempotent."""
        if self.users is not None:
            os.close(self.users[2])
            self.users = None

    def _close_mounts(self) -> None:
        if self.mounts >= 0:
            os.close(self.mounts)
            self.mounts = -1

    def kill(self, number: int) -> None:
        """Send the process a signal. Raises ProcessLookupError."""
        # When the first process of a PID namespace is killed, the kernel kills all others in it. For other processes,
        # this function kills the process group.
        leads_group = not self.is_container or self.shared is not None or self.guest_of is not None
        if number == signal.SIGKILL and leads_group:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                # The process was forked a moment ago, and leads no group yet.
                os.kill(self.pid, number)
        else:
            os.kill(self.pid, number)
