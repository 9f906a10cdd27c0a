"""Forks the processes of containers and of exec, follows their starts, and cleans up after their ends."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from hatchway.cluster.network import channel
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.commandlookup import StartFailure
from hatchway.cluster.network.descriptorwatch import DescriptorWatch
from hatchway.cluster.network.forked import child_exits, report_pair
from hatchway.cluster.network.oomscores import OomScores
from hatchway.cluster.network.pidspace import PidSpace
from hatchway.cluster.network.residents import Child
from hatchway.cluster.network.userchanges import FollowedContainers


class Children:
    """The processes that the network's first process has forked for the agent, until they are reaped.

    start_seconds: the time within which the program of a new process must run.
    descriptors: watches the sockets on which new processes report.
    tell: sends a message to the agent.
    """

    def __init__(
        self, start_seconds: float, descriptors: DescriptorWatch, tell: Callable[[channel.Message], None]
    ) -> None:
        self._start_seconds = start_seconds
        self._descriptors = descriptors
        self._tell = tell
        self._by_pid: dict[int, Child] = {}
        self._by_key: dict[int, Child] = {}
        # Children whose program does not run yet, by process id, the earliest deadline first.
        self._starting: dict[int, Child] = {}
        self._followed = FollowedContainers(
            descriptors.watch,
            descriptors.unwatch,
            lambda key, uid, gid: tell({"user": key, "uid": uid, "gid": gid}),
        )
        self._scores = OomScores()

    @property
    def are_any(self) -> bool:
        """Return True while at least one process is not reaped."""
        return bool(self._by_pid)

    def are_in(self, sandbox: str) -> bool:
        """Return True while at least one process of this sandbox is not reaped."""
        return any(child.sandbox == sandbox for child in self._by_pid.values())

    def find(self, key: int) -> Child | None:
        """Return a process; None when it does not run. key: the number that the agent has given the process."""
        return self._by_key.get(key)

    def kill(self, sandbox: str | None = None) -> None:
        """Kill all processes of a sandbox; with None, the processes of all sandboxes."""
        for child in self._by_pid.values():
            if sandbox is None or child.sandbox == sandbox:
                child.kill(signal.SIGKILL)

    def fork(
        self,
        fork: Callable[[Callable[[], NoReturn]], int],
        run: Callable[[socket.socket], NoReturn],
        message: channel.Message,
        descriptors: list[int],
        *,
        is_container: bool,
    ) -> Child:
        """Start a child that calls `run` with its end of `report_pair`. fork: forks into the child's PID namespace."""
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
        self._descriptors.watch(report, lambda: self._read_report(child))
        return child

    def _read_report(self, child: Child) -> None:
        # The event may belong to a former socket with the same descriptor.
        if child.report is not None and (text := child.read_report()) is not None:
            self._finish_start(child, text)

    def _finish_start(self, child: Child, why_not: str) -> None:
        """Tell the agent that a child's program runs, or why it does not."""
        report, child.report = child.report, None
        assert report is not None
        del self._starting[child.pid]
        self._descriptors.unwatch(report.fileno())
        report.close()
        if why_not:
            del self._by_key[child.key]
            self._tell({"id": child.request, "error": why_not})
        else:
            self._tell({"id": child.request, "pid": child.pid})
            self._followed.add(child.key, child.changes)

    def end_late_starts(self) -> None:
        """Kill children whose program was not started in time.

        A container can cause this: it can stop (SIGSTOP) the process of an exec that is entering the container.
        """
        for child in list(self._starting.values()):
            if child.deadline > time.monotonic():
                return
            text = child.read_report()
            if text is None:
                child.kill(signal.SIGKILL)
                text = f"cannot start a process: its program did not run within {self._start_seconds:g} seconds"
            self._finish_start(child, text)

    def follow_users(self) -> None:
        """Check the followed containers whose check is due (see `FollowedContainers.check`)."""
        self._followed.check()

    def deadlines(self) -> list[float]:
        """Return the times (time.monotonic) at which `end_late_starts` or `follow_users` must be called."""
        first = next(iter(self._starting.values()), None)
        found = [None if first is None else first.deadline, *self._followed.next_checks()]
        return [deadline for deadline in found if deadline is not None]

    def handle_end(self, pid: int, status: int) -> Child | None:
        """Clean up after a reaped process, and tell the agent. Return the process; None if it was not forked here.

        status: the status from waitpid(2).
        """
        child = self._by_pid.pop(pid, None)
        if child is None:
            return None
        if child.report is not None:
            self._finish_start(child, child.read_report() or "")
        self._end_execs_of(child)
        if child.shared is not None:
            self._kill_rest(child)
        if child.guest_of is not None:
            self._kill_rest_of_guest(child, child.guest_of)
        self._followed.remove(child.key)
        child.close()
        if self._by_key.pop(child.key, None) is not None:
            self._tell({"exit": child.key, "status": status})
        return child

    def _end_execs_of(self, ended: Child) -> None:
        """Kill the processes that exec has started in an ended container, in whichever namespace the processes are."""
        for child in self._by_pid.values():
            if child.container is ended:
                child.kill(signal.SIGKILL)

    def _kill_rest(self, ended: Child) -> None:
        """Kill the processes that an ended container leaves behind in a shared PID namespace."""
        shared = ended.shared
        assert shared is not None
        others = {child.pid for child in self._by_pid.values() if child.shared is shared}
        if not others:
            # The last container has ended, so everything in the namespace is killed. This also ends processes that have
            # changed their mount namespace: while several containers run, such a process cannot be assigned to one of
            # them. (A process of an exec may still be in this namespace, but its container has ended.)
            shared.sweep(None, set())
        elif ended.mounts >= 0:
            shared.sweep(ended.mounts_name(), others)

    def _kill_rest_of_guest(self, ended: Child, space: PidSpace) -> None:
        """Kill the processes that an ended container leaves behind in another container's PID namespace."""
        if ended.mounts >= 0:
            space.sweep(ended.mounts_name(), set())
        space.forget()
