"""Lists in pages, watches in all their forms, and requests that make no sense."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import pytest

from hatchway.cluster.api.operations import watching
from hatchway.cluster.api.storage.history import Cursor, History
from hatchway.errors import ApiError
from tests.integration.api.world import World, world

NS = "/api/v1/namespaces/default"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


async def config_map(made: World, name: str, namespace: str = "default", **labels: str) -> int:
    obj = {"metadata": {"name": name, "namespace": namespace, "labels": labels}}
    return int((await made.client.create("configmaps", obj))["metadata"]["resourceVersion"])


async def event(events: asyncio.Queue[Any]) -> tuple[str, str]:
    found = await asyncio.wait_for(events.get(), 5)
    return found["type"], found["object"].get("metadata", {}).get("name", "")


async def test_pages(made: World) -> None:
    names = [f"c{number}" for number in range(7)]
    for name in names:
        await config_map(made, name, page="yes")
    await config_map(made, "c1", "kube-system", page="yes")
    for target, wanted in ((f"{NS}/configmaps", names), ("/api/v1/configmaps", [*names, "c1"])):
        found, token, pages = [], "", 0
        while True:
            reply = (await made.send("GET", f"{target}?limit=3&labelSelector=page&continue={token}")).json
            found += [one["metadata"]["name"] for one in reply["items"]]
            pages += 1
            token = reply["metadata"].get("continue", "")
            if not token:
                break
        assert (found, pages) == (wanted, 3)
    whole = (await made.send("GET", f"{NS}/configmaps?limit=3")).json["metadata"]
    assert whole["remainingItemCount"] == 5


async def test_a_later_page_keeps_the_version_of_the_first(made: World) -> None:
    for name in "abc":
        await config_map(made, name)
    first = (await made.send("GET", f"{NS}/configmaps?limit=1")).json
    await config_map(made, "bb")
    second = (await made.send("GET", f"{NS}/configmaps?limit=9&continue={first['metadata']['continue']}")).json
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert [one["metadata"]["name"] for one in second["items"]] == ["b", "c", "kube-root-ca.crt"]


async def test_an_exact_list_shows_the_past(made: World) -> None:
    for name in "ab":
        await config_map(made, name)
    then = made.store.revision
    await config_map(made, "c")
    await made.client.patch("configmaps", "a", {"data": {"k": "new"}}, "default")
    await made.client.delete("configmaps", "b", "default")
    target = f"{NS}/configmaps?resourceVersion={then}&resourceVersionMatch=Exact"
    reply = (await made.send("GET", target)).json
    assert reply["metadata"]["resourceVersion"] == str(then)
    assert {one["metadata"]["name"]: one.get("data") for one in reply["items"]} == {
        "a": None,
        "b": None,
        "kube-root-ca.crt": {"ca.crt": "PEM"},
    }


def continue_token(**fields: Any) -> str:
    body = json.dumps({"v": "meta.k8s.io/v1", **fields}).encode()
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


@pytest.mark.parametrize("age", ["of a version that is forgotten", "of six minutes ago"])
async def test_an_expired_continue_offers_a_fresh_one(made: World, age: str) -> None:
    for name in "abc":
        await config_map(made, name)
    if age == "of six minutes ago":
        old = continue_token(rv=made.store.revision, start="/a\0", at=int(time.time()) - 360)
    else:
        made.store.history("configmaps").floor = made.store.revision
        old = continue_token(rv=made.store.revision - 1, start="/a\0")
    reply = await made.send("GET", f"{NS}/configmaps?limit=1&continue={old}")
    status = reply.json
    assert (reply.status, status["reason"], status["code"]) == (410, "Expired", 410)
    assert status["message"].startswith(
        "The provided continue parameter is too old to display a consistent list result"
    )
    fresh = status["metadata"]["continue"]
    await config_map(made, "aa")
    rest = (await made.send("GET", f"{NS}/configmaps?limit=2&continue={fresh}")).json
    assert [one["metadata"]["name"] for one in rest["items"]] == ["aa", "b"]
    assert rest["metadata"]["resourceVersion"] == str(made.store.revision)
    last = (await made.send("GET", f"{NS}/configmaps?continue={rest['metadata']['continue']}")).json
    assert [one["metadata"]["name"] for one in last["items"]] == ["c", "kube-root-ca.crt"]


async def test_a_request_waits_for_a_future_version(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatchway.cluster.api.operations.verbs._FUTURE_WAIT", 0.05)
    now = made.store.revision
    for target in ("configmaps", "configmaps/kube-root-ca.crt", "configmaps?watch=1"):
        mark = "&" if "?" in target else "?"
        reply = await made.send("GET", f"{NS}/{target}{mark}resourceVersion={now + 1}")
        assert (reply.status, reply.header("retry-after")) == (504, "1")
        assert reply.json["message"] == f"Too large resource version: {now + 1}, current: {now}"
        assert reply.json["details"] == {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        }
    monkeypatch.setattr("hatchway.cluster.api.operations.verbs._FUTURE_WAIT", 10)
    asked = asyncio.create_task(made.send("GET", f"{NS}/configmaps?resourceVersion={now + 1}"))
    await asyncio.sleep(0)
    await config_map(made, "it-comes")
    assert "it-comes" in [one["metadata"]["name"] for one in (await asked).json["items"]]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("e30", "server does not recognize this encoded version "),
        ("ab+d", "illegal base64 data at input byte 2"),
        ("abcde", "illegal base64 data at input byte 4"),
        (continue_token(rv=0, start="/a"), "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
        (continue_token(rv=1, start=""), "encoded start key empty (version meta.k8s.io/v1)"),
        (continue_token(rv=1, start="/../a"), "/../a"),
    ],
)
async def test_invalid_continue_tokens(made: World, token: str, why: str) -> None:
    reply = await made.send("GET", f"{NS}/configmaps?continue={quote(token)}")
    assert reply.json["message"] == f"invalid continue token: continue key is not valid: {why}"


async def test_continue_and_resource_version_exclude_each_other(made: World) -> None:
    token = continue_token(rv=made.store.revision, start="/a")
    reply = await made.send("GET", f"{NS}/configmaps?resourceVersion=1&continue={token}")
    assert reply.json["message"] == "specifying resource version is not allowed when using continue"


@pytest.mark.parametrize(
    "target",
    [
        "/nope",
        "/metrics-nope",
        "/openapi/v2-nope",
        "/logs/",
        "/apis/example.com/v1/things",
        "/apis/v1/namespaces/a/b/c",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_unknown_paths_get_a_404_in_plain_text(made: World, target: str, method: str) -> None:
    reply = await made.send(method, target)
    assert (reply.status, reply.body) == (404, b"404 page not found\n")
    assert reply.header("content-type") == "text/plain; charset=utf-8"
    assert reply.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("token", ["x", "e30", "bnVsbA", "eyJydiI6IngiLCJzdGFydCI6ImEifQ", "%ff", "W10"])
async def test_malformed_continue_tokens(made: World, token: str) -> None:
    assert (await made.send("GET", f"{NS}/configmaps?limit=1&continue={token}")).status == 400


async def test_versions_of_lists(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatchway.cluster.api.operations.verbs._FUTURE_WAIT", 0.01)
    now = made.store.revision
    for query, status in (
        ("resourceVersion=0", 200),
        (f"resourceVersion={now}", 200),
        (f"resourceVersion={now}&resourceVersionMatch=Exact", 200),
        (f"resourceVersion={now - 1}&resourceVersionMatch=Exact", 200),
        ("resourceVersion=1&resourceVersionMatch=Exact", 200),
        (f"resourceVersion={now + 1}", 504),
        ("resourceVersion=x", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Nearly", 422),
        ("sendInitialEvents=true", 422),
        ("watch=1&sendInitialEvents=true", 422),
        ("timeoutSeconds=99999999999999999999", 400),
    ):
        assert (await made.send("GET", f"{NS}/configmaps?{query}")).status == status, query


async def test_watch_from_a_version(made: World) -> None:
    revision = await config_map(made, "a")
    await config_map(made, "b")
    async with made.watch(f"{NS}/configmaps?watch=1&resourceVersion={revision}") as events:
        assert await event(events) == ("ADDED", "b")
        await made.client.patch("configmaps", "b", {"data": {"k": "v"}}, "default")
        assert await event(events) == ("MODIFIED", "b")
        await config_map(made, "elsewhere", "kube-system")
        await made.client.delete("configmaps", "b", "default")
        deleted = await asyncio.wait_for(events.get(), 5)
        assert (deleted["type"], deleted["object"]["data"]) == ("DELETED", {"k": "v"})
        assert int(deleted["object"]["metadata"]["resourceVersion"]) == made.store.revision


async def test_watch_without_a_version_begins_with_the_existing_objects(made: World) -> None:
    for query in ("watch=1", "watch=1&resourceVersion=0"):
        async with made.watch(f"{NS}/configmaps?{query}") as events:
            assert await event(events) == ("ADDED", "kube-root-ca.crt")
    async with made.watch(f"/api/v1/watch/namespaces/default/configmaps/kube-root-ca.crt?x={query}") as events:
        assert await event(events) == ("ADDED", "kube-root-ca.crt")


async def test_watch_list(made: World) -> None:
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with made.watch(f"{NS}/configmaps?{query}") as events:
        assert await event(events) == ("ADDED", "kube-root-ca.crt")
        mark = await asyncio.wait_for(events.get(), 5)
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["object"]["metadata"]["resourceVersion"] == str(made.store.revision)
        await config_map(made, "later")
        assert await event(events) == ("ADDED", "later")


async def test_a_selection_sees_objects_come_and_go(made: World) -> None:
    async with made.watch(f"{NS}/configmaps?watch=1&labelSelector=on%3Dyes") as events:
        await config_map(made, "a", on="no")
        await made.client.patch("configmaps", "a", {"metadata": {"labels": {"on": "yes"}}}, "default")
        assert await event(events) == ("ADDED", "a")
        await made.client.patch("configmaps", "a", {"metadata": {"labels": {"on": "no"}}}, "default")
        gone = await asyncio.wait_for(events.get(), 5)
        assert (gone["type"], gone["object"]["metadata"]["labels"]) == ("DELETED", {"on": "yes"})
        assert gone["object"]["metadata"]["resourceVersion"] == str(made.store.revision)
        await made.client.delete("configmaps", "a", "default")
        await config_map(made, "b", on="yes")
        assert await event(events) == ("ADDED", "b")


async def test_watch_as_a_table(made: World) -> None:
    async with made.watch(f"{NS}/configmaps?watch=1&resourceVersion={made.store.revision}", TABLE) as events:
        await config_map(made, "a")
        found = (await asyncio.wait_for(events.get(), 5))["object"]
        assert found["kind"] == "Table"
        assert found["rows"][0]["cells"][0] == "a"


async def test_bookmarks_while_nothing_happens(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BOOKMARK_INTERVAL", 0.01)
    target = f"{NS}/configmaps?watch=1&allowWatchBookmarks=1&resourceVersion={made.store.revision}"
    async with made.watch(target) as events:
        mark = await asyncio.wait_for(events.get(), 5)
        assert (mark["type"], mark["object"]["metadata"]["resourceVersion"]) == ("BOOKMARK", str(made.store.revision))


async def test_bookmarks_come_while_only_other_objects_change(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "BOOKMARK_INTERVAL", 0.2)
    target = f"{NS}/configmaps?watch=1&allowWatchBookmarks=1&labelSelector=a=b&resourceVersion={made.store.revision}"
    async with made.watch(target) as events:
        for number in range(200):
            await config_map(made, f"other-{number}")
            await asyncio.sleep(0.01)
            if not events.empty():
                break
        assert events.get_nowait()["type"] == "BOOKMARK"


async def test_a_watch_that_ends_gets_a_bookmark_shortly_before(made: World) -> None:
    target = f"{NS}/configmaps?watch=1&allowWatchBookmarks=1&timeoutSeconds=3&resourceVersion={made.store.revision}"
    ended = await made.send("GET", target)
    assert [json.loads(line)["type"] for line in ended.body.splitlines()] == ["BOOKMARK"]


async def test_no_bookmark_overtakes_an_event(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change happens just when a quiet watch is due to get a bookmark of the current version."""
    wait, first = Cursor.wait, True

    async def changed_when_the_time_was_over(cursor: Cursor, pass_on: Callable[[], bool] | None) -> None:
        nonlocal first
        if not first:
            return await wait(cursor, pass_on)
        first = False
        await config_map(made, "late")
        raise TimeoutError

    monkeypatch.setattr(Cursor, "wait", changed_when_the_time_was_over)
    target = f"{NS}/configmaps?watch=1&allowWatchBookmarks=1&resourceVersion={made.store.revision}"
    async with made.watch(target) as events:
        assert await event(events) == ("ADDED", "late")


@pytest.mark.parametrize("headers", [{}, TABLE], ids=["objects", "tables"])
async def test_events_come_in_order_whether_they_are_written_at_once_or_by_the_task(
    made: World, headers: dict[str, str]
) -> None:
    """If the client's buffer is full, the event is not written at once but sent by the watch's task."""
    at_once: list[bool] = []
    target = f"{NS}/configmaps?watch=1&labelSelector=follow&resourceVersion={made.store.revision}"
    async with made.watch(target, headers, full=lambda: len(at_once) % 3 == 1, at_once=at_once) as events:
        names = []
        for number in range(12):
            names.append(f"c{number}")
            await config_map(made, names[-1], follow="yes")
            await config_map(made, f"other-{number}")
        many = [f"many-{number}" for number in range(40)]
        await asyncio.gather(*(config_map(made, name, follow="yes") for name in many))
        found = []
        while len(found) < len(names) + len(many):
            shown = (await asyncio.wait_for(events.get(), 5))["object"]
            found.append((shown["rows"][0]["object"] if headers else shown)["metadata"]["name"])
        assert (found, events.empty()) == ([*names, *many], True)
    assert {True, False} <= set(at_once)


async def test_a_watch_from_before_the_history_gets_expired(made: World) -> None:
    made.store._histories["configmaps"] = History(made.store.revision, 8)
    old = await made.send("GET", f"{NS}/configmaps?watch=1&resourceVersion={made.store.revision - 1}")
    assert old.status == 200
    assert (old.json["type"], old.json["object"]["code"], old.json["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_watches_end(made: World) -> None:
    timed = await made.send("GET", f"{NS}/configmaps?watch=1&timeoutSeconds=1&resourceVersion={made.store.revision}")
    assert (timed.status, timed.body) == (200, b"")
    async with made.watch(f"{NS}/configmaps?watch=1") as events:
        assert await event(events) == ("ADDED", "kube-root-ca.crt")
        await made.store.close()


async def test_the_watch_in_process_lists_again_when_it_is_too_slow(made: World) -> None:
    await config_map(made, "gone")
    stream = made.client.watch("configmaps", "default")
    seen = []
    while not seen or seen[-1][0] != "SYNCED":
        one = await anext(stream)
        seen.append((one.type, one.object.get("metadata", {}).get("name")))
    assert seen == [("ADDED", "gone"), ("ADDED", "kube-root-ca.crt"), ("SYNCED", None)]
    await config_map(made, "first")
    one = await anext(stream)
    assert (one.type, one.object["metadata"]["name"]) == ("ADDED", "first")
    history = made.store.history("configmaps")
    history._limit = 2
    await made.client.delete("configmaps", "gone", "default")
    for number in range(8):
        await config_map(made, f"more{number}")
    await made.client.delete("configmaps", "first", "default")
    await config_map(made, "first")
    changes = [await anext(stream) for _ in range(11)]
    assert [(one.type, one.object["metadata"]["name"]) for one in changes] == [
        ("DELETED", "gone"),
        # A new object of the same name.
        ("DELETED", "first"),
        ("ADDED", "first"),
        *(("ADDED", f"more{number}") for number in range(8)),
    ]
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "target", "body", "headers", "status"),
    [
        ("GET", "/api/v1/namespaces/default/nodes", None, {}, 404),
        ("GET", "/api/v1/nodes/x/pods/y", None, {}, 404),
        ("GET", f"{NS}/configmaps/a/b/c", None, {}, 404),
        ("GET", f"{NS}/configmaps/a/status", None, {}, 404),
        ("GET", "/apis/apps/v2/things", None, {}, 404),
        ("GET", "/api/v2/pods", None, {}, 404),
        ("POST", "/api/v1/configmaps", {"metadata": {"name": "a"}}, {}, 405),
        ("POST", f"{NS}/configmaps/a", {}, {}, 405),
        ("PUT", f"{NS}/configmaps", {}, {}, 405),
        ("OPTIONS", f"{NS}/configmaps", None, {}, 405),
        ("POST", "/version", None, {}, 405),
        ("DELETE", "/apis/apps/v1", None, {}, 405),
        ("GET", "/version/x", None, {}, 404),
        ("POST", f"{NS}/configmaps", [], {}, 400),
        ("POST", f"{NS}/configmaps", None, {}, 400),
        ("POST", f"{NS}/configmaps", b"\xff\xfe", {}, 400),
        ("POST", f"{NS}/configmaps", b"[" * 50_000, {}, 400),
        ("POST", f"{NS}/configmaps", {"apiVersion": ["v1"], "kind": {"a": 1}}, {}, 400),
        ("POST", f"{NS}/configmaps", {"metadata": []}, {}, 400),
        ("POST", f"{NS}/configmaps", {"metadata": {"labels": {"a": 1}}}, {}, 400),
        ("POST", f"{NS}/pods", {"metadata": {"name": "p"}, "spec": {"containers": {"a": 1}}}, {}, 400),
        ("POST", f"{NS}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [None]}}, {}, 422),
        ("POST", f"{NS}/pods", {"metadata": {"name": "p"}}, {}, 422),
        ("POST", f"{NS}/services", {"metadata": {"name": "s"}}, {}, 422),
        ("POST", f"{NS}/services", {"metadata": {"name": "s.x"}, "spec": {"ports": [{"port": 1}]}}, {}, 422),
        ("POST", f"{NS}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 99999}]}}, {}, 422),
        ("POST", f"{NS}/configmaps", b" " * (3 * 1024 * 1024 + 1), {}, 413),
        ("POST", f"{NS}/configmaps", b"{}", {"Content-Length": "99999999"}, 413),
        ("PATCH", f"{NS}/configmaps/kube-root-ca.crt", [], MERGE, 400),
        ("PATCH", f"{NS}/configmaps/kube-root-ca.crt", {"data": []}, MERGE, 422),
        ("PATCH", f"{NS}/configmaps/kube-root-ca.crt", {}, {"Content-Type": "application/apply-patch+yaml"}, 422),
        ("DELETE", f"{NS}/configmaps/kube-root-ca.crt", [], {}, 400),
        ("DELETE", f"{NS}/configmaps/kube-root-ca.crt", {"gracePeriodSeconds": "x"}, {}, 400),
        ("DELETE", f"{NS}/configmaps/kube-root-ca.crt?propagationPolicy=Sideways", None, {}, 422),
        ("DELETE", f"{NS}/configmaps/kube-root-ca.crt?gracePeriodSeconds=x", None, {}, 400),
        ("POST", f"{NS}/pods/absent/binding", {"metadata": {"name": "absent"}, "target": {"name": "n"}}, {}, 404),
        ("POST", f"{NS}/pods/absent/binding", {"target": []}, {}, 400),
        ("POST", f"{NS}/pods/absent/binding", {"metadata": {"name": "absent"}, "target": {}}, {}, 422),
        ("PUT", "/apis/apps/v1/namespaces/default/deployments/x/scale", {"spec": {"replicas": "a"}}, {}, 404),
        ("GET", f"{NS}/configmaps?" + "&".join(["a=1"] * 300), None, {}, 400),
        ("GET", f"{NS}/configmaps?includeObject=Half", None, TABLE, 400),
        ("GET", f"{NS}/configmaps/kube-root-ca.crt", None, {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}, 406),
    ],
)  # fmt: skip
async def test_requests_that_make_no_sense(
    made: World, method: str, target: str, body: Any, headers: dict[str, str], status: int
) -> None:
    reply = await made.send(method, target, body, headers)
    assert reply.status == status, reply.body
    assert reply.json["kind"] == "Status"
    assert reply.json["code"] == status
    assert "Traceback" not in reply.json["message"]


async def test_a_bug_is_a_status_without_a_traceback(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(made.api, "get", broken)
    reply = await made.send("GET", f"{NS}/configmaps/a")
    assert (reply.status, reply.json["reason"]) == (500, "InternalError")
    assert b"secret" not in reply.body


async def test_health(made: World) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/readyz/informer-sync", "/healthz/ping"):
        reply = await made.send("GET", path)
        assert (reply.status, reply.body) == (200, b"ok")
    verbose = await made.send("GET", "/livez?verbose")
    assert verbose.body == b"[+]ping ok\n[+]etcd ok\nlivez check passed\n"
    assert (await made.send("GET", "/livez?verbose&exclude=etcd")).body.splitlines()[1] == b"[+]etcd excluded: ok"
    made.store.problem = "disk is full"
    assert (await made.send("GET", "/readyz")).status == 500
    assert (await made.send("GET", "/readyz/etcd")).status == 500
    assert (await made.send("GET", "/healthz?exclude=etcd")).status == 200
    assert (await made.send("GET", "/healthz/nope")).status == 404


async def test_indented_answers_etags_and_partial_metadata(made: World) -> None:
    target = f"{NS}/configmaps/kube-root-ca.crt"
    assert (await made.send("GET", target)).body.count(b"\n") == 1
    for query, headers in (("?pretty=true", {}), ("", {"User-Agent": "curl/8"})):
        assert (await made.send("GET", target + query, None, headers)).body.count(b"\n") > 5
    reply = await made.send("GET", "/openapi/v3")
    again = await made.send("GET", "/openapi/v3", None, {"If-None-Match": reply.header("etag") or ""})
    assert (reply.status, again.status, again.body) == (200, 304, b"")
    partial = await made.send(
        "GET", target, None, {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    )
    assert sorted(partial.json) == ["apiVersion", "kind", "metadata"]


async def test_unknown_field_selectors(made: World) -> None:
    for resource in ("pods", "configmaps"):
        with pytest.raises(ApiError) as caught:
            await made.client.list(resource, field_selector="data.k=v")
        assert caught.value.code == 400


async def test_types_that_are_only_created_have_no_table(made: World) -> None:
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await made.send("POST", reviews, review, table)).status == 406
    # With JSON as a second choice, the answer is that of a type that is not served: this world has no authorizer.
    assert (await made.send("POST", reviews, review, TABLE)).status == 405
    await config_map(made, "one")
    assert (await made.send("GET", f"{NS}/configmaps/one", headers=table)).json["kind"] == "Table"
