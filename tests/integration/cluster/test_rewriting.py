"""Path-prefix mode on a running cluster: the default, its options, and what each option allows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Cluster, wait_for

PROGRAM = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def any(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        page = self.path.startswith("/page")
        seen = [self.command, self.path, list(self.headers.items())]
        text = "<!DOCTYPE html><head></head><a href=/x>" if page else json.dumps(seen)
        self.send_response(201 if self.command == "MKCOL" else 200)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Set-Cookie", "a=1; Path=/")
        if self.path == "/go":
            self.send_header("Location", "/there")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.any
        raise AttributeError(name)
http.server.ThreadingHTTPServer((os.environ.get("HATCHWAY_POD_IP", ""), 8080), Handler).serve_forever()
"""
PREFIX = "/api/v1/namespaces/default/pods/rewritten:8080/proxy"


@pytest.fixture(scope="module")
def pod(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl(
        "run", "rewritten", "--image=hatchway/host", "--port=8080", "--command", "--", "python3", "-c", PROGRAM
    )
    cluster.kubectl("wait", "pod/rewritten", "--for=condition=Ready", "--timeout=30s")
    wait_for(lambda: cluster.get(PREFIX + "/").status == 200)
    yield cluster
    cluster.kubectl("delete", "pod", "rewritten", "--now")


def test_full_by_default_and_chosen_by_header(pod: Cluster) -> None:
    page = pod.get(PREFIX + "/page")
    assert b"__hatchway" in page.body and f"href={PREFIX}/x".encode() in page.body
    assert page.headers["Set-Cookie"] == f"a=1; Path={PREFIX}"
    page = pod.get(PREFIX + "/page", headers={"X-Hatchway-Rewrite": "kubernetes"})
    assert page.body == f"<!DOCTYPE html><head></head><a href={PREFIX}/x>".encode()
    assert page.headers["Set-Cookie"] == "a=1; Path=/"
    page = pod.get(PREFIX + "/page", headers={"X-Hatchway-Rewrite": "off"})
    assert page.body == b"<!DOCTYPE html><head></head><a href=/x>"
    assert page.headers["X-Hatchway-Rewrite"] == "off"
    assert pod.get(PREFIX + "/go", headers={"X-Hatchway-Rewrite": "off"}).headers["Location"] == "/there"
    assert pod.get(PREFIX + "/go").headers["Location"] == PREFIX + "/there"


def test_the_applications_own_credentials(pod: Cluster) -> None:
    answer = pod.get(PREFIX + "/x", headers={"X-Hatchway-Authorization": "Basic eDp5", "X-Hatchway-Rewrite": "off"})
    fields = {name.lower(): value for name, value in json.loads(answer.body)[2]}
    assert fields["authorization"] == "Basic eDp5"
    assert not [name for name in fields if name.startswith("x-hatchway")]
    assert "authorization" not in {name.lower() for name, _ in json.loads(pod.get(PREFIX + "/x").body)[2]}


def test_a_request_without_the_prefix_is_redirected(pod: Cluster) -> None:
    referer = {"Referer": pod.server + PREFIX + "/page"}
    answer = pod.get("/logo.png?x", token=None, headers=referer)
    assert (answer.status, answer.headers["Location"]) == (307, PREFIX + "/logo.png?x")
    assert pod.get("/logo.png", headers={"Referer": "https://other.example" + PREFIX + "/"}).status in (403, 404)


def test_methods_beyond_kubernetes_need_a_right(pod: Cluster) -> None:
    for verb in ("get", "update"):
        pod.kubectl("create", "role", f"dav-{verb}", f"--verb={verb}", "--resource=pods/proxy")
        pod.kubectl("create", "rolebinding", f"dav-{verb}", f"--role=dav-{verb}", f"--user=dav-{verb}")
    reader, writer = pod.token("--user", "dav-get"), pod.token("--user", "dav-update")

    def status(method: str, token: str) -> int:
        return pod.request(method, PREFIX + "/", token=token).status

    for method in ("PROPFIND", "REPORT", "SEARCH"):
        assert (status(method, reader), status(method, writer)) == (200, 403), method
    for method in ("MKCOL", "MOVE", "COPY", "LOCK", "PROPPATCH"):
        wanted = 201 if method == "MKCOL" else 200
        assert (status(method, reader), status(method, writer)) == (403, wanted), method
    assert pod.request("PROPFIND", PREFIX + "/", headers={"X-Hatchway-Rewrite": "kubernetes"}).status == 405


def test_the_flag_is_kept(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(
        "rewrite", "--nodes", "0", "--addons", "metrics", "--network", "loopback", "--rewrite", "kubernetes"
    )
    page = "/api/v1/namespaces/kube-system/services/https:metrics-server:https/proxy/"
    assert cluster.hatchway("up", "--rewrite", "off").stdout.count("--rewrite: not changed while it runs") == 1
    assert cluster.request("PROPFIND", page).status == 405
    cluster.hatchway("down")
    cluster.hatchway("up", "--detach")
    assert cluster.request("PROPFIND", page).status == 405
    cluster.hatchway("down")
    cluster.hatchway("up", "--detach", "--rewrite", "off")
    wait_for(lambda: cluster.get(page).headers["X-Hatchway-Rewrite"] == "off")
    assert cluster.hatchway("up", "--rewrite", "sometimes", check=False).returncode == 2
    cluster.hatchway("down", "--delete")
