"""The log explorer of a running cluster, by host name and below the paths of proxies: it loads its files and data."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cluster, find_kubectl, wait_for
from tests.door import Door

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROXY = "api/v1/namespaces/kube-system/services/kibana-logging/proxy/"
ELASTIC = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"


@pytest.fixture(scope="module")
def kubectl_proxy(cluster: Cluster) -> Iterator[str]:
    """Run `kubectl proxy`; yield its URL."""
    command = [find_kubectl(), "proxy", "--port=0", "--kubeconfig", cluster.kubeconfig]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        yield f"http://{found[0]}/"
        process.terminate()


@pytest.fixture(scope="module")
def word(cluster: Cluster) -> str:
    """Return a word that a pod of the cluster has logged, and that is indexed."""
    cluster.kubectl("create", "namespace", "explored")
    cluster.kubectl(
        "-n",
        "explored",
        "run",
        "writer",
        "--image=hatchway/host",
        "--restart=Never",
        "--command",
        "--",
        "echo",
        "ERROR explorable",
    )
    wait_for(lambda: cluster.get(f"{ELASTIC}/_count?q=log:explorable").json["count"] == 1)
    return "explorable"


@pytest.mark.parametrize("way", ["host name", "prefix host", "door's API", "kubectl proxy"])
def test_the_explorer_works_by_host_name_and_below_path_prefixes(
    cluster: Cluster, door: Door, kubectl_proxy: str, browser: Browser, word: str, way: str
) -> None:
    url = {
        "host name": door.host("kibana-logging", "kube-system"),
        "prefix host": door.prefix("kibana-logging", "kube-system"),
        "door's API": door.url + PROXY,
        "kubectl proxy": kubectl_proxy + PROXY,
    }[way]
    context = browser.new_context()
    reported: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: reported.append(str(error)))
    page.on("console", lambda message: reported.append(message.text) if message.type == "error" else None)
    try:
        page.goto(f"{url}#q={word}")
        page.wait_for_function("() => document.getElementById('total').textContent === '1 line'")
        assert page.inner_text("#list .line .text") == f"ERROR {word}"
        page.locator("#list .line").click()
        page.locator(".detail").get_by_label("Only lines with namespace explored").click()
        page.wait_for_selector(".chip")
        page.reload()
        page.wait_for_function("() => document.getElementById('total').textContent === '1 line'")
        assert page.inner_text(".chip") == "namespace: explored"
        assert page.locator(".chart rect.level-error").count() == 1
    finally:
        context.close()
    assert reported == []


def test_the_portal_shows_the_explorer(door: Door, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(door.url)
    row = page.locator('[data-key="services/kube-system/kibana-logging"]')
    row.wait_for()
    assert "Log explorer" in row.inner_text()
    context.close()
