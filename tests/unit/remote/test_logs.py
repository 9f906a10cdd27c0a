"""Following logs through interruptions, restarts, and new and deleted pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from hatchway.errors import ApiError, not_found, service_unavailable
from hatchway.kube.api import Object, WatchEvent
from hatchway.kube.workload import PodSet, Workload
from hatchway.remote import podlogs
from hatchway.remote.podlogs import LogFollower, LogOptions, LogSource

ONE = PodSet(Workload("pods", "web-0", "here"), field_selector="metadata.name=web-0")
MANY = PodSet(Workload("services", "web", "here"), label_selector="app=web")


class Cluster:
    """Pods with logs. A log is a list of (time, line). breaks: each number cuts one answer after so many lines.

    asked: the received queries for logs.
    """

    def __init__(self) -> None:
        self.pods: dict[str, Object] = {}
        self.lines: dict[str, list[tuple[int, str]]] = {}
        self.breaks: list[int] = []
        self.asked: list[dict[str, str]] = []
        self.events: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.changed = asyncio.Condition()
        self.refuse_watch = False

    def set(self, name: str, *, running: bool, run: str = "r1", policy: str = "Always", phase: str = "") -> None:
        state = {"running": {}} if running else {"terminated": {"exitCode": 0}}
        found = "ADDED" if name not in self.pods else "MODIFIED"
        self.pods[name] = {
            "metadata": {"name": name, "namespace": "here", "uid": f"uid-{name}"},
            "spec": {"containers": [{"name": "c"}], "restartPolicy": policy},
            "status": {
                "phase": phase or "Running",
                "containerStatuses": [{"name": "c", "containerID": run, "state": state}],
            },
        }
        self.events.put_nowait(WatchEvent(cast(Any, found), self.pods[name]))

    def remove(self, name: str) -> None:
        self.events.put_nowait(WatchEvent("DELETED", self.pods.pop(name)))

    async def say(self, name: str, second: int, line: str) -> None:
        async with self.changed:
            self.lines.setdefault(name, []).append((second, line))
            self.changed.notify_all()

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        if name not in self.pods:
            raise not_found(resource, name)
        return self.pods[name]

    async def list(self, resource: str, namespace: str | None = None, **_: str) -> list[Object]:
        return list(self.pods.values())

    async def watch(self, resource: str, namespace: str | None = None, **_: str) -> AsyncIterator[WatchEvent]:
        if self.refuse_watch:
            raise ApiError(403, "Forbidden", "you may not watch")
        while True:
            yield await self.events.get()

    async def pieces(self, path: str, silence: float) -> AsyncGenerator[bytes, None]:
        query = {key: value[0] for key, value in parse_qs(urlsplit(path).query).items()}
        self.asked.append(query)
        name = path.split("/")[6]
        since = int(query["sinceTime"][17:19]) if "sinceTime" in query else 0
        run = self.pods[name]["status"]["containerStatuses"][0]["containerID"]
        sent = at = 0
        limit = self.breaks.pop(0) if self.breaks else None
        while True:
            for second, line in self.lines.get(name, [])[at:]:
                at += 1
                if second < since:
                    continue
                if limit is not None and sent == limit:
                    raise service_unavailable("the connection broke off")
                sent += 1
                stamp = f"2026-01-01T00:00:{second:02}.5Z " if query.get("timestamps") else ""
                yield f"{stamp}{line}\n".encode()
            pod = self.pods.get(name)
            status = pod["status"]["containerStatuses"][0] if pod is not None else {"state": {"terminated": {}}}
            ended = "terminated" in status["state"] or status["containerID"] != run
            if query.get("follow") != "true" or ended:
                return
            async with self.changed:
                await self.changed.wait()


class Follower:
    def __init__(self, cluster: Cluster, pods: PodSet, options: LogOptions | None = None) -> None:
        self.lines: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.follower = LogFollower(cast(Any, cluster), pods, options or LogOptions(), self._sink, self.notes.append)

    def _sink(self, source: LogSource, piece: bytes, begins: bool) -> None:
        self.lines.append((source.pod, piece.decode().rstrip("\n")))

    async def until(self, *texts: str) -> None:
        async with asyncio.timeout(10):
            while [text for _, text in self.lines] != [*texts]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(podlogs, "_FIRST_RETRY", 0.01)
    monkeypatch.setattr(podlogs, "_LAST_RETRY", 0.02)
    return Cluster()


async def test_every_line_is_printed_once_in_spite_of_breaks(cluster: Cluster) -> None:
    cluster.set("web-0", running=True)
    cluster.lines["web-0"] = [(1, "a"), (1, "b"), (2, "c"), (2, "d"), (3, "e")]
    cluster.breaks = [1, 2, 0, 3]
    found = Follower(cluster, ONE, LogOptions(tail=10))
    task = asyncio.create_task(found.follower.follow())
    await found.until("a", "b", "c", "d", "e")
    assert cluster.asked[0]["tailLines"] == "10"
    assert all("tailLines" not in query for query in cluster.asked[1:])
    cluster.set("web-0", running=False, policy="Never", phase="Succeeded")
    await cluster.say("web-0", 4, "f")
    await asyncio.wait_for(task, 10)
    assert [text for _, text in found.lines] == ["a", "b", "c", "d", "e", "f"]
    assert not found.notes


async def test_following_continues_after_a_container_is_restarted(cluster: Cluster) -> None:
    cluster.set("web-0", running=True)
    cluster.lines["web-0"] = [(1, "first run")]
    found = Follower(cluster, ONE)
    task = asyncio.create_task(found.follower.follow())
    await found.until("first run")
    cluster.set("web-0", running=False)
    async with cluster.changed:
        cluster.changed.notify_all()
    cluster.lines["web-0"] = [(5, "second run")]
    cluster.set("web-0", running=True, run="r2")
    await found.until("first run", "second run")
    cluster.remove("web-0")
    async with cluster.changed:
        cluster.changed.notify_all()
    await asyncio.wait_for(task, 10)


async def test_logs_of_new_pods_are_printed_from_the_first_line(cluster: Cluster) -> None:
    cluster.set("web-0", running=True)
    cluster.lines["web-0"] = [(1, "old")]
    found = Follower(cluster, MANY, LogOptions(tail=1))
    task = asyncio.create_task(found.follower.follow())
    await found.until("old")
    cluster.lines["web-1"] = [(2, "new")]
    cluster.set("web-1", running=True)
    await found.until("old", "new")
    assert "tailLines" not in cluster.asked[-1]
    task.cancel()
    await asyncio.wait([task])


async def test_without_the_right_to_watch_one_pods_log_is_printed_to_its_end(cluster: Cluster) -> None:
    cluster.refuse_watch = True
    cluster.set("web-0", running=True)
    cluster.lines["web-0"] = [(1, "a")]
    found = Follower(cluster, ONE)
    task = asyncio.create_task(found.follower.follow())
    await found.until("a")
    cluster.set("web-0", running=False, policy="Never", phase="Succeeded")
    async with cluster.changed:
        cluster.changed.notify_all()
    await asyncio.wait_for(task, 10)
    with pytest.raises(ApiError, match="you may not watch"):
        await Follower(cluster, MANY).follower.follow()


async def test_all_logs_once(cluster: Cluster) -> None:
    for name in ("web-1", "web-0"):
        cluster.set(name, running=True)
        cluster.lines[name] = [(1, f"of {name}")]
    found = Follower(cluster, MANY)
    await found.follower.print_once()
    assert found.lines == [("web-0", "of web-0"), ("web-1", "of web-1")]


async def test_a_line_interrupted_by_the_end_of_an_answer_is_continued(cluster: Cluster) -> None:
    cluster.set("web-0", running=True)
    cluster.lines["web-0"] = [(1, "a"), (2, "a line that is long"), (3, "b")]
    answers = cluster.pieces

    async def first(path: str, silence: float) -> AsyncGenerator[bytes, None]:
        cluster.pieces = answers  # type: ignore[method-assign]
        yield b"2026-01-01T00:00:01.5Z a\n2026-01-01T00:00:02.5Z a line"

    cluster.pieces = first  # type: ignore[method-assign]
    found = Follower(cluster, ONE)
    task = asyncio.create_task(found.follower.follow())
    await found.until("a", "a line", " that is long", "b")
    task.cancel()
    await asyncio.wait([task])
