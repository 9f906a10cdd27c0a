"""Targets at their host names, through a real door in front of a real cluster."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Cluster, find_kubectl, wait_for
from tests.door import Door, door_of
from tests.integration.door.asking import HTML, ask, fields


@pytest.fixture(scope="module")
def door(cluster: Cluster, namespace: str) -> Iterator[Door]:
    with door_of(cluster) as found:
        yield found


# Names


@pytest.mark.parametrize(
    "host",
    [
        "app.door.svc",
        "80.app.door.svc",
        "http.app.door.svc",
        "http.80.app.door.svc",
        "named.door.svc",
        "web.named.door.svc",
        "9090.named.door.svc",
        "8080.app.door.pod",
        "secure.door.svc",
        "https.443.secure.door.svc",
        "https.8443.app.door.pod",
        "APP.Door.SVC",
    ],
)
def test_every_spelling_of_a_host_name(door: Door, host: str) -> None:
    assert ask(door, host, "/x?y=1").json == {"path": "/x?y=1"}


def test_a_port_that_speaks_tls_is_recognized(door: Door) -> None:
    for path in ("/a", "/b"):
        assert ask(door, "surprise.door.svc", path).json == {"path": path}


def test_a_node(door: Door) -> None:
    assert ask(door, "node-1.node", "/healthz").body == b"ok"
    # A kubelet has no page at "/": a browser gets a list of the kubelet's paths, and each link works.
    root = ask(door, "node-1.node", **HTML)
    assert (root.status, root.headers["X-Hatchway-Problem"]) == (404, "kubelet-paths")
    links = re.findall(rf'href="http://node-1\.node\.localhost:{door.port}(/[^"]*)"', root.text)
    assert "/pods" in links and len(links) >= 8
    assert {path: ask(door, "node-1.node", path, **HTML).status for path in links} == dict.fromkeys(links, 200)
    assert ask(door, "node-1.node").body == b"404 page not found\n"


@pytest.mark.parametrize("host", ["nothing.here", "a.b.c.d.e.svc", "app.svc"])
def test_host_names_that_name_no_target(door: Door, host: str) -> None:
    answer = ask(door, host, **HTML)
    assert answer.status == 404
    assert "No target has this host name" in answer.text


# What the application sees


def test_the_applications_view(door: Door) -> None:
    seen = fields(ask(door, "app.door.svc", "/headers", X_Mine="1", Impersonate_User="root", X_Remote_User="root"))
    outer = f"app.door.svc.localhost:{door.port}"
    assert (seen["host"], seen["x-forwarded-host"]) == (outer, outer)
    assert (seen["x-forwarded-proto"], seen["x-forwarded-port"]) == ("http", str(door.port))
    assert "forwarded" not in seen
    assert seen["x-mine"] == "1"
    assert not {"authorization", "impersonate-user", "x-remote-user", "x-hatchway-rewrite"} & set(seen)


def test_basic_credentials_reach_the_application(door: Door) -> None:
    assert ask(door, "app.door.svc", "/secret").status == 401
    credentials = base64.b64encode(b"ada:lovelace").decode()
    assert ask(door, "app.door.svc", "/secret", Authorization=f"Basic {credentials}").json == "welcome"


def test_pages_are_as_the_application_wrote_them(door: Door) -> None:
    answer = ask(door, "app.door.svc", "/page", **HTML)
    assert b'href="/here"' in answer.body and b"/api/v1" not in answer.body
    assert answer.headers.get_all("Cache-Control") == ["max-age=60"]


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("/login?next=/", "/login?next=/"),
        ("http://HOST/login", "http://OUTER/login"),
        ("http://app.door.svc.cluster.local/login", "http://OUTER/login"),
        ("http://app:8080/login", "http://OUTER/login"),
        ("http://localhost:8080/login", "http://OUTER/login"),
        ("https://example.com/", "https://example.com/"),
    ],
)
def test_redirects_come_back_to_the_door(door: Door, location: str, seen: str) -> None:
    answer = ask(door, "app.door.svc", f"/to?{location}")
    assert answer.status == 302
    assert answer.headers["Location"] == seen.replace("OUTER", f"app.door.svc.localhost:{door.port}")


def test_a_host_that_is_refused_is_replaced_and_remembered(door: Door) -> None:
    for _ in range(2):
        seen = fields(ask(door, "strict.door.svc", "/headers", **HTML))
        assert seen["host"].startswith("localhost")
        assert seen["x-forwarded-host"] == f"strict.door.svc.localhost:{door.port}"
    origin = f"http://strict.door.svc.localhost:{door.port}"
    seen = fields(ask(door, "strict.door.svc", "/headers", Origin=origin, Referer=origin + "/a"))
    assert seen["origin"] == f"http://{seen['host']}" and seen["referer"] == f"http://{seen['host']}/a"
    answer = ask(door, "strict.door.svc", "/to?http://HOST/back")
    assert answer.headers["Location"] == origin + "/back"


def test_an_annotation_sets_the_host(door: Door) -> None:
    assert fields(ask(door, "annotated.door.svc", "/headers"))["host"] == "app.example"


def test_errors_of_the_application_are_its_own(door: Door) -> None:
    for code in (400, 403, 404, 500, 503):
        answer = ask(door, "app.door.svc", f"/status?{code}", **HTML)
        assert (answer.status, answer.json) == (code, {"said": "by the application"})


def test_methods_of_webdav(door: Door) -> None:
    assert ask(door, "app.door.svc", "/x", "PROPFIND").json == {"path": "/x"}


def test_paths_do_not_leave_the_target(door: Door) -> None:
    # A raw socket, because HTTP clients normalize paths.
    for path in (b"/../../../../../secrets", b"/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secrets", b"/a/../..//../secrets"):
        with socket.create_connection(("127.0.0.1", door.port), 10) as sock:
            host = b"app.door.svc.localhost:%d" % door.port
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (path, host))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert b'{"path": "/secrets"}' in answer, answer


def test_events_come_when_they_happen(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    connection.request("GET", "/events", headers={"Host": f"app.door.svc.localhost:{door.port}"})
    answer = connection.getresponse()
    assert answer.readline() == b"data: first\n"
    answer.readline()
    assert ask(door, "app.door.svc", "/go", "POST", b"").status == 200
    assert answer.readline() == b"data: second\n"
    connection.close()


def test_websockets_with_query_and_subprotocol(door: Door) -> None:
    host = f"app.door.svc.localhost:{door.port}"
    with (
        socket.create_connection(("127.0.0.1", door.port)) as sock,
        connect(f"ws://{host}/ws?a=1&b=%2F", sock=sock, subprotocols=["chat", "x"], origin=f"http://{host}") as ws,  # type: ignore[list-item,arg-type]
    ):
        assert ws.subprotocol == "chat"
        assert ws.recv() == f"a=1&b=/ chat http://{host}"
        ws.send("hello")
        assert ws.recv() == "hello"


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("strict.door.svc", "/ws"),
        ("app.door.svc", "/local"),
        ("by-name.door.svc", "/local"),
        ("prefix", "/api/v1/namespaces/door/services/app/proxy/local"),
    ],
)
def test_the_door_tries_other_hosts_for_a_refused_websocket(
    cluster: Cluster, namespace: str, host: str, path: str
) -> None:
    # A new door has not cached a Host for the target, and this client does not retry.
    with door_of(cluster) as fresh:
        outer = f"{host}.localhost:{fresh.port}"
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", fresh.port)) as sock,
                connect(f"ws://{outer}{path}", sock=sock, origin=f"http://{outer}") as ws,  # type: ignore[arg-type]
            ):
                assert str(ws.recv()).endswith("http://localhost:8080")
        if path.endswith("/local"):
            # Requests for pages have the same fields as before the WebSocket.
            assert fields(ask(fresh, host, path.replace("local", "headers"), **HTML))["host"] == outer


def test_a_websocket_that_is_refused_by_every_name_stays_refused(door: Door) -> None:
    host = f"app.door.svc.localhost:{door.port}"
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", door.port)) as sock, pytest.raises(InvalidStatus) as refused:
            connect(f"ws://{host}/status?403", sock=sock, origin=f"http://{host}")  # type: ignore[arg-type]
        answer = refused.value.response
        assert (answer.status_code, answer.body) == (403, b'{"said": "by the application"}')


def test_cookies_keep_the_attributes_that_browsers_accept(door: Door) -> None:
    answer = ask(door, "app.door.svc", "/cookie?sid=1; Domain=svc.localhost; Path=/; Secure; HttpOnly; SameSite=None")
    assert answer.headers["Set-Cookie"] == "sid=1; Path=/; Secure; HttpOnly; SameSite=None"


# What cannot be reached


@pytest.mark.parametrize(
    ("host", "status", "kind", "words"),
    [
        ("nobody.door.svc", 503, "no-endpoints", "app=nobody"),
        ("closed.door.svc", 503, "dial-refused", "open.closed.door.svc.localhost"),
        ("ap.door.svc", 404, "not-found", "app.door.svc.localhost"),
        ("app.dor.svc", 404, "not-found", "app.door.svc.localhost"),
        ("80.app.dor.svc", 404, "not-found", "80.app.door.svc.localhost"),
        ("zzz.dor.svc", 404, "not-found", "There is no namespace dor"),
        ("nope.named.door.svc", 503, "no-such-port", "web.named.door.svc.localhost"),
        ("https.80.app.door.svc", 503, "no-tls", "http.80.app.door.svc.localhost"),
        ("outside.door.svc", 503, "out-of-reach", "example.com"),
    ],
)
def test_problems_are_pages_for_people_and_statuses_for_tools(
    door: Door, host: str, status: int, kind: str, words: str
) -> None:
    page = ask(door, host, **HTML)
    assert (page.status, page.headers["X-Hatchway-Problem"]) == (status, kind)
    assert page.headers["Content-Type"].startswith("text/html") and words in page.text
    answer = ask(door, host)
    assert answer.status == status
    assert isinstance(answer.json, dict) and answer.json["kind"] == "Status"


def test_a_user_without_the_right_is_shown_the_missing_rule(cluster: Cluster, namespace: str) -> None:
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"token": cluster.token("--user", "eve")}
    own = cluster.base / "eve"
    own.touch(mode=0o600)
    own.write_text(yaml.safe_dump(kubeconfig))
    with door_of(cluster, "--kubeconfig", str(own)) as door:
        page = ask(door, "app.door.svc", **HTML)
        assert (page.status, page.headers["X-Hatchway-Problem"]) == (403, "forbidden")
        assert "services/proxy" in page.text and "eve" in page.text and "kind: Role" in page.text
        assert ask(door, "app.door.svc").json["reason"] == "Forbidden"  # type: ignore[call-overload]
        # The rule on the page, applied by the administrator, suffices.
        cluster.kubectl("-n", namespace, "create", "role", "proxy", "--verb=get", "--resource=services/proxy")
        cluster.kubectl("-n", namespace, "create", "rolebinding", "proxy", "--role=proxy", "--user=eve")
        assert ask(door, "app.door.svc", "/x", **HTML).json == {"path": "/x"}


# The door's own origin


def test_a_browser_is_sent_to_the_targets_own_name(door: Door) -> None:
    path = "/api/v1/namespaces/door/services/app:80/proxy/a/b?c=d"
    answer = ask(door, "", path, **HTML)
    assert answer.status == 307
    assert answer.headers["Location"] == f"http://80.app.door.svc.localhost:{door.port}/a/b?c=d"
    assert ask(door, "", path).json == {"path": "/a/b?c=d"}
    assert ask(door, "", path, Sec_Fetch_Site="same-origin", Sec_Fetch_Dest="script").status == 403


def test_a_port_that_a_service_lacks_is_named_with_those_that_it_has(door: Door) -> None:
    page = ask(door, "81.app.door.svc", **HTML)
    assert (page.status, page.headers["X-Hatchway-Problem"]) == (503, "no-such-port")
    assert "app has no such port" in page.text and f"app.door.svc.localhost:{door.port}" in page.text


def test_a_name_without_its_namespace_is_completed(door: Door) -> None:
    page = ask(door, "app.svc", **HTML)
    assert (page.status, page.headers["X-Hatchway-Problem"]) == (404, "unknown-host")
    assert f'href="http://app.door.svc.localhost:{door.port}/"' in page.text
    assert ask(door, "app.svc").status == 404


def test_error_pages_of_the_portal_have_one_policy(door: Door) -> None:
    page = ask(door, "", "/-/hatchway/pods/door/nobody/logs", **HTML)
    assert page.status == 404
    assert "sha256-" in page.headers["Content-Security-Policy"]
    assert len([name for name in page.headers if name.lower() == "content-security-policy"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/door/services/app:80/%70roxy/",
        "/api/v1/namespaces/door/%73ervices/app:80/proxy/",
        "/%61pi/v1/namespaces/door/services/app:80/proxy/",
        "/api/v1%2Fnamespaces/door/services/app:80/proxy/",
        "/api/v1/namespaces/door/services/app:80/proxy%2Fx",
        "/api/v1/namespaces/door/services/app:80/%2570roxy/",
        "/behind/another/api/v1/namespaces/door/services/app:80/proxy/",
        "/api/v1/nodes/%2e/%70roxy/",
    ],
)
def test_no_spelling_shows_an_application_on_the_origin_of_the_api(door: Door, path: str) -> None:
    assert ask(door, "", path, **HTML).status == 403
    for dest in ("document", "iframe", "script", "object", "serviceworker"):
        fields = {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": dest}
        assert ask(door, "", path, **fields).status == 403, dest


def test_api_responses_in_a_browser_cannot_run_scripts(door: Door) -> None:
    assert ask(door, "", "/version", **HTML).headers["Content-Security-Policy"] == "sandbox"
    assert "Content-Security-Policy" not in ask(door, "", "/version").headers


def test_the_portal_for_browsers_and_the_api_for_tools(door: Door) -> None:
    page = ask(door, "", **HTML)
    assert page.status == 200 and "<title>" in page.text
    assert "paths" in ask(door, "").json  # type: ignore[operator]
    state = ask(door, "", "/-/hatchway/state").json
    assert isinstance(state, dict)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Host": "evil.example"},
    ],
)
def test_strangers_are_refused(door: Door, headers: dict[str, str]) -> None:
    assert ask(door, "", "/api/v1/secrets", **headers).status == 403
    if "Host" not in headers:
        assert ask(door, "app.door.svc", "/x", **headers).status == 403
        assert ask(door, "prefix", "/api/v1/namespaces/door/services/app/proxy/x", **headers).status == 403


def test_the_prefix_host_lists_its_applications(door: Door) -> None:
    path = "/api/v1/namespaces/door/services/app/proxy/"
    window = {"Sec_Fetch_Site": "none", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    page = ask(door, "prefix", **HTML, **window)
    assert page.status == 200 and f'href="{path}"' in page.text
    # Applications share this origin; their scripts cannot read the page.
    assert "sandbox" in page.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert f"http://prefix.localhost:{door.port}{path}\n" in ask(door, "prefix").text
    for dest in ("empty", "iframe", "script"):
        assert (
            ask(door, "prefix", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors", Sec_Fetch_Dest=dest).status == 404
        )
    assert ask(door, "prefix", "/nothing", **HTML, **window).status == 404


def test_under_a_path_prefix(door: Door) -> None:
    prefix = "/api/v1/namespaces/door/services/app/proxy"
    assert ask(door, "prefix", f"{prefix}/x?y").json == {"path": "/x?y"}
    assert ask(door, "prefix", prefix).headers["Location"] == f"{prefix}/"
    page = ask(door, "prefix", f"{prefix}/page", **HTML)
    assert f'href="{prefix}/here"'.encode() in page.body
    assert ask(door, "prefix", f"{prefix}/to?/login").headers["Location"] == f"{prefix}/login"
    assert ask(door, "prefix", f"{prefix}/to?http://localhost:8080/login").headers["Location"] == f"{prefix}/login"
    assert ask(door, "prefix", f"{prefix}/cookie?a=b; Path=/").headers["Set-Cookie"].startswith(f"a=b; Path={prefix}")
    # The API is not served at this host name.
    assert ask(door, "prefix", "/api/v1/namespaces").status == 404


# A cluster that stops and starts again


def test_a_cluster_that_is_restarted(make_cluster: object) -> None:
    cluster: Cluster = make_cluster(  # type: ignore[operator]
        "restarted", "--nodes", "0", "--addons", "logging", "--network", "loopback"
    )
    with door_of(cluster) as door:
        path = "/_cluster/health"
        host = "elasticsearch-logging.kube-system.svc"
        assert ask(door, host, path).status == 200
        port = cluster.server.rpartition(":")[2]
        cluster.hatchway("down")
        page = ask(door, host, path, **HTML)
        assert (page.status, page.headers["X-Hatchway-Problem"]) == (503, "cluster-away")
        assert ask(door, "", "/version").status == 503
        cluster.hatchway("up", "--detach", "--api-port", port)
        wait_for(lambda: ask(door, host, path).status == 200)
        assert ask(door, "", "/version").status == 200


def test_expired_credentials_are_renewed_by_their_plugin(cluster: Cluster, tmp_path: Path, namespace: str) -> None:
    """The first token of the exec plugin is refused; that request is sent again with the plugin's next token."""
    runs = tmp_path / "runs"
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(cluster.token())
    plugin = tmp_path / "plugin"
    plugin.write_text(
        textwrap.dedent(f"""\
            #!/bin/sh
            echo run >> {runs}
            if [ "$(wc -l < {runs})" = 1 ]; then token=expired; else token=$(cat {token}); fi
            version=client.authentication.k8s.io/v1
            echo '{{"apiVersion":"'$version'","kind":"ExecCredential","status":{{"token":"'$token'"}}}}'
            """)
    )
    plugin.chmod(0o700)
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    kubeconfig["users"][0]["user"] = {"exec": exec_}
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(kubeconfig))
    with door_of(cluster, "--kubeconfig", str(own)) as door:
        assert ask(door, "", "/api/v1/namespaces").status == 200
        assert runs.read_text().count("run") == 2
        assert ask(door, "app.door.svc", "/x").json == {"path": "/x"}
        assert runs.read_text().count("run") == 2


def test_a_plugin_that_fails_is_reported_as_missing_credentials(cluster: Cluster, tmp_path: Path) -> None:
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false", "interactiveMode": "Never"}
    kubeconfig["users"][0]["user"] = {"exec": exec_}
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(kubeconfig))
    with door_of(cluster, "--kubeconfig", str(own)) as door:
        for host in ("", "app.door.svc"):
            answer = ask(door, host, "/version", **HTML)
            assert (answer.status, answer.headers["X-Hatchway-Problem"]) == (503, "no-credentials")
            assert b"/bin/false" in answer.body and b"refuses" not in answer.body


def test_a_switch_of_contexts_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    (first,) = document["contexts"]
    document["contexts"].append({**first, "name": "other"})
    own = tmp_path / "config"
    own.write_text(yaml.safe_dump(document))

    def use(context: str) -> None:
        subprocess.run([find_kubectl(), "config", "use-context", context, "--kubeconfig", own], check=True)

    with door_of(cluster, kubeconfig=own) as door, door_of(cluster, "--context", "other", kubeconfig=own) as pinned:
        assert door.process.stdout is not None and pinned.process.stdout is not None
        assert f'context "{first["name"]}":' in door.process.stdout.readline()
        assert 'context "other":' in pinned.process.stdout.readline()
        for context in ("other", first["name"]):
            use(context)
            said = (
                f'Now serving context "{context}" ({cluster.server}): the kubeconfig\'s current context has changed\n'
            )
            assert door.process.stdout.readline() == said
        assert ask(door, "", "/version").status == 200
        # A door with `--context` ignores a new current context, but follows a new server of its own context.
        document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
        own.write_text(yaml.safe_dump(document))
        said = 'Now serving context "other" (https://127.0.0.1:1): the kubeconfig has another server for it\n'
        assert pinned.process.stdout.readline() == said


def test_flags_apply_to_host_names(cluster: Cluster, namespace: str) -> None:
    flags = ("--reject-methods=POST", "--accept-paths=^/api/v1/namespaces/door/services/app", "--domain=dev.example")
    with door_of(cluster, *flags) as door:

        def answer(host: str, method: str = "GET", **fields: str) -> int:
            return ask(door, "", "/x", method, Host=f"{host}.dev.example:{door.port}", **fields).status

        assert answer("app.door.svc") == 200
        assert answer("app.door.svc", "POST") == 403
        assert answer("strict.door.svc") == 403
        assert answer("strict.door.svc", **HTML) == 403
        assert answer("nothing") == 404
        # The domain without a prefix is the portal's host name.
        assert ask(door, "", Host=f"dev.example:{door.port}", **HTML).status == 200
        assert ask(door, "app.door.svc").status == 403


@pytest.mark.parametrize("path", ["/page?x=1", "//evil.example/page"])
def test_a_request_with_an_unknown_cookie_is_redirected_to_its_own_address(door: Door, path: str) -> None:
    with socket.create_connection(("127.0.0.1", door.port), 10) as sock:
        host = f"app.door.svc.localhost:{door.port}"
        lines = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: planted=1\r\nSec-Fetch-Site: none\r\n"
        sock.sendall(f"{lines}Connection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 307 ")
    assert f"Location: http://{host}{path}\r\n" in answer
    assert "Set-Cookie: planted=; Domain=svc.localhost; Path=/; Max-Age=0" in answer
