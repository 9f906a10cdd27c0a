"""The portal's feed: a page that applies all changes shows the present state."""

from __future__ import annotations

import asyncio
import copy
import gc
import random

import pytest

from hatchway.door.portal import feed as feed_module
from hatchway.door.portal.feed import Feed
from tests.fake_view import FakeDoor, FakeView, Scope, State, demo_view, make_pod, make_service, make_slice, many_view
from tests.unit.door.following import Page, items_of


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "INTERVAL", 0.001)


async def test_the_feed_begins_with_all_items_and_continues_with_changes() -> None:
    view = demo_view()
    feed = Feed(view, FakeDoor())
    page = Page(feed)
    await page.read("synced")
    assert page.events[:2] == ["about", "begin"]
    assert page.about["context"] == "hatchway"
    assert page.items == await items_of(feed)
    page.events.clear()
    view.put(make_service("shop", "new", 80))
    await page.read("items")
    assert page.events == ["items"]
    assert "services/shop/new" in page.items
    view.delete(view.services["shop", "new"])
    await page.read("items")
    assert page.items == await items_of(feed)
    await page.close()


async def test_a_pod_changes_the_services_that_select_it_and_no_others() -> None:
    view = FakeView()
    service, pod = make_service("shop", "web", 80), make_pod("shop", "web-0", "web")
    view.put(service, pod, make_slice(service, pod), make_service("shop", "other", 80), make_service("data", "web", 80))
    feed = Feed(view, FakeDoor())
    before = await items_of(feed)
    sick = make_pod("shop", "web-0", "web", waiting=("CrashLoopBackOff", "back-off"))
    view.put(sick, make_slice(service, sick))
    after = await items_of(feed)
    assert {key for key in after if after[key] != before[key]} == {"services/shop/web", "pods/shop/web-0"}
    assert after["services/shop/web"]["state"] == "down"
    stranger = copy.deepcopy(sick)
    stranger["metadata"]["labels"] = {"app": "other"}
    view.put(stranger, make_slice(service))
    moved = await items_of(feed)
    assert moved["services/shop/web"]["summary"] == "No endpoints"
    assert moved["services/shop/other"]["summary"] == "0/1 ready"


async def test_changes_without_a_visible_effect_are_not_sent() -> None:
    view = demo_view()
    feed = Feed(view, FakeDoor())
    await feed.refresh()
    version = feed.version
    for pod in list(view.pods.values()):
        changed = copy.deepcopy(pod)
        changed["metadata"]["resourceVersion"] = "77"
        view.put(changed)
    await feed.refresh()
    assert feed.version == version


async def test_any_order_of_changes_leads_to_the_same_items() -> None:
    dice = random.Random(5)
    for _ in range(20):
        view, wanted = FakeView(), demo_view()
        feed, page = Feed(view, FakeDoor()), None
        objects = [*wanted.services.values(), *wanted.slices.values(), *wanted.pods.values(), *wanted.nodes.values()]
        dice.shuffle(objects)
        for number, obj in enumerate(objects):
            view.put(obj)
            if dice.random() < 0.3:
                view.delete(obj)
                view.put(obj)
            if number == 20:
                page = Page(feed)
                await page.read("synced")
        assert page is not None
        expected = await items_of(Feed(wanted, FakeDoor()))
        while page.items != expected:
            await page.read("items")
        await page.close()


async def test_changes_of_the_state_and_of_scopes_are_sent() -> None:
    view = FakeView()
    page = Page(Feed(view, FakeDoor()))
    await page.read("synced")
    view.become(State("away", "no route to host", "is the VPN connected?"))
    await page.read("about")
    assert page.about["state"]["reason"] == "no route to host"
    view.become(State(), pods=Scope(("shop",), "only one", "rules"))
    await page.read("about")
    assert page.about["scopes"]["pods"]["namespaces"] == ["shop"]
    assert page.about["scopes"]["services"] == {"mode": "all"}
    await page.close()


async def test_a_page_that_missed_changes_gets_all_items_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_HISTORY", 3)
    view = FakeView()
    feed = Feed(view, FakeDoor())
    page = Page(feed)
    await page.read("synced")
    page.events.clear()
    for number in range(10):
        view.put(make_service("a", f"s{number}", 80))
    await page.read("synced")
    assert page.events[0] == "begin"
    assert len(page.items) == 10
    await page.close()


async def test_many_changes_at_once_come_as_one_message() -> None:
    view = FakeView()
    page = Page(Feed(view, FakeDoor()))
    await page.read("synced")
    page.events.clear()
    service = make_service("a", "s", 80)
    for number in range(100):
        pod = make_pod("a", "s-0", "s", f"10.0.0.{number}")
        view.put(service, pod, make_slice(service, pod))
    await page.read("items")
    assert set(page.items) == {"services/a/s", "pods/a/s-0"}
    assert page.events == ["items"]
    await page.close()


async def test_heartbeats_and_the_end_of_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "HEARTBEAT", 0.01)
    feed = Feed(FakeView(), FakeDoor())
    stream = feed.follow()
    seen = [await anext(stream) for _ in range(4)]
    assert seen[-1] == b":\n\n"
    assert len(feed._wakers) == 1
    await stream.aclose()
    assert not feed._wakers


async def test_thousands_of_services_leave_the_loop_its_turns() -> None:
    """With 5,000 services and their pods, each turn of the event loop is short, and one change costs little."""
    view = many_view(5000)
    feed = Feed(view, FakeDoor())
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    page = Page(feed)
    await page.read("synced")
    counting.cancel()
    assert len(page.items) == 10_000
    # So one turn of the event loop makes at most 25 items.
    assert turns >= 400
    # The page gets the first items long before the last items are made.
    assert page.events[:3] == ["about", "begin", "items"]
    assert page.events.count("items") >= 25
    page.events.clear()
    made = 0
    original = feed._make

    def counted(kind: str, key: tuple[str, str]) -> object:
        nonlocal made
        made += 1
        return original(kind, key)

    feed._make = counted  # type: ignore[method-assign,assignment]
    pod = copy.deepcopy(view.pods["team-00", "service-00000-0"])
    pod["status"]["podIP"] = "10.9.9.9"
    view.put(pod)
    await page.read("items")
    assert made == 2
    await page.close()
    gc.collect()
