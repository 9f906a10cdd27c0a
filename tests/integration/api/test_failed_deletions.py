"""Definitions whose objects cannot be deleted at first: the controller logs the failure and tries again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from tests.integration.api import world as worlds
from tests.integration.api.test_custom_types import DEFINITIONS, WIDGETS, define, definition, gone

# What the controller calls of the client, and what it does then: `update` or `delete`, the object's name.
Fault = Callable[[str, str], Exception | None]


class FaultyClient:
    """A client whose calls fail as `fault` says. calls: the calls that were made."""

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
    """Delete a definition with objects of these names; return the controller's client when all of it is gone."""
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


async def test_an_object_that_cannot_be_deleted_does_not_keep_the_others() -> None:
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
