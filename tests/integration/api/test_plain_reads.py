"""Reads that are answered without the REST application get the same responses as with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from hatchway.cluster.api.http import encodeditems, requestinfo
from hatchway.cluster.api.http.plainreads import PlainRead
from hatchway.proxy.routing import Peer, RequestHead, Respond
from tests.integration.api.world import World, world

_MAPS = "/api/v1/namespaces/default/configmaps"
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_PROTOBUF = "application/vnd.kubernetes.protobuf"


def find(
    made: World,
    target: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    upgrade: bytes | None = None,
) -> PlainRead | None:
    """Return the function that answers the request without the application; None if only the application can."""
    path, _, query = target.encode().partition(b"?")
    fields = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    head = RequestHead(method, target.encode(), path, query or None, fields, "1.1", Peer(None, "https"), upgrade)
    return made.app.plain_reads.find(head, requestinfo.parse(method, path, query or None))


def plainly(
    made: World,
    target: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    upgrade: bytes | None = None,
) -> Respond | None:
    """Return the response that the filters give without the application; None if they give none."""
    read = find(made, target, headers, method, upgrade)
    return read() if read is not None else None


async def _fill(made: World) -> None:
    for number in range(3):
        obj = {"metadata": {"name": f"m{number}", "labels": {"n": str(number)}}, "data": {"a": "\u00fc\u2028<&>"}}
        await made.send("POST", _MAPS, obj)
    await made.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", {"metadata": {"name": "reader"}})


@pytest.mark.parametrize(
    "target",
    [
        _MAPS,
        f"{_MAPS}/m1",
        f"{_MAPS}?limit=500&resourceVersion=0",
        f"{_MAPS}/m1?resourceVersion=0",
        "/api/v1/configmaps",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default",
        "/api/v1/namespaces/default/namespaces",
        "/api/v1/namespaces/none/configmaps",
        "/api/v1/namespaces/default/pods",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/reader",
    ],
)
@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/yaml;q=0.1, application/json"])
async def test_the_answer_is_that_of_the_application(target: str, accept: str) -> None:
    async with world() as made:
        await _fill(made)
        for _ in range(2):
            headers = {"Accept": accept} if accept else {}
            reply, found = await made.send("GET", target, headers=headers), plainly(made, target, headers)
            assert found is not None
            fields = [(name.decode(), value.decode()) for name, value in found.headers]
            assert (found.status, found.body, fields) == (reply.status, reply.body, reply.headers)
            await made.send("POST", _MAPS, {"metadata": {"name": "one-more"}})


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (f"{_MAPS}/none", {}),
        ("/api/v1/configmaps/m1", {}),
        ("/api/v1/namespaces/default/unknown", {}),
        ("/apis/none.example/v1/configmaps", {}),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}),
        ("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", {}),
        ("/api/v1/componentstatuses", {}),
        (f"{_MAPS}?limit=1", {}),
        (f"{_MAPS}?limit=500&limit=1", {}),
        (f"{_MAPS}?limit=-1", {}),
        (f"{_MAPS}?resourceVersion=1", {}),
        (f"{_MAPS}?resourceVersion=0&resourceVersionMatch=Exact", {}),
        (f"{_MAPS}?labelSelector=a", {}),
        (f"{_MAPS}?watch=1", {}),
        (f"{_MAPS}/m1?pretty=1", {}),
        (f"{_MAPS}/m1", {"User-Agent": "curl/8.1"}),
        (f"{_MAPS}/m1", {"Accept": _TABLE}),
        (f"{_MAPS}/m1", {"Accept": _PROTOBUF}),
        (f"{_MAPS}/m1", {"Accept": "image/png"}),
        ("/api/v1/namespaces/default/services/web", {"Kubectl-Command": "kubectl port-forward"}),
        ("/api/v1/namespaces/default/pods/web/log", {}),
        ("/version", {}),
    ],
)
async def test_all_other_reads_are_left_to_the_application(target: str, headers: dict[str, str]) -> None:
    async with world() as made:
        await _fill(made)
        await made.send(
            "POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "web"}, "spec": {"ports": []}}
        )
        assert plainly(made, target, headers) is None


async def test_a_type_that_has_changed_meanwhile_is_left_to_the_application() -> None:
    async with world() as made:
        await _fill(made)
        reads = [find(made, target) for target in (_MAPS, f"{_MAPS}/m1")]
        assert [read is not None and read() is not None for read in reads] == [True, True]
        (row,) = (one for one in made.registry.rows if one.plural == "configmaps")
        made.registry._by_path["", "v1", "configmaps"] = replace(row)
        assert [read is not None and read() for read in reads] == [None, None]


async def test_other_methods_are_left_to_the_application() -> None:
    async with world() as made:
        await _fill(made)
        assert [plainly(made, f"{_MAPS}/m1", method=one) for one in ("HEAD", "PUT", "DELETE", "OPTIONS")] == [None] * 4
        assert plainly(made, f"{_MAPS}/m1", upgrade=b"websocket") is None


async def test_large_objects_and_long_lists_are_left_to_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as made:
        await _fill(made)
        monkeypatch.setattr(encodeditems, "_MOST_JOINED", 6)
        assert plainly(made, _MAPS) is not None
        await asyncio.gather(*(made.send("POST", _MAPS, {"metadata": {"name": f"n{one}"}}) for one in range(6)))
        assert plainly(made, _MAPS) is None
        await made.send("DELETE", _MAPS)
        assert plainly(made, _MAPS) is not None
        await made.send("POST", _MAPS, {"metadata": {"name": "large"}, "data": {"a": "x" * 100_000}})
        assert (plainly(made, _MAPS), plainly(made, f"{_MAPS}/large")) == (None, None)


async def test_lists_of_namespaces_that_do_not_exist_are_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodeditems, "_MOST_BYTES", 10_000)
    async with world() as made:
        for number in range(100):
            assert plainly(made, f"/api/v1/namespaces/none-{number}/configmaps") is not None
        items = made.app.plain_reads._encoded
        assert 0 < len(items._joined["configmaps"]) < 20
        assert 0 < items.size <= 10_000


async def test_a_list_that_a_client_wants_compressed_is_left_to_the_application() -> None:
    async with world() as made:
        for number in range(8):
            obj = {"metadata": {"name": f"m{number}"}, "data": {"a": "x" * 20_000}}
            await made.send("POST", _MAPS, obj)
        assert plainly(made, _MAPS, {"Accept-Encoding": "gzip"}) is None
        found = plainly(made, _MAPS)
        assert found is not None
        assert len(json.loads(found.body)["items"]) == 9
