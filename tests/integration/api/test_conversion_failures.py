"""Conversion webhooks that fail: clients get the error, and other requests are not delayed.

Messages are those of apiextensions-apiserver's `webhook_converter.go` and of client-go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.auth import pki

from .conversionworld import (
    DEFINITIONS,
    GROUP,
    HOSTS,
    MERGE,
    ConversionWorld,
    conversion_world,
    convert,
    definition,
    good,
    host,
    message,
    versions,
)
from .webhookserver import make_keys

V1, V2 = HOSTS.format("v1"), HOSTS.format("v2")
HEAD = f"conversion webhook for {GROUP}/v1, Kind=Host"
Review = dict[str, Any]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    directory: Path = tmp_path_factory.mktemp("keys")
    return make_keys(directory)


@pytest.fixture
async def world(keys: pki.Pki) -> AsyncIterator[ConversionWorld]:
    async with conversion_world(keys) as made:
        yield made


def changed(**fields: Any) -> Callable[[Review], Any]:
    """Return a handler that converts correctly, then sets fields of the first object ("meta_NAME": in metadata)."""

    def handler(request: Review) -> Any:
        answer = convert(request)
        first = answer["convertedObjects"][0]
        for key, value in fields.items():
            where = first["metadata"] if key.startswith("meta_") else first
            where[key.removeprefix("meta_")] = value
        return answer

    return handler


def response(**fields: Any) -> Callable[[Review], Any]:
    return lambda request: {**convert(request), **fields}


async def test_a_server_that_is_not_there(world: ConversionWorld) -> None:
    await world.define(definition({"url": "https://127.0.0.1:1/convert"}))
    good(await world.send("POST", V1, host("a", address="h:1")))
    assert message(await world.get("a", "v2")) == (
        f'{HEAD} failed: Post "https://127.0.0.1:1/convert?timeout=30s": dial tcp 127.0.0.1:1: connect: '
        "connection refused"
    )
    # Requests in the stored version need no conversion.
    assert good(await world.get("a"))["spec"]["address"] == "h:1"
    assert len(good(await world.send("GET", V1))["items"]) == 1
    wanted = f'conversion webhook for {GROUP}/v2, Kind=Host failed: Post "https://127.0.0.1:1/convert?timeout=30s": '
    assert message(await world.send("POST", V2, host("b", "v2", host="h", port=1))).startswith(wanted)
    assert message(await world.send("GET", V2)).startswith(f"{HEAD} failed: Post")
    assert message(await world.send("PATCH", f"{V2}/a", {"spec": {"port": 2}}, MERGE)).startswith(f"{HEAD} failed: P")
    assert message(await world.send("DELETE", f"{V2}/a")).startswith(f"{HEAD} failed: Post")
    async with world.watch(f"{V2}?watch=true") as events:
        error = await asyncio.wait_for(events.get(), 20)
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 500, "InternalError")
    assert error["object"]["message"].startswith(f"{HEAD} failed: Post")
    metrics = "\n".join(world.conversions.metrics.lines())
    total = "apiserver_conversion_webhook_request_total"
    assert f'{total}{{result="failure",failure_type="conversion_webhook_call_failure"}}' in metrics
    assert f'crd_name="hosts.{GROUP}",from_version="v1",to_version="v2",succeeded="false"' in metrics


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (response(result={"status": "Failure", "message": "no such port"}), f"{HEAD} failed: no such port"),
        (response(result={"status": "Odd"}), f"{HEAD} failed: response.result.status was 'Odd', not 'Success'"),
        (response(result={}), f"{HEAD} failed: response.result.status was '', not 'Success'"),
        (response(convertedObjects=[]), f"{HEAD} returned 0 objects, expected 1"),
        (response(convertedObjects=None), f"{HEAD} returned 0 objects, expected 1"),
        (changed(apiVersion=f"{GROUP}/v1"),
         f"{HEAD} returned invalid object at index 0: invalid groupVersion (expected {GROUP}/v2, received {GROUP}/v1)"),
        (changed(kind="Other"),
         f"{HEAD} returned invalid object at index 0: invalid kind (expected Host, received Other)"),
        (changed(meta_name="b"), f"{HEAD} returned invalid object: must have the same name: a != b"),
        (changed(meta_namespace="b"), f"{HEAD} returned invalid object: must have the same namespace: default != b"),
        (changed(metadata=None), f"{HEAD} returned invalid object: must have the same name: a != "),
        (changed(meta_labels=["x"]),
         f"{HEAD} returned invalid metadata: invalid metadata.labels of type []interface {{}} in converted object"),
        (changed(meta_labels={"x": 1}),
         f"{HEAD} returned invalid metadata: metadata.labels[x] must be a string, but is int64 in converted object"),
        (lambda _: b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops",
         f'{HEAD} failed: an error on the server ("oops") has prevented the request from succeeding'),
        (lambda _: b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
         f"{HEAD} failed: the server could not find the requested resource"),
    ],
)  # fmt: skip
async def test_wrong_answers(world: ConversionWorld, handler: Callable[[Review], Any], text: str) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    world.answer(handler)
    assert message(await world.get("a", "v2")) == text
    # A failure is not cached.
    world.answer(convert)
    assert good(await world.get("a", "v2"))["spec"]["port"] == 1


async def test_a_cached_conversion_counts_with_the_size_of_its_result(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    world.answer(changed(meta_annotations={"a": "x" * 100_000}))
    assert len(good(await world.get("a", "v2"))["metadata"]["annotations"]["a"]) == 100_000
    assert world.conversions.kept.size > 100_000


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (response(convertedObjects=[]), f"{HEAD} returned 0 objects, expected 2"),
        (changed(kind="Other"),
         f"{HEAD} returned invalid converted object at index 0: invalid kind (expected Host, received Other)"),
        (changed(meta_uid="x"), f"{HEAD} returned invalid converted object at index 0: must have the same UID: "),
        (lambda request: {**convert(request), "convertedObjects": convert(request)["convertedObjects"][::-1]},
         f"{HEAD} returned invalid converted object at index 0: must have the same name: a != b"),
        (changed(meta_annotations="x"), f"{HEAD} returned invalid metadata in object at index 0: invalid "
         "metadata.annotations of type string in converted object"),
    ],
)  # fmt: skip
async def test_wrong_answers_for_lists(world: ConversionWorld, handler: Callable[[Review], Any], text: str) -> None:
    await world.define()
    for name in ("a", "b"):
        good(await world.send("POST", V1, host(name, address="h:1")))
    world.answer(handler)
    assert message(await world.send("GET", V2)).startswith(text)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"response": 5}', b"[" * 5000, b'{"kind": "ConversionReview"}',
     b'{"kind": "Pod", "apiVersion": "v1"}', b'{"a": [' + b"1," * 60_000 + b"1]}"],
)  # fmt: skip
async def test_answers_that_are_no_review(world: ConversionWorld, body: bytes) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    world.answer(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert message(await world.get("a", "v2")).startswith(f"{HEAD} failed: ")


async def test_a_webhook_changes_labels_and_annotations_only(world: ConversionWorld) -> None:
    await world.define()
    made = good(await world.send("POST", V1, host("a", address="h:1")))
    world.answer(
        changed(
            meta_labels={"a": "b"},
            meta_annotations={"c": "d"},
            meta_generation=99,
            meta_resourceVersion="99",
            meta_finalizers=["x.example.com/y"],
            meta_ownerReferences=[{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}],
            meta_managedFields=[],
            meta_creationTimestamp=None,
        )
    )
    found = good(await world.get("a", "v2"))["metadata"]
    assert found == {**made["metadata"], "labels": {"a": "b"}, "annotations": {"c": "d"}}


async def test_an_object_that_becomes_too_deep_is_refused(world: ConversionWorld) -> None:
    made = definition(world.config)
    schema = made["spec"]["versions"][1]["schema"]["openAPIV3Schema"]
    schema["x-kubernetes-preserve-unknown-fields"] = True
    await world.define(made)
    good(await world.send("POST", V1, host("a", address="h:1")))
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    world.answer(changed(deep=deep))
    assert message(await world.get("a", "v2")) == "the object is nested too deep: limit is 256 levels"


async def test_a_slow_webhook_does_not_delay_other_requests(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    world.answer(lambda _: None)
    async with world.watch(f"{V2}?watch=true"), world.watch(f"{V2}?watch=true&labelSelector=a"):
        waiting = [asyncio.create_task(world.get("a", "v2")) for _ in range(20)]
        waiting.append(asyncio.create_task(world.send("GET", V2)))
        await asyncio.wait_for(world.hooks.asked.wait(), 20)
        assert good(await world.get("a"))["spec"]["address"] == "h:1"
        good(await world.send("POST", V1, host("b", address="h:1")))
        good(await world.send("DELETE", f"{V1}/b"))
        good(await world.send("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "m"}}))
        assert not any(one.done() for one in waiting)
        assert len(world.hooks.requests) == 1
        # All calls end when the API server stops.
        await asyncio.wait_for(world.conversions.aclose(), 10)
        for one in waiting:
            found = await asyncio.wait_for(one, 10)
            assert message(found) == f"{HEAD} failed: the API server is shutting down"
    assert "shutting down" in message(await world.get("a", "v2"))


@pytest.mark.parametrize("is_served", [True, False])
async def test_controllers_need_no_webhook(world: ConversionWorld, is_served: bool) -> None:
    await world.define()
    held = host("a", address="h:1")
    held["metadata"]["finalizers"] = ["example.com/held"]
    for one in (held, host("b", address="h:1", replicas=1)):
        good(await world.send("POST", V1, one))
    # All objects are stored in a version that is no longer the storage version, and the webhook is gone.
    some = versions("v2")
    some[0]["served"] = is_served
    await world.redefine({"versions": some})
    world.answer(lambda _: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    hosts = f"hosts.{GROUP}"
    assert [one["apiVersion"] for one in await world.client.list(hosts, "default")] == [f"{GROUP}/v1"] * 2
    watch = world.client.watch(hosts)
    assert [(await anext(watch)).type for _ in range(3)] == ["ADDED", "ADDED", "SYNCED"]
    assert (await world.client.get(hosts, "a", "default"))["spec"]["address"] == "h:1"
    await world.client.delete(hosts, "a", "default")
    assert (await anext(watch)).type == "MODIFIED"
    await world.client.patch(hosts, "a", {"metadata": {"finalizers": None}}, "default")
    assert (await anext(watch)).type == "DELETED"
    before = world.stored("b")
    await world.client.patch(hosts, "b", {"metadata": {"labels": {"a": "b"}}}, "default")
    assert (await anext(watch)).object["metadata"]["labels"] == {"a": "b"}
    assert (world.stored("b")["spec"], world.stored("b")["apiVersion"]) == (before["spec"], f"{GROUP}/v1")
    await watch.aclose()  # type: ignore[attr-defined]
    if is_served:
        await _scale(world, hosts)
    # The definition is being deleted, and its objects with it.
    good(await world.send("DELETE", f"{DEFINITIONS}/{hosts}"))
    async with world.watch(f"{DEFINITIONS}?watch=true&fieldSelector=metadata.name={hosts}") as events:
        while (await world.send("GET", f"{DEFINITIONS}/{hosts}")).status != 404:
            await asyncio.wait_for(events.get(), 20)


async def _scale(world: ConversionWorld, hosts: str) -> None:
    scale = await world.client.patch(hosts, "b", {"spec": {"replicas": 3}}, "default", subresource="scale")
    assert scale["spec"] == {"replicas": 3}
    assert world.stored("b")["spec"]["replicas"] == 3


async def test_an_object_of_a_version_that_is_gone(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))
    await world.redefine({"versions": versions("v2")})
    status = {"status": {"storedVersions": ["v2"]}}
    good(await world.send("PATCH", f"{DEFINITIONS}/hosts.{GROUP}/status", status, MERGE))
    await world.redefine({"versions": versions("v2")[1:]})
    assert message(await world.get("a", "v2")) == (f"request to convert CR from an invalid group/version: {GROUP}/v1")


async def test_a_repaired_webhook_is_used_at_once(world: ConversionWorld) -> None:
    await world.define(definition({"url": "https://127.0.0.1:1/convert"}))
    good(await world.send("POST", V1, host("a", address="h:1")))
    assert (await world.get("a", "v2")).status == 500
    await world.redefine({"conversion": {"webhook": {"clientConfig": world.config}}})
    assert good(await world.get("a", "v2"))["spec"]["port"] == 1


async def test_updates_at_the_same_time_are_all_kept(world: ConversionWorld) -> None:
    await world.define()
    good(await world.send("POST", V1, host("a", address="h:1")))

    async def label(index: int) -> None:
        target = (V1, V2)[index % 2]
        good(await world.send("PATCH", f"{target}/a", {"metadata": {"labels": {f"l{index}": "x"}}}, MERGE))

    await asyncio.gather(*(label(index) for index in range(8)))
    assert set(world.stored("a")["metadata"]["labels"]) == {f"l{index}" for index in range(8)}


@pytest.mark.parametrize(
    ("conversion", "field", "text"),
    [
        ({}, "spec.conversion.webhookClientConfig", "Required value: required when strategy is set to Webhook"),
        ({}, "spec.conversion.conversionReviewVersions", "Required value"),
        ({"webhook": {"clientConfig": {}, "conversionReviewVersions": ["v1"]}},
         "spec.conversion.webhookClientConfig", "Required value: exactly one of url or service is required"),
        ({"webhook": {"clientConfig": {"url": "http://x/"}, "conversionReviewVersions": ["v1"]}},
         "spec.conversion.webhookClientConfig.url",
         'Invalid value: "http": \'https\' is the only allowed URL scheme; desired format: https://host[/path]'),
        ({"webhook": {"clientConfig": {"service": {"name": "x", "namespace": ""}}, "conversionReviewVersions": ["v1"]}},
         "spec.conversion.webhookClientConfig.service.namespace", "Required value"),
        ({"webhook": {"clientConfig": {"url": "https://x/"}, "conversionReviewVersions": ["v3"]}},
         "spec.conversion.conversionReviewVersions",
         'Invalid value: ["v3"]: must include at least one of v1, v1beta1'),
        ({"webhook": {"clientConfig": {"url": "https://x/", "caBundle": "bm8="}, "conversionReviewVersions": ["v1"]}},
         "spec.conversion.webhookClientConfig.caBundle",
         "Invalid value: []byte{0x6e, 0x6f}: unable to load root certificates: unable to parse bytes as PEM block"),
        ({"strategy": "None", "webhook": {"clientConfig": {"url": "https://x/"}, "conversionReviewVersions": ["v1"]}},
         "spec.conversion.webhookClientConfig", "Forbidden: should not be set when strategy is not set to Webhook"),
    ],
)  # fmt: skip
async def test_conversions_that_are_not_valid(
    world: ConversionWorld, conversion: dict[str, Any], field: str, text: str
) -> None:
    made = definition(world.config)
    made["spec"]["conversion"] = {"strategy": "Webhook", **conversion}
    reply = await world.send("POST", DEFINITIONS, made)
    assert reply.status == 422, reply.body
    found = {one["field"]: one["message"] for one in reply.json["details"]["causes"]}
    assert found[field] == text, found
