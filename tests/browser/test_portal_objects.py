"""A pod's logs, events, YAML and an entered port in the portal, with a real browser and a real cluster."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cluster, wait_for
from tests.door import Door, door_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMESPACE = "portal-objects"
# Serves HTTP on an undeclared port; logs the path of each request, and one hostile line.
_TALKER = r"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked for", self.path, flush=True)
        self.send_response(200); self.send_header("Content-Type", "text/html"); self.end_headers()
        self.wfile.write(b"<title>the application</title>")
    def log_message(self, *_): pass
print("\x1b[31mred\x1b[0m <img src=x onerror=document.title='run'>", flush=True)
http.server.ThreadingHTTPServer(("", 8123), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def talker(cluster: Cluster) -> Iterator[str]:
    """Create a pod without declared ports: `main` runs, `crash` has ended once, `setup` was an init container."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    containers = [
        {
            "name": "main",
            "image": "hatchway/host",
            "command": ["python3", "-c", _TALKER],
            "env": [{"name": "DB_PASSWORD", "value": "hunter2"}],
        },
        {
            "name": "crash",
            "image": "hatchway/host",
            "command": [
                "sh",
                "-c",
                "if [ -e /kept/once ]; then echo second; exec sleep 1000; fi; >/kept/once; echo first; exit 3",
            ],
            "volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
        },
    ]
    setup = {"name": "setup", "image": "hatchway/host", "command": ["echo", "prepared"]}
    spec = {
        "initContainers": [setup],
        "containers": containers,
        "volumes": [{"name": "kept", "emptyDir": {}}],
        "terminationGracePeriodSeconds": 0,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "talker", "namespace": NAMESPACE}, "spec": spec}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "talker", "namespace": NAMESPACE}}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, secret]}))
    cluster.kubectl("-n", NAMESPACE, "wait", "pod/talker", "--for=condition=Ready", "--timeout=60s")
    wait_for(lambda: "second" in cluster.kubectl("-n", NAMESPACE, "logs", "talker", "-c", "crash", check=False))
    yield "talker"
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a browser page; errors that it reports fail the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    found = context.new_page()
    reported: list[str] = []
    found.on("pageerror", lambda error: reported.append(str(error)))
    yield found
    context.close()
    assert reported == []


def url_of(door: Door, name: str, page: str) -> str:
    return f"{door.url}-/hatchway/pods/{NAMESPACE}/{name}/{page}"


def ask(door: Door, path: str) -> None:
    """Make the application log a line."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{door.port}/{path}", headers={"Host": f"8123.talker.{NAMESPACE}.pod.localhost:{door.port}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        answer.read()


def test_from_the_list_to_a_live_log(door: Door, talker: str, page: Page) -> None:
    page.goto(door.url + "#pods")
    row = page.locator(f'[data-key="pods/{NAMESPACE}/{talker}"]')
    row.locator(".main").focus()
    with page.context.expect_page() as opened:
        page.keyboard.press("l")
    log = opened.value
    assert log.url.startswith(url_of(door, talker, "logs"))
    # The output of a pod is shown as text; terminal colours are removed.
    log.wait_for_selector("text=red <img src=x onerror=document.title='run'>")
    assert log.locator("#log img").count() == 0
    assert log.title() == "talker · Logs"
    log.wait_for_selector("#how-text >> text=Live")
    ask(door, "fresh")
    log.wait_for_selector("text=asked for /fresh")
    assert log.locator("#log time").first.is_hidden()
    log.check("#times")
    assert log.locator("#log time").first.is_visible()


def test_logs_of_containers_and_of_their_previous_runs(door: Door, talker: str, page: Page) -> None:
    page.goto(url_of(door, talker, "logs"))
    assert page.locator("#previous").is_disabled()
    page.select_option("#container", "crash")
    page.wait_for_selector("#log >> text=second")
    page.check("#previous")
    page.wait_for_selector("#log >> text=first")
    assert "second" not in page.inner_text("#log")
    page.select_option("#container", "setup")
    page.wait_for_selector("#log >> text=prepared")
    page.wait_for_selector("#log >> text=The container has ended (Completed).")
    assert page.inner_text("#how-text") == "Ended"
    # The address of a container's log shows that container after a reload.
    page.reload()
    page.wait_for_selector("#log >> text=prepared")


def test_a_log_continues_after_a_lost_connection_without_duplicate_lines(
    cluster: Cluster, talker: str, page: Page
) -> None:
    with door_of(cluster) as door:
        page.goto(url_of(door, talker, "logs"))
        page.wait_for_selector("#how-text >> text=Live")
        ask(door, "before-the-break")
        page.wait_for_selector("text=asked for /before-the-break")
        port = door.port
    page.wait_for_selector("#how-text >> text=Trying again")
    with door_of(cluster, f"--port={port}") as door:
        page.wait_for_selector("#how-text >> text=Live", timeout=60_000)
        ask(door, "after-the-break")
        page.wait_for_selector("text=asked for /after-the-break")
        assert page.locator("text=asked for /before-the-break").count() == 1


def test_the_page_of_a_deleted_pod_says_so(cluster: Cluster, door: Door, talker: str, page: Page) -> None:
    cluster.kubectl(
        "-n",
        NAMESPACE,
        "run",
        "brief",
        "--image=hatchway/host",
        "--command",
        "--",
        "sh",
        "-c",
        "echo here; exec sleep 1000",
    )
    page.goto(url_of(door, "brief", "logs"))
    page.wait_for_selector("#log >> text=here")
    cluster.kubectl("-n", NAMESPACE, "delete", "pod", "brief", "--grace-period=0", "--force", check=False)
    page.wait_for_selector("#log >> text=The pod is gone.")
    # The page's header then does not say "ready", and does not offer to open the pod.
    page.wait_for_selector("#state >> text=Deleted")
    assert "ready" not in page.inner_text("header")
    assert page.locator("#open").count() == 0
    answer = page.reload()
    assert answer is not None
    assert answer.status == 404
    assert "There is no pod brief" in page.inner_text("h1")


def test_events_and_yaml(door: Door, talker: str, page: Page) -> None:
    page.goto(url_of(door, talker, "logs"))
    page.click("nav >> text=Events")
    page.wait_for_selector("#events >> text=Container created")
    page.click("nav >> text=YAML")
    text = page.inner_text("#yaml")
    assert "kind: Pod" in text
    assert "hunter2" not in text
    assert "<hidden>" in text
    # Secrets have no page.
    answer = page.goto(f"{door.url}-/hatchway/secrets/{NAMESPACE}/talker/yaml")
    assert answer is not None
    assert answer.status == 404


@pytest.mark.parametrize("scripts", [True, False])
def test_a_port_that_is_typed(door: Door, talker: str, browser: Browser, scripts: bool) -> None:
    """A port can be entered in the form, or in the address to which the form leads, which needs no script."""
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    wanted = f"http://8123.{talker}.{NAMESPACE}.pod.localhost:{door.port}/"
    if scripts:
        page.goto(door.url + "#pods")
        page.click(f'[data-key="pods/{NAMESPACE}/{talker}"] >> text=Open a port')
        # Keyboard shortcuts of the page are ordinary text in the field.
        page.keyboard.type("n?12")
        for _ in range(4):
            page.keyboard.press("Backspace")
        page.keyboard.type("8123")
        with context.expect_page() as opened:
            page.keyboard.press("Enter")
        page = opened.value
        page.wait_for_load_state()
    else:
        page.goto(f"{door.url}-/hatchway/open?kind=pods&namespace={NAMESPACE}&name={talker}&port=8123&scheme=")
    assert page.url == wanted
    assert page.title() == "the application"
    context.close()


def test_paths_that_flags_reject_are_refused_in_the_portal(cluster: Cluster, talker: str, page: Page) -> None:
    with door_of(cluster, f"--reject-paths=^/api/v1/namespaces/{NAMESPACE}/pods") as door:
        for what in ("yaml", "logs", "events"):
            answer = page.goto(url_of(door, talker, what))
            assert answer is not None
            assert answer.status == 403
            assert "--reject-paths" in page.inner_text("body")
    with door_of(cluster, f"--reject-paths=^/api/v1/namespaces/{NAMESPACE}/pods/.*/log") as door:
        page.goto(url_of(door, talker, "logs"))
        page.wait_for_selector("#how-text >> text=Forbidden")
        assert "asked for" not in page.inner_text("#log")
