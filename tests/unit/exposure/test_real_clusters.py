"""Objects as real clusters have them: the ways in, who reaches them, and the findings are those that providers document."""

from __future__ import annotations

import json

import pytest

from hatchway.exposure.assessment import assess
from hatchway.exposure.findings import Exposure
from hatchway.exposure.reading import SnapshotReader
from tests.unit.exposure.realclusters import CASES, Recorded
from tests.unit.exposure.recorded import RecordedServer

_CLASSES = "/apis/networking.k8s.io/v1/ingressclasses"
_TRAEFIK = "/apis/traefik.io/v1alpha1"


def case(name: str) -> Recorded:
    (found,) = (one for one in CASES if one.name == name)
    return found


async def ways(recorded: Recorded, namespace: str = "") -> dict[str, Exposure]:
    snapshot = await SnapshotReader(RecordedServer(recorded.objects()), namespace).read()
    assert snapshot.unread == []
    return {f"{one.spelled} {one.way}": one for one in assess(snapshot)}


@pytest.mark.parametrize("recorded", CASES, ids=lambda recorded: recorded.name)
async def test_what_providers_document_is_what_is_found(recorded: Recorded) -> None:
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


async def test_one_namespace_alone_finds_traefiks_usual_service() -> None:
    recorded = case("Traefik in K3s: the dashboard's entry point is not published, a route with TLS is fine")
    found = await ways(recorded, "shop")
    assert {name: one.reach for name, one in found.items()} == {"ingressroute/web IngressRoute": "internet"}
    moved = json.loads(json.dumps(recorded.objects()).replace('"kube-system"', '"elsewhere"'))
    snapshot = await SnapshotReader(RecordedServer(moved), "shop").read()
    (way,) = assess(snapshot)
    assert (way.reach, way.note) == ("unknown", "Traefik's Service was not found")


@pytest.mark.parametrize("namespace", ["", "shop"])
async def test_a_cluster_without_traefik_does_not_lack_it(namespace: str) -> None:
    """A kube-apiserver forbids the kinds that it does not have to whoever may not list them."""
    recorded = case("AKS: a public load balancer")
    refused = [f"{_TRAEFIK}/ingressroutes", f"{_TRAEFIK}/namespaces/shop/ingressroutes"]
    snapshot = await SnapshotReader(RecordedServer(recorded.objects(), refused=refused), namespace).read()
    assert snapshot.unread == []


async def test_routes_of_traefik_that_cannot_be_read_are_named() -> None:
    recorded = case("Traefik: the dashboard for everybody")
    spaces = [one["metadata"]["name"] for one in recorded.objects() if one["kind"] == "Namespace"]
    refused = [f"{_TRAEFIK}/ingressroutes", *(f"{_TRAEFIK}/namespaces/{name}/ingressroutes" for name in spaces)]
    snapshot = await SnapshotReader(RecordedServer(recorded.objects(), refused=refused)).read()
    assert [one.resource for one in snapshot.unread] == ["ingressroutes"]
