"""Objects like those of real clusters: ways in, their reach, and findings agree with the providers' documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hatchway.exposure.assessment import assess
from hatchway.exposure.findings import Exposure
from hatchway.exposure.reading import SnapshotReader
from tests.unit.exposure.realclusters import CASES, Recorded
from tests.unit.exposure.recorded import RecordedServer

_TRAEFIK = "/apis/traefik.io/v1alpha1"


def case(name: str) -> Recorded:
    (found,) = (one for one in CASES if one.name == name)
    return found


async def ways(recorded: Recorded, namespace: str = "") -> dict[str, Exposure]:
    snapshot = await SnapshotReader(RecordedServer(recorded.objects()), namespace).read()
    assert snapshot.unread == []
    return {f"{one.spelled} {one.way}": one for one in assess(snapshot)}


@pytest.mark.parametrize("recorded", CASES, ids=lambda recorded: recorded.name)
async def test_findings_agree_with_the_providers_documents(recorded: Recorded) -> None:
    found = await ways(recorded)
    told = {name: (one.reach, *(issue.rule for issue in one.issues)) for name, one in found.items()}
    assert told == recorded.ways, recorded.source


@pytest.mark.parametrize("recorded", CASES, ids=lambda recorded: recorded.name)
async def test_every_way_is_listed_at_an_address_that_exists_outside(recorded: Recorded) -> None:
    for one in (await ways(recorded)).values():
        for place in one.locations:
            assert not place.address.startswith("10.96."), one.spelled
            assert ".svc" not in place.address, one.spelled
        if one.reach == "internet":
            assert one.locations, one.spelled


def spoiled(value: Any, wrong: Any) -> Iterator[Any]:
    """Yield copies of a JSON value, in each of which one part is replaced."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        for replaced in (wrong, *spoiled(one, wrong)):
            copy = value.copy()
            copy[key] = replaced
            yield copy


@pytest.mark.parametrize("wrong", [None, 7, "x", "[" * 500, [None], {"a": None}], ids=range(6))
async def test_objects_of_any_shape_cause_no_exception(wrong: Any) -> None:
    names = (
        "Traefik: the dashboard behind a chain with a login and a list of clients",
        "ALB: TLS by listeners, a redirect as a backend",
        "Linode: the list of a firewall",
        "Istio: a waypoint has a cluster address",
    )
    for name in names:
        objects = case(name).objects()
        parts = ("spec", "status", "metadata")
        hostile = [{**obj, part: one} for obj in objects for part in parts for one in spoiled(obj.get(part), wrong)]
        kept = [one for one in hostile if isinstance(one["metadata"].get("name"), str)]
        found = assess(await SnapshotReader(RecordedServer([*objects, *kept], page=500)).read())
        assert json.dumps([one.as_dict() for one in found])


async def test_ports_and_names_of_a_route_of_traefik() -> None:
    found = await ways(case("Traefik: a route for everybody on all entry points, without TLS on one of them"))
    places = {(str(one), one.tls) for one in found["ingressroute/web IngressRoute"].locations}
    assert places == {("203.0.113.5:80", False), ("203.0.113.5:443", True)}
    named = await ways(case("Traefik in K3s: the dashboard's entry point is not published, a route with TLS is fine"))
    (place,) = named["ingressroute/web IngressRoute"].locations
    assert (place.address, place.host, place.port, place.tls) == ("203.0.113.5", "shop.example", 443, True)
    assert "no Service leads to its entry points" in named["ingressroute/traefik-dashboard IngressRoute"].note


async def test_the_ports_of_an_application_load_balancer_are_those_of_its_annotation() -> None:
    found = await ways(case("ALB: TLS by listeners, a redirect as a backend"))
    assert {(one.port, one.tls) for one in found["ingress/web Ingress"].locations} == {(80, False), (443, True)}


async def test_traefiks_usual_service_is_found_when_only_one_namespace_is_read() -> None:
    recorded = case("Traefik in K3s: the dashboard's entry point is not published, a route with TLS is fine")
    found = await ways(recorded, "shop")
    assert {name: one.reach for name, one in found.items()} == {"ingressroute/web IngressRoute": "internet"}
    moved = json.loads(json.dumps(recorded.objects()).replace('"kube-system"', '"elsewhere"'))
    snapshot = await SnapshotReader(RecordedServer(moved), "shop").read()
    (way,) = assess(snapshot)
    assert (way.reach, way.note) == ("unknown", "Traefik's Service was not found")


@pytest.mark.parametrize("namespace", ["", "shop"])
async def test_traefik_is_not_reported_as_unread_in_a_cluster_without_it(namespace: str) -> None:
    """A kube-apiserver answers 403 for a kind that it does not have, if the user has no right to list it."""
    recorded = case("AKS: a public load balancer")
    refused = [f"{_TRAEFIK}/ingressroutes", f"{_TRAEFIK}/namespaces/shop/ingressroutes"]
    snapshot = await SnapshotReader(RecordedServer(recorded.objects(), refused=refused), namespace).read()
    assert snapshot.unread == []


async def test_routes_of_traefik_that_cannot_be_read_are_reported() -> None:
    recorded = case("Traefik: the dashboard for everybody")
    spaces = [one["metadata"]["name"] for one in recorded.objects() if one["kind"] == "Namespace"]
    refused = [f"{_TRAEFIK}/ingressroutes", *(f"{_TRAEFIK}/namespaces/{name}/ingressroutes" for name in spaces)]
    snapshot = await SnapshotReader(RecordedServer(recorded.objects(), refused=refused)).read()
    assert [one.resource for one in snapshot.unread] == ["ingressroutes"]
