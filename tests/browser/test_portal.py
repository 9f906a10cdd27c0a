"""The portal and the error pages in a real browser: keyboard, search, live changes, empty and error states."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hatchway.door.pages import error_answer
from hatchway.door.portal.model import TargetFacts
from hatchway.door.problems import absent, refused, unreached
from hatchway.door.problems.problem import DoorProblem
from hatchway.target import Target
from tests.conftest import wait_for
from tests.fake_view import (
    FakeView,
    Portal,
    Scope,
    State,
    demo_view,
    make_node,
    make_pod,
    make_service,
    make_slice,
    many_view,
    portal,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


Open = Callable[..., "Page"]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Return a function that opens a page in a new context; errors that the page reports fail the test."""
    contexts: list[BrowserContext] = []
    reported: list[str] = []

    def go(url: str, **options: Any) -> Page:
        settings = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce", **options}
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **settings)
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: reported.append(str(error)))
        page.on("console", lambda message: reported.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: reported.append(f"a dialog: {dialog.message}"))
        page.goto(url)
        return page

    yield go
    for context in contexts:
        context.close()
    assert [text for text in reported if "Failed to load resource" not in text and "ERR_" not in text] == []


@pytest.fixture
def shop() -> Iterator[Portal]:
    with portal(demo_view()) as served:
        yield served


def names(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        "li.row", "all => all.filter(r => r.checkVisibility()).map(r => r.dataset.key)"
    )
    return found


def focused(page: Page) -> str:
    """Return the key of the row that has the focus, or the id of the focused element."""
    return str(page.evaluate("(a => a.closest('li.row')?.dataset.key || a.id || a.tagName)(document.activeElement)"))


def clipboard(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_everything_by_namespace(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    page.wait_for_selector("li.row")
    headings = page.eval_on_selector_all("h2 button > span:first-of-type", "all => all.map(e => e.textContent)")
    assert headings == ["data", "monitoring", "shop", "kube-system"]
    assert page.inner_text("#context") == "hatchway"
    assert page.inner_text("#connection-text") == "Live"
    assert page.inner_text("[data-count=services]") == "20"
    row = page.locator('[data-key="services/shop/checkout"]')
    assert row.locator(".state").inner_text() == "2/3 ready"
    assert row.locator("a.name").get_attribute("href") == f"http://checkout.shop.svc.localhost:{shop.door.port}/"
    forward = page.locator('[data-key="services/shop/postgres"] .where')
    assert forward.inner_text() == "hatchway forward svc/postgres 5432 -n shop"


# Returns the texts of rows that are cut off.
_CUT = """() => [...document.querySelectorAll(".row :is(.name, .where > *)")]
  .filter((e) => e.checkVisibility()
    && (e.scrollWidth > e.clientWidth + 1 || getComputedStyle(e).textOverflow === "ellipsis"))
  .map((e) => e.textContent)"""


@pytest.mark.parametrize("width", [360, 800, 1200, 1920])
def test_names_are_not_cut(visit: Open, width: int) -> None:
    view = demo_view()
    service = make_service("payments-integration-staging", "elasticsearch-coordinating-internal-" + "x" * 27, 9200)
    pod = make_pod("payments-integration-staging", "a" * 63, "es", ports=[9200])
    view.put(service, pod, make_slice(service, pod))
    with portal(view) as served:
        page = visit(served.url, viewport={"width": width, "height": 4000})
        for key in ("1", "2", "3"):
            page.keyboard.press(key)
            page.wait_for_selector("li.row .state")
            assert page.evaluate(_CUT) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        # If there is room, the links are in one line.
        page.keyboard.press("1")
        lines = page.locator('[data-key="services/kube-system/elasticsearch-logging"] .where a').bounding_box()
        assert lines is not None
        assert width < 1200 or lines["height"] < 30


def test_states_have_shapes_and_words(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    page.wait_for_selector("li.row")
    seen = {}
    for name, state, said in (
        ("shop/cart", "ready", "1/1 ready"),
        ("shop/checkout", "partly", "2/3 ready"),
        ("shop/search", "down", "0/1 ready"),
        ("data/spark-history", "lacking", "No endpoints, needs attention"),
        ("shop/payments", "empty", "External name"),
    ):
        mark = page.locator(f'[data-key="services/{name}"] .state .dot')
        assert mark.get_attribute("class") == f"dot {state}"
        label = page.locator(f'[data-key="services/{name}"] .state').get_attribute("aria-label")
        assert label is not None
        assert label.startswith(said)
        shape = (
            "(e => { const s = getComputedStyle(e); return s.borderRadius + s.transform + s.clipPath"
            " + s.boxShadow.replace(/rgba?[^)]*[)]/g, '') + s.backgroundImage.slice(0, 4) })"
        )
        seen[mark.evaluate(shape)] = state
    assert len(seen) == 5, "without colours, two states look the same"


def test_the_keyboard_alone(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    page.wait_for_selector("li.row")
    page.keyboard.press("/")
    assert focused(page) == "search"
    page.keyboard.type("grafana")
    assert names(page) == ["services/monitoring/grafana"]
    page.keyboard.press("Escape")
    assert len(names(page)) == 20
    page.keyboard.press("ArrowDown")
    assert focused(page) == "services/data/clickhouse"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "services/data/jupyter"
    page.keyboard.press("ArrowRight")
    details = page.locator('[data-key="services/data/jupyter"] .more')
    assert details.is_visible()
    assert "/api/v1/namespaces/data/services/jupyter:http/proxy/" in details.inner_text()
    # Tab reaches everything in the details, from the name to a copy button.
    for _ in range(10):
        page.keyboard.press("Tab")
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        if label == "Copy the proxy path of port http 8888":
            break
    else:
        raise AssertionError("the proxy path's copy button is not reached by Tab")
    page.keyboard.press("ArrowLeft")
    assert not details.is_visible()
    assert focused(page) == "services/data/jupyter"
    page.keyboard.press("c")
    wait_for(lambda: clipboard(page) == f"http://jupyter.data.svc.localhost:{shop.door.port}/", seconds=10)
    page.keyboard.press("p")
    wait_for(lambda: clipboard(page) == "/api/v1/namespaces/data/services/jupyter:http/proxy/", seconds=10)
    page.keyboard.press("End")
    assert focused(page) == "services/kube-system/metrics-server"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert focused(page) == "search"
    page.keyboard.type("kafka")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("c")
    wait_for(lambda: clipboard(page) == "hatchway forward svc/kafka 9092 -n data", seconds=10)
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    assert names(page)[0].startswith("pods/data/")
    page.keyboard.press("n")
    assert {name.split("/")[2].split("-")[0] for name in names(page)} == {"checkout", "orders", "search"}
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_enter_opens_the_first_search_result(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    page.wait_for_selector("li.row")
    wanted = f"http://grafana.monitoring.svc.localhost:{shop.door.port}/"
    page.context.route(wanted, lambda route: route.fulfill(body="the application"))
    page.keyboard.press("/")
    page.keyboard.type("monitoring graf")
    with page.context.expect_page() as opened:
        page.keyboard.press("Enter")
    opened.value.wait_for_load_state()
    assert opened.value.url == wanted
    assert opened.value.evaluate("window.opener") is None
    assert opened.value.evaluate("document.referrer") == ""


def test_live_changes_keep_focus_and_details(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    row = page.locator('[data-key="services/shop/cart"]')
    row.locator(".expand").click()
    row.locator('[aria-label="Copy the proxy path of port 80"]').focus()
    page.evaluate("window.kept = document.activeElement; window.keptRow = document.activeElement.closest('li')")
    service = shop.view.services["shop", "cart"]
    sick = make_pod("shop", "cart-0", "cart", waiting=("CrashLoopBackOff", "back-off 5m0s"))

    def change() -> None:
        pods = [pod for (space, name), pod in shop.view.pods.items() if space == "shop" and name.startswith("cart-")]
        shop.view.delete(*pods)
        shop.view.put(
            sick, make_slice(service, sick), make_service("aaa", "first", 80), make_service("shop", "zzz", 80)
        )

    scrolled = page.evaluate("scrollY")
    shop.change(change)
    row.locator(".state >> text=0/1 ready").wait_for()
    assert "CrashLoopBackOff: back-off 5m0s" in row.locator(".why").inner_text()
    assert page.evaluate("window.kept === document.activeElement && window.kept.isConnected")
    assert page.evaluate("window.keptRow.isConnected")
    page.wait_for_selector('[data-key="services/aaa/first"]', state="attached")
    assert page.evaluate("scrollY") >= scrolled
    assert page.inner_text("[data-count=services]") == "22"
    # The focused row is removed; its neighbour gets the focus.
    page.locator('[data-key="services/shop/cart"] .main').focus()
    shop.change(lambda: shop.view.delete(service))
    page.wait_for_selector('[data-key="services/shop/cart"]', state="detached")
    assert focused(page) == "services/shop/checkout"


def test_the_reason_on_hover_and_focus(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    state = page.locator('[data-key="services/shop/search"] .state')
    state.hover()
    tip = page.locator("#tip")
    tip.wait_for()
    assert "ImagePullBackOff" in tip.inner_text()
    page.mouse.move(1, 1)
    tip.wait_for(state="hidden")
    page.keyboard.press("Tab")
    page.locator('[data-key="services/shop/search"] .chip').focus()
    page.keyboard.press("Tab")
    assert state.evaluate("e => e === document.activeElement")
    assert "ImagePullBackOff" in tip.inner_text()
    assert state.get_attribute("aria-describedby") == "tip"


def test_searching(shop: Portal, visit: Open) -> None:
    page = visit(shop.url)
    page.wait_for_selector("li.row")
    search = page.locator("#search")
    search.fill("9090")
    assert names(page) == ["services/monitoring/prometheus"]
    search.fill("SHOP grpc")
    assert names(page) == ["services/shop/checkout"]
    search.fill("control-plane")
    page.locator("text=Nothing in services matches").wait_for()
    page.click("text=1 in nodes")
    assert names(page) == ["nodes//control-plane"]
    search.fill("nothing-like-it")
    assert page.inner_text("#said").startswith("0 ")
    page.click("#empty >> text=Clear the search")
    assert len(names(page)) == 4
    assert focused(page) == "search"


def test_only_what_needs_attention(visit: Open) -> None:
    view = FakeView()
    view.state = State("connecting")
    lonely, well = make_service("shop", "lonely", 80), make_service("shop", "well", 80)
    view.put(
        lonely,
        well,
        make_service("shop", "elsewhere", 80, type="ExternalName", externalName="example.com"),
        make_service("shop", "by-hand", 80, selector={}),
    )
    with portal(view) as served:
        page = visit(served.url)
        page.wait_for_selector('[data-key="services/shop/well"]')
        # While the view still connects, a service without an EndpointSlice is not yet a problem: the slice may follow.
        assert page.locator("#attention").is_hidden()
        served.change(lambda: view.put(make_slice(well, make_pod("shop", "well-0", "well"))))
        served.change(lambda: view.become(State()))
        page.wait_for_selector("#attention")
        page.keyboard.press("n")
        assert names(page) == ["services/shop/lonely"]
        assert page.inner_text("#attention-count") == "1"
        served.change(lambda: view.put(make_slice(lonely, make_pod("shop", "lonely-0", "lonely"))))
        page.wait_for_selector("#empty >> text=No service needs attention")
        page.click("#empty >> text=Show all")
        assert len(names(page)) == 4


def test_empty_and_error_states(visit: Open) -> None:
    view = FakeView()
    view.state = State("connecting")
    with portal(view) as served:
        page = visit(served.url)
        page.wait_for_selector(".skeleton")
        assert page.inner_text("#connection-text") == "Connecting"
        assert "Asking the cluster for its services" in page.inner_text("#empty")
        # After the services have been loaded, the pods may still be missing.
        served.change(lambda: view.put(make_service("shop", "web", 80)))
        page.wait_for_selector("li.row")
        page.keyboard.press("2")
        page.wait_for_selector("#empty >> text=Asking the cluster for its pods")
        assert page.inner_text("[data-count=pods]") == ""
        page.keyboard.press("1")
        served.change(lambda: view.delete(view.services["shop", "web"]))
        served.change(lambda: view.become(State()))
        page.wait_for_selector("text=No services yet")
        assert "kubectl expose" in page.inner_text("#empty")
        rule = "kind: ClusterRole\nrules: []"
        scopes = {
            "services": Scope((), "you may not list services", rule),
            "pods": Scope(("shop",), "one of two", rule),
        }
        served.change(lambda: view.become(**scopes))
        page.wait_for_selector("text=You may not list services")
        page.click("#empty >> text=Copy")
        wait_for(lambda: clipboard(page) == rule, seconds=10)
        page.keyboard.press("2")
        page.click("summary >> text=You may list pods in 1 namespace")
        assert "kind: ClusterRole" in page.inner_text("#notices")
        served.change(lambda: view.become(State("away", "no route to host", "is the VPN connected?")))
        page.wait_for_selector("#alerts >> text=The cluster does not answer")
        assert "no route to host" in page.inner_text("#alerts")
        assert page.inner_text("#connection-text") == "Cluster away"
        page.keyboard.press("3")
        page.wait_for_selector("#empty >> text=No nodes")
        served.change(lambda: view.become(State()))
        page.wait_for_selector("#connection-text >> text=Live")
        assert page.inner_text("#alerts") == ""


def test_the_door_goes_and_comes_back(visit: Open) -> None:
    view = demo_view()
    with portal(view) as served:
        page = visit(served.url)
        page.wait_for_selector("li.row")
        page.route("**/-/hatchway/events", lambda route: route.abort())
        served.change(served.drop)
        page.wait_for_selector("#alerts >> text=The door does not answer")
        assert len(names(page)) == 20
        served.change(lambda: view.delete(view.services["shop", "cart"]))
        page.unroute("**/-/hatchway/events")
        page.wait_for_selector("#connection-text >> text=Live")
        page.wait_for_selector('[data-key="services/shop/cart"]', state="detached")
        assert len(names(page)) == 19


def test_a_hidden_tab_closes_its_connection(shop: Portal, visit: Open) -> None:
    """A hidden tab closes its event stream, since a browser has only six connections for an origin."""
    page = visit("about:blank")
    page.clock.install()
    page.goto(shop.url)
    page.wait_for_selector("li.row")
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.clock.run_for(9_000)
    assert page.evaluate("source.readyState") == 1
    page.clock.run_for(2_000)
    assert page.evaluate("source.readyState") == 2
    shop.change(lambda: shop.view.delete(shop.view.services["shop", "cart"]))
    page.evaluate(hide, False)
    page.wait_for_selector('[data-key="services/shop/cart"]', state="detached")
    assert len(names(page)) == 19


def test_hostile_names_stay_text(visit: Open) -> None:
    view = FakeView()
    service = make_service("evil", "x", (HOSTILE, 80), metadata={"annotations": {"hatchway.dev/title": HOSTILE}})
    service["metadata"]["annotations"]["hatchway.dev/description"] = HOSTILE
    pod = make_pod("evil", "x-0", "x", waiting=(HOSTILE, HOSTILE))
    strange = make_service("evil", "y", 80, selector={HOSTILE: HOSTILE})
    with portal(view, context=HOSTILE, server="https://" + HOSTILE) as served:
        served.door.known[Target("services", "y", "evil")] = TargetFacts("javascript:alert(3)", HOSTILE, HOSTILE)
        served.change(lambda: view.put(service, pod, make_slice(service, pod), strange, make_node("n")))
        page = visit(served.url)
        for key in ("services/evil/x", "services/evil/y"):
            page.click(f'[data-key="{key}"] .expand')
        served.change(lambda: view.become(State("away", HOSTILE, HOSTILE), pods=Scope(("a",), HOSTILE, HOSTILE)))
        page.wait_for_selector("#alerts p")
        page.hover('[data-key="services/evil/x"] .state')
        page.keyboard.press("/")
        page.keyboard.type(HOSTILE[:12])
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        page.click("summary")
        assert page.locator("img").count() == 0
        assert page.locator("body script").count() == 0
        assert HOSTILE in page.inner_text("#alerts")
        links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.protocol)")
        assert set(links) <= {"http:", "https:"}


def test_colours_follow_the_system_and_are_remembered(shop: Portal, visit: Open) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page = visit(shop.url, color_scheme="light")
    page.wait_for_selector("li.row")
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert light != dark
    page.emulate_media(color_scheme="light")
    page.click("#theme")
    page.click("#theme")
    assert page.evaluate(background) == dark
    page.reload()
    assert page.evaluate(background) == dark
    assert page.get_attribute("#theme", "aria-label") == "Colours: dark"
    page.click("#theme")
    page.reload()
    assert page.evaluate(background) == light


# The contrast (WCAG 2.1, 1.4.3) of each text with its background; colours are drawn on a canvas to get their values.
_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] > 200) return found;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility({ opacityProperty: true }) || element.closest(".unseen, .skip")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `${element.className || element.tagName} "${element.textContent.slice(0, 30)}"`;
    if (ratio < 4.5) bad.push(`${what} ${ratio.toFixed(2)}`);
  }
  return bad;
}"""

# Every control has a name, every referenced id exists, ids are unique.
_STRUCTURE = """() => {
  const bad = [];
  for (const control of document.querySelectorAll("button, a[href], input, [role=tab]")) {
    const label = control.getAttribute("aria-label") || control.textContent || control.title;
    if (!label.trim()) bad.push(control.outerHTML);
  }
  for (const name of ["aria-controls", "aria-labelledby", "aria-describedby"]) {
    for (const e of document.querySelectorAll(`[${name}]`))
      if (!document.getElementById(e.getAttribute(name))) bad.push(e.outerHTML);
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  return [...bad, ...ids.filter((id, at) => ids.indexOf(id) !== at)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_structure(shop: Portal, visit: Open, scheme: str) -> None:
    page = visit(shop.url, color_scheme=scheme)
    for key in ("services/shop/checkout", "services/shop/search", "services/kube-system/kube-dns"):
        page.click(f'[data-key="{key}"] .expand')
    shop.change(lambda: shop.view.become(State("away", "no route", "the VPN?"), services=Scope(("shop",), "x", "y")))
    page.wait_for_selector("#alerts p")
    assert page.evaluate(_CONTRAST) == []
    assert page.evaluate(_STRUCTURE) == []
    page.keyboard.press("?")
    assert page.evaluate(_CONTRAST) == []


def test_on_a_phone(shop: Portal, visit: Open) -> None:
    page = visit(shop.url, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page.tap('[data-key="services/data/clickhouse"] .expand')
    page.wait_for_selector('[data-key="services/data/clickhouse"] .portlist')
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator('[data-key="services/data/clickhouse"] .copy').first.is_visible()


_UNCOVERED = """() => {
  const { left, top, width, height } = document.activeElement.getBoundingClientRect();
  return document.activeElement.contains(document.elementFromPoint(left + width / 2, top + height / 2));
}"""


def test_thousands_of_services(visit: Open) -> None:
    with portal(many_view(5000)) as served:
        page = visit(served.url)
        page.wait_for_selector("li.row >> nth=4999", state="attached", timeout=60_000)
        assert page.inner_text("[data-count=services]") == "5000"
        # Only rows near the visible part of the page are made completely.
        assert page.locator(".row .ports").count() < 200
        page.locator("#search").fill("service-04321")
        assert names(page) == ["services/team-01/service-04321"]
        page.wait_for_selector('[data-key="services/team-01/service-04321"] >> text=1/1 ready')
        page.locator("#search").fill("")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("End")
        assert focused(page) == "services/team-19/service-04999"
        assert page.evaluate(_UNCOVERED)
        for _ in range(25):
            page.keyboard.press("ArrowUp")
        assert focused(page) == "services/team-19/service-04499"
        assert page.evaluate(_UNCOVERED)


def serve_problem(page: Page, url: str, problem: DoorProblem) -> None:
    answer = error_answer(problem, True)
    headers = {name.decode(): value.decode() for name, value in answer.headers}

    def fulfill(route: Route) -> None:
        route.fulfill(status=answer.status, headers=headers, body=answer.body)

    page.unroute_all()
    page.route(url, fulfill)


def test_an_error_page_tries_again_by_itself(browser: Browser) -> None:
    url = "http://web.shop.svc.localhost:8001/deep?x=1"
    page = browser.new_page()
    target = Target("services", "web", "shop")
    serve_problem(page, url, replace(unreached.cluster_away("https://10.0.0.1:6443", "no route to host"), retry=1))
    page.goto(url)
    assert page.inner_text("h1") == "The cluster does not answer"
    # The page changes when there is another problem, and when the application is ready.
    serve_problem(page, url, replace(absent.no_endpoints(target, [("web-0", "is starting")]), retry=1))
    page.wait_for_selector("text=Nothing is ready behind web")
    page.unroute_all()
    page.route(url, lambda route: route.fulfill(body="<h1>the application</h1>", content_type="text/html"))
    page.wait_for_selector("text=the application")
    assert page.url == url
    page.close()


def test_the_missing_rule_is_copied(browser: Browser) -> None:
    url = "http://web.shop.svc.localhost:8001/"
    page = browser.new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
    problem = refused.forbidden("ada", "get", "services/proxy", "shop", "web")
    serve_problem(page, url, problem)
    page.goto(url)
    page.click('[data-for="rule"]')
    wait_for(lambda: clipboard(page) == problem.rule, seconds=10)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert page.evaluate(_CONTRAST) == []
    page.context.close()


def test_pictures_for_the_documentation(visit: Open, tmp_path: Path) -> None:
    """Take the pictures; HATCHWAY_PICTURES=1 writes them to docs/images."""
    directory = IMAGES if os.environ.get("HATCHWAY_PICTURES") else tmp_path
    directory.mkdir(parents=True, exist_ok=True)
    with portal(
        demo_view(), context="staging-eu", server="https://api.staging.example:6443", shown_port=8001
    ) as served:
        why = "It asks for an Authorization header, which the API server keeps for itself."
        facts = TargetFacts(
            "jupyter.data.svc.localhost:8001, the name in the address bar", "API server's proxy verb", why
        )
        served.door.known[Target("services", "jupyter", "data")] = facts
        for scheme in ("dark", "light"):
            page = visit(served.url, color_scheme=scheme, device_scale_factor=2)
            page.wait_for_selector("li.row .state")
            if scheme == "light":
                page.click('[data-key="services/shop/checkout"] .expand')
                page.locator('[data-key="services/shop/checkout"] .main').focus()
                page.evaluate("scrollBy(0, document.getElementById('ns/shop').getBoundingClientRect().top - 110)")
                page.mouse.move(5, 5)
            page.wait_for_selector("li.row .state")
            page.screenshot(path=directory / f"portal-{scheme}.png")
            # The file of an empty page would be small.
            assert (directory / f"portal-{scheme}.png").stat().st_size > 50_000
    target = Target("services", "checkout", "shop")
    pods = [
        ("checkout-7d9f8b6c5d-bmxbm", 'CrashLoopBackOff: container "checkout" ended with exit code 1'),
        ("checkout-7d9f8b6c5d-4n9tg", "Pending: 0/3 nodes are available: 3 Insufficient memory."),
    ]
    problem = replace(absent.no_endpoints(target, pods, "app=checkout"), portal="http://localhost:8001/")
    page = visit("about:blank", color_scheme="dark", device_scale_factor=2, viewport={"width": 1000, "height": 900})
    serve_problem(page, "http://checkout.shop.svc.localhost:8001/", problem)
    page.goto("http://checkout.shop.svc.localhost:8001/")
    page.wait_for_selector("text=Trying again")
    page.screenshot(path=directory / "error-page.png")
    assert (directory / "error-page.png").stat().st_size > 30_000
