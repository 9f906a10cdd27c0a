"""`hatchway ls` lists what can be reached, `url` prints its address, `open` opens a browser when it answers."""

from __future__ import annotations

import http.server
import json
import os
import pty
import queue
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import commands
from tests.conftest import BIN, Cluster, wait_for

CRASHING = """
apiVersion: v1
kind: Namespace
metadata: {name: reach}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: reach}
spec:
  selector: {app: web}
  ports: [{name: metrics, port: 9100}, {name: https, port: 8443}, {name: db, port: 5432}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: reach, labels: {app: web}}
spec: {containers: [{name: c, image: hatchway/host, command: [/bin/sh, -c, "exit 3"], ports: [{containerPort: 8080}]}]}
"""
WEB = "http://web.reach.svc.localhost:8001/"


@pytest.fixture(scope="module")
def reach(cluster: Cluster) -> Cluster:
    cluster.kubectl("apply", "-f", "-", stdin=CRASHING)
    wait_for(lambda: "CrashLoopBackOff" in cluster.hatchway("ls", "-n", "reach").stdout)
    return cluster


def columns(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines()]


def test_ls_shows_a_namespace(reach: Cluster) -> None:
    why = 'CrashLoopBackOff: container "c" ended with exit code 3'
    assert columns(reach.hatchway("ls", "-n", "reach").stdout) == [
        ["NAME", "READY", "PORTS", "URL", "STATUS"],
        ["svc/web", "0/1", "8443,9100,5432/TCP", WEB, f"web-0: {why}"],
        ["pod/web-0", "0/1", "8080", "http://web-0.reach.pod.localhost:8001/", why],
    ]


def test_ls_shows_everything(reach: Cluster) -> None:
    found = columns(reach.hatchway("ls", "-A", "--port", "9000").stdout)
    assert found[0][0] == "NAMESPACE"
    names = [row[1] for row in found]
    assert {"svc/kubernetes", "svc/elasticsearch-logging", "svc/web", "pod/web-0", "node/node-1"} <= set(names)
    assert names[-3:] == ["node/control-plane", "node/node-1", "node/node-2"]
    assert "http://node-1.node.localhost:9000/" in found[-2]


def test_ls_wide_has_a_line_for_each_port(reach: Cluster) -> None:
    rows = [row for row in columns(reach.hatchway("ls", "web", "-n", "reach", "-o", "wide").stdout) if "svc/web" in row]
    assert [(row[2], row[5]) for row in rows] == [
        ("8443", WEB),
        ("9100", "http://metrics.web.reach.svc.localhost:8001/"),
        ("5432/TCP", "<none>"),
    ]


def test_ls_gives_no_address_that_leads_nowhere(reach: Cluster) -> None:
    """The endpoints of the Service `kubernetes` are not pods; the proxy verb refuses them, as in a kube-apiserver."""
    why = "its endpoints are not pods; the API server's proxy and port-forwards reach pods only"
    done = reach.hatchway("ls", "kubernetes", "-n", "default")
    assert columns(done.stdout)[1] == ["svc/kubernetes", "1/1", "443", "<none>", f"out of reach: {why}"]
    (item,) = json.loads(reach.hatchway("ls", "kubernetes", "-n", "default", "-o", "json").stdout)["items"]
    assert (item["outOfReach"], item["ports"][0]["url"], item["ports"][0]["path"]) == (why, "", "")
    assert reach.get("/api/v1/namespaces/default/services/https:kubernetes:https/proxy/version").status == 503


def test_ls_cuts_a_long_status(reach: Cluster) -> None:
    reach.kubectl("run", "imageless", "--image=127.0.0.1:1/nothing:1", "-n", "reach")
    try:

        def table(*options: str) -> list[str]:
            return reach.hatchway("ls", "imageless", "-n", "reach", *options).stdout.splitlines()

        wait_for(lambda: "ImagePull" in table()[1])
        short = table()
        wide = wait_for(lambda: "failed to pull and unpack image" in (found := table("-o", "wide"))[1] and found)
    finally:
        reach.kubectl("delete", "pod", "imageless", "-n", "reach")
    assert len(short) == 2 and len(short[1]) < 220 and short[1].endswith("…")
    assert len(wide) == 2 and "connection refused" in wide[1]


def test_ls_counts_ports_that_are_too_many_for_a_line(reach: Cluster) -> None:
    for number in (6, 40):
        ports = [f"--tcp={port}:{port}" for port in range(6000, 6000 + number)]
        reach.kubectl("create", "service", "clusterip", f"ports-{number}", *ports, "-n", "reach")
    try:
        rows = {row[0]: row[2] for row in columns(reach.hatchway("ls", "ports-", "-n", "reach").stdout)}
        wide = columns(reach.hatchway("ls", "ports-40", "-n", "reach", "-o", "wide").stdout)
    finally:
        reach.kubectl("delete", "service", "ports-6", "ports-40", "-n", "reach")
    assert rows["svc/ports-6"] == "6000,6001,6002,6003,6004,6005"
    assert rows["svc/ports-40"] == "6000,6001,6002,6003,6004,+35"
    assert [row[2] for row in wide[1:]] == [str(port) for port in range(6000, 6040)]


def test_ls_as_json_has_what_a_program_needs(reach: Cluster) -> None:
    found = json.loads(reach.hatchway("ls", "-n", "reach", "-o", "json").stdout)
    assert found["scopes"]["services"] == {"namespaces": ["reach"], "reason": "", "missingRule": ""}
    web = found["items"][0]
    assert (web["kind"], web["name"], web["ready"], web["total"]) == ("services", "web", 0, 1)
    assert web["notReady"][0]["name"] == "web-0"
    assert [(port["port"], port["http"], port["scheme"]) for port in web["ports"]] == [
        (8443, True, "https"),
        (9100, True, "http"),
        (5432, False, ""),
    ]
    path = web["ports"][0]["path"]
    assert path == "/api/v1/namespaces/reach/services/https:web:https/proxy/"
    # The API server understands the path: it finds the Service and its port.
    assert "no endpoints available" in reach.get(path).text


def test_ls_says_what_to_do_when_there_is_nothing(reach: Cluster) -> None:
    reach.kubectl("create", "namespace", "reach-empty")
    done = reach.hatchway("ls", "-n", "reach-empty")
    assert done.stdout == ""
    assert done.stderr.strip() == (
        f'nothing to reach in namespace "reach-empty" of context "hatchway-shared" ({reach.server}); '
        "`hatchway ls -A` looks everywhere"
    )
    assert 'nothing with "zzz" in its name' in reach.hatchway("ls", "zzz", "-A").stderr


def test_ls_reports_a_namespace_that_does_not_exist(reach: Cluster, tmp_path: Path) -> None:
    for options, hint in (
        (("-n", "kube-sistem"), "did you mean `hatchway ls -n kube-system`"),
        (("-n", "zzz", "web"), "`hatchway ls -A` looks everywhere"),
        (("-n", "zzz", "-o", "json"), "`hatchway ls -A` looks everywhere"),
    ):
        done = reach.hatchway("ls", *options, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert f'there is no namespace "{options[1]}" in context "hatchway-shared"' in done.stderr
        assert hint in done.stderr
    # A watch may begin before the namespace exists.
    command = [BIN / "hatchway", "ls", "-n", "reach-later", "-w", "--kubeconfig", str(reach.kubeconfig)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert "note: there is no namespace" in process.stderr.readline()
            assert process.poll() is None
        finally:
            process.terminate()


def restricted(reach: Cluster, path: Path, user: str) -> Path:
    document = yaml.safe_load(reach.kubeconfig.read_text())
    document["users"] = [{"name": document["users"][0]["name"], "user": {"token": reach.token("--user", user)}}]
    path.write_text(yaml.safe_dump(document))
    return path


def test_ls_without_rights_prints_the_rule_that_is_missing(reach: Cluster, tmp_path: Path) -> None:
    config = restricted(reach, tmp_path / "config", "reach-nobody")
    command = ["ls", "-n", "reach", "--kubeconfig", str(config)]
    done = commands.run_text(command)
    assert done.returncode == 1
    assert "you may not list and watch services in reach" in done.stderr
    rule = done.stderr.partition("this:\n\n")[2]
    reach.kubectl("apply", "-f", "-", stdin=rule)
    done = commands.run_text(command)
    assert "svc/web" in done.stdout
    assert done.stderr == ""
    reach.kubectl("delete", "rolebinding", "hatchway-list-targets", "-n", "reach")


def test_ls_names_the_types_that_the_user_may_not_list(reach: Cluster, tmp_path: Path) -> None:
    user = "reach-some"
    reach.kubectl("create", "role", user, "--verb=list,watch", "--resource=services", "-n", "reach")
    reach.kubectl("create", "rolebinding", user, f"--role={user}", f"--user={user}", "-n", "reach")
    config = restricted(reach, tmp_path / "config", user)
    done = commands.run_text(["ls", "-n", "reach", "--kubeconfig", str(config)])
    assert done.returncode == 0
    assert columns(done.stdout)[1] == [
        *("svc/web", "?", "8443,9100,5432/TCP", WEB),
        "not known: you may see neither its endpoints nor its pods",
    ]
    assert "note: you may not list and watch pods in reach" in done.stderr
    assert "services" not in done.stderr


def test_ls_watch_prints_what_changes(reach: Cluster) -> None:
    command = [BIN / "hatchway", "ls", "-n", "reach", "-w", "--kubeconfig", str(reach.kubeconfig)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        stdout = process.stdout
        thread = threading.Thread(target=lambda: [lines.put(line) for line in stdout])
        thread.start()
        try:
            assert lines.get(timeout=20).startswith("NAME ")
            assert {lines.get(timeout=20).split()[0], lines.get(timeout=20).split()[0]} == {"svc/web", "pod/web-0"}
            reach.kubectl("create", "service", "clusterip", "later", "--tcp=80:80", "-n", "reach")
            seen = lines.get(timeout=20)
            while not seen.startswith("svc/later"):
                seen = lines.get(timeout=20)
            assert "http://later.reach.svc.localhost:8001/" in seen
        finally:
            process.terminate()
            thread.join(20)
            reach.kubectl("delete", "service", "later", "-n", "reach")


def test_ls_watch_ends_with_its_reader(reach: Cluster) -> None:
    command = [BIN / "hatchway", "ls", "-n", "reach", "-w", "--kubeconfig", str(reach.kubeconfig)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("NAME")
        process.stdout.close()
        reach.kubectl("create", "service", "clusterip", "unread", "--tcp=80:80", "-n", "reach")
        try:
            assert process.wait(20) == 1
            assert process.stderr.read() == ""
        finally:
            process.kill()
            reach.kubectl("delete", "service", "unread", "-n", "reach")


def test_ls_watch_draws_a_terminal_anew(reach: Cluster) -> None:
    command = [BIN / "hatchway", "ls", "-n", "reach", "-w", "--kubeconfig", str(reach.kubeconfig)]
    ours, theirs = pty.openpty()
    wide = {**os.environ, "COLUMNS": "200"}  # so that rows are not wrapped
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=wide) as process:
        os.close(theirs)
        screen = ""
        try:
            while "pod/web-0" not in screen:
                screen += os.read(ours, 65536).decode()
            reach.kubectl("create", "service", "clusterip", "drawn", "--tcp=80:80", "-n", "reach")
            while "pod/web-0" not in screen.rpartition("svc/drawn")[2] or "svc/drawn" not in screen:
                screen += os.read(ours, 65536).decode()
        finally:
            process.terminate()
            process.wait(20)
            os.close(ours)
            reach.kubectl("delete", "service", "drawn", "-n", "reach")
    # The last output on the screen is complete.
    last = screen.rpartition("\x1b[H\x1b[2J")[2]
    assert [line.split()[0] for line in last.splitlines() if line][:4] == ["NAME", "svc/drawn", "svc/web", "pod/web-0"]


def test_ls_names_a_server_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = tmp_path / "config"
    config.write_text(
        f"""{{clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}"}}}}], users: [],
        contexts: [{{name: work, context: {{cluster: c}}}}], current-context: work}}"""
    )
    done = commands.run_text(["ls", "--kubeconfig", str(config)])
    assert done.returncode == 1
    assert f'cannot reach context "work" (https://127.0.0.1:{port}): connection refused' in done.stderr
    assert "is the cluster on this machine running?" in done.stderr
    assert "by itself" not in done.stderr and "to try again: hatchway " in done.stderr


def test_url_in_every_spelling(reach: Cluster) -> None:
    def url(*arguments: str) -> str:
        return reach.hatchway("url", *arguments).stdout.strip()

    path = "/api/v1/namespaces/reach/services/https:web:8443/proxy/a%20b?c=d"
    what = ("https:web:8443", "a b?c=d", "-n", "reach")
    assert url(*what) == url(*what, "--api") == reach.server + path
    assert url(*what, "--path") == path
    name = "https.8443.web.reach.svc.localhost"
    assert url(*what, "--host") == f"http://{name}:8001/a%20b?c=d"
    assert url(*what, "--host", "--port", "80", "--domain", "d.test") == (
        "http://https.8443.web.reach.svc.d.test/a%20b?c=d"
    )
    assert url(*what, "--curl", "--port", "9000") == (
        f"curl --resolve {name}:9000:127.0.0.1 'http://{name}:9000/a%20b?c=d'"
    )
    assert reach.hatchway("url", "web", "--host", "--api", check=False).returncode == 2


def test_url_says_the_port_that_the_door_would_choose(reach: Cluster, tmp_path: Path) -> None:
    def path(*arguments: str) -> str:
        return reach.hatchway("url", *arguments, "-n", "reach", "--path").stdout.strip().rpartition("reach/")[2]

    assert path("web") == "services/https:web:https/proxy/"
    assert path("web:metrics", "x") == "services/web:metrics/proxy/x"
    assert path("pod/web-0") == "pods/web-0:8080/proxy/"
    assert reach.hatchway("url", "web", "-n", "reach").stdout.strip().endswith("/services/https:web:https/proxy/")
    # Without a cluster, only the arguments are used.
    done = reach.hatchway("url", "web", "--path", "--kubeconfig", str(tmp_path / "none"))
    assert done.stdout == "/api/v1/namespaces/default/services/web/proxy/\n"
    assert "note: cannot find out which port to use" in done.stderr and "no cluster to talk to" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ("wep", "-n", "reach"),
            'svc/wep in namespace reach in context "hatchway-shared" (https',
            "did you mean `svc/web -n reach`?",
        ),
        (("wep.reach",), "there is no svc/wep in namespace reach", "did you mean `svc/web -n reach`?"),
        (("web", "-n", "default"), "there is no svc/web in namespace default", "did you mean `svc/web -n reach`?"),
        (("zzzzz", "-n", "reach", "--host"), "there is no svc/zzzzz", 'there is web in namespace "reach"'),
        (("web:80", "-n", "reach", "--curl"), 'svc/web in namespace reach has no port "80"', "it has metrics (9100)"),
        (("pod/web-0:http", "-n", "reach"), 'pod/web-0 in namespace reach has no port "http"', "it has 8080"),
        (("web", "-n", "reech"), "there is no svc/web in namespace reech", "did you mean `svc/web -n reach`?"),
        (
            ("zzz.reech",),
            "there is no svc/zzz in namespace reech",
            'there is no namespace "reech"; did you mean reach?',
        ),
        (("node/node-9",), "there is no node/node-9", "did you mean `node/node-"),
        (
            ("web.reach", "-n", "default"),
            '"web.reach" is in namespace "reach", and -n says "default"',
            "give only one of the two",
        ),
    ],
)
def test_url_of_a_missing_target_lists_the_existing_ones(
    reach: Cluster, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    done = reach.hatchway("url", *arguments, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr and hint in done.stderr


def test_url_takes_the_namespace_behind_the_name(reach: Cluster) -> None:
    for spelled in ("web.reach", "svc/web.reach.svc", "web.reach.svc.cluster.local"):
        assert reach.hatchway("url", spelled, "--host").stdout.strip() == WEB
        assert reach.hatchway("open", spelled, "--print").stdout.strip() == WEB
    assert (
        reach.hatchway("url", "web.reach:metrics", "--path")
        .stdout.strip()
        .endswith("reach/services/web:metrics/proxy/")
    )
    # A pod may listen on a port that it does not declare.
    assert "web-0:9999" in reach.hatchway("url", "pod/web-0:9999", "-n", "reach", "--path").stdout


def test_url_lists_the_ports_if_none_of_them_speaks_http(reach: Cluster) -> None:
    reach.kubectl("create", "service", "clusterip", "database", "--tcp=5432:5432", "--tcp=6379:6379", "-n", "reach")
    try:
        done = reach.hatchway("url", "database", "-n", "reach", check=False)
    finally:
        reach.kubectl("delete", "service", "database", "-n", "reach")
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        "svc/database in namespace reach has no port that is known to speak HTTP, and no port was given" in done.stderr
    )
    assert "`hatchway url svc/database:5432-5432 -n reach` or `hatchway url svc/database:6379-6379 -n" in done.stderr


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        (WEB + "x?y", (), {"name": "web", "namespace": "reach", "path": "/x?y"}),
        ("https.8443.web.reach.svc.dev.example.com", (), {"scheme": "https", "port": "8443", "path": "/"}),
        ("web.reach.svc.d.test:80/x", ("--domain", "d.test"), {"name": "web", "path": "/x"}),
        ("http://shop.example.ingress.localhost:8001/a?b", (), {"ingressHost": "shop.example", "path": "/a?b"}),
        ("web.ingress.svc.localhost", (), {"name": "web", "namespace": "ingress"}),
        ("/api/v1/nodes/n1/proxy/", (), {"kind": "nodes", "name": "n1", "server": ""}),
        (
            "https://r.example/k8s/c-1/api/v1/namespaces/x/pods/p:80/proxy/q",
            (),
            {"server": "https://r.example/k8s/c-1", "name": "p", "port": "80", "path": "/q"},
        ),
    ],
)
def test_explain_takes_every_spelling(
    cluster: Cluster, text: str, options: tuple[str, ...], expected: dict[str, str]
) -> None:
    found = json.loads(cluster.hatchway("url", "--explain", text, *options, "-o", "json").stdout)
    assert expected.items() <= found.items()


def test_explain_of_an_invalid_url_lists_the_accepted_forms(cluster: Cluster) -> None:
    for text in ("https://www.example.com/", "web.reach.svc.d.test", "shop.example.ingress.localhost"):
        done = cluster.hatchway("url", "--explain", text, "--domain", "other.test", check=False)
        assert done.returncode == 1
        assert "neither a proxy URL nor a host name of a target below other.test" in done.stderr


def test_the_namespace_of_the_context_is_the_default(reach: Cluster, tmp_path: Path) -> None:
    document = yaml.safe_load(reach.kubeconfig.read_text())
    document["contexts"][0]["context"]["namespace"] = "reach"
    config = tmp_path / "config"
    config.write_text(yaml.safe_dump(document))

    def run(*arguments: str, kubeconfig: Path = config) -> str:
        done = commands.run_text([*arguments, "--kubeconfig", str(kubeconfig)])
        assert done.returncode == 0
        return done.stdout.strip()

    assert run("url", "web", "--host") == run("open", "web", "--print") == WEB
    assert "svc/web" in run("ls")
    # Host names can be printed without a cluster.
    assert run("url", "web", "--host", kubeconfig=tmp_path / "none") == "http://web.default.svc.localhost:8001/"


class Door(http.server.ThreadingHTTPServer):
    """Answers requests with `answers`, in order; further requests get the last one."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        self.server.asked.append((self.headers["Host"], self.path))
        status, body = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def refusal(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "code": code, "message": message}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Return the file to which a simulated browser writes the URL, and the environment that chooses this browser."""
    noted, script = tmp_path / "opened", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf %s "$1" >{shlex.quote(str(noted))}\n')
    script.chmod(0o755)
    yield noted, {**os.environ, "BROWSER": f"{script} %s"}


def open_web(port: int, env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return commands.run_text(["open", "web", "a?b", "-n", "reach", "--port", str(port), *options], env=env)


def serving(door: Door) -> Door:
    threading.Thread(target=door.serve_forever, daemon=True).start()
    return door


def test_open_waits_until_the_target_answers(browser: tuple[Path, dict[str, str]]) -> None:
    opened, env = browser
    waiting = (refusal(503, "no endpoints available"), refusal(404, 'services "web" not found'))
    with serving(Door(*waiting, (404, b"an application's own answer"))) as door:
        port = door.server_port
        done = open_web(port, env)
        door.shutdown()
    url = f"http://web.reach.svc.localhost:{port}/a?b"
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == url
    assert "waiting for svc/web in namespace reach: no endpoints available" in done.stderr
    assert wait_for(lambda: opened.exists() and opened.read_text()) == url
    assert door.asked == [(f"web.reach.svc.localhost:{port}", "/a?b")] * 3


def test_open_says_why_a_target_is_not_ready(reach: Cluster) -> None:
    with serving(Door(refusal(503, 'no endpoints available for service "web"'))) as door:
        options = ("--port", str(door.server_port), "--timeout", "0.5")

        def said(target: str, *parts: str) -> bool:
            done = reach.hatchway("open", target, "-n", "reach", *options, check=False)
            return all(part in done.stderr for part in parts)

        # The pod is in another state for a moment after each restart.
        waiting = "waiting for svc/web in namespace reach: web-0: CrashLoopBackOff: "
        wait_for(lambda: said("web", waiting, "does not answer after 0.5 s: web-0: CrashLoopBackOff: "))
        wait_for(lambda: said("pod/web-0", "waiting for pod/web-0 in namespace reach: CrashLoopBackOff: "))
        door.shutdown()


def test_open_does_not_wait_for_a_target_that_no_door_reaches(reach: Cluster) -> None:
    reach.kubectl("create", "service", "externalname", "elsewhere", "--external-name=db.example", "-n", "reach")
    reasons = {
        ("kubernetes", "default"): "its endpoints are not pods",
        ("elsewhere", "reach"): "it is a name for db.example outside the cluster",
    }
    with serving(Door(refusal(503, "no endpoints available"))) as door:
        for (name, namespace), reason in reasons.items():
            done = reach.hatchway("open", name, "-n", namespace, "--port", str(door.server_port), check=False)
            assert f"svc/{name} in namespace {namespace} is out of reach: {reason}" in done.stderr
            assert "waiting for" not in done.stderr
        asked = len(door.asked)
        door.shutdown()
    assert asked == len(reasons)


def test_open_gives_up(browser: tuple[Path, dict[str, str]]) -> None:
    opened, env = browser
    with serving(Door(refusal(503, "no endpoints available"))) as door:
        late = open_web(door.server_port, env, "--timeout", "0.5")
        door.answers = [refusal(403, 'User "x" cannot get services/proxy')]
        forbidden = open_web(door.server_port, env)
        door.answers = [(403, b"Forbidden")]
        foreign = open_web(door.server_port, env)
        asked = len(door.asked)
        door.shutdown()
    assert "does not answer after 0.5 s: no endpoints available" in late.stderr
    assert "cannot be reached: User" in forbidden.stderr
    assert "kubectl proxy" in foreign.stderr
    assert asked >= 3
    closed = open_web(door.server_port, env)
    assert f"no door is open on 127.0.0.1:{door.server_port}" in closed.stderr
    assert f"`hatchway proxy --port {door.server_port}`" in closed.stderr
    assert [done.returncode for done in (late, forbidden, foreign, closed)] == [1, 1, 1, 1]
    assert not opened.exists()
