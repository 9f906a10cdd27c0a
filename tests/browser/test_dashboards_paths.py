"""The dashboards of a running cluster, by host name and below the paths of proxies: its series, and its logs."""

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

PROXY = "api/v1/namespaces/kube-system/services/monitoring-grafana/proxy/"
ELASTIC = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"
STORE = "/api/v1/namespaces/kube-system/services/prometheus/proxy"


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
def drawn(cluster: Cluster) -> Iterator[str]:
    """Return the namespace of a pod that writes log lines and is scraped."""
    # The add-on scrapes every second, not every 15 seconds, so that the test need not wait.
    cluster.kubectl("-n", "kube-system", "set", "env", "deployment/prometheus", "HATCHWAY_MONITORING_INTERVAL=1")
    cluster.kubectl("create", "namespace", "drawn")
    loop = "while true; do echo ERROR drawable; sleep 1; done"
    cluster.kubectl("-n", "drawn", "run", "busy", "--image=hatchway/host", "--command", "--", "sh", "-c", loop)
    wait_for(lambda: (cluster.get(f"{ELASTIC}/_count?q=log:drawable").json or {}).get("count"))
    cpu = "rate(container_cpu_usage_seconds_total{pod=%22busy%22,container=%22busy%22}[10s])"
    for query in (cpu, "kube_pod_info{pod=%22busy%22}"):

        def found(query: str = query) -> bool:
            answer = cluster.get(f"{STORE}/api/v1/query?query={query}")
            return bool(answer.status == 200 and answer.json["data"]["result"])

        wait_for(found)
    yield "drawn"
    cluster.kubectl("delete", "--wait=false", "namespace", "drawn")


@pytest.mark.parametrize("way", ["host name", "prefix host", "kubectl proxy"])
def test_dashboards_work_by_host_name_and_below_path_prefixes(
    door: Door, kubectl_proxy: str, browser: Browser, drawn: str, way: str
) -> None:
    url = {
        "host name": door.host("monitoring-grafana", "kube-system"),
        "prefix host": door.prefix("monitoring-grafana", "kube-system"),
        "kubectl proxy": kubectl_proxy + PROXY,
    }[way]
    context = browser.new_context()
    context.set_default_timeout(60_000)
    reported: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: reported.append(str(error)))
    page.on("console", lambda message: reported.append(message.text) if message.type == "error" else None)
    try:
        page.goto(f"{url}#/namespaces/{drawn}?from=now-5m&to=now")
        page.wait_for_selector("#page:not([aria-busy])", state="attached")
        table = page.locator('section[data-panel="Pods"]')
        table.get_by_role("link", name="busy", exact=True).click()
        page.wait_for_function("() => document.querySelector('h1').textContent === 'busyPod'")
        page.wait_for_selector("#page:not([aria-busy])", state="attached")
        assert page.inner_text('[data-tile="Phase"] .value') == "Running"
        assert page.locator('[data-panel="Memory"] canvas').count() == 1
        page.reload()
        page.wait_for_selector('[data-panel="CPU"] canvas')
        page.wait_for_selector("#logs")
        with context.expect_page() as opened:
            page.click("#logs")
        logs = opened.value
        logs.on("pageerror", lambda error: reported.append(str(error)))
        logs.wait_for_selector("#list .line .text")
        assert logs.locator("#list .line .text").first.inner_text() == "ERROR drawable"
        assert logs.locator(".chip").all_inner_texts() == [f"namespace: {drawn}", "pod: busy"]
        assert logs.inner_text("#time-text") == "Last 5 minutes"
    finally:
        context.close()
    assert reported == []


def test_proxied_requests_are_drawn_by_service(cluster: Cluster, door: Door, browser: Browser, drawn: str) -> None:
    """The charts include the requests of the dashboards' own page."""
    query = "sum(rate(hatchway_proxy_requests_total{service=%22prometheus%22}[1m]))"

    def counted() -> bool:
        answer = cluster.get(f"{STORE}/api/v1/query?query={query}").json
        return bool(answer["data"]["result"]) and float(answer["data"]["result"][0]["value"][1]) > 0

    wait_for(counted)
    context = browser.new_context()
    context.set_default_timeout(60_000)
    page = context.new_page()
    address = "#/services/kube-system/prometheus?from=now-5m&to=now&refresh=5"
    page.goto(door.host("monitoring-grafana", "kube-system") + address)
    try:
        requests = page.locator('[data-panel="Requests by status"]').first
        requests.locator("canvas").wait_for()
        assert "2xx" in (requests.locator(".canvas").get_attribute("aria-label") or "")
        page.locator('[data-tile="Endpoints ready"] .value', has_text=re.compile(r"[12] / ")).wait_for()
    finally:
        context.close()
