"""Facts that the door finds about a target appear in an open portal."""

from __future__ import annotations

import http.client
import json
from typing import Any

from tests.conftest import Cluster, wait_for
from tests.door import Door, door_of

KEY = "services/kube-system/elasticsearch-logging"


def ask(door: Door, host: str, path: str, **fields: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{door.port}", **fields})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer.read()
    finally:
        connection.close()


def facts(door: Door) -> dict[str, str] | None:
    items: list[dict[str, Any]] = json.loads(ask(door, "localhost", "/-/hatchway/state"))["items"]
    found = next((item for item in items if item["key"] == KEY), None)
    return None if found is None else dict(found["facts"])


def test_the_host_that_a_target_takes(cluster: Cluster) -> None:
    with door_of(cluster) as door:
        before = wait_for(lambda: facts(door))
        assert "Route" not in before
        assert "Host header" not in before
        # No page of this port was requested yet: the door knows which Host it sends, but not whether it is accepted.
        ask(door, "9200.elasticsearch-logging.kube-system.svc.localhost", "/", **{"Sec-Fetch-Mode": "cors"})
        tried = facts(door)
        assert tried is not None
        assert tried["Host header"] == "the host name in the address bar"
        assert tried["Route"] == "the API server's proxy, since it changes nothing on the way in this cluster"
        # After a page of the default port, its facts are those of the service.
        ask(door, "elasticsearch-logging.kube-system.svc.localhost", "/", **{"Sec-Fetch-Mode": "navigate"})
        after = facts(door)
        assert after is not None
        assert after["Host header"] == "the host name in the address bar (the application accepts it)"
