"""The portal's page "Exposure" in front of a real cluster, with the rights of the user who started the door."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import yaml

from tests.conftest import Cluster, wait_for
from tests.door import Door, door_of

NS = "exposure-page"


@pytest.fixture(scope="module")
def exposed(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("create", "namespace", NS)
    cluster.kubectl("create", "service", "nodeport", "postgres", "--tcp=5432", "-n", NS)
    yield cluster
    cluster.kubectl("delete", "namespace", NS, "--wait=false")


def read(door: Door, query: str = "") -> tuple[int, str]:
    """Return the status and the text of the page, once the report is complete."""

    def ask() -> tuple[int, str] | None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{door.port}/-/hatchway/exposure{query}",
            headers={"Accept": "text/html", "Host": f"localhost:{door.port}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        return None if 'http-equiv="refresh"' in text else (status, text)

    found: tuple[int, str] = wait_for(ask)
    return found[0], " ".join(unescape(re.sub(r"<[^>]*>", " ", found[1])).split())


def test_it_shows_what_the_command_shows(exposed: Cluster) -> None:
    done = exposed.hatchway(
        "exposure", "-n", NS, "-o", "json", "--fail-on", "never", "--kubeconfig", str(exposed.kubeconfig)
    )
    (way,) = json.loads(done.stdout)["exposures"]
    assert way["findings"]
    with door_of(exposed) as door:
        status, text = read(door, f"?namespace={NS}")
        everywhere = read(door)[1]
        assert read(door, "?namespace=no-such")[0] == 404
    assert status == 200
    for finding in way["findings"]:
        assert finding["message"] in text
        assert finding["mend"] in text
    assert way["locations"][0] in text
    assert f"service/postgres in {NS}" in everywhere


def restricted(exposed: Cluster, path: Path, user: str, namespace: str) -> Path:
    config = yaml.safe_load(exposed.kubeconfig.read_text())
    config["users"] = [{"name": user, "user": {"token": exposed.token("--user", user)}}]
    config["contexts"][0]["context"].update(user=user, namespace=namespace)
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_user_with_few_rights_sees_what_is_missing(exposed: Cluster, tmp_path: Path) -> None:
    exposed.kubectl("create", "rolebinding", "gwen", "--clusterrole=view", "--user=gwen", "-n", NS)
    with door_of(exposed, kubeconfig=restricted(exposed, tmp_path / "config", "gwen", NS)) as door:
        status, text = read(door)
    assert status == 200
    assert "service/postgres" in text
    assert "You may not list the namespaces" in text
    assert "nodes could not be read: you may not list them" in text
    assert "in the objects that could be read" in text
    # The rule can be copied and applied by a user with enough rights.
    assert 'resources: ["nodes"]' in text
    assert 'name: "gwen"' in text


def test_flags_of_the_door_apply_to_it(exposed: Cluster) -> None:
    with door_of(exposed, "--reject-paths", "^/api/v1/(namespaces/[^/]*/)?services") as door:
        _, text = read(door, f"?namespace={NS}")
    assert "--reject-paths, --reject-methods or --accept-paths exclude" in text
    assert "service/postgres" not in text


def test_pages_of_other_origins_may_not_read_it(exposed: Cluster) -> None:
    with door_of(exposed) as door:
        for fields in ({"Host": "evil.example"}, {"Host": f"localhost:{door.port}", "Sec-Fetch-Site": "cross-site"}):
            request = urllib.request.Request(f"http://127.0.0.1:{door.port}/-/hatchway/exposure", headers=fields)
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=30)
            with caught.value:
                assert caught.value.code == 403
