"""The recordings of the proxy verb: of Kubernetes 1.36, and of 1.20 for nodes, which the 1.36 cluster did not have."""

from __future__ import annotations

from tests.conformance import replay
from tests.conformance.replay import Recording

# The `Host` of the recorded requests.
_HOST = "127.0.0.1:27443"


def load() -> list[Recording]:
    """Return all exchanges; they change nothing, so their order does not matter."""
    nodes = replay.load("nodes.jsonl")
    ids = {recording["id"] for recording in nodes}
    return [_prepared(one) for one in replay.load("proxy.jsonl") if one["id"] not in ids] + nodes


def _prepared(recording: Recording) -> Recording:
    found = {**recording, "headers": {"Host": _HOST, **(recording.get("headers") or {})}}
    response = found["response"]
    if response["status"] == 100:
        # The recorder took "100 Continue" for the response, and took the real response for the body of "100 Continue".
        head, _, body = response["body"].partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        fields = [line.partition(": ") for line in lines]
        headers = [[name, value] for name, _, value in fields] + response["headers"]
        found["response"] = {"status": int(first.split()[1]), "headers": headers, "body": body}
    return found
