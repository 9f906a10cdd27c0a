"""Answers in protobuf and compressed answers: the same objects as in JSON, for clients that ask for them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from hatchway.cluster.api.registry.schema import decode_protobuf
from hatchway.cluster.api.registry.schema.protobufwriter import encode_protobuf, encode_watch_event, in_protobuf
from hatchway.cluster.api.registry.schema.table import GVK
from hatchway.cluster.api.storage.store import Store
from tests.conformance import replay
from tests.integration.api.world import World

PROTOBUF = "application/vnd.kubernetes.protobuf"
EITHER = {"Accept": f"{PROTOBUF},application/json"}


def shown(value: Any) -> Any:
    """Return a value without its empty parts: protobuf does not distinguish empty from absent fields."""
    if isinstance(value, dict):
        return {key: one for key, item in value.items() if (one := shown(item)) not in (None, "", 0, False, [], {})}
    return [shown(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", ["api.jsonl", "whole.jsonl"])
def test_every_recorded_object_is_equal_after_encoding_and_decoding(name: str) -> None:
    kinds = set()
    for recording in replay.load(name):
        try:
            obj = json.loads(recording["response"]["body"] or "")
        except ValueError:
            continue
        gvk = GVK.of(obj.get("apiVersion", "") if isinstance(obj, dict) else "", str(obj.get("kind")))
        if not in_protobuf(gvk) or not isinstance(obj, dict):
            continue
        kinds.add(gvk.kind)
        assert shown(decode_protobuf(encode_protobuf(obj))) == shown(obj), recording["id"]
    assert {"ConfigMap", "Pod", "Status"} <= kinds


def test_values_with_an_encoding_of_their_own() -> None:
    """Times, negative numbers, quantities, maps of bytes, numbers or texts, and schemas within schemas."""
    schema = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "properties": {
            "a": {"items": {"type": "integer", "minimum": -1.5}, "type": "array", "default": [1, {"b": None}]}
        },
    }
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "x.y"},
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]},
    }
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"creationTimestamp": "1969-12-31T23:59:58Z", "annotations": {"a": "é", "b": "b"}},
        "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": -3},
    }
    port = {"port": 1, "targetPort": "http"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {},
        "spec": {"ports": [port, {"port": 2, "targetPort": -2}]},
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"a": "AAH/"}, "immutable": True}
    for obj in (crd, lease, service, secret):
        assert shown(decode_protobuf(encode_protobuf(obj))) == shown(obj)


def test_a_frame_of_a_watch() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}}
    frame = encode_watch_event("ADDED", obj)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert frame[4:11] == b"\x0a\x05ADDED"
    assert decode_protobuf(frame[frame.index(b"k8s\0") :]) == obj


@pytest.fixture
async def world() -> World:
    made = World(Store.open(None))
    await made.namespace("default")
    return made


async def test_objects_lists_and_errors(world: World) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    for number in range(100):
        await world.client.create(
            "configmaps", {"metadata": {"name": f"c{number}"}, "data": {"a": "b" * 2000}}, "default"
        )
    one = await world.send("GET", f"{path}/c1", headers=EITHER)
    assert one.header("content-type") == PROTOBUF
    plain = (await world.send("GET", f"{path}/c1")).json
    assert decode_protobuf(one.body) == plain
    # The list has more items than are encoded at once, so it is encoded in several pieces.
    many = await world.send("GET", path, headers=EITHER)
    assert shown(decode_protobuf(many.body)) == shown((await world.send("GET", path)).json)
    few = await world.send("GET", f"{path}?limit=2", headers=EITHER)
    assert len(decode_protobuf(few.body)["items"]) == 2
    missing = await world.send("GET", f"{path}/none", headers=EITHER)
    assert (missing.status, decode_protobuf(missing.body)["reason"]) == (404, "NotFound")
    body = encode_protobuf({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}})
    made = await world.send("POST", path, body, {**EITHER, "Content-Type": PROTOBUF})
    assert (made.status, decode_protobuf(made.body)["metadata"]["name"]) == (201, "new")
    # PartialObjectMetadata can be sent in protobuf, a Table cannot.
    partial = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    assert (await world.send("GET", f"{path}/c1", headers={"Accept": partial})).body.startswith(b"k8s\0")
    table = f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1"
    assert (await world.send("GET", path, headers={"Accept": table})).status == 406
    both = {"Accept": f"{table},application/json;as=Table;g=meta.k8s.io;v=v1"}
    assert (await world.send("GET", path, headers=both)).json["kind"] == "Table"


async def test_large_answers_are_compressed_for_clients_that_accept_it(world: World) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    for number in range(100):
        await world.client.create(
            "configmaps", {"metadata": {"name": f"c{number}"}, "data": {"a": "b" * 2000}}, "default"
        )
    await world.client.create("configmaps", {"metadata": {"name": "large"}, "data": {"a": "b" * 200_000}}, "default")
    accepting = {"Accept-Encoding": "br, gzip"}
    for target in (path, f"{path}/large"):
        plain, packed = await world.send("GET", target), await world.send("GET", target, headers=accepting)
        assert plain.header("content-encoding") is None
        assert (packed.header("content-encoding"), packed.header("vary")) == ("gzip", "Accept-Encoding")
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body) / 10
    small = await world.send("GET", f"{path}/c1", headers=accepting)
    assert small.header("content-encoding") is None
    refused = await world.send("GET", path, headers={"Accept-Encoding": "gzip;q=0"})
    assert refused.header("content-encoding") is None


async def test_cbor_is_refused_as_by_a_server_without_it(world: World) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    assert (await world.send("GET", path, headers={"Accept": "application/cbor"})).status == 406
    assert (await world.send("POST", path, b"\xa0", {"Content-Type": "application/cbor"})).status == 415
    both = await world.send("GET", path, headers={"Accept": "application/cbor,application/json"})
    assert both.header("content-type") == "application/json"
