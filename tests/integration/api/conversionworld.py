"""A world with custom types whose versions are converted by a webhook over TLS in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.auth import pki

from .webhookserver import WebhookServer, WebhookWorld
from .world import Reply

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
HOSTS = f"/apis/{GROUP}/{{}}/namespaces/default/hosts"
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}
SPEC_V1 = {
    "type": "object",
    "properties": {
        "address": {"type": "string", "pattern": "^[a-z.]+:[0-9]+$"},
        "replicas": {"type": "integer"},
        "note": {"type": "string", "default": "one"},
    },
}
SPEC_V2 = {
    "type": "object",
    "properties": {
        "host": {"type": "string"},
        "port": {"type": "integer", "minimum": 1},
        "count": {"type": "integer"},
        "note": {"type": "string"},
        "extra": {"type": "string", "default": "two"},
    },
}
STATUS = {"type": "object", "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}}


def version(name: str, spec: dict[str, Any], replicas: str, column: str, *, storage: bool) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec, "status": STATUS}}
    scale = {"specReplicasPath": f".spec.{replicas}", "statusReplicasPath": ".status.replicas"}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale},
        "additionalPrinterColumns": [{"name": "At", "type": "string", "jsonPath": f".spec.{column}"}],
        "selectableFields": [{"jsonPath": f".spec.{column}"}],
    }


def versions(stored: str = "v1") -> list[dict[str, Any]]:
    return [
        version("v1", SPEC_V1, "replicas", "address", storage=stored == "v1"),
        version("v2", SPEC_V2, "count", "host", storage=stored == "v2"),
    ]


def definition(config: dict[str, Any], *, stored: str = "v1", **more: Any) -> dict[str, Any]:
    """Return the CustomResourceDefinition of hosts. config: the `clientConfig` of its webhook."""
    hook = {"clientConfig": config, "conversionReviewVersions": ["v2", "v1"], **more}
    return {
        "metadata": {"name": f"hosts.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "hosts", "singular": "host", "kind": "Host"},
            "versions": versions(stored),
            "conversion": {"strategy": "Webhook", "webhook": hook},
        },
    }


def converted(obj: dict[str, Any], api_version: str) -> dict[str, Any]:
    """Convert a host as a correct webhook does."""
    spec: dict[str, Any] = dict(obj.get("spec") or {})
    if api_version.endswith("/v2"):
        if "address" in spec:
            host, _, port = spec.pop("address").partition(":")
            spec |= {"host": host, "port": int(port)}
        if "replicas" in spec:
            spec["count"] = spec.pop("replicas")
        spec["unknown"] = "is pruned"
    else:
        if "host" in spec:
            spec["address"] = f"{spec.pop('host')}:{spec.pop('port', 80)}"
        if "count" in spec:
            spec["replicas"] = spec.pop("count")
    return {**obj, "apiVersion": api_version, "spec": spec}


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a review as a correct webhook does."""
    objects = [converted(one, request["desiredAPIVersion"]) for one in request["objects"]]
    return {"convertedObjects": objects, "result": {"status": "Success"}}


def host(name: str, api_version: str = "v1", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{api_version}", "kind": "Host", "metadata": {"name": name}, "spec": spec}


class ConversionWorld(WebhookWorld):
    """An API server with custom types; the webhook's handler for conversions is at /convert."""

    def __init__(self, store: Store, hooks: WebhookServer) -> None:
        super().__init__(store, hooks)
        self.conversions = ConversionWebhooks(self.webhooks)
        self.types = CustomTypes(store, self.registry, self.conversions)
        self.hooks.handlers["/convert"] = convert

    @property
    def config(self) -> dict[str, Any]:
        return {"url": f"https://127.0.0.1:{self.hooks.port}/convert", "caBundle": self.hooks.bundle}

    def answer(self, handler: Callable[[dict[str, Any]], Any]) -> None:
        """Let `handler` answer reviews from now on."""
        self.hooks.handlers["/convert"] = handler

    async def define(self, made: dict[str, Any] | None = None) -> None:
        made = made or definition(self.config)
        reply = await self.send("POST", DEFINITIONS, made)
        assert reply.status == 201, reply.json
        name = made["metadata"]["name"]
        async with self.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name={name}") as events:
            while True:
                found = (await asyncio.wait_for(events.get(), 20))["object"]
                conditions = {one["type"]: one["status"] for one in (found.get("status") or {}).get("conditions") or ()}
                if conditions.get("Established") == "True":
                    return

    async def redefine(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Change the definition of hosts by a merge patch; return it."""
        return good(await self.send("PATCH", f"{DEFINITIONS}/hosts.{GROUP}", {"spec": spec}, MERGE))

    async def get(self, name: str, api_version: str = "v1", rest: str = "") -> Reply:
        return await self.send("GET", f"{HOSTS.format(api_version)}/{name}{rest}")

    def stored(self, name: str) -> dict[str, Any]:
        found = self.store.get(f"hosts.{GROUP}", "default", name)
        assert found is not None
        return found


def good(reply: Reply) -> dict[str, Any]:
    """Return the object in a successful response."""
    assert reply.status in (200, 201), reply.body
    found: dict[str, Any] = json.loads(reply.body)
    return found


def message(reply: Reply, code: int = 500) -> str:
    """Return the message of an error response."""
    assert reply.status == code, reply.body
    found: str = reply.json["message"]
    return found


@asynccontextmanager
async def conversion_world(keys: pki.Pki) -> AsyncIterator[ConversionWorld]:
    store = Store.open(None)
    async with WebhookServer().running(keys) as hooks:
        made = ConversionWorld(store, hooks)
        controller = DefinitionController(store, made.client, made.types.prepare)
        controller.start()
        try:
            await made.namespace("default")
            yield made
        finally:
            made.types.close()
            await controller.aclose()
            await made.conversions.aclose()
            await made.webhooks.aclose()
            await store.close()
