"""The lifecycles of objects in Kubernetes' conformance tests, for types without a controller.

The tests are `e2econformance.TestResource`, `service_cidr.go`, `volume_attachment.go`, `csi_node.go` and others.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.integration.api.world import World, world

RESOURCE, STORAGE, NETWORK = "/apis/resource.k8s.io/v1", "/apis/storage.k8s.io/v1", "/apis/networking.k8s.io/v1"
IN_DEFAULT = "/namespaces/default"
CLAIM = {"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "dra.example.com"}}]}}
SLICE = {
    "driver": "dra.example.com",
    "nodeName": "no-such-node",
    "pool": {"name": "cluster", "generation": 1, "resourceSliceCount": 1},
}
LABEL = {"metadata": {"labels": {"patched": "yes"}}}
PATCHES = (
    ("application/strategic-merge-patch+json", LABEL),
    ("application/merge-patch+json", LABEL),
    ("application/json-patch+json", [{"op": "add", "path": "/metadata/labels/patched", "value": "yes"}]),
    ("application/apply-patch+yaml", LABEL),
)
# Path, kind, the fields of an object besides its metadata, and the fields that a change adds.
TYPES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (
        f"{RESOURCE}/deviceclasses",
        "DeviceClass",
        {"spec": {"selectors": [{"cel": {"expression": "false"}}]}},
        {"spec": {"selectors": [{"cel": {"expression": "1 == 0"}}]}},
    ),
    (f"{RESOURCE}{IN_DEFAULT}/resourceclaims", "ResourceClaim", {"spec": CLAIM}, {}),
    (f"{RESOURCE}{IN_DEFAULT}/resourceclaimtemplates", "ResourceClaimTemplate", {"spec": {"spec": CLAIM}}, {}),
    (
        f"{RESOURCE}/resourceslices",
        "ResourceSlice",
        {"spec": SLICE},
        {"spec": {**SLICE, "devices": [{"name": "device-0"}]}},
    ),
    (f"{NETWORK}/servicecidrs", "ServiceCIDR", {"spec": {"cidrs": ["10.99.0.0/24"]}}, {}),
    (
        f"{STORAGE}/volumeattachments",
        "VolumeAttachment",
        {"spec": {"attacher": "e2e", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}},
        {},
    ),
    (f"{STORAGE}/csinodes", "CSINode", {"spec": {"drivers": []}}, {}),
    (
        f"{STORAGE}/csidrivers",
        "CSIDriver",
        {"spec": {"attachRequired": False}},
        {"spec": {"attachRequired": False, "requiresRepublish": True}},
    ),
    (f"{STORAGE}{IN_DEFAULT}/csistoragecapacities", "CSIStorageCapacity", {"storageClassName": "c"}, {}),
]
NAMES = [kind for _, kind, _, _ in TYPES]


async def made(api: World, path: str, kind: str, name: str, content: dict[str, Any]) -> dict[str, Any]:
    version = path.removeprefix("/apis/").split("/namespaces/")[0].rsplit("/", path.count("namespaces") == 0)[0]
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": {"test": "one"}}, **content}
    reply = await api.send("POST", path, body)
    assert reply.status == 201, reply.json
    return dict(reply.json)


async def expect(events: asyncio.Queue[Any], kind: str) -> None:
    event = await asyncio.wait_for(events.get(), 5)
    assert event["type"] == kind, event


@pytest.mark.parametrize(("path", "kind", "content", "change"), TYPES, ids=NAMES)
async def test_the_life_of_an_object(path: str, kind: str, content: dict[str, Any], change: dict[str, Any]) -> None:
    async with world() as api, api.watch(f"{path}?watch=true&labelSelector=test%3Done") as events:
        first = await made(api, path, kind, "first", content)
        await expect(events, "ADDED")
        one = f"{path}/first"
        assert (await api.send("GET", one)).json == first
        assert len((await api.send("GET", f"{path}?labelSelector=test%3Done")).json["items"]) == 1
        for content_type, patch in PATCHES:
            body = patch if isinstance(patch, list) else {"apiVersion": first["apiVersion"], "kind": kind, **patch}
            manager = "?fieldManager=e2e&force=true" if "apply" in content_type else ""
            reply = await api.send("PATCH", one + manager, json.dumps(body), {"Content-Type": content_type})
            assert (reply.status, reply.json["metadata"]["labels"].get("patched")) == (200, "yes"), reply.json
            await expect(events, "MODIFIED")
            removed = [{"op": "remove", "path": "/metadata/labels/patched"}]
            reply = await api.send("PATCH", one, removed, {"Content-Type": "application/json-patch+json"})
            assert reply.status == 200, reply.json
            await expect(events, "MODIFIED")
        changed = {**reply.json, **change}
        changed["metadata"]["annotations"] = {"updated": "yes"}
        reply = await api.send("PUT", one, changed)
        assert reply.status == 200, reply.json
        assert int(reply.json["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        await expect(events, "MODIFIED")
        if change:
            assert reply.json["metadata"].get("generation", 2) == 2
        assert (await api.send("DELETE", one)).status == 200
        await expect(events, "DELETED")
        assert (await api.send("GET", one)).status == 404
        for name in ("second", "third"):
            # Two ServiceCIDRs may have the same range.
            await made(api, path, kind, name, content)
        assert (await api.send("DELETE", f"{path}?labelSelector=test%3Done")).status == 200
        assert not (await api.send("GET", f"{path}?labelSelector=test%3Done")).json["items"]


@pytest.mark.parametrize(
    ("index", "status", "patched"),
    [
        (1, {"allocation": {}}, lambda found: found["allocation"] == {"devices": {}}),
        (4, {"conditions": [{"type": "Ready", "status": "False", "reason": "Test", "message": "m",
                             "lastTransitionTime": "2024-01-01T00:00:00Z"}]},
         lambda found: found["conditions"][0]["reason"] == "Test"),
        (5, {"attached": True}, lambda found: found["attached"] is True),
    ],
    ids=["ResourceClaim", "ServiceCIDR", "VolumeAttachment"],
)  # fmt: skip
async def test_the_status_subresource(index: int, status: dict[str, Any], patched: Any) -> None:
    path, kind, content, _ = TYPES[index]
    async with world() as api:
        first = await made(api, path, kind, "first", content)
        one = f"{path}/first/status"
        assert (await api.send("GET", one)).json == first
        # Go encodes an empty status; a JSON patch of a status field needs it.
        assert isinstance(first["status"], dict)
        for content_type, _ in PATCHES:
            manager = "?fieldManager=e2e&force=true" if "apply" in content_type else ""
            body: Any = {"apiVersion": first["apiVersion"], "kind": kind, "status": status}
            if "json-patch" in content_type:
                body = [{"op": "add", "path": f"/status/{key}", "value": value} for key, value in status.items()]
            reply = await api.send("PATCH", one + manager, json.dumps(body), {"Content-Type": content_type})
            assert reply.status == 200, reply.json
            assert patched(reply.json["status"])
        changed = {**reply.json, "status": status}
        reply = await api.send("PUT", one, changed)
        assert reply.status == 200, reply.json
        assert patched(reply.json["status"])
        assert reply.json["spec"] == first["spec"]
