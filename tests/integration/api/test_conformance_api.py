"""Replays the recorded exchanges of the REST API, in order, in one namespace.

What users without rights were refused, and reviews, are replayed where authorization is (`test_filters.py`,
`test_reviews.py`); logs where they are forwarded.
"""

from __future__ import annotations

from tests.conformance.replay import load
from tests.conformance.rest import compare
from tests.integration.api.world import World, world

_OTHER_ROOMS = {
    "153": "the endpoints controller writes it",
    "173": "forwarded to the kubelet",
    "174": "forwarded to the kubelet",
    "061": "nothing of a fresh store has expired (`test_watch.py` has the 410)",
    "116": "discovery.k8s.io/v1beta1 is not served",
}

_STARTING = {
    "hostIP": "10.199.2.2",
    "startTime": "2026-11-23T03:49:59Z",
    "containerStatuses": [
        {
            "name": "c",
            "state": {"waiting": {"reason": "ContainerCreating"}},
            "lastState": {},
            "ready": False,
            "restartCount": 0,
            "image": "i",
            "imageID": "",
            "started": False,
        }
    ],
}


async def _replay(made: World) -> list[str]:
    found = []
    for recording in load("api.jsonl"):
        number, user, path = recording["id"], recording["user"], recording["path"]
        if user not in ("admin", None) or "reviews" in path or number in _OTHER_ROOMS:
            continue
        if user is None and recording["response"]["status"] in (401, 403):
            continue
        headers = {"Content-Type": "application/json", **(recording["headers"] or {})}
        if recording["body"] is None:
            headers.pop("Content-Type")
        reply = await made.send(recording["method"], path, recording["body"], headers)
        found += compare(recording, reply)
        if number == "000":
            await made.namespace("conf")
        if number == "170":
            # What the scheduler and the kubelet did before line 171 shows it.
            binding = {"target": {"kind": "Node", "name": "node-1"}}
            await made.client.create("pods", binding, "conf", subresource="binding", name="p1")
            await made.client.patch("pods", "p1", {"status": _STARTING}, "conf", subresource="status")
    return found


async def test_api_recordings() -> None:
    async with world() as made:
        await made.namespace("team-a")
        await made.namespace("team-b")
        differences = await _replay(made)
    assert not differences, "\n".join(differences)
