"""The portal's page "Exposure" in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hatchway.door.portal.exposurecontent import ExposureReport
from hatchway.exposure.assessment import assess
from hatchway.exposure.snapshot import ClusterSnapshot, ObservedNode, ObservedPod, Unread
from hatchway.kube.access import missing_rule
from tests.exposures import FAULTS, NODES, SAFE
from tests.fake_view import demo_view, portal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = os.environ.get("HATCHWAY_LOOK", "")


def report() -> ExposureReport:
    """Return a report about a cluster with many faults."""
    objects = [
        {**obj, "metadata": {**obj["metadata"], "namespace": case.name}}
        for case in (*FAULTS[:9], *SAFE[:6])
        for obj in case.objects
    ]
    snapshot = ClusterSnapshot(namespaces={case.name: {} for case in (*FAULTS, *SAFE)})
    snapshot.nodes = [ObservedNode.of(node) for node in NODES]
    snapshot.pods = [ObservedPod.of(obj) for obj in objects if obj["kind"] == "Pod"]
    snapshot.services = [obj for obj in objects if obj["kind"] == "Service"]
    snapshot.policies = [obj for obj in objects if obj["kind"] == "NetworkPolicy"]
    unread = (Unread("gateways", "you may not list them"),)
    rule = missing_rule(verb="list", resource=["gateways.gateway.networking.k8s.io"], user="ada")
    return ExposureReport("", "", assess(snapshot), unread, (rule,), tuple(snapshot.namespaces), 1_790_000_000.0)


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Yield a browser page; errors that it reports fail the test."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900},
        color_scheme=request.param,
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(60_000)
    found = context.new_page()
    reported: list[str] = []
    found.on("pageerror", lambda error: reported.append(str(error)))
    found.on("console", lambda message: reported.append(message.text) if message.type == "error" else None)
    yield found
    if IMAGES:
        found.screenshot(path=Path(IMAGES) / f"exposure-{request.param}.png", full_page=True)
    context.close()
    assert reported == []


def test_from_the_portal_to_the_line_that_mends(page: Page) -> None:
    with portal(demo_view()) as served:
        page.goto(served.url)
        page.click("#exposure")
        page.wait_for_selector("text=are being read")
        # The page repeats its request until the report is ready.
        served.exposure.answer = (report(), False)
        page.wait_for_selector("h2 >> text=Findings")
        assert "high" in page.inner_text("#state")
        findings = page.locator(".finding")
        number = findings.count()
        first = findings.first
        first.locator(".copy-text").click()
        first.locator("text=Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == first.locator("pre").inner_text()
        page.fill("#filter", "5432")
        page.wait_for_function("() => document.getElementById('said').textContent.endsWith('shown')")
        assert 0 < page.locator(".finding:visible").count() < number
        page.fill("#filter", "")
        assert page.locator(".finding:visible").count() == number
        page.click("summary")
        assert "ClusterRole" in page.inner_text("#rule-0")


def test_a_narrow_window_needs_no_sideways_scrolling(page: Page) -> None:
    with portal(demo_view()) as served:
        served.exposure.answer = (report(), False)
        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(served.url + "-/hatchway/exposure")
        page.wait_for_selector("h2 >> text=Ways in")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
