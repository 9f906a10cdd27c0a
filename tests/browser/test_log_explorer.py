"""The log explorer in a real browser, in front of the logging add-on's own program."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.logaddon import Addon, append, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \u202egnp.exe \x1b[31mred\x1b[0m"
Open = Callable[..., "Page"]


def stamped(text: str, ago: float, stream: str = "stdout") -> str:
    """Return a line of a container's log, written `ago` seconds before now."""
    at = datetime.now(UTC) - timedelta(seconds=ago)
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}000Z {stream} F {text}"


def write(addon: Addon, pod: str, container: str, namespace: str, *lines: str) -> None:
    append(addon.container(pod, container, namespace) / "0.log", *lines)


@pytest.fixture(scope="module")
def addon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addon]:
    """Run the add-on with log lines of a small shop, the last two minutes old, and one line that is three days old."""
    made = Addon(tmp_path_factory.mktemp("addon"))
    levels = ("INFO", "INFO", "INFO", "INFO", "WARN", "INFO", "ERROR")
    for number in range(420):
        ago = 120 + (420 - number) * 7
        level = levels[number % 7]
        write(made, "web-7c9d-x1", "web", "shop", stamped(f"{level} GET /cart/{number} took {number % 90} ms", ago))
        detail = {"level": level.lower(), "msg": f"order {number} stored", "status": 200 if number % 5 else 500,
                  "user": {"id": number % 13}}  # fmt: skip
        write(made, "orders-0", "orders", "shop", stamped(json.dumps(detail), ago - 1))
        write(made, "db-0", "postgres", "data", stamped(f"LOG:  checkpoint {number}", ago - 2, "stderr"))
    write(made, "db-0", "postgres", "data", stamped("FATAL:  the very old line", 3 * 86400))
    write(made, "odd-0", "odd", "default", stamped(f"hostile {HOSTILE}", 100))
    made.start()
    until(lambda: made.ask("/logstash-*/_count")[1]["count"], 3 * 420 + 2, 60)
    yield made
    assert made.stop() == 0


@pytest.fixture
def visit(browser: Browser, addon: Addon) -> Iterator[Open]:
    """Return a function that opens the page in a new context; errors that the page reports fail the test."""
    contexts: list[BrowserContext] = []
    reported: list[str] = []

    def go(address: str = "", *, url: str | None = None, **options: Any) -> Page:
        settings = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce", **options}
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **settings)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: reported.append(str(error)))
        page.on(
            "console",
            lambda message: (
                reported.append(message.text)
                if message.type == "error" and "400 (Bad Request)" not in message.text
                else None
            ),
        )
        page.on("dialog", lambda dialog: reported.append(f"a dialog: {dialog.message}"))
        page.goto((url or addon.explorer) + address)
        settled(page)
        return page

    yield go
    for context in contexts:
        context.close()
    assert reported == []


def settled(page: Page) -> None:
    page.wait_for_selector("#page:not([aria-busy])", state="attached")


def total(page: Page, wanted: int) -> None:
    page.wait_for_function(
        "wanted => document.getElementById('total').textContent.startsWith(wanted)", arg=f"{wanted:,} line"
    )


def texts(page: Page) -> list[str]:
    return page.locator("#list .line .text").all_inner_texts()


def fragment(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).fragment)


def test_the_first_view_has_the_newest_lines(visit: Open) -> None:
    page = visit()
    total(page, 1261)
    assert "hostile" in texts(page)[0], "the newest line is the first one"
    assert page.locator(".chart rect.level-error").count() > 20
    facets = page.locator("#facets")
    assert "shop\n840" in facets.inner_text()
    assert page.locator("#facets .facet").first.inner_text().split("\n")[:3] == ["Level", "4", "error"]
    page.locator("#scroll").evaluate("box => box.scrollTo(0, box.scrollHeight)")
    page.wait_for_function("() => document.querySelectorAll('.line').length > 400")


def test_searching_as_one_types(visit: Open) -> None:
    page = visit()
    total(page, 1261)
    page.keyboard.type("order 41 sto")  # The search field has the focus.
    total(page, 1)
    assert texts(page) == ["order 41 stored status=200 user.id=2"]
    assert page.locator("#list mark").all_inner_texts() == ["order", "41", "sto"]
    assert fragment(page) == {"q": ["order 41 sto"]}
    page.fill("#q", 'log:"checkpoint 7" OR (level:error AND kubernetes.container_name:web)')
    total(page, 61)
    page.fill("#q", "level:[400 TO")
    page.wait_for_selector("#problem:not([hidden])")
    assert "ends too early" in page.inner_text("#problem")
    assert page.get_attribute("#q", "aria-invalid") == "true"
    page.fill("#q", "one ) two")
    page.wait_for_function("() => document.getElementById('where').textContent.includes('▸)')")
    page.fill("#q", "")
    total(page, 1261)
    assert page.is_hidden("#problem")


def test_time_ranges(visit: Open) -> None:
    page = visit()
    total(page, 1261)
    page.click("#time")
    page.keyboard.press("ArrowDown")  # From "last hour" to the next choice.
    page.click("#quick >> text=All lines")
    total(page, 1262)
    assert fragment(page)["from"] == ["all"]
    page.go_back()
    total(page, 1261)
    box = page.locator(".chart").bounding_box()
    assert box is not None
    middle = box["y"] + 40
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.wait_for_selector(".tip:not([hidden])")
    assert "lines" in page.inner_text(".tip")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=4)
    page.mouse.up()
    page.wait_for_function("() => location.hash.includes('to=')")
    settled(page)
    begin, end = (datetime.fromisoformat(fragment(page)[name][0]) for name in ("from", "to"))
    assert 14 * 60 < (end - begin).total_seconds() < 16 * 60
    assert page.is_disabled("#live"), "a range that has ended has no new lines"
    page.go_back()
    total(page, 1261)
    page.focus(".chart")
    for key in ("ArrowLeft", "ArrowLeft", "Shift+ArrowLeft", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("() => location.hash.includes('to=')")
    begin, end = (datetime.fromisoformat(fragment(page)[name][0]) for name in ("from", "to"))
    assert (end - begin).total_seconds() == 120
    page.click("#time")
    page.fill("#from", "2026-01-02T00:00:00")
    page.fill("#to", "2026-01-01T00:00:00")
    page.click("text=Show this range")
    assert "must end after" in page.inner_text("#between-error")


def test_values_are_included_and_excluded(visit: Open) -> None:
    page = visit()
    total(page, 1261)
    page.click('[data-facet="namespace+shop"]')
    total(page, 840)
    assert "data\n420" in page.locator("#facets").inner_text(), "its other values are still counted"
    page.click('[data-facet="namespace+data"]')
    total(page, 1260)
    page.hover('[data-facet="level+error"]')
    page.click('[data-facet="level-error"]')
    total(page, 1140)
    assert page.locator(".chip").all_inner_texts() == ["namespace: shop", "namespace: data", "not level: error"]
    assert fragment(page)["f"] == ["+namespace=shop", "+namespace=data", "-level=error"]
    shared = visit("#" + urlsplit(page.url).fragment)
    total(shared, 1140)
    page.locator(".chip button").last.click()
    total(page, 1260)
    page.click('[data-by="namespace"]')
    page.wait_for_selector(".chart rect.group-1", state="attached")
    assert page.locator("#legend span").all_inner_texts() == ["shop", "data"]


def test_a_line_is_opened(visit: Open) -> None:
    page = visit("#q=order")
    total(page, 420)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.locator('#list .line[tabindex="0"]').count() == 1, "Tab leaves the list again"
    detail = page.locator(".detail")
    assert {"status", "user.id", "Namespace", "Pod"} <= set(detail.locator("dt").all_inner_texts())
    detail.get_by_label("Column status").click()
    assert page.locator("#head span").all_inner_texts() == ["Time", "Level", "Pod", "status", "Line"]
    assert page.locator(".line").first.locator(".column").all_inner_texts() == ["orders-0", "200"]
    page.locator(".line").nth(4).click()
    page.locator(".detail").get_by_label("Only lines with status 500").click()
    total(page, 84)
    assert fragment(page)["q"] == ['order AND log:"status 500"']


def test_a_link_to_a_line(visit: Open) -> None:
    page = visit("#q=checkpoint")
    total(page, 420)
    page.locator(".line").nth(7).click()
    page.get_by_text("Copy link").click()
    page.wait_for_selector("#said.shown")
    link = page.evaluate("navigator.clipboard.readText()")
    other = visit(url=link)
    other.wait_for_selector(".detail")
    assert other.locator(".line").first.get_attribute("aria-expanded") == "true"
    assert texts(other)[0] == "LOG:  checkpoint 412"
    other.fill("#q", "checkpoint 411")
    other.wait_for_function("() => !location.hash.includes('open=')")


def test_hostile_addresses(visit: Open) -> None:
    """The parts of an address are checked: the page shows the valid parts, and runs no script of the address."""
    for address in (
        "#from=now-1h&to=1&by=__proto__&columns=__proto__,constructor,json:__proto__,json:<img>&f=%2B__proto__=x",
        "#f=%2Blevel=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&f=-pod=" + "x" * 3000 + "&open=%22%5D%3Cscript%3E",
        "#q=" + "%28" * 900,
        "#from=all&to=javascript:alert(1)",
        "#%00%ff=%E0%A4%A",
    ):
        page = visit(address)
        assert page.locator("main img, main script, header img").count() == 0


def test_the_lines_around_a_line(visit: Open) -> None:
    page = visit('#q="order+200"')
    total(page, 1)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("c")
    page.wait_for_selector("#around-list .itself")
    around = page.locator("#around-list .text").all_inner_texts()
    assert [text.split()[1] for text in around] == [str(number) for number in range(160, 241)]
    assert page.inner_text("#around-list .itself .text").startswith("order 200 ")
    page.click("#around-before")
    page.wait_for_function("() => document.querySelectorAll('#around-list .line').length === 161")
    page.keyboard.press("Escape")
    assert page.is_hidden("#around")


def test_hostile_lines_stay_text(visit: Open) -> None:
    page = visit("#q=hostile")
    total(page, 1)
    shown = "hostile <img src=x onerror=alert(1)><script>alert(2)</script> \u202egnp.exe red"
    assert texts(page) == [shown]
    page.locator(".line").click()
    assert page.inner_text(".detail pre") == shown
    assert page.locator("#list img, #list script").count() == 0


def test_live(visit: Open, addon: Addon) -> None:
    page = visit("#q=livetail&from=now-5m")
    total(page, 0)
    assert "No line matches" in page.inner_text("#empty")
    page.keyboard.press("Escape")
    page.keyboard.press("l")
    write(addon, "live-0", "live", "default", stamped("livetail first", 0))
    page.wait_for_selector("#list .line")
    assert texts(page) == ["livetail first"]
    write(
        addon,
        "live-0",
        "live",
        "default",
        *(stamped(f"livetail more {number} " + "x" * 900, 0) for number in range(40)),
    )
    page.wait_for_function("() => document.querySelectorAll('#list .line').length === 41")
    page.locator("#scroll").evaluate("box => box.scrollTo(0, 400)")
    write(addon, "live-0", "live", "default", *(stamped(f"livetail last {number}", 0) for number in range(3)))
    page.wait_for_selector("#came:not([hidden])")
    page.wait_for_function("() => document.getElementById('came-text').textContent === '3 new lines'")
    assert page.locator("#list .line").count() == 41
    page.click("#came")
    page.wait_for_function("() => document.querySelectorAll('#list .line').length === 44")
    assert texts(page)[0] == "livetail last 2"
    page.keyboard.press("l")
    assert page.get_attribute("#live", "aria-pressed") == "false"


@pytest.mark.parametrize("kind", ["ndjson", "txt", "csv"])
def test_export(visit: Open, kind: str) -> None:
    page = visit("#q=checkpoint")
    total(page, 420)
    page.click("#export")
    assert "All 420 lines" in page.inner_text("#export-note")
    with page.expect_download() as download:
        page.click(f'[data-format="{kind}"]')
    assert download.value.suggested_filename.endswith(f".{kind}")
    text = Path(download.value.path()).read_text()
    rows = text.splitlines()
    if kind == "ndjson":
        assert len(rows) == 420
        assert json.loads(rows[0])["kubernetes"]["pod_name"] == "db-0"
    elif kind == "txt":
        assert len(rows) == 420
        assert "data/db-0/postgres LOG:  checkpoint 419" in rows[0]
    else:
        found = list(csv.DictReader(io.StringIO(text)))
        assert (len(found), found[0]["line"], found[0]["level"]) == (420, "LOG:  checkpoint 419", "info")


def test_a_formula_is_not_exported_as_one(visit: Open) -> None:
    page = visit()
    spelled = page.evaluate(
        "import('./export.js').then(({FORMATS}) => FORMATS.csv[2]({'@timestamp': 'x', log: '=cmd|\"a\"', stream: '-1'}))"
    )
    assert spelled == '"x","","","","","","\'-1","\'=cmd|""a"""'


def test_the_page_is_quiet(visit: Open, addon: Addon) -> None:
    """The page loads nothing from other servers, and a page of another origin can read nothing from it."""
    page = visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    settled(page)
    assert asked and all(url.startswith(addon.explorer) for url in asked)
    answer = page.request.get(addon.explorer + "api/logstash-*/_search", headers={"Sec-Fetch-Site": "same-site"})
    assert answer.status == 403
    for method, path in (("DELETE", "api/logstash-2026.01.01"), ("POST", "api/x/_doc"), ("POST", "api/a%2F_doc/_search"),
                         ("POST", "api/x/_delete_by_query"), ("GET", "api/_all/_search"), ("PUT", "")):  # fmt: skip
        assert page.request.fetch(addon.explorer + path, method=method).status in (404, 405), (method, path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_how_it_looks(visit: Open, scheme: str, width: int, tmp_path: Path) -> None:
    """Nothing is cut off. With HATCHWAY_PICTURES, the pictures for the documentation are taken."""
    page = visit("#from=now-1h&q=order", viewport={"width": width, "height": 860}, color_scheme=scheme)
    total(page, 420)
    page.locator(".line").nth(2).click()
    beyond = page.evaluate(
        "() => [...document.querySelectorAll('header *, #overview *, main .bar *, .detail *')].filter((one) =>"
        " one.getBoundingClientRect().width && one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML)"
    )
    assert beyond == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    folder = IMAGES if os.environ.get("HATCHWAY_PICTURES") and width > 1000 else tmp_path
    page.screenshot(path=folder / f"logs-{scheme}-{width}.png")
    assert (folder / f"logs-{scheme}-{width}.png").stat().st_size > 20_000
