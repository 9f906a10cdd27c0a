"""The dashboards in a real browser, in front of the monitoring add-on's own program."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatchway.addons.monitoring.promql.parser import parse_selector
from tests.browser.dashboard_data import HOSTILE, fill, fill_first
from tests.integration.monitoring.programs import Monitoring, monitoring

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
MANY = 10_000
# HOSTILE as the page shows it: control and direction characters are visible.
SHOWN = "<img src=x onerror=alert(1)>\ufffdgnp\ufffd\ufffd\"'\\"
Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """Run the add-on with two hours of samples of a small cluster."""
    directory = tmp_path_factory.mktemp("store")
    fill(directory, many=MANY)
    with monitoring(directory, INTERVAL="15") as running:
        yield running


@pytest.fixture
def visit(browser: Browser, program: Monitoring) -> Iterator[Open]:
    """Return a function that opens a dashboard in a new context; errors that the page reports fail the test."""
    contexts: list[BrowserContext] = []
    reported: list[str] = []

    def go(address: str = "/", *, url: str | None = None, **options: Any) -> Page:
        settings = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **settings)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: reported.append(str(error)))
        page.on(
            "console",
            lambda message: (
                reported.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on("dialog", lambda dialog: reported.append(f"a dialog: {dialog.message}"))
        page.goto(f"{url or program.dashboards}#{address}")
        settled(page)
        return page

    yield go
    for context in contexts:
        context.close()
    assert reported == []


def settled(page: Page) -> None:
    page.wait_for_selector("#page:not([aria-busy])", state="attached")


def panel(page: Page, title: str, at: int = 0) -> Any:
    return page.locator(f'[data-panel="{title}"]').nth(at)


def names(page: Page, title: str) -> list[str]:
    return [str(text) for text in panel(page, title).locator(".legend .series").all_inner_texts()]


def column(page: Page, table: str, title: str) -> list[str]:
    heads = panel(page, table).locator("th").all_inner_texts()
    at = next(place for place, text in enumerate(heads) if text.rstrip(" ↓↑") == title)
    return [str(text).strip() for text in panel(page, table).locator(f"tbody td:nth-child({at + 1})").all_inner_texts()]


def tile(page: Page, title: str) -> str:
    return str(page.locator(f'[data-tile="{title}"] .value').inner_text())


def parameters(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).fragment.partition("?")[2])


def painted(page: Page, title: str) -> int:
    """Return the number of colours in a chart; two or more mean that something is drawn."""
    script = """canvas => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const found = new Set(); for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200)
      found.add(`${data[at] >> 3},${data[at + 1] >> 3},${data[at + 2] >> 3}`); return found.size; }"""
    return int(panel(page, title).locator("canvas").evaluate(script))


def test_the_overview_of_the_cluster(visit: Open) -> None:
    page = visit()
    assert (tile(page, "Nodes ready"), tile(page, "Pods running")) == ("3 / 3", "12 / 13")
    assert tile(page, "CPU").endswith("%") and tile(page, "Memory").endswith("%")
    # Series of a pod with the names of the cluster's own metrics are ignored.
    assert float(tile(page, "CPU").removesuffix("%")) > 5
    wrong = page.locator(".problems li").all_inner_texts()
    assert any("shop/crasher-4f-zz" in text and "CrashLoopBackOff" in text for text in wrong)
    assert any("data/too-big" in text and "No node takes this pod" in text for text in wrong)
    assert wrong[-1].startswith("Warning:"), "errors come first"
    assert set(names(page, "CPU by namespace")) == {"data", "shop", "kube-system"}
    assert painted(page, "CPU by namespace") > 3
    assert column(page, "Nodes", "Node") == ["control-plane", "node-1", "node-2"]
    assert column(page, "Nodes", "State") == ["ready"] * 3
    assert len(column(page, "Pods", "Pod")) == 13
    cores = [text.split()[0] for text in column(page, "Pods", "CPU")]
    assert cores[:6] == sorted(cores[:6], reverse=True) and float(cores[0]) > 0.3, "the highest first"
    panel(page, "Pods").get_by_role("button", name="Restarts").click()
    assert column(page, "Pods", "Pod")[0] == "crasher-4f-zz"
    panel(page, "Pods").get_by_label("Filter Pods").fill("web-")
    assert sorted(column(page, "Pods", "Pod")) == ["web-7c9d-a1", "web-7c9d-b2", "web-7c9d-c3"]


def test_dashboards_lead_to_each_other(visit: Open) -> None:
    page = visit("/?from=now-2h&to=now&refresh=0")

    def title(text: str) -> None:
        page.wait_for_function("text => document.querySelector('h1').textContent === text", arg=text)
        settled(page)
        assert parameters(page) == {"from": ["now-2h"], "to": ["now"], "refresh": ["0"]}

    panel(page, "problems").get_by_role("link", name="shop/crasher-4f-zz").first.click()
    title("crasher-4f-zzPod")
    assert tile(page, "Phase") == "Running" and tile(page, "Containers ready") == "0 / 1"
    page.locator(".crumbs").get_by_text("shop").click()
    title("shopNamespace")
    assert {"web-7c9d-a1", "cart-58-q7"} <= set(names(page, "CPU by pod"))
    panel(page, "CPU by pod").get_by_label("Open web-7c9d-a1").click()
    title("web-7c9d-a1Pod")
    assert set(names(page, "Memory")) == {"web", "limit", "requested"}
    page.get_by_role("link", name="Nodes", exact=True).click()
    title("Nodes")
    panel(page, "Nodes").get_by_role("link", name="node-1").click()
    title("node-1Node")
    assert "data/db-0" in names(page, "CPU by pod")
    page.get_by_role("link", name="Services", exact=True).click()
    title("Services")
    assert column(page, "Services", "Service")[0] == "web"
    panel(page, "Services").get_by_role("link", name="web", exact=True).click()
    title("webService")
    assert names(page, "Requests by status") == ["2xx", "5xx"]
    assert names(page, "Latency") == ["99% within", "95% within", "half within"]
    assert names(page, "Requests by code") == ["200", "404"], "as the service counts itself"
    assert sorted(column(page, "Pods", "Pod")) == ["web-7c9d-a1", "web-7c9d-b2", "web-7c9d-c3"]
    page.get_by_role("link", name="API server").click()
    title("API server")
    assert names(page, "Requests by verb")[0] in ("GET", "UPDATE")
    assert "leases.coordination.k8s.io" in column(page, "Requests by resource", "Resource")
    panel(page, "Requests by verb").get_by_label("Explore Requests by verb").click()
    page.wait_for_selector("#query")
    settled(page)
    assert "apiserver_request_total" in page.input_value("#query")
    page.go_back()
    title("API server")


def test_find_by_typing(visit: Open) -> None:
    page = visit()
    page.keyboard.press("/")
    page.wait_for_function("() => document.querySelectorAll('#found li').length > 15")
    page.keyboard.type("web a1")
    page.wait_for_function("() => document.querySelectorAll('#found li').length === 1")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('h1').textContent === 'web-7c9d-a1Pod'")
    page.keyboard.press("/")
    page.keyboard.type("nothing like this")
    assert page.inner_text("#found-note") == "Nothing has this name."
    page.keyboard.press("Escape")
    assert page.is_hidden("#finder")


def test_dragging_chooses_a_range_for_all_charts(visit: Open) -> None:
    page = visit("/namespaces/shop")
    over = panel(page, "CPU by pod").locator(".u-over")
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 60)
    page.wait_for_selector(".tip:not([hidden])")
    assert "web-7c9d-a1" in page.inner_text(".tip:not([hidden])")
    other = panel(page, "Memory by pod").locator(".u-cursor-x")
    place = other.evaluate("one => new DOMMatrix(getComputedStyle(one).transform).m41")
    assert abs(place - box["width"] * 0.25) < 3, "the cursor is at the same time in all charts"
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60, steps=5)
    chosen = panel(page, "Memory by pod").locator(".u-select").evaluate("one => one.offsetWidth")
    assert abs(chosen - box["width"] * 0.25) < 4
    page.mouse.up()
    page.wait_for_function("() => location.hash.includes('from=20')")
    settled(page)
    begin, end = (datetime.fromisoformat(parameters(page)[name][0]) for name in ("from", "to"))
    assert 14 * 60 < (end - begin).total_seconds() < 16 * 60
    assert page.is_disabled("#refresh"), "a range that has ended does not change"
    before = "#" + urlsplit(page.url).fragment
    page.click("#wider")
    page.wait_for_function("before => location.hash !== before", arg=before)
    settled(page)
    page.go_back()
    page.go_back()
    page.wait_for_function("() => !location.hash.includes('from=20')")
    assert page.inner_text("#time-text") == "Last hour"


def test_a_click_chooses_no_range(visit: Open) -> None:
    page = visit("/namespaces/shop")
    panel(page, "CPU by pod").locator(".u-over").click(position={"x": 90, "y": 50})
    page.keyboard.press("r")
    settled(page)
    assert "from=" not in page.url


def test_time_ranges_by_menu_and_keys(visit: Open) -> None:
    page = visit("/nodes")
    page.keyboard.press("t")
    page.click("#quick >> text=Last 6 hours")
    page.wait_for_function("() => location.hash.includes('from=now-6h')")
    page.select_option("#refresh", "5")
    assert parameters(page)["refresh"] == ["5"]
    page.click("#time")
    page.fill("#from", "2026-01-02T00:00:00")
    page.fill("#to", "2026-01-01T00:00:00")
    page.click("text=Show this range")
    assert "must end after" in page.inner_text("#between-error")


def test_it_refreshes_by_itself(visit: Open) -> None:
    page = visit("/nodes?refresh=5")
    with page.expect_request(lambda request: "query_range" in request.url, timeout=30_000):
        pass


def test_a_refresh_takes_no_focus_away(visit: Open) -> None:
    page = visit("/?refresh=0")
    page.locator(".problems li").first.evaluate("one => { one.dataset.same = 'yes'; }")
    for selector in (
        'section[data-panel="Nodes"] tbody a >> nth=1',
        "#nav a >> nth=2",
        'section[data-panel="Pods"] th button >> nth=4',
    ):
        page.locator(selector).focus()
        focused = page.evaluate("document.activeElement.textContent")
        with page.expect_response(lambda answer: "facts.json" in answer.url):
            page.keyboard.press("r")
        settled(page)
        assert page.evaluate("document.activeElement.textContent") == focused != "", selector
    assert page.locator('.problems li[data-same="yes"]').count() == 1, "what stays is not read again"


def test_a_past_range_shows_its_problems_in_the_past(visit: Open) -> None:
    page = visit("/?from=now-2h&to=now-1h")
    assert page.inner_text(".trouble h3").startswith("What was wrong at ")
    assert "CrashLoopBackOff" in page.inner_text(".problems")


def test_the_legend_chooses_series(visit: Open) -> None:
    page = visit("/namespaces/shop")
    buttons = panel(page, "CPU by pod").locator(".legend button")

    def pressed() -> list[str]:
        return [
            str(buttons.nth(at).locator(".series").inner_text())
            for at in range(buttons.count())
            if buttons.nth(at).get_attribute("aria-pressed") == "true"
        ]

    every = pressed()
    assert len(every) == 5
    panel(page, "CPU by pod").locator(".legend button", has_text="cart-58-q7").click()
    assert pressed() == ["cart-58-q7"]
    panel(page, "CPU by pod").locator(".legend button", has_text="web-7c9d-a1").click(modifiers=["Shift"])
    assert set(pressed()) == {"cart-58-q7", "web-7c9d-a1"}
    page.keyboard.press("r")
    settled(page)
    assert set(pressed()) == {"cart-58-q7", "web-7c9d-a1"}, "a refresh keeps the choice"
    panel(page, "CPU by pod").locator(".legend button", has_text="web-7c9d-a1").click(modifiers=["Shift"])
    panel(page, "CPU by pod").locator(".legend button", has_text="cart-58-q7").click()
    assert pressed() == every


def test_a_chart_by_keyboard(visit: Open) -> None:
    page = visit("/pods/data/worker-6b-2")
    canvas = panel(page, "Memory").locator(".canvas")
    assert "Memory. " in canvas.get_attribute("aria-label") and "1 series" in canvas.get_attribute("aria-label")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    read = panel(page, "Memory").locator('[aria-live="polite"]')
    assert "worker" in read.inner_text() and "MiB" in read.inner_text()
    for key in ("Shift+ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowLeft", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("() => location.hash.includes('from=20')")
    begin, end = (datetime.fromisoformat(parameters(page)[name][0]) for name in ("from", "to"))
    assert (end - begin).total_seconds() == 3 * 4 * 15


def test_no_line_crosses_a_gap(visit: Open) -> None:
    """The pod did not run from 40 to 25 minutes ago: nothing is drawn for that time, and no line crosses it."""
    page = visit("/pods/data/worker-6b-2")
    box = panel(page, "Memory").locator(".u-over").bounding_box()
    assert box is not None

    def at(minutes: float) -> str:
        page.mouse.move(box["x"] + box["width"] * (1 - minutes / 60), box["y"] + 40)
        return str(page.inner_text(".tip:not([hidden])"))

    assert "no value here" in at(28) and "MiB" in at(50) and "MiB" in at(10)
    line = (
        panel(page, "Memory")
        .locator("canvas")
        .evaluate(
            """(canvas, minutes) => { const over = canvas.parentElement.querySelector(".u-over"), scale = canvas.width / canvas.clientWidth;
        const x = Math.round((over.offsetLeft + over.clientWidth * (1 - minutes / 60)) * scale);
        const { data } = canvas.getContext("2d").getImageData(x, 12 * scale, 1, (over.clientHeight - 16) * scale);
        let found = 0; for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 120 && Math.max(data[at], data[at + 1], data[at + 2]) - Math.min(data[at], data[at + 1], data[at + 2]) > 60) found += 1;
        return found; }""",
            28,
        )
    )
    assert line == 0


def test_explore(visit: Open) -> None:
    page = visit("/explore")
    page.fill("#query", "")
    page.keyboard.type("sum(machine_mem")
    page.wait_for_selector("#completions li")
    assert page.locator("#completions li span:first-child").first.inner_text() == "machine_memory_bytes"
    page.keyboard.press("Tab")
    page.keyboard.type("{no")
    page.wait_for_function("() => document.querySelector('#completions li span')?.textContent === 'node'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type('="node-')
    page.wait_for_function("() => document.querySelectorAll('#completions li').length === 2")
    page.keyboard.press("Tab")
    page.keyboard.type('"})')
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash.includes('q=')")
    settled(page)
    assert parameters(page)["q"] == ['sum(machine_memory_bytes{node="node-1"})']
    page.click('[data-table="true"]')
    page.wait_for_selector(".explore td.number")
    assert page.inner_text(".explore td.number") == "17,179,869,184"
    page.fill("#query", "up == 1\n# and\nsum(up)")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.querySelectorAll('.explore tbody tr').length === 9")
    page.click('[data-table="false"]')
    page.wait_for_selector(".explore canvas")
    settled(page)
    assert page.locator(".explore .legend .series").last.inner_text().startswith("B ")
    page.go_back()
    page.go_back()
    page.wait_for_function("() => document.getElementById('query').value.startsWith('sum(machine')")


def test_errors_of_queries_are_readable(visit: Open) -> None:
    page = visit("/explore?q=" + quote("sum(rate(up[5m)"))
    assert page.inner_text(".query-error p") == 'Unexpected ")" in subquery or range, expected ":" or "]"'
    assert page.inner_text(".query-error mark") == ")"
    assert page.get_attribute("#query", "aria-invalid") == "true"
    page.fill("#query", "up[5m]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.query-error').textContent.includes('use rate()')")
    page.fill("#query", "up / on (job) up")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.query-error').textContent.includes('many-to-many')")
    page.fill("#query", "up")
    page.keyboard.press("Enter")
    page.wait_for_selector(".explore canvas")
    assert page.is_hidden(".query-error")


def test_ten_thousand_series(visit: Open) -> None:
    """A limited number of series is drawn, and the page shows this limit."""
    page = visit("/explore?from=now-5m&to=now&q=many")
    page.wait_for_selector(".explore .note:not([hidden])")
    assert page.inner_text(".explore .note").startswith("100 series are drawn of 10,000 series.")
    assert page.locator(".explore .legend button").count() == 60
    page.get_by_role("button", name="Show the 20 highest").click()
    page.wait_for_function("() => document.querySelectorAll('.explore .legend button').length === 20")
    assert parameters(page)["q"] == ["topk(20, many)"]
    page.click('[data-table="true"]')
    page.fill("#query", "many")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.explore tbody tr').length === 200")
    assert page.inner_text(".explore .note") == "The first 200 rows; there are more."


def test_hostile_labels_stay_text(visit: Open) -> None:
    page = visit("/explore?table=yes&q=" + quote('http_requests_total{code="404"}'))
    assert SHOWN in page.locator(".explore td").all_inner_texts()
    page.click('[data-table="false"]')
    page.wait_for_selector(".explore canvas")
    page.fill("#query", "sum by (page) (http_requests_total)")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "text => document.querySelector('.explore .canvas').getAttribute('aria-label').includes(text)", arg=SHOWN
    )
    page.fill("#query", 'http_requests_total{page="')
    page.keyboard.press("End")
    page.keyboard.type("<i")
    page.wait_for_selector("#completions li")
    assert page.inner_text("#completions li span") == SHOWN
    # If this key came before the candidates for the last letter, it would replace all typed text.
    page.evaluate(
        """() => { const input = document.querySelector("#query");
          input.setRangeText("m", input.selectionStart, input.selectionStart, "end");
          input.dispatchEvent(new Event("input"));
          input.dispatchEvent(new KeyboardEvent("keydown", { key: "Tab", cancelable: true })); }"""
    )
    assert page.input_value("#query").startswith('http_requests_total{page="<img src=x')
    page.keyboard.type('"}')
    page.wait_for_selector("#completions", state="hidden")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.explore .legend button').length === 2")
    assert page.locator("main img, main script, main i[onerror]").count() == 0


@pytest.mark.parametrize(
    "address",
    [
        "/pods/" + quote(HOSTILE, safe="") + "/" + quote(HOSTILE, safe=""),
        "/namespaces/" + quote('x"} or up or {a="', safe=""),
        "/services/a/" + quote("b.*(", safe=""),
        "/nodes/%E0%A4%A?from=now-1h&to=javascript:alert(1)&refresh=7",
        "/__proto__/constructor", "/constructor", "/nodes/a/b/c/d/e/f",
        "/explore?q=" + quote("<script>alert(1)</script>" * 100) + "&table=yes",
        "//evil.example/?from=2026-01-01T00:00:00Z&to=2020-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_hostile_addresses(visit: Open, address: str) -> None:
    """An address with hostile parts is only data: the page shows its valid parts, runs no script of it, and loads nothing."""
    page = visit(address)
    assert page.locator("main img, main script, header img").count() == 0
    assert page.inner_text("h1")
    for text in page.locator(".message.bad").all_inner_texts():
        raise AssertionError(f"a query was broken by the address: {text}")


def test_any_value_makes_a_selector_and_a_line(visit: Open) -> None:
    """For every value of a label, the query matches exactly this value, and the page shows one line without hidden characters."""
    page = visit("/nodes?refresh=0")
    script = """values => Promise.all([import('./promql.js'), import('./plain.js')]).then(([{ matchers }, { shown }]) =>
        values.map((value) => [`{${matchers({ a: value }, 'b="x"')}}`, shown(value)]))"""
    anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    telling = st.sampled_from(['"', "\\", "\n", "}", "{", "#", "\x00", "\u202e", "`", "'", "\u2028", "a"])

    @settings(max_examples=25, deadline=None)
    @given(st.lists(anything | st.lists(telling).map("".join), min_size=20, max_size=20))
    def check(values: list[str]) -> None:
        for value, (selector, line) in zip(values, page.evaluate(script, values), strict=True):
            found = {matcher.name: matcher.value for matcher in parse_selector(selector)}
            assert found == {"a": value, "b": "x"}
            assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]", line)
            assert len(line) <= 200

    check()


def test_empty_charts_show_the_reason(visit: Open) -> None:
    page = visit("/pods/shop/never-was")
    assert "The pod did not run in this time range." in panel(page, "CPU").inner_text()
    page = visit("/pods/shop/web-7c9d-a1?from=2020-01-01T00:00:00.000Z&to=2020-01-01T01:00:00.000Z")
    assert "The store's oldest sample is from" in panel(page, "CPU").inner_text()
    page = visit("/services/shop/none")
    assert "No request went through the API server's proxy verb" in panel(page, "Requests by status").inner_text()
    assert "No pod is behind this service." in panel(page, "Pods").inner_text()
    assert "No series of this service counts its requests." in page.inner_text("#view")
    page = visit("/explore?q=nothing_has_this_name")
    assert "The query has no result in this time range." in page.inner_text(".explore")
    page = visit("/nowhere")
    assert "There is no such dashboard." in page.inner_text("#view")


def test_an_empty_store(browser: Browser, tmp_path: Path) -> None:
    with monitoring(tmp_path, INTERVAL="15") as fresh:
        context = browser.new_context()
        page = context.new_page()
        page.goto(fresh.dashboards)
        settled(page)
        assert (
            "Nothing has been scraped yet. The first samples come after 15 seconds."
            in panel(page, "CPU by namespace").inner_text()
        )
        assert "Only half is known. Nothing has been scraped yet." in panel(page, "problems").inner_text()
        context.close()


def test_the_first_samples_of_a_new_cluster(browser: Browser, tmp_path: Path) -> None:
    fill_first(tmp_path, "prometheus-5d9c7-k2x8f")
    context = browser.new_context()
    page = context.new_page()
    with monitoring(tmp_path, INTERVAL="60", POD="prometheus-5d9c7-k2x8f") as first:
        # With so few samples the page does not wait for the interval of its refreshes.
        with page.expect_response("**/facts.json", timeout=60_000):
            page.goto(f"{first.dashboards}#/?refresh=300")
        with page.expect_response("**/facts.json", timeout=60_000):
            settled(page)
        text = panel(page, "CPU by namespace").inner_text()
        assert re.search(
            r"Collection has just begun, at [^.]*\d:\d\d:\d\d[^.]*\. The first values come at about", text
        ), text
        # The add-on's own pod is still starting, which is not listed as a problem.
        assert [line.split() for line in page.locator(".problems li").all_inner_texts()] == [
            ["Warning:", "shop", "Deployment", "web:", "1", "replica", "is", "not", "available"]
        ]
    # If the pod with that name is not the add-on's own, its state is listed as a problem.
    with monitoring(tmp_path, INTERVAL="60") as other:
        page.goto(f"{other.dashboards}#/?refresh=0")
        settled(page)
        assert "Pod runs but is not ready" in panel(page, "problems").inner_text()
    context.close()


def test_the_store_restarts(browser: Browser, tmp_path: Path) -> None:
    """While the server cannot be reached, the page says so and keeps its charts; later it updates them again."""
    fill(tmp_path)
    context = browser.new_context()
    page = context.new_page()
    with monitoring(tmp_path, INTERVAL="15") as first:
        port = urlsplit(first.dashboards).port
        page.goto(f"{first.dashboards}#/nodes?refresh=0")
        settled(page)
        assert painted(page, "CPU by node") > 2
    page.keyboard.press("r")
    page.wait_for_selector('[data-panel="CPU by node"] .message.bad')
    assert "The store does not answer." in panel(page, "CPU by node").inner_text()
    with monitoring(tmp_path, INTERVAL="15", DASHBOARDS_PORT=str(port)):
        page.keyboard.press("r")
        page.wait_for_selector('[data-panel="CPU by node"] .message', state="hidden")
        settled(page)
        assert painted(page, "CPU by node") > 2
        assert names(page, "CPU by node")
    context.close()


def test_the_page_is_quiet(visit: Open, program: Monitoring) -> None:
    """The page loads nothing from other servers, and a page of another origin can read nothing from it."""
    page = visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    settled(page)
    assert asked and all(url.startswith(program.dashboards) for url in asked)
    answer = page.request.get(program.dashboards + "api/v1/query?query=1", headers={"Sec-Fetch-Site": "same-site"})
    assert answer.status == 403
    for method, path in (("DELETE", "api/v1/query"), ("GET", "api/v1/targets"), ("GET", "api/v1/label/a%2F/values"),
                         ("GET", "api/"), ("PUT", ""), ("GET", "vendor/"), ("GET", "../settings.py"),
                         ("POST", "facts.json")):  # fmt: skip
        assert page.request.fetch(program.dashboards + path, method=method).status in (404, 405), (method, path)
    policy = page.request.get(program.dashboards).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_where_the_logs_are(visit: Open) -> None:
    page = visit("/pods/shop/web-7c9d-a1?from=now-15m&to=now")
    assert page.locator("#logs").count() == 0, "an address of its own says nothing of the log explorer's"
    script = """(places) => import('./logs.js').then(({ explorerBase }) =>
        places.map(([proxied, url]) => explorerBase(proxied, new URL(url))))"""
    expected = {
        "http://monitoring-grafana.kube-system.svc.localhost:8001/": "http://kibana-logging.kube-system.svc.localhost:8001/",
        "https://80.monitoring-grafana.kube-system.svc.localhost/": "https://kibana-logging.kube-system.svc.localhost/",
        "http://3000.prometheus-0.kube-system.pod.localhost:9/": "http://kibana-logging.kube-system.svc.localhost:9/",
        "http://monitoring-grafana.kube-system.svc.cluster.local/": "http://kibana-logging.kube-system.svc.cluster.local:5601/",
        "http://monitoring-grafana.kube-system.svc/": "http://kibana-logging.kube-system.svc:5601/",
        "http://127.0.0.1:30080/": None,
        "http://evil.svc.example/": None,
    }
    assert page.evaluate(script, [[False, url] for url in expected]) == list(expected.values())
    assert page.evaluate(script, [[True, "http://127.0.0.1:8001/"]]) == ["logs"]
    answer = page.request.get(urlsplit(page.url)._replace(path="/logs", fragment="").geturl(), max_redirects=0)
    assert (answer.status, answer.headers["location"]) == (
        302,
        "../../../../kube-system/services/kibana-logging/proxy/",
    )


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["cluster", "pod", "explore"])
def test_how_it_looks(visit: Open, width: int, name: str, tmp_path: Path) -> None:
    """Nothing is cut off. With HATCHWAY_PICTURES, the pictures for the documentation are taken."""
    query = quote('sum by (pod) (rate(container_cpu_usage_seconds_total{namespace!="kube-system"}[5m]))')
    address = {"cluster": "/", "pod": "/pods/shop/cart-58-q7", "explore": f"/explore?q={query}"}[name]
    page = visit(address, viewport={"width": width, "height": 960}, color_scheme="light")
    for scheme in ("light", "dark"):
        if scheme == "dark":
            # The charts are drawn again in other colours (`test_colours_change_at_once`).
            drawn = page.evaluate("document.querySelector('canvas').toDataURL()")
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("was => document.querySelector('canvas').toDataURL() !== was", arg=drawn)
            settled(page)
        beyond = page.evaluate(
            "() => [...document.querySelectorAll('header .button, header .icon, .tile *, .panel-head *, .legend *, .problems *')].filter((one) =>"
            " one.getBoundingClientRect().width && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML)"
        )
        assert beyond == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "document.getElementById('main').scrollWidth <= document.getElementById('main').clientWidth"
        )
        folder = IMAGES if os.environ.get("HATCHWAY_PICTURES") and width > 1000 and name == "cluster" else tmp_path
        picture = folder / f"dashboards-{scheme}-{width}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 20_000


def test_colours_change_at_once(visit: Open) -> None:
    page = visit("/nodes", color_scheme="light")
    script = "() => document.querySelector('canvas').toDataURL()"
    before = page.evaluate(script)
    page.click("#theme")
    page.click("#theme")
    page.wait_for_function("before => document.querySelector('canvas').toDataURL() !== before", arg=before)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    light = page.evaluate(script)
    page.click("#theme")
    page.emulate_media(color_scheme="dark")
    page.emulate_media(color_scheme="light")
    page.wait_for_function("before => document.querySelector('canvas').toDataURL() !== before", arg=light)
