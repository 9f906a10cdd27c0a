"""Published manifests of applications (applications/), applied by stock kubectl, with images of the same names."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster, wait_for
from tests.images.emojivoto import emojivoto
from tests.images.guestbook import guestbook
from tests.images.making import NoPackages, oci_archive

APPLICATIONS = Path(__file__).with_name("applications")
GUESTBOOK = "guestbook"


@pytest.fixture(scope="module")
def kube(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not cluster.run["private"]:
        pytest.skip("on loopback only this machine's programs run")
    try:
        images = [*guestbook(), *emojivoto()]
    except NoPackages as error:
        pytest.skip(str(error))
    archive = oci_archive(tmp_path_factory.mktemp("applications") / "images.tar", *images)
    cluster.hatchway("image", "load", "--state-dir", str(cluster.base), str(archive))
    archive.unlink()
    cluster.kubectl("create", "namespace", GUESTBOOK)
    cluster.kubectl("apply", "-n", GUESTBOOK, "-f", str(APPLICATIONS / "guestbook.yaml"))
    cluster.kubectl("apply", "-k", str(APPLICATIONS / "emojivoto"))
    yield cluster
    cluster.kubectl("delete", "namespace", GUESTBOOK, "emojivoto", "--wait=false")


def available(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "wait", "deployment", "--all", "--for=condition=Available", "--timeout=80s")


def test_the_guestbook(kube: Cluster) -> None:
    available(kube, GUESTBOOK)
    page = f"/api/v1/namespaces/{GUESTBOOK}/services/frontend/proxy/"
    # A pod without a readiness probe is ready before its program listens.
    wait_for(lambda: "<title>Guestbook</title>" in kube.get(page).text)
    written = kube.get(f"{page}guestbook.php?cmd=set&key=messages&value=,hello%20from%20a%20test")
    assert written.json == {"message": "+OK"}
    # The frontends read from the replicas, and each replica gets the entry from the master.
    replicas = kube.kubectl("-n", GUESTBOOK, "get", "pods", "-l", "role=replica", "-o", "name").split()
    assert len(replicas) == 2
    for replica in replicas:
        entry = lambda pod=replica: kube.kubectl("-n", GUESTBOOK, "exec", pod, "--", "redis-cli", "get", "messages")  # noqa: E731
        assert wait_for(lambda entry=entry: entry().strip()) == ",hello from a test"
    assert kube.get(f"{page}guestbook.php?cmd=get&key=messages").json == {"data": ",hello from a test"}
    # The Service has a node port, which is open on this machine's loopback address.
    port = json.loads(kube.kubectl("-n", GUESTBOOK, "get", "service", "frontend", "-o", "json"))["spec"]["ports"][0]
    url = f"http://127.0.0.1:{port['nodePort']}/guestbook.php?cmd=get&key=messages"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert json.load(answer) == {"data": ",hello from a test"}
    # The 404 of a missing page is the frontend's answer, not an error of the proxy.
    assert kube.get(f"{page}other").status == 404


def test_emojivoto(kube: Cluster) -> None:
    available(kube, "emojivoto")
    web = "/api/v1/namespaces/emojivoto/services/web-svc:http/proxy"
    # The values come from the ConfigMap of kustomize, whose name has a hash.
    assert kube.get(f"{web}/api/list").json == ["tada", "joy"]
    # The bot sends votes to `web`, which calls `emoji` and `voting`. Each Service is found by its name.
    found = wait_for(lambda: len(votes := kube.get(f"{web}/api/leaderboard").json) == 2 and votes)
    assert set(found) == {"tada", "joy"}
    assert kube.get(f"{web}/api/vote?choice=unknown").status == 404
    voted = kube.get(f"{web}/api/vote?choice=joy").json["joy"]
    assert voted > found["joy"]
    metrics = kube.get("/api/v1/namespaces/emojivoto/services/voting-svc:prom/proxy/metrics").json
    assert metrics["votes_total"] >= voted
    assert "voted for joy" in kube.kubectl("-n", "emojivoto", "logs", "deployment/vote-bot")
    pods = json.loads(kube.kubectl("-n", "emojivoto", "get", "pods", "-o", "json"))["items"]
    accounts = {pod["spec"]["containers"][0]["name"]: pod["spec"]["serviceAccountName"] for pod in pods}
    assert accounts == {"web-svc": "web", "emoji-svc": "emoji", "voting-svc": "voting", "vote-bot": "default"}
    script = "import os; print(os.getuid(), os.access('/', os.W_OK), os.path.exists('/var/run/secrets/kubernetes.io'))"
    output = kube.kubectl("-n", "emojivoto", "exec", "deployment/web", "--", "python3", "-c", script)
    assert output == "1000 False True\n"
