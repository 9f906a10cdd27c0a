"""The portal's page "Exposure": its HTML, its states over HTTP, and the limits on the making of reports."""

from __future__ import annotations

import asyncio
import http.client
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import pytest

from hatchway.door import exposurereports
from hatchway.door.address import DoorAddress
from hatchway.door.exposurereports import ExposureReports
from hatchway.door.portal import exposurepage
from hatchway.door.portal.exposurecontent import ExposureReport
from hatchway.door.portal.exposurepage import page_address, report_page, waiting_page
from hatchway.door.requestfilter import RequestFilter
from hatchway.errors import ApiError
from hatchway.exposure.findings import Exposure, Issue, Location
from hatchway.exposure.snapshot import Unread
from hatchway.kube.api import Object
from tests.exposures import NODES
from tests.fake_view import FakeView, Portal, make_service, portal

MEND = """kubectl patch service db -n shop -p '{"spec": {"type": "ClusterIP"}}'"""
BAD = Exposure(
    "Service",
    "shop",
    "db",
    "NodePort",
    locations=tuple(Location(f"203.0.113.{number}", 30432) for number in range(9)),
    reach="internet",
    workloads=("sts/db",),
    pods=1,
    issues=(Issue("sensitive-port", "high", "anyone can connect to PostgreSQL", MEND),),
)
REPORT = ExposureReport("", "", (BAD,), (), (), ("default", "shop"), 1_790_000_000.0)


def shown(report: ExposureReport, *, renewing: bool = False) -> str:
    return report_page("kind-dev", report, renewing=renewing)


def words(page: str) -> str:
    """Return the visible text of a page."""
    body = page.partition("<body")[2].partition(">")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_finding_with_the_command_that_corrects_it() -> None:
    page = shown(REPORT)
    text = words(page)
    assert "Exposure 1 high" in text
    assert "anyone can connect to PostgreSQL" in text
    assert MEND in text
    assert "203.0.113.0:30432 203.0.113.1:30432 203.0.113.2:30432 203.0.113.3:30432 and 5 more" in text
    assert "the Internet - sts/db" in text
    # The names of objects that have pages, and of their namespaces, are links.
    assert 'href="/-/hatchway/services/shop/db/yaml"' in page
    assert f'href="{page_address("shop")}"' in page
    assert 'http-equiv="refresh"' not in page
    assert "style=" not in page and "<script>" not in page


def test_objects_exposed_on_purpose_are_not_counted() -> None:
    text = words(shown(replace(REPORT, exposures=(replace(BAD, accepted="a honeypot"),))))
    assert "Exposure No findings" in text
    assert "On purpose: a honeypot" in text


def test_objects_that_could_not_be_read_are_not_called_safe() -> None:
    unread = (Unread("pods", "you may not list them", ("bank",)), Unread("nodes", "you may not list them"))
    page = shown(replace(REPORT, exposures=(), unread=unread, rules=("kind: ClusterRole\n",)))
    text = words(page)
    assert "No findings, in the objects that could be read" in text
    assert "pods in bank could not be read: you may not list them" in text
    assert "kind: ClusterRole" in text
    assert 'class="state empty"' in page
    assert 'class="state ready"' in shown(replace(REPORT, exposures=()))


def test_a_user_of_one_namespace_is_told_what_was_checked() -> None:
    text = words(shown(replace(REPORT, namespace="shop", namespaces=())))
    assert "You may not list the namespaces, so only shop , the namespace of your context, was checked." in text


def test_names_from_the_cluster_are_escaped() -> None:
    evil = "<script>alert(1)</script>\u202e\"'&"
    bad = replace(
        BAD,
        kind=evil,
        namespace=evil,
        name=evil,
        way=evil,
        workloads=(evil,),
        accepted=evil,
        locations=(Location(evil, 1, evil), Location("2001:db8::1", 443)),
        issues=(Issue(evil, "low", evil, evil),),
    )
    report = ExposureReport(evil, evil, (bad,), (Unread(evil, evil, (evil,)),), (evil,), (evil,), 1.0)
    for page in (report_page(evil, report, renewing=True), waiting_page(evil, evil)):
        assert "<script>alert" not in page
        assert "\u202e" not in re.sub(r'<pre id="rule-0".*?</pre>', "", page)
        assert not re.search(r'="[^"]*<', page)
    assert "[2001:db8::1]:443" in words(report_page(evil, report, renewing=False))


def test_the_size_of_a_page_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposurepage, "MOST_WAYS", 3)
    monkeypatch.setattr(exposurepage, "MOST_FINDINGS", 2)
    text = words(shown(replace(REPORT, exposures=tuple(replace(BAD, name=f"db-{number}") for number in range(10)))))
    assert "8 more; hatchway exposure -o json has all." in text
    assert "7 more; hatchway exposure -o json has all." in text
    assert "10 high" in text
    assert "db-2" in text and "db-3" not in text


# The page over HTTP


@pytest.fixture
def served() -> Iterator[Portal]:
    with portal(FakeView()) as found:
        yield found


def ask(served: Portal, path: str) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(served.url).port, timeout=10)
    connection.request("GET", path, headers={"Accept": "text/html"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def test_the_states_of_the_page(served: Portal) -> None:
    status, waiting, headers = ask(served, page_address())
    assert (status, "Exposure Looking" in words(waiting)) == (200, True)
    assert 'http-equiv="refresh"' in waiting
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    served.exposure.answer = (REPORT, True)
    assert 'http-equiv="refresh"' in ask(served, page_address())[1]
    served.exposure.answer = (REPORT, False)
    status, page, _ = ask(served, page_address("shop"))
    assert (status, MEND in words(page)) == (200, True)
    for path in re.findall(r'(?:src|href)="(/-/hatchway/static/[^"]+)"', page):
        assert ask(served, path)[0] == 200
    served.exposure.answer = ApiError(503, "ServiceUnavailable", "connection refused")
    status, page, headers = ask(served, page_address())
    assert (status, headers["X-Hatchway-Problem"]) == (503, "cluster-away")
    assert "connection refused" in page


def test_the_button_for_a_new_report(served: Portal) -> None:
    status, _, headers = ask(served, page_address("shop", again=True))
    assert (status, headers["Location"]) == (303, page_address("shop"))
    assert served.exposure.forgotten == ["shop"]


def test_invalid_namespaces_are_refused(served: Portal) -> None:
    assert ask(served, page_address("../secrets"))[0] == 400
    assert ask(served, page_address("x" * 64))[0] == 400
    assert ask(served, page_address("shop"))[0] == 200


# The making of reports


class FakeConnection:
    """The needed part of `kube.connection.Connection`, to a cluster with the namespaces default and shop.

    refused: resources that may not be listed. gate: each list waits until this event is set.
    """

    context, server, label, namespace = "kind-dev", "https://cluster", 'context "kind-dev"', "shop"

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.lists: list[tuple[str, str | None]] = []
        self.client = self
        names = ("default", "shop")
        self.objects: dict[str, list[Object]] = {
            "namespaces": [{"metadata": {"name": name, "labels": {}}} for name in names],
            "nodes": list(NODES),
            "services": [
                make_service("shop", "db", {"port": 5432, "nodePort": 30432, "protocol": "TCP"}, type="NodePort")
            ],
        }

    async def pages(self, resource: str, namespace: str | None = None) -> AsyncIterator[list[Object]]:
        plural = resource.partition(".")[0]
        self.lists.append((plural, namespace))
        await self.gate.wait()
        if plural in self.refused or (namespace is None and f"{plural} of all" in self.refused):
            raise ApiError(403, "Forbidden", f"{plural} is forbidden")
        yield [obj for obj in self.objects.get(plural, []) if namespace in (None, obj["metadata"].get("namespace"))]

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        raise ApiError(404, "NotFound", "not found")

    async def create(self, resource: str, obj: Object, *_: Any, **__: Any) -> Object:
        raise ApiError(404, "NotFound", "an old API server does not know who asks")


def reports_of(connection: Any, filter: RequestFilter | None = None) -> ExposureReports:
    return ExposureReports(connection, DoorAddress("localhost", "http"), filter, lambda server: ("127.0.0.1",))


async def test_a_report_is_cached_and_made_anew_on_request() -> None:
    connection = FakeConnection()
    reports = reports_of(connection)
    report, renewing = await reports.report("")
    assert report is not None and not renewing
    assert [(one.name, one.way) for one in report.exposures] == [("db", "NodePort")]
    assert report.namespaces == ["default", "shop"]
    number = len(connection.lists)
    assert (await reports.report(""))[0] is report
    assert len(connection.lists) == number
    reports.forget("")
    again, _ = await reports.report("")
    assert again is not report
    # The page of one namespace takes the names of the other namespaces from the report on all namespaces.
    only, _ = await reports.report("shop")
    assert only is not None and only.namespaces == report.namespaces
    with pytest.raises(ApiError, match='there is no namespace "shoop"'):
        await reports.report("shoop")
    reports.close()


async def test_many_readers_share_one_report_and_need_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposurereports, "_PATIENCE", 0.01)
    connection = FakeConnection()
    connection.gate.clear()
    reports = reports_of(connection)
    assert await asyncio.gather(*(reports.report("") for _ in range(20))) == [(None, True)] * 20
    assert connection.lists == [("namespaces", None)]
    with pytest.raises(ApiError) as caught:
        for number in range(20):
            await reports.report(f"ns-{number}")
    assert caught.value.code == 429
    # Only one report is made at a time.
    assert connection.lists == [("namespaces", None)]
    reports.close()


async def test_a_user_of_one_namespace_gets_a_report_about_it() -> None:
    connection = FakeConnection()
    connection.refused = {"namespaces", "nodes", "services of all", "pods of all"}
    report, _ = await reports_of(connection).report("")
    assert report is not None
    assert (report.asked, report.namespace) == ("", "shop")
    assert [one.name for one in report.exposures] == ["db"]
    assert [str(one) for one in report.unread] == ["nodes could not be read: you may not list them"]
    (rule,) = report.rules
    assert "kind: ClusterRole\n" in rule and '["nodes"]' in rule


async def test_the_doors_filter_applies_to_the_reports_requests() -> None:
    filter = RequestFilter.of(accept_paths=".*", reject_paths="/pods", accept_hosts="", reject_methods="")
    connection = FakeConnection()
    report, _ = await reports_of(connection, filter).report("")
    assert report is not None
    assert "pods" not in [resource for resource, _ in connection.lists]
    (unread,) = report.unread
    assert unread.reason == "--reject-paths, --reject-methods or --accept-paths exclude /api/v1/namespaces/shop/pods"
    assert report.rules == []
