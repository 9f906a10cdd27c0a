"""A watch in protobuf: each frame is a length, followed by a WatchEvent with an object."""

from __future__ import annotations

from pathlib import Path

from hatchway.cluster.api.registry.schema import decode_protobuf
from tests.conformance.apiserver import recorded_server

PROTOBUF = "application/vnd.kubernetes.protobuf"


async def test_a_streaming_list_in_protobuf(tmp_path: Path) -> None:
    """The existing objects come first, then a bookmark, then changes."""
    async with recorded_server(tmp_path) as made:
        await made.server.client.create("configmaps", {"metadata": {"name": "x"}, "data": {"a": "é" * 9000}}, "team-a")
        query = (
            "watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        )
        path = f"/api/v1/namespaces/team-a/configmaps?{query}&fieldSelector=metadata.name%3Dx"
        headers = {"Accept": f"{PROTOBUF},application/json"}
        recording = {"id": "", "user": "admin", "method": "GET", "path": path, "headers": headers, "body": None}
        answer = await made.send(recording)
    assert answer.status == 200
    assert answer.header("content-type") == f"{PROTOBUF};stream=watch"
    data = answer.body.encode("utf-8", "surrogateescape")
    events = []
    while data:
        length = int.from_bytes(data[:4], "big")
        frame, data = data[4 : 4 + length], data[4 + length :]
        assert len(frame) == length
        events.append((frame[2 : 2 + frame[1]].decode(), decode_protobuf(frame[frame.index(b"k8s\0") :])))
    assert [kind for kind, _ in events[:2]] == ["ADDED", "BOOKMARK"]
    assert events[0][1]["data"] == {"a": "é" * 9000}
    assert events[1][1]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_large_object_alone_and_in_a_list(tmp_path: Path) -> None:
    """An object that is large enough to be encoded on a thread arrives complete."""
    addresses = [{"ip": "192.0.2.1", "targetRef": {"kind": "Pod", "name": f"p{number}"}} for number in range(6000)]
    endpoints = {"metadata": {"name": "x"}, "subsets": [{"addresses": addresses, "ports": [{"port": 1}]}]}
    async with recorded_server(tmp_path) as made:
        await made.server.client.create("endpoints", endpoints, "team-a")
        path, headers = "/api/v1/namespaces/team-a/endpoints", {"Accept": PROTOBUF}
        for target in (f"{path}/x", path):
            recording = {"id": "", "user": "admin", "method": "GET", "path": target, "headers": headers, "body": None}
            answer = await made.send(recording)
            found = decode_protobuf(answer.body.encode("utf-8", "surrogateescape"))
            named = (
                found if "subsets" in found else next(one for one in found["items"] if one["metadata"]["name"] == "x")
            )
            assert len(named["subsets"][0]["addresses"]) == 6000


async def test_every_type_has_lists_in_protobuf(tmp_path: Path) -> None:
    """Each built-in type can be listed in protobuf, with all its objects in a new cluster."""
    async with recorded_server(tmp_path) as made:
        for row in made.server.api.registry.rows:
            if "list" in row.verbs:
                path = f"/{f'apis/{row.group}' if row.group else 'api'}/{row.version}/{row.plural}"
                recording = {"id": "", "user": "admin", "method": "GET", "path": path, "headers": {"Accept": PROTOBUF}}
                answer = await made.send({**recording, "body": None})
                assert answer.header("content-type") == PROTOBUF, path
                found = decode_protobuf(answer.body.encode("utf-8", "surrogateescape"))
                assert (found["apiVersion"], found["kind"]) == (row.api_version, row.listed_as)
