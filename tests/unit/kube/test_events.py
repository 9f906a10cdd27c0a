"""Events are counted, combined and limited, and errors of the server do not stop the reporter."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from hatchway.cluster.api.registry.validation import dns1123_subdomain
from hatchway.errors import not_found, service_unavailable
from hatchway.kube import events
from hatchway.kube.api import Object
from hatchway.kube.events import EventRecorder

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "7"},
}


class Server:
    """Stores events. fail: exceptions that the next calls raise."""

    def __init__(self) -> None:
        self.events: dict[str, Object] = {}
        self.fail: list[Exception] = []
        self.written = asyncio.Event()

    async def create(self, resource: str, obj: Object, namespace: str | None = None, **_: Any) -> Object:
        if self.fail:
            raise self.fail.pop(0)
        assert resource == "events"
        assert obj["metadata"]["namespace"] == namespace
        self.events[obj["metadata"]["name"]] = dict(obj)
        self.written.set()
        return obj

    async def patch(self, resource: str, name: str, patch: Object, namespace: str | None = None, **_: Any) -> Object:
        if name not in self.events:
            raise not_found(resource, name)
        self.events[name] |= patch
        return self.events[name]


async def report(recorder: EventRecorder, *messages: str, obj: Object = POD) -> None:
    for message in messages:
        recorder.event(obj, "Normal", "Pulled", message, field_path="spec.containers{web}")
    await recorder.aclose()


@pytest.mark.parametrize("name", ["x" * 237, "x" * 253, "system:node", "-x"])
async def test_an_object_whose_name_cannot_be_in_the_name_of_an_event(name: str) -> None:
    """As in client-go's `GenerateEventName`, the event's name is a UUID. The rule for names is `IsDNS1123Subdomain`."""
    server = Server()
    obj = {**POD, "metadata": {**POD["metadata"], "name": name}}  # type: ignore[dict-item]
    await report(EventRecorder(server, "kubelet"), "a", "a", obj=obj)  # type: ignore[arg-type]
    ((found, event),) = server.events.items()
    assert not dns1123_subdomain(found)
    assert str(uuid.UUID(found)) == found
    assert (event["count"], event["involvedObject"]["name"]) == (2, name)


@pytest.mark.parametrize("name", ["web", "a.b-c.0", "x" * 236])
async def test_the_name_of_an_event_is_its_objects_name_and_the_time(name: str) -> None:
    server = Server()
    obj = {**POD, "metadata": {**POD["metadata"], "name": name}}  # type: ignore[dict-item]
    await report(EventRecorder(server, "kubelet"), "a", obj=obj)  # type: ignore[arg-type]
    (found,) = server.events
    assert not dns1123_subdomain(found)
    assert found.startswith(f"{name}.") and int(found.rpartition(".")[2], 16) > 0


async def test_equal_events_are_counted_in_one_object() -> None:
    server = Server()
    await report(EventRecorder(server, "kubelet", "node-1"), "a", "a", "b", "a")  # type: ignore[arg-type]
    found = sorted((event["message"], event["count"]) for event in server.events.values())
    assert found == [("a", 3), ("b", 1)]
    event = next(iter(server.events.values()))
    assert event["source"] == {"component": "kubelet", "host": "node-1"}
    assert event["involvedObject"] == {
        "kind": "Pod",
        "namespace": "shop",
        "name": "web",
        "uid": "u-1",
        "apiVersion": "v1",
        "resourceVersion": "7",
        "fieldPath": "spec.containers{web}",
    }


async def test_an_event_that_was_deleted_is_written_anew() -> None:
    server = Server()
    recorder = EventRecorder(server, "kubelet")  # type: ignore[arg-type]
    recorder.event(POD, "Normal", "Pulled", "a")
    await server.written.wait()
    server.events.clear()
    recorder.event(POD, "Normal", "Pulled", "a")
    await recorder.aclose()
    assert [event["count"] for event in server.events.values()] == [2]


async def test_many_similar_events_are_combined_and_a_flood_is_limited() -> None:
    server = Server()
    await report(EventRecorder(server, "kubelet"), *(f"message {n}" for n in range(100)))  # type: ignore[arg-type]
    combined = [event for event in server.events.values() if event["message"].startswith("(combined")]
    # As in client-go's EventAggregator, the tenth message is the first that is combined.
    assert len(server.events) == 10
    assert [event["count"] for event in combined] == [16]


async def test_events_held_back_by_the_rate_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(events.time, "monotonic", lambda: now)
    server = Server()
    recorder = EventRecorder(server, "kubelet")  # type: ignore[arg-type]
    for _ in range(40):
        recorder.event(POD, "Normal", "Pulled", "a")
    await server.written.wait()
    await wait_for(lambda: not recorder._queue)
    (event,) = server.events.values()
    assert event["count"] == 25
    # Other events are held back, too. When the rate limit allows it, they are written with their full count.
    recorder.event(POD, "Normal", "Created", "late")
    recorder.event(POD, "Normal", "Created", "late")
    await wait_for(lambda: not recorder._queue)
    now += 700
    recorder.event(POD, "Normal", "Created", "late")
    recorder.event(POD, "Normal", "Pulled", "a")
    await recorder.aclose()
    assert sorted((one["message"], one["count"]) for one in server.events.values()) == [("a", 41), ("late", 3)]


async def wait_for(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_refusal_drops_one_event_only() -> None:
    server = Server()
    server.fail = [not_found("namespaces", "shop")]
    await report(EventRecorder(server, "kubelet"), "lost", "kept")  # type: ignore[arg-type]
    assert [event["message"] for event in server.events.values()] == ["kept"]


async def test_an_event_is_written_again_when_the_server_was_unreachable() -> None:
    server = Server()
    server.fail = [service_unavailable("starting"), ConnectionRefusedError()]
    recorder = EventRecorder(server, "kubelet")  # type: ignore[arg-type]
    recorder.event(POD, "Normal", "Pulled", "kept")
    await recorder.aclose(patience=5)
    assert len(server.events) == 1


async def test_events_of_nodes_are_in_the_default_namespace() -> None:
    server = Server()
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "uid": "node-1"}}
    await report(EventRecorder(server, "kubelet"), "x", obj=node)  # type: ignore[arg-type]
    event = next(iter(server.events.values()))
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]
