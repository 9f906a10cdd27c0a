"""The applications of `kinds_server.py` in a real browser, by host name and under the prefix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cluster
from tests.door import Door

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMESPACE = "kinds"
PROGRAM = Path(__file__).with_name("kinds_server.py")


@pytest.fixture(scope="module")
def service(cluster: Cluster) -> Iterator[str]:
    meta = {"name": "kinds", "labels": {"app": "kinds"}}
    container = {
        "name": "web",
        "image": "hatchway/host",
        "command": ["python3", "/program/kinds_server.py"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "timeoutSeconds": 30},
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "program", "configMap": {"name": "program"}}]}
    ports = {"selector": {"app": "kinds"}, "ports": [{"port": 80, "targetPort": 8080}]}
    items = [
        {"kind": "ConfigMap", "metadata": {"name": "program"}, "data": {"kinds_server.py": PROGRAM.read_text()}},
        {"kind": "Pod", "metadata": meta, "spec": {**spec, "terminationGracePeriodSeconds": 0}},
        {"kind": "Service", "metadata": {"name": "kinds"}, "spec": ports},
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **item} for item in items]}
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", stdin=json.dumps(listed))
    cluster.kubectl("-n", NAMESPACE, "wait", "pod", "--all", "--for=condition=Ready", "--timeout=60s")
    yield "kinds"
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(params=["host", "prefix"])
def url(request: pytest.FixtureRequest, door: Door, service: str) -> str:
    return door.host(service, NAMESPACE) if request.param == "host" else door.prefix(service, NAMESPACE)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()


def test_absolute_addresses_of_the_server_itself(page: Page, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.get_by_text("welcome").wait_for()
    assert page.evaluate("document.getElementById('picture').naturalWidth") == 9
    assert page.locator("#mine").get_attribute("href") == "http://localhost:9222/"
    page.locator("#next").click()
    page.wait_for_url(url + "dir/")
    assert page.title() == "there"
    assert not [one for one in asked if not one.startswith(url)]


def test_addresses_of_the_server_itself_in_settings_that_a_script_fetches(page: Page, url: str) -> None:
    page.goto(url + "configured")
    page.get_by_text("welcome").wait_for()
    page.wait_for_function("() => document.title == 'asked'")


@pytest.mark.parametrize("policy", ["", "script-src 'self' 'unsafe-inline'", "script-src 'nonce-abc' 'strict-dynamic'"])
def test_addresses_of_the_server_itself_that_a_script_composes(page: Page, url: str, policy: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url + "composed?" + policy)
    page.get_by_text("welcome").wait_for()
    page.wait_for_function("() => document.title == 'asked,told,sent,asked,2'")
    assert not [one for one in asked if not one.startswith(url)]


def test_a_page_without_a_type_opens_a_websocket(page: Page, url: str) -> None:
    page.goto(url + "untold")
    page.get_by_text("welcome").wait_for()


def test_a_form_whose_origin_is_checked_is_accepted_after_retries(page: Page, url: str) -> None:
    titles = []
    for _ in range(4):
        page.goto(url + "form")
        page.locator("#save").click()
        page.wait_for_function("() => document.title != 'form'")
        titles.append(page.title())
    assert titles[-1] == "saved" and titles.count("refused") <= 2
