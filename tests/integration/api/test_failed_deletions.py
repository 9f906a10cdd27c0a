"""Definitions whose objects cannot be deleted at first: the controller logs the failure and tries again."""

# ruff: noqa: ASYNC110  conditions change without events

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.custom.definition import CLEANUP_FINALIZER
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from tests.integration.api import world as worlds
from tests.integration.api.test_custom_types import DEFINITIONS, WIDGETS, define, definition, gone, widget
from tests.integration.api.world import World

_WIDGET_DEFINITION = f"{DEFINITIONS}/widgets.example.com"

# A function of a call's verb (`update` or `delete`) and the object's name. Returns the error to raise, or None.
Fault = Callable[[str, str], Exception | None]


class FaultyClient:
    """The controller's client; `fault` decides which calls fail. calls: verb and name of each call so far."""

    def __init__(self, client: Client, fault: Fault) -> None:
        self._client = client
        self._fault = fault
        self.calls: list[tuple[str, str]] = []

    def _call(self, verb: str, name: str) -> None:
        self.calls.append((verb, name))
        failure = self._fault(verb, name)
        if failure is not None:
            raise failure

    async def update(self, resource: str, obj: Object, *, subresource: str = "") -> Object:
        self._call("update", obj["metadata"]["name"])
        return await self._client.update(resource, obj, subresource=subresource)

    async def delete(self, resource: str, name: str, namespace: str | None = None, **options: Any) -> Object | None:
        self._call("delete", name)
        return await self._client.delete(resource, name, namespace, **options)


async def deletes(fault: Fault, names: tuple[str, ...]) -> FaultyClient:
    """Delete a definition with objects of these names; return the controller's client when all of them are gone."""
    async with worlds.world() as world:
        types = CustomTypes(world.store, world.registry, ConversionWebhooks(WebhookClient()))
        client = FaultyClient(world.client, fault)
        controller = DefinitionController(world.store, client, types.prepare)  # type: ignore[arg-type]
        controller.start()
        try:
            made = definition()
            await define(world, made)
            for name in names:
                widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}}
                reply = await world.send("POST", WIDGETS, {**widget, "spec": {"size": 1}})
                assert reply.status == 201, reply.json
            client.calls.clear()
            reply = await world.send("DELETE", f"{DEFINITIONS}/{made['metadata']['name']}")
            assert reply.status == 200, reply.json
            await gone(world, made["metadata"]["name"])
        finally:
            types.close()
            await controller.aclose()
    return client


@pytest.mark.parametrize("failure", [RuntimeError("broken"), ApiError(500, "InternalError", "broken")])
async def test_a_failed_deletion_of_an_object_is_tried_again(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [failure]
    with caplog.at_level(logging.WARNING):
        client = await deletes(lambda verb, _: failures.pop() if verb == "delete" and failures else None, ("one",))
    assert client.calls.count(("delete", "one")) == 2
    lines = [
        one for one in caplog.records if one.getMessage().startswith("customresourcedefinitions widgets.example.com")
    ]
    assert len(lines) == 1
    assert "broken" in caplog.text


async def test_a_failed_removal_of_the_finalizer_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = [RuntimeError("broken")]
    deleted = asyncio.Event()

    def fault(verb: str, name: str) -> Exception | None:
        if verb == "delete":
            deleted.set()
        return failures.pop() if verb == "update" and deleted.is_set() and failures else None

    await deletes(fault, ("one",))
    assert not failures
    assert "RuntimeError: broken" in caplog.text


async def test_an_object_that_cannot_be_deleted_does_not_delay_the_others() -> None:
    # More objects than the controller deletes at once. The first one can be deleted when the others are gone.
    names = tuple(f"n{number:02}" for number in range(45))
    left = set(names[1:])

    def fault(verb: str, name: str) -> Exception | None:
        if verb == "delete":
            left.discard(name)
        return ApiError(403, "Forbidden", "not yet") if verb == "delete" and name == names[0] and left else None

    client = await deletes(fault, names)
    assert client.calls.count(("delete", names[0])) == 2
    assert client.calls.count(("delete", names[-1])) == 1


def _held(name: str) -> Object:
    metadata = {"name": name, "finalizers": ["example.com/held"]}
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": 1}}


@contextlib.asynccontextmanager
async def _left_objects() -> AsyncIterator[tuple[World, DefinitionController]]:
    """Yield a world whose store still has an object of a deleted definition.

    A user removed the definition's finalizer while the controller was deleting the objects.
    """
    async with worlds.world() as world:
        types = CustomTypes(world.store, world.registry, ConversionWebhooks(WebhookClient()))
        controller = DefinitionController(world.store, world.client, types.prepare)
        controller.start()
        try:
            await define(world, definition())
            assert (await world.send("POST", WIDGETS, _held("held"))).status == 201
            assert (await world.send("DELETE", _WIDGET_DEFINITION)).status == 200
            async with asyncio.timeout(20):
                while not controller._emptying._timers:
                    await asyncio.sleep(0)
            force = {"metadata": {"finalizers": None}}
            merge = {"Content-Type": "application/merge-patch+json"}
            assert (await world.send("PATCH", _WIDGET_DEFINITION, force, merge)).status == 200
            await gone(world, "widgets.example.com")
            yield world, controller
        finally:
            types.close()
            await controller.aclose()


async def test_a_live_definition_is_not_emptied_for_the_finalizer_in_its_manifest() -> None:
    async with _left_objects() as (world, controller):
        again = definition()
        again["metadata"]["finalizers"] = [CLEANUP_FINALIZER]
        await define(world, again)
        assert (await world.send("POST", WIDGETS, widget("new", size=1))).status == 201
        async with asyncio.timeout(20):
            while controller._emptying._timers or controller._emptying._waiting or controller._emptying._running:
                await asyncio.sleep(0.01)
        found = (await world.send("GET", f"{WIDGETS}/new")).json
        assert "deletionTimestamp" not in found["metadata"]
        conditions = (await world.send("GET", _WIDGET_DEFINITION)).json["status"]["conditions"]
        assert "Terminating" not in [one["type"] for one in conditions]


async def test_a_definition_that_was_never_served_is_deleted_although_objects_are_left() -> None:
    async with _left_objects() as (world, _):
        await define(world, definition("others"))
        # Both definitions have the same kind. The other definition is older, so this one is never served.
        assert (await world.send("POST", DEFINITIONS, definition())).status == 201
        await _condition(world, "NamesAccepted", "False")
        assert (await world.send("DELETE", _WIDGET_DEFINITION)).status == 200
        await gone(world, "widgets.example.com")


async def _condition(world: World, kind: str, status: str) -> None:
    async with asyncio.timeout(20):
        while True:
            found = (await world.send("GET", _WIDGET_DEFINITION)).json
            conditions = {one["type"]: one["status"] for one in (found.get("status") or {}).get("conditions") or ()}
            if conditions.get(kind) == status:
                return
            await asyncio.sleep(0.01)
