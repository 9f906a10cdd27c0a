"""Containers that replace directories with links, while other containers start and the node agent uses the files.

One pod has a volume of every kind. In every writable volume, its attackers exchange the directory `x`
with others: with links that lead to a directory outside, and with directories that hold links, a pipe or a
directory where a file is expected. They also try to put links among the files of projected volumes and of logs.

Meanwhile containers start whose mounts, termination logs, working directories and files of /etc lead through `x`,
and read and write those files; the agent updates files, writes and rotates logs, reads termination
messages, and deletes volumes with deep, unreadable and oddly named directories. All of this runs at the same time.
Nothing outside of the volumes may change.

The race lasts `seconds`, and longer until each kind of attempt was made once, but at most `_LATE` seconds longer. An
attempt that takes more than `_HUNG` seconds fails the run. The error has its name, and lists the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import itertools
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.node.atomic import Content
from hatchway.cluster.node.env import ConfigError
from hatchway.cluster.node.logfiles import ContainerLog, log_path
from hatchway.cluster.node.logreader import LogReadOptions, read_log
from hatchway.cluster.node.projections import PodFacts, Projector
from hatchway.cluster.node.volumes import MountError, Volumes
from hatchway.cluster.runtime import ContainerProcess, Mount, Runtime, Sandbox, StartError
from hatchway.kube.api import Object
from tests.integration.network.inside import config, run, sandbox

SECRET = "what is outside"
_WRITABLE = ("empty", "memory", "host", "nested")
LANES = 4
# Additional seconds that a run may take on a busy machine; the largest number of seconds of one attempt.
_LATE = 60.0
_HUNG = 40.0
# Seconds for which volumes are removed while a container changes them.
_UNDER_ATTACK = 0.3
_PROJECTED = ("configMap", "secret", "downwardAPI", "projected")

# Exchanges `x` with other files, without end, in every directory of its arguments; prints a line when it begins.
_ATTACK = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
outside, *places = sys.argv[1:]
up = "../" * 30
links = {"absolute": outside, "relative": up + outside, "above": "..", "proc": "/proc/1/root", "fd": "/proc/self/fd/0"}
NAMES = ("termination-log", "hosts", "resolv.conf", "secret")
def quietly(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        pass
for place in places:
    if os.path.exists(place + "/begun"):
        continue
    quietly(os.makedirs, place + "/x/y")
    for name, target in links.items():
        quietly(os.symlink, target, f"{place}/{name}")
    for name in ("linked", "piped", "nested"):
        quietly(os.mkdir, f"{place}/{name}")
        quietly(os.symlink, outside + "/y", f"{place}/{name}/y")
    for name in NAMES:
        quietly(os.symlink, outside + "/secret", f"{place}/linked/{name}")
        quietly(os.mkfifo, f"{place}/piped/{name}")
        quietly(os.makedirs, f"{place}/nested/{name}/y")
    quietly(os.mkdir, place + "/begun")
others = (*links, "linked", "piped", "nested")
print("begun", flush=True)
while True:
    for place in places:
        if not os.path.lexists(place + "/x"):
            quietly(os.makedirs, place + "/x/y")
        for other in others:
            for _ in range(20):
                libc.renameat2(-100, f"{place}/x".encode(), -100, f"{place}/{other}".encode(), 2)
"""

# Fills a directory with files that are hard to delete, without end.
_CLUTTER = r"""
import os, sys
outside, place = sys.argv[1:]
print("begun", flush=True)
number = 0
while True:
    number += 1
    try:
        top = f"{place}/a\nb {number}"
        os.mkdir(top)
        os.symlink(outside, top + "/link")
        os.symlink(outside + "/secret", top + "/-rf")
        os.mkfifo(top + "/pipe")
        os.chdir(top)
        for _ in range(80):
            os.mkdir("d")
            os.symlink(outside, "l")
            os.chdir("d")
        os.chmod(top, 0)
        os.rename(top, f"{place}/moved")
        os.symlink(outside, top)
    except OSError:
        os.chdir("/")
"""

# Tries every change of the files of projected volumes, and prints those that succeed.
_TAMPER = r"""
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
outside, seconds, *places = sys.argv[1:]
os.symlink(outside, "/tmp/link")
end = time.monotonic() + float(seconds)
done = set()
while time.monotonic() < end:
    for place in places:
        for name in os.listdir(place):
            path = f"{place}/{name}"
            for what, attempt in {
                "rename": lambda: os.rename(path, path + ".old"),
                "exchange": lambda: libc.renameat2(-100, path.encode(), -100, b"/tmp/link", 2) == 0 or 1 / 0,
                "link": lambda: os.symlink(outside, f"{place}/..mine"),
                "inner": lambda: os.symlink(outside, f"{path}/mine"),
                "write": lambda: open(path + "/mine" if os.path.isdir(path) else path, "w").close(),
                "chmod": lambda: os.chmod(path, 0o777),
            }.items():
                try:
                    attempt()
                    done.add(f"{what} {place}")
                except (OSError, ZeroDivisionError):
                    pass
print(sorted(done))
"""


async def _no_object(_resource: str, _namespace: str, _name: str) -> None:
    """Find no objects: there are no claims."""


class _Projections(Projector):
    """Projected files with new content at each update."""

    def __init__(self) -> None:
        self._count = itertools.count()

    @property
    def renew(self) -> float | None:
        return None

    async def render(self, pod: Object, volume: Object, facts: PodFacts, owner: Any) -> dict[str, Content]:
        number = str(next(self._count)).encode()
        return {f"y/{name}": Content(number) for name in ("secret", "own", "other")} | {"file": Content(number)}


def outside_of(directory: Path) -> Path:
    return directory / "outside"


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


# The name of an attempt, and the function that makes the attempt.
Attempt = tuple[str, Callable[[], Awaitable[None]]]


def processes() -> str:
    """Describe every visible process: its id, state, the kernel function in which it waits, its command."""
    lines = []
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            lines.append(f"{entry.name} {state} {(entry / 'wchan').read_text()} {command[:100]!r}")
    return "\n".join(lines)


class _Race:
    """The state of the race. attempts, started: kind -> number. escaped: a text for each change or leak outside."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.outside = outside_of(directory)
        self.volumes = self._volumes("u1")
        self.pod: Object = {"metadata": {"uid": "u1", "name": "p", "namespace": "d"}, "spec": {"containers": []}}
        self.pod["spec"]["volumes"] = [
            {"name": "empty", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
            {"name": "nested", "emptyDir": {}},
            {"name": "host", "hostPath": {"path": "/data", "type": "DirectoryOrCreate"}},
            *({"name": kind.lower(), kind: {}} for kind in _PROJECTED),
        ]
        self.attempts: dict[str, int] = {}
        self.started: dict[str, int] = {}
        self.escaped: list[str] = []
        self.rounds = 0
        self._numbers = itertools.count()

    def _volumes(self, uid: str) -> Volumes:
        return Volumes(
            self.directory / "pods" / uid,
            _Projections(),
            memory=self.directory / "memory" / uid,
            files=self.runtime,
            node_index=1,
            node_name="node-1",
            read=_no_object,
        )

    def mounts(self, *mounts: Object) -> list[Mount]:
        return self.volumes.prepare_mounts({"name": "victim", "volumeMounts": list(mounts)}, {"NAME": "x"})

    async def victim(self, where: Sandbox, kind: str, mounts: Callable[[str], list[Mount]], **more: Any) -> None:
        """Start a container that reads and writes files at /m, in /etc and in its working directory."""
        self.attempts[kind] = self.attempts.get(kind, 0) + 1
        name = f"victim-{next(self._numbers) % 100}"
        script = (
            "look() { dd if=$1 iflag=nonblock; };"
            "for d in /m /v/nested/x/y .; do look $d/secret; echo own > $d/own; rm -f $d/other; done;"
            "ls -d /proc/1/root/home/*; for f in /etc/hosts /etc/resolv.conf /m; do look $f; done;"
            "for f in /v/*/x/termination-log /etc/hosts /etc/resolv.conf; do echo own 1<>$f; done; true"
        )
        argv = ["timeout", "-s", "KILL", "5", "sh", "-c", f"({script}) 2>/dev/null"]
        try:
            _, output = await run(where, argv, mounts=mounts(name), name=name, **more)
        except (ConfigError, StartError, MountError, OSError):
            # A refusal is correct, too: the path led out of the volume at that moment.
            return
        self.started[kind] = self.started.get(kind, 0) + 1
        if SECRET in output:
            self.escaped.append(f"{kind} read {output[:200]}")
        if SECRET in (words := self.volumes.read_termination_log(name)):
            self.escaped.append(f"{kind}: the termination message is {words[:200]}")

    def attempts_of_a_round(self, where: Sandbox, running: ContainerProcess) -> Iterator[Attempt]:
        """Yield the attempts of one round. running: a container for `exec`."""
        below: Object = {"mountPath": "/m"}

        def victim(kind: str, mounts: Callable[[str], list[Mount]], **more: Any) -> Attempt:
            return kind, lambda: self.victim(where, kind, mounts, **more)

        def mounted(name: str, more: Object) -> Attempt:
            wanted = {"name": name.lower(), **below, **more}
            return victim(f"{name} {more}", lambda _: self.mounts(wanted))

        for name in ("empty", "memory", "host", "nested"):
            for path in ("x/y", "x", "x/secret", "x/new/place"):
                yield mounted(name, {"subPath": path})
            for path in ("$(NAME)/y", "$(NAME)"):
                yield mounted(name, {"subPathExpr": path})
            for propagation in ("HostToContainer", "Bidirectional", "None"):
                yield mounted(name, {"subPath": "x/y", "mountPropagation": propagation})
            yield mounted(name, {"subPath": "x/y", "readOnly": True, "recursiveReadOnly": "IfPossible"})
            for path in ("/etc", "/etc/hosts", "/etc/resolv.conf", "/dev/termination-log"):
                below_x = "x" if path == "/etc" else "x/secret"
                yield mounted(name, {"subPath": below_x, "mountPath": path})
        yield victim("hostPath", self._host_path)
        for path in ("/v/nested/x/y", "/v/nested/x/new/place"):
            yield victim("mount point", lambda _, path=path: self._nested(path))  # type: ignore[misc]
        for path in ("/v/empty/x/termination-log", "/v/host/x/termination-log", "/v/nested/x/y/termination-log"):
            yield victim("termination log", lambda name, path=path: self._termination_log(name, path))  # type: ignore[misc]
        for path in ("/dev/null", "/dev/stdout", "/etc/hosts", "/proc/self/environ", "/dev/fd/1", "/v/empty"):
            yield victim("odd termination log", lambda name, path=path: self._termination_log(name, path))  # type: ignore[misc]
        for path in ("/v/empty/x/y", "/v/host/x", "/v/nested/x/new"):
            yield victim("working directory", lambda _: self._shared(), cwd=path)
        yield "exec", lambda: self._exec(where, running)
        yield "refresh", self._refresh
        yield "logs", self._logs
        yield "remove under attack", lambda: self._remove(_ATTACK)
        yield "remove under clutter", lambda: self._remove(_CLUTTER)
        for kind in _PROJECTED:
            for more in ({}, {"subPath": "y"}, {"subPath": "file"}, {"subPathExpr": "y"}):
                yield mounted(kind, more)

    def _shared(self) -> list[Mount]:
        return self.mounts(*({"name": name, "mountPath": f"/v/{name}"} for name in ("empty", "nested", "host")))

    def _nested(self, path: str) -> list[Mount]:
        return [*self._shared(), *self.mounts({"name": "memory", "mountPath": path})]

    def _termination_log(self, name: str, path: str) -> list[Mount]:
        return [*self._shared(), self.volumes.make_termination_log(name, path)]

    def _host_path(self, _: str) -> list[Mount]:
        root, inside = self.runtime.locate(1, "/data/x/y")
        return [Mount(root, "/m", inside=inside)]

    async def _exec(self, where: Sandbox, running: ContainerProcess) -> None:
        for cwd in ("/v/empty/x/y", "/v/host/x"):
            try:
                # `secret` may be a pipe at that moment.
                script = "dd if=secret iflag=nonblock 2>/dev/null; echo own 1<>own"
                argv = ["timeout", "-s", "KILL", "5", "sh", "-c", script]
                _, output = await run(where, argv, running, cwd=cwd, name="victim")
            except (StartError, OSError):
                continue
            if SECRET in output:
                self.escaped.append(f"exec read {output[:200]}")

    async def _refresh(self) -> None:
        await self.volumes.set_up(self.pod, PodFacts("", "", {}))
        await self.volumes.refresh(self.pod, PodFacts("", "", {}))

    async def _logs(self) -> None:
        """Write and rotate a log that containers see, and read it."""
        file = ContainerLog(log_path(logs_of(self.directory) / "d_p_u1", "victim", 0), rotate_bytes=200)
        for number in range(20):
            file.write(b"2026-01-02T03:04:05.000000000Z stdout F line %d\n" % number)
        file.close()
        try:
            output = b"".join([chunk async for chunk in read_log(file.path, LogReadOptions(tail_lines=10))])
        except OSError:
            return
        if SECRET.encode() in output:
            self.escaped.append(f"logs read {output[:200]!r}")

    async def _remove(self, attack: str) -> None:
        """Delete a pod's volumes while a container still changes them."""
        uid = f"removed-{next(self._numbers)}"
        removed = self._volumes(uid)
        pod = {**self.pod, "spec": {"volumes": [{"name": "removed", "emptyDir": {}}], "containers": []}}
        await removed.set_up(pod, PodFacts("", "", {}))
        where = await sandbox(self.runtime, uid)
        try:
            mounts = removed.prepare_mounts(
                {"name": "a", "volumeMounts": [{"name": "removed", "mountPath": "/v/removed"}]}, {}
            )
            await self.attack(where, attack, mounts, ["/v/removed"])
            removing = asyncio.create_task(asyncio.to_thread(self._remove_again, removed))
            # If the container makes files as fast as they are deleted, the removal does not end before the container.
            await asyncio.wait({removing}, timeout=_UNDER_ATTACK)
        finally:
            await where.remove()
        await removing
        await asyncio.to_thread(removed.remove)
        if (self.directory / "pods" / uid).exists():
            self.escaped.append(f"{uid} is still there")

    def _remove_again(self, volumes: Volumes) -> None:
        end = time.monotonic() + _UNDER_ATTACK
        while time.monotonic() < end:
            try:
                volumes.remove()
            except OSError:
                continue

    async def attack(self, where: Sandbox, script: str, mounts: list[Mount], places: list[str]) -> ContainerProcess:
        """Start an attacker, and wait until it has begun."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writing, True)
        argv = ["python3", "-c", script, str(self.outside), *places]
        name = f"attacker-{next(self._numbers)}"
        process = await where.start(config(argv, writing, name=name, mounts=mounts))
        os.close(writing)
        # No thread reads the pipe, because a thread that waits without end could not be cancelled.
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(reading, readable.set)
        try:
            await readable.wait()
            assert os.read(reading, 100) == b"begun\n"
        finally:
            loop.remove_reader(reading)
            os.close(reading)
        return process


def logs_of(directory: Path) -> Path:
    return directory / "logs"


def _endless_rounds(race: _Race, where: Sandbox, running: ContainerProcess) -> Iterator[Attempt]:
    """Yield the attempts of endless rounds, each in a random order of its own; count the rounds."""
    for number in itertools.count():
        attempts = list(race.attempts_of_a_round(where, running))
        random.Random(number).shuffle(attempts)
        yield from attempts
        race.rounds += 1


async def races(runtime: Runtime, directory: Path) -> Any:
    """Run the race for the seconds in `race.json`."""
    seconds = json.loads((directory / "race.json").read_text())
    # If the event loop itself is blocked, this call writes the cause to the log.
    faulthandler.dump_traceback_later(seconds + _LATE + _HUNG + 10)
    race = _Race(runtime, directory)
    (race.outside / "y").mkdir(parents=True)
    for path in (race.outside, race.outside / "y"):
        for name in ("secret", "other", "hosts", "resolv.conf", "termination-log"):
            (path / name).write_text(SECRET)
    before = contents(race.outside)
    facts = PodFacts("", "", {})
    await race.volumes.set_up(race.pod, facts)
    where = await sandbox(runtime, "racing")
    places = [f"/v/{name}" for name in _WRITABLE]
    shared = race.mounts(*({"name": name, "mountPath": f"/v/{name}"} for name in _WRITABLE))
    # Each attacker has its own directories: two in one would soon leave no `x` there, and nothing could start.
    attackers = [await race.attack(where, _ATTACK, shared, places[half::2]) for half in range(2)]
    root, inside = runtime.locate(1, plan.NODE_LOGS)
    await race._logs()
    projected = [kind.lower() for kind in _PROJECTED]
    tampered_with = [*(f"/p/{name}" for name in projected), "/p/logs/d_p_u1", "/p/logs/d_p_u1/victim"]
    tampering = asyncio.create_task(
        run(
            where,
            ["python3", "-c", _TAMPER, str(race.outside), str(seconds), *tampered_with],
            name="tampering",
            mounts=[
                *race.mounts(*({"name": name, "mountPath": f"/p/{name}"} for name in projected)),
                Mount(root, "/p/logs", inside=inside),
            ],
        )
    )
    rounds = _endless_rounds(race, where, attackers[0])
    end = time.monotonic() + seconds

    async def lane() -> None:
        """Run one attempt after another."""
        for name, attempt in rounds:
            now = time.monotonic()
            if race.escaped or (now > end and race.rounds) or now > end + _LATE:
                return
            try:
                async with asyncio.timeout(_HUNG):
                    await attempt()
            except TimeoutError as error:
                raise AssertionError(f"{name} has not ended after {_HUNG:.0f} s\n{processes()}") from error
            if contents(race.outside) != before:
                race.escaped.append(f"outside is {contents(race.outside)} after {name}")

    async with asyncio.TaskGroup() as group:
        for _ in range(LANES):
            group.create_task(lane())
    try:
        async with asyncio.timeout(_HUNG):
            _, tampered = await tampering
            await where.remove()
    except TimeoutError as error:
        raise AssertionError(f"the pod has not ended after {_HUNG:.0f} s\n{processes()}") from error
    race.volumes.remove()
    faulthandler.cancel_dump_traceback_later()
    return {
        "escaped": race.escaped,
        "tampered": tampered.strip(),
        "same": contents(race.outside) == before,
        "rounds": race.rounds,
        "attempts": sum(race.attempts.values()),
        "kinds": len(race.attempts),
        # The path "x/secret" exists only outside, so such mounts may never start.
        "never started": sorted(k for k in race.attempts if k not in race.started and "x/secret" not in k),
    }
