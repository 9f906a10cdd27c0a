"""Runs `hatchway forward`: finds the targets, listens, prints the local ports, and reports what happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import uvloop

from hatchway.cli.forwarddetach import recorded
from hatchway.cli.forwardtable import ForwardTable
from hatchway.cli.printing import explained, note, say, warn
from hatchway.cli.targets import check
from hatchway.errors import HatchwayError
from hatchway.forward.forwarder import Forwarder, LocalForward
from hatchway.forward.forwardoutput import as_env, as_json, as_line
from hatchway.forward.localports import OwnAddresses, PlannedForward, plan_forwards
from hatchway.forward.services import ServiceForwards, follow_services, plan_first
from hatchway.forward.specs import ForwardSpec, parse_lines, parse_words
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable
from hatchway.route.chooser import RouteChooser
from hatchway.route.contract import ByteRoute, Refusal
from hatchway.route.relayoptions import RelayOptions
from hatchway.route.sshdestination import SshDestination
from hatchway.route.via import Via
from hatchway.target import WORDS

# Seconds between two checks of the targets' state, also with --wait.
_LOOK_SECONDS = 1.0
# If a check needs requests to the cluster, the pause is longer: _LOOK_PART times the duration of the check, but at most
# _LATEST_LOOK seconds.
_LOOK_PART, _LATEST_LOOK = 500, 60.0
_NO_FILE_NAME = re.compile(r"[^a-zA-Z0-9.-]")


# A function that records the current forwards.
_Recorder = Callable[[list[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class ForwardOptions:
    """The options of the command line, by their names.

    lines: the lines of --file.
    source: the name of that file.
    relay: the relay pod to which the user has agreed; None without a relay.
    """

    words: tuple[str, ...]
    lines: tuple[str, ...]
    source: str
    namespace: str | None
    every: bool
    address: str
    own_address: bool
    unix_socket: str
    output: str
    wait: bool
    timeout: float
    ready_fd: int | None
    ssh: SshDestination | None
    relay: RelayOptions | None


def run(chosen: ForwardOptions, cluster: ChosenCluster) -> None:
    """Forward until SIGINT or SIGTERM. Raises HatchwayError when the forwards cannot begin."""
    _raise_descriptors()
    if not chosen.unix_socket and chosen.address not in ("127.0.0.1", "::1"):
        warn(f"everyone who can reach {chosen.address} can reach what is forwarded")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(chosen, cluster))


def _raise_descriptors() -> None:
    """Raise the limit of file descriptors as far as the system allows: each connection needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _main(chosen: ForwardOptions, cluster: ChosenCluster) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    connection = Connection.load(*cluster)
    via = Via.ssh if chosen.ssh else Via.relay if chosen.relay else Via.forward
    chooser = RouteChooser(via, connection, ssh=chosen.ssh, relay=chosen.relay)
    background = [
        loop.create_task(connection.watch_files(), name="kubeconfig"),
        loop.create_task(chooser.run(), name="routes"),
    ]
    try:
        await _until(stop, _ForwardRun(chosen, connection, chooser.byte_route()).run(stop))
    finally:
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        await connection.aclose()


async def _until(stop: asyncio.Event, work: object) -> None:
    """Await `work`, or cancel it as soon as `stop` is set. Exceptions of `work` are raised."""
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.wait((task, waiting))
    if not task.cancelled():
        task.result()


class _ForwardRun:
    """One command's forwards."""

    def __init__(self, chosen: ForwardOptions, connection: Connection, route: ByteRoute) -> None:
        self._chosen = chosen
        self._connection = connection
        self._route = route
        self._lookup = ObjectLookup(connection)
        self._table: ForwardTable | None = None
        self._of_services: tuple[list[PlannedForward], list[str]] = [], []
        self._record_again: _Recorder = lambda found: None
        self._forwarder = Forwarder(route, self._tell)

    async def run(self, stop: asyncio.Event) -> None:
        """Listen, print "Ready", and report changes until `stop` is set."""
        planned = await self._plan()
        await self._route.begin()
        address_of, unix = self._places(planned)
        async with self._forwarder.listening(planned, address_of, unix) as forwards:
            end = self._connection.subscribe(self._connection_follower())
            try:
                with self._record(forwards) as self._record_again:
                    self._record_state()
                    self._announce(forwards)
                    async with asyncio.TaskGroup() as group:
                        following = group.create_task(self._follow_services(), name="services of the namespace")
                        await self._follow(forwards, stop)
                        following.cancel()
            finally:
                end()
                if self._table is not None:
                    self._table.close()

    def _record(self, forwards: list[LocalForward]) -> contextlib.AbstractContextManager[_Recorder]:
        """Keep a record of the forwards if this process runs in the background."""
        if self._chosen.ready_fd is not None:
            return recorded(as_json(forwards))
        return contextlib.nullcontext(lambda found: None)

    def _record_state(self) -> None:
        """Record the present forwards, and whether their cluster can be reached, for `hatchway forward --list`."""
        trouble = self._connection.trouble
        away = {"clusterAway": trouble.reason} if trouble is not None else {}
        self._record_again([{**one, **away} for one in as_json(self._forwarder.forwards)])

    # Beginning

    async def _plan(self) -> list[PlannedForward]:
        """Return the forwards that the command line asks for. With --wait, wait until they can work."""
        until = asyncio.get_running_loop().time() + self._chosen.timeout if self._chosen.timeout else None
        told = ""
        while True:
            try:
                return await self._plan_once()
            except HatchwayError as error:
                if not self._chosen.wait or isinstance(error, _PermanentError):
                    raise
                if until is not None and asyncio.get_running_loop().time() >= until:
                    raise HatchwayError(
                        f"not ready after {self._chosen.timeout:g} s: {error.message}", error.hint
                    ) from error
                if error.message != told:
                    told = error.message
                    click.echo(f"waiting: {printable(told)}", err=True)
            self._lookup.forget()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _plan_once(self) -> list[PlannedForward]:
        chosen, default = self._chosen, self._connection.namespace
        await self._connection.ready()
        planned: list[PlannedForward] = []
        if chosen.every:
            namespace = self._namespace
            services = await self._connection.client.list("services", namespace)
            found, left_out = plan_first(services, with_pods=self._with_pods)
            for line in left_out:
                note(line)
            if not found:
                raise HatchwayError(
                    f"there is no service to forward in namespace {namespace}",
                    f"`hatchway ls -n {namespace}` shows what is there; --wait waits for the first one",
                )
            planned += found
            self._of_services = found, left_out
        specs = parse_words(chosen.words, chosen.namespace, default)
        specs += parse_lines(chosen.lines, chosen.namespace, default, chosen.source)
        for spec in specs:
            planned += await self._plan_spec(spec)
        if not planned:
            raise HatchwayError(f"{chosen.source} names no target")
        for one in planned:
            await self._admit(one)
        return planned

    @property
    def _namespace(self) -> str:
        return self._chosen.namespace or self._connection.namespace

    @property
    def _with_pods(self) -> bool:
        """Return True when the route reaches pods only."""
        return self._chosen.ssh is None and self._chosen.relay is None

    async def _plan_spec(self, spec: ForwardSpec) -> list[PlannedForward]:
        target = spec.target
        if target.kind == "hosts":
            return plan_forwards(spec, None)
        known = await self._lookup.get(target.kind, target.namespace, target.name)
        if known.readable:
            await check(target, known.object, self._lookup, self._connection.label)
        return plan_forwards(spec, known.object)

    async def _admit(self, planned: PlannedForward) -> None:
        """Raise HatchwayError when a forward cannot work, or with --wait when no pod is ready."""
        answer = await self._route.prepare(planned.target)
        if isinstance(answer, Refusal):
            hint = f"an administrator of the cluster can allow it with:\n{answer.missing_rule}"
            if not answer.missing_rule:
                hint = "--relay reaches it from a small pod that it makes in the cluster, --ssh from a node"
            raise _PermanentError(f"{planned.label}: {answer.why}", hint)
        if planned.protocol == "UDP" and not answer.datagrams:
            raise _PermanentError(f"{planned.label}: only TCP is carried this way", "--relay carries UDP")
        if self._chosen.wait:
            found = await self._route.ready_pods(planned.target)
            if not found.reachable:
                raise HatchwayError(f"{planned.label}: {found.why}")

    def _places(
        self, planned: list[PlannedForward]
    ) -> tuple[Callable[[PlannedForward], str], Callable[[PlannedForward], str] | None]:
        """Return two functions of a forward: the first returns its local address, the second its Unix socket's path.

        The second is None when no Unix sockets are used.
        """
        chosen = self._chosen
        if chosen.own_address:
            return OwnAddresses().address_of, None
        path = chosen.unix_socket
        if not path:
            return (lambda one: chosen.address), None
        if len(planned) == 1 and not chosen.every and not Path(path).is_dir():
            return (lambda one: ""), (lambda one: path)
        if not Path(path).is_dir():
            raise HatchwayError(
                f"--unix-socket: several ports are forwarded, and {path} is not a directory",
                "give the name of a directory that exists; each port gets a socket in it",
            )
        return (lambda one: ""), (lambda one: str(Path(path) / _file_name(one)))

    # Output

    def _announce(self, forwards: list[LocalForward]) -> None:
        """Print where each forward listens, and that all are ready."""
        chosen = self._chosen
        if chosen.ready_fd is not None:
            # The command that has started this background process reads this description and prints it.
            with os.fdopen(chosen.ready_fd, "w") as file:
                described = as_json(forwards)
                lines = list(map(as_line, forwards))
                json.dump({"forwards": described, "env": as_env(described), "lines": lines}, file)
            return
        if chosen.output == "json":
            say(json.dumps(as_json(forwards), indent=2))
            return
        if chosen.output == "env":
            for line in as_env(as_json(forwards)):
                say(line)
            return
        if sys.stdout.isatty() and sys.stderr.isatty():
            self._table = ForwardTable(forwards)
            return
        for forward in forwards:
            say(as_line(forward))
        say("Ready.")

    def _tell(self, forward: LocalForward, message: str, hint: str) -> None:
        self._print(f"{forward.listen}: {message}", hint)

    def _print(self, message: str, hint: str = "") -> None:
        text = explained(message, hint)
        if self._table is not None:
            self._table.print_above(text)
        else:
            click.echo(text, err=True)

    def _connection_follower(self) -> Callable[[], None]:
        """Return a callback that prints when the API server cannot be reached, is reached again, or was changed."""
        connection = self._connection
        away = False
        served = connection.label

        def changed() -> None:
            nonlocal away, served
            trouble = connection.trouble
            if trouble is not None and not away:
                self._print(f"{trouble.reason}; trying again", trouble.hint)
            elif trouble is None and away:
                self._print(f"{connection.label} can be reached again")
            away = trouble is not None
            if connection.label != served:
                served = connection.label
                self._print(f"Now forwarding to {served}: the kubeconfig has changed")
            self._record_state()

        return changed

    async def _follow(self, forwards: list[LocalForward], stop: asyncio.Event) -> None:
        """Print when a target has no more ready pods, and when it has ready pods again."""
        lacking: set[LocalForward] = set()
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            began = loop.time()
            for forward in list(forwards):
                found = await self._forwarder.ready_pods(forward)
                if forward not in forwards:
                    lacking.discard(forward)
                    continue
                if self._table is not None:
                    self._table.note_pods(forward, found)
                if found.reachable and forward in lacking:
                    lacking.discard(forward)
                    self._say_pods(f"{forward.listen}: {forward.planned.label} is ready again")
                elif not found.reachable and forward not in lacking:
                    lacking.add(forward)
                    self._say_pods(f"{forward.listen}: {forward.planned.label}: {found.why}")
            await self._redraw_until(stop, min(max(_LOOK_SECONDS, _LOOK_PART * (loop.time() - began)), _LATEST_LOOK))

    async def _follow_services(self) -> None:
        """With --all, forward new services, and stop forwarding deleted services."""
        if not self._chosen.every:
            return
        forwards = ServiceForwards(self._forwarder, *self._of_services, with_pods=self._with_pods)
        async with contextlib.aclosing(follow_services(self._connection, self._namespace)) as changes:
            async for services in changes:
                changed = await forwards.apply(services)
                for one in changed.closed:
                    if self._table is not None:
                        self._table.forget(one)
                    self._say_forward(f"No longer forwarding {one.listen} -> {one.planned.label}: it is gone")
                for one in changed.opened:
                    self._say_forward(as_line(one))
                for planned, error in changed.failed:
                    self._print(f"{planned.label}: {error.message}", error.hint)
                for line in changed.left_out:
                    self._print(line)
                if changed.opened or changed.closed:
                    self._record_state()

    def _say_forward(self, line: str) -> None:
        """Print a line about a forward: after the lines of `_announce`, or on standard error if it printed none."""
        if self._chosen.output == "text" and self._table is None:
            say(line)
        else:
            self._print(line)

    async def _redraw_until(self, stop: asyncio.Event, seconds: float) -> None:
        """Keep the table up to date for this many seconds, or until `stop` is set."""
        until = asyncio.get_running_loop().time() + seconds
        while not stop.is_set() and (left := until - asyncio.get_running_loop().time()) > 0:
            if self._table is not None:
                self._table.draw()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                    await stop.wait()

    def _say_pods(self, text: str) -> None:
        if self._table is None and self._connection.trouble is None:
            self._print(text)


class _PermanentError(HatchwayError):
    """An error that waiting cannot resolve, so --wait does not wait."""


def _file_name(planned: PlannedForward) -> str:
    target = planned.target
    kind = "" if target.kind == "services" else f"{WORDS[target.kind]}-"
    return _NO_FILE_NAME.sub("_", f"{target.namespace}-{kind}{target.name}-{planned.port_name or planned.number}.sock")
