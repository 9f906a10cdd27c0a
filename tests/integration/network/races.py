"""Containers that exchange directories by links while others start on them, and what the node agent does meanwhile.

One pod has a volume of every kind. Its attackers exchange, in all of them that they can write to, the directory `x`
and links that lead to a directory outside; they try to put links among the files of projected volumes, too. Meanwhile
containers start whose mounts, termination logs and working directories lead through `x`, and read and write what they
find; the agent brings files up to date, reads termination messages and deletes volumes. Outside nothing may happen.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from hatchway.cluster.node.atomic import Content
from hatchway.cluster.node.env import ConfigError
from hatchway.cluster.node.projections import PodFacts, Projector
from hatchway.cluster.node.runtime import Mount, Process, Runtime, Sandbox, StartError
from hatchway.cluster.node.volumes import MountError, Volumes
from hatchway.kube.api import Object
from tests.integration.network.inside import config, run, sandbox

SECRET = "what is outside"
_WRITABLE = ("empty", "memory", "host", "nested", "removed")
_PROJECTED = ("configMap", "secret", "downwardAPI", "projected")

# Exchanges x and links for ever, in every directory that it is given, and x/y in turn; prints when it has begun.
_ATTACK = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
outside, *places = sys.argv[1:]
up = "../" * 30
for place in places:
    if os.path.exists(place + "/x"):
        continue
    os.makedirs(place + "/x/y", exist_ok=True)
    for name, target in (("absolute", outside), ("relative", up + outside), ("above", ".."), ("proc", "/proc/1/root")):
        try:
            os.symlink(target, f"{place}/{name}")
        except OSError:
            pass
print("begun", flush=True)
def exchange(one, other):
    libc.renameat2(-100, one.encode(), -100, other.encode(), 2)
while True:
    for place in places:
        os.makedirs(place + "/x/y", exist_ok=True) if not os.path.lexists(place + "/x") else None
        for link in ("absolute", "relative", "proc", "above"):
            for _ in range(20):
                exchange(f"{place}/x", f"{place}/{link}")
"""

# Does to the files of projected volumes what it can, and says what it could.
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


class _Projections(Projector):
    """New files each time."""

    def __init__(self) -> None:
        self._count = itertools.count()

    @property
    def renew(self) -> float | None:
        return None

    async def render(self, pod: Object, volume: Object, facts: PodFacts) -> dict[str, Content]:
        number = str(next(self._count)).encode()
        return {f"y/{name}": Content(number) for name in ("secret", "own", "other")} | {"file": Content(number)}


def outside_of(directory: Path) -> Path:
    return directory / "outside"


def contents(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


class _Race:
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

    def _volumes(self, uid: str) -> Volumes:
        return Volumes(
            self.directory / "pods" / uid,
            _Projections(),
            memory=self.directory / "memory" / uid,
            files=self.runtime,
            node_index=1,
        )

    def mounts(self, *mounts: Object) -> list[Mount]:
        return self.volumes.mounts({"name": "victim", "volumeMounts": list(mounts)}, {"NAME": "x"})

    async def victim(self, where: Sandbox, kind: str, mounts: Callable[[], list[Mount]], **more: Any) -> None:
        """Start a container that reads and writes what it finds at /m and in its working directory."""
        self.attempts[kind] = self.attempts.get(kind, 0) + 1
        script = (
            "for d in /m /v/nested/x/y .; do cat $d/secret; echo own > $d/own; rm -f $d/other; done 2>/dev/null;"
            "ls -d /proc/1/root/home/*; for f in /v/*/x/termination-log; do echo own > $f; done 2>/dev/null; true"
        )
        try:
            _, output = await run(where, ["sh", "-c", script], mounts=mounts(), name="victim", **more)
        except (ConfigError, StartError, MountError, OSError):
            # To be refused is as good: where it leads out of the volume.
            return
        self.started[kind] = self.started.get(kind, 0) + 1
        if SECRET in output:
            self.escaped.append(f"{kind} read {output[:200]}")

    def kinds(self, where: Sandbox, running: Process) -> Iterator[Callable[[], Awaitable[None]]]:
        below: Object = {"mountPath": "/m"}
        for name in ("empty", "memory", "host"):
            for more in ({"subPath": "x/y"}, {"subPath": "x"}, {"subPathExpr": "$(NAME)/y"}, {"subPath": "x/secret"}):
                yield lambda name=name, more=more: self.victim(  # type: ignore[misc]
                    where, f"{name} {more}", lambda: self.mounts({"name": name, **below, **more})
                )
        read_only = {"readOnly": True, "mountPropagation": "HostToContainer", "recursiveReadOnly": "IfPossible"}
        yield lambda: self.victim(
            where, "read-only", lambda: self.mounts({"name": "empty", **below, "subPath": "x/y", **read_only})
        )
        yield lambda: self.victim(where, "hostPath", self._host_path)
        yield lambda: self.victim(where, "mount point", lambda: self._nested("/v/nested/x/y"))
        yield lambda: self.victim(where, "mount point", lambda: self._nested("/v/nested/x/new/place"))
        yield lambda: self.victim(where, "termination log", self._termination_log)
        yield lambda: self.victim(where, "working directory", self._shared, cwd="/v/empty/x/y")
        yield lambda: self._exec(where, running)
        yield self._refresh
        yield self._remove
        for kind in _PROJECTED:
            for more in ({}, {"subPath": "y"}, {"subPath": "file"}):
                yield lambda kind=kind, more=more: self.victim(  # type: ignore[misc]
                    where, f"{kind} {more}", lambda: self.mounts({"name": kind.lower(), **below, **more})
                )

    def _shared(self) -> list[Mount]:
        return self.mounts(*({"name": name, "mountPath": f"/v/{name}"} for name in ("empty", "nested")))

    def _nested(self, path: str) -> list[Mount]:
        return [*self._shared(), *self.mounts({"name": "memory", "mountPath": path})]

    def _termination_log(self) -> list[Mount]:
        return [*self._shared(), self.volumes.termination_log("victim", "/v/empty/x/termination-log")]

    def _host_path(self) -> list[Mount]:
        root, inside = self.runtime.locate(1, "/data/x/y")
        return [Mount(root, "/m", inside=inside)]

    async def _exec(self, where: Sandbox, running: Process) -> None:
        for cwd in ("/v/empty/x/y", "/v/host/x"):
            try:
                argv = ["sh", "-c", "cat secret; echo own > own"]
                _, output = await run(where, argv, running, cwd=cwd, name="victim")
            except (StartError, OSError):
                continue
            if SECRET in output:
                self.escaped.append(f"exec read {output[:200]}")

    async def _refresh(self) -> None:
        await self.volumes.set_up(self.pod, PodFacts("", "", {}))
        await self.volumes.refresh(self.pod, PodFacts("", "", {}))
        self.volumes.last_words("victim")

    async def _remove(self) -> None:
        """Delete a pod's volumes although a container still changes them."""
        removed = self._volumes("u2")
        pod = {**self.pod, "spec": {"volumes": [{"name": "removed", "emptyDir": {}}], "containers": []}}
        await removed.set_up(pod, PodFacts("", "", {}))
        where = await sandbox(self.runtime, "removed")
        mounts = removed.mounts({"name": "a", "volumeMounts": [{"name": "removed", "mountPath": "/v/removed"}]}, {})
        argv = ["python3", "-c", _ATTACK, str(self.outside), "/v/removed"]
        await where.start(config(argv, 2, name="attacker", mounts=mounts))
        await asyncio.to_thread(self._remove_again, removed)
        await where.remove()
        removed.remove()

    def _remove_again(self, volumes: Volumes) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            try:
                volumes.remove()
            except OSError:
                continue


async def races(runtime: Runtime, directory: Path) -> Any:
    """Run all of it for the seconds that `race.json` says."""
    seconds = json.loads((directory / "race.json").read_text())
    race = _Race(runtime, directory)
    (race.outside / "y").mkdir(parents=True)
    for path in (race.outside, race.outside / "y"):
        for name in ("secret", "other"):
            (path / name).write_text(SECRET)
    before = contents(race.outside)
    facts = PodFacts("", "", {})
    await race.volumes.set_up(race.pod, facts)
    where = await sandbox(runtime, "racing")
    writable = [name for name in _WRITABLE if name != "removed"]
    places = [f"/v/{name}" for name in writable]
    shared = race.mounts(*({"name": name, "mountPath": f"/v/{name}"} for name in writable))
    attackers = []
    for name in ("one", "two"):
        reading, writing = os.pipe()
        argv = ["python3", "-c", _ATTACK, str(race.outside), *places]
        attackers.append(await where.start(config(argv, writing, name=name, mounts=shared)))
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 100) == b"begun\n"
        os.close(reading)
    projected = [kind.lower() for kind in _PROJECTED]
    tampering = asyncio.create_task(
        run(
            where,
            ["python3", "-c", _TAMPER, str(race.outside), str(seconds), *(f"/p/{name}" for name in projected)],
            name="tampering",
            mounts=race.mounts(*({"name": name, "mountPath": f"/p/{name}"} for name in projected)),
        )
    )
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end or not rounds:
        rounds += 1
        for attempt in race.kinds(where, attackers[0]):
            await attempt()
            if race.escaped or (time.monotonic() > end and rounds > 1):
                break
        if contents(race.outside) != before:
            race.escaped.append(f"outside is {contents(race.outside)}")
        if race.escaped:
            break
    _, tampered = await tampering
    await where.remove()
    return {
        "escaped": race.escaped,
        "tampered": tampered.strip(),
        "same": contents(race.outside) == before,
        "rounds": rounds,
        "kinds": len(race.attempts),
        "never started": sorted(kind for kind in race.attempts if kind not in race.started),
    }
