"""The data that the portal shows about services, pods and nodes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.door.portal.feed import Feed
from hatchway.door.portal.model import TargetFacts, scope_json, state_json
from hatchway.target import Target, parse_host_name, parse_proxy_path
from tests.fake_view import FakeDoor, FakeView, Scope, State, make_node, make_pod, make_service, make_slice
from tests.unit.door.following import items_of


async def shown(view: FakeView, door: FakeDoor | None = None) -> dict[str, Any]:
    return await items_of(Feed(view, door or FakeDoor()))


async def test_a_service_and_the_urls_of_its_ports() -> None:
    view = FakeView()
    dns = {"name": "dns", "port": 53, "protocol": "UDP"}
    service = make_service("shop", "web", ("http", 80), ("https", 443), ("redis", 6379), dns)
    pod = make_pod("shop", "web-0", "web")
    view.put(service, pod, make_slice(service, pod))
    item = (await shown(view))["services/shop/web"]
    assert (item["state"], item["summary"], item.get("reasons")) == ("ready", "1/1 ready", None)
    http, https, redis, udp = item["ports"]
    assert item["url"] == http["url"] == "http://web.shop.svc.localhost:8001/"
    assert http["path"] == "/api/v1/namespaces/shop/services/web:http/proxy/"
    assert "needs" not in http
    assert https["url"] == "http://443.web.shop.svc.localhost:8001/"
    assert https["path"] == "/api/v1/namespaces/shop/services/https:web:https/proxy/"
    assert redis["forward"] == "hatchway forward svc/web 6379 -n shop"
    assert redis["needs"]
    assert "url" not in redis
    assert udp["note"]
    assert not {"url", "forward", "path"} & udp.keys()


async def test_ports_of_unknown_protocol_are_tried_as_http() -> None:
    view = FakeView()
    view.put(make_service("shop", "web", ("odd", 7777), ("http", 80)))
    odd, http = (await shown(view))["services/shop/web"]["ports"]
    assert (odd["scheme"], odd["url"]) == ("http", "http://odd.web.shop.svc.localhost:8001/")
    assert "needs" not in odd
    # A host name without a port leads to the port that the door chooses. The door prefers ports that are surely HTTP.
    assert http["url"] == "http://web.shop.svc.localhost:8001/"


async def test_urls_of_pods_have_a_port_number_and_those_of_nodes_have_none() -> None:
    view = FakeView()
    pod = make_pod("shop", "web-0.x", "web", ports=[8080, 9090])
    pod["spec"]["containers"][0]["ports"][1]["name"] = "admin"
    view.put(pod, make_node("n1"))
    items = await shown(view)
    first, second = items["pods/shop/web-0.x"]["ports"]
    assert first["url"] == "http://web-0--x.shop.pod.localhost:8001/"
    assert second["url"] == "http://9090.web-0--x.shop.pod.localhost:8001/"
    assert second["path"] == "/api/v1/namespaces/shop/pods/web-0.x:9090/proxy/"
    (kubelet,) = items["nodes//n1"]["ports"]
    assert kubelet["path"] == "/api/v1/nodes/n1/proxy/"
    assert kubelet["url"] == "http://n1.node.localhost:8001/"
    assert "forward" not in kubelet


_names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(_names, _names, st.integers(1, 65535), st.sampled_from(["", "http", "https", "web", "ui-x"]))
def test_the_link_at_each_port_leads_to_that_port(namespace: str, name: str, number: int, label: str) -> None:
    import asyncio

    view = FakeView()
    view.put(make_service(namespace, name, (label, number) if label else number, ("other-http", 1)))
    item = asyncio.run(shown(view))[f"services/{namespace}/{name}"]
    first, second = item["ports"]
    for port, wanted in ((first, label or str(number)), (second, "other-http")):
        if not port["scheme"]:
            continue
        target = parse_host_name(port["url"].removeprefix("http://").partition(":")[0])
        assert (target.namespace, target.name) == (namespace, name)
        assert target.port in ("", wanted, str(port["number"]))
        by_path = parse_proxy_path(port["path"]).target
        assert (by_path.namespace, by_path.name, by_path.port) == (namespace, name, port.get("name", ""))


async def test_why_pods_are_not_ready() -> None:
    view = FakeView()
    service = make_service("shop", "web", 80)
    crash = make_pod("shop", "web-a", "web", "10.0.0.1", waiting=("CrashLoopBackOff", "back-off 40s"))
    fine = make_pod("shop", "web-b", "web", "10.0.0.2")
    probe = make_pod("shop", "web-c", "web", "10.0.0.3", ready=False, probe=True)
    nowhere = make_pod("shop", "web-d", "web", "", ready=False)
    message = "0/3 nodes are available: 3 Insufficient cpu."
    nowhere["status"].update(
        phase="Pending",
        containerStatuses=[],
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    )
    view.put(service, crash, fine, probe, nowhere, make_slice(service, crash, fine, probe, nowhere))
    items = await shown(view)
    item = items["services/shop/web"]
    assert (item["state"], item["summary"]) == ("partly", "1/4 ready")
    why = {reason["name"]: reason["text"] for reason in item["reasons"]}
    assert "CrashLoopBackOff: back-off 40s" in why["web-a"]
    assert "readiness probe" in why["web-c"]
    assert message in why["web-d"]
    assert "web-b" not in why
    assert items["pods/shop/web-a"]["state"] == "down"
    assert items["pods/shop/web-c"]["state"] == "partly"
    assert [entry["name"] for entry in item["endpoints"] if entry["ready"]] == ["web-b"]


@pytest.mark.parametrize(
    ("service", "summary", "said"),
    [
        (make_service("a", "b", 80), "No endpoints", "no pod matches its selector app=b"),
        (make_service("a", "b", 80, type="ExternalName", externalName="x.example"), "External name", ""),
    ],
)
async def test_services_without_endpoints(service: dict[str, Any], summary: str, said: str) -> None:
    view = FakeView()
    view.put(service)
    item = (await shown(view))["services/a/b"]
    # A Service that selects pods but has none needs attention. For a Service of type ExternalName, this is not known.
    assert (item["state"], item["summary"]) == ("lacking" if said else "empty", summary)
    assert said in str(item.get("reasons"))
    if not said:
        assert "x.example" in item["ports"][0]["needs"]
        assert item["ports"][0]["barred"]
        assert "forward" not in item["ports"][0]


async def test_services_that_start_on_first_use_need_no_attention() -> None:
    view = FakeView()
    for namespace in ("kube-system", "a"):
        service = make_service(namespace, "prometheus", 9090)
        service["metadata"]["annotations"] = {"hatchway.dev/starts-on-first-use": "waiting"}
        view.put(service)
    items = await shown(view)
    item = items["services/kube-system/prometheus"]
    assert (item["state"], item["summary"]) == ("empty", "Starts on first use")
    assert "it starts" in item["reasons"][0]["text"]
    assert item["url"]
    # The annotation counts only on the cluster's own services.
    assert items["services/a/prometheus"]["state"] == "lacking"


async def test_the_state_is_unknown_if_endpoints_may_not_be_listed() -> None:
    view = FakeView()
    view.put(make_service("a", "b", 80))
    view.become(slices=Scope(()), pods=Scope(()))
    item = (await shown(view))["services/a/b"]
    assert (item["state"], item["summary"]) == ("empty", "Not known")
    assert "you may see neither" in item["reasons"][0]["text"]
    assert "lacking" not in item


async def test_endpoints_that_are_not_pods_cannot_be_reached() -> None:
    view = FakeView()
    service = make_service("default", "kubernetes", ("https", 443), selector={})
    found = make_slice(service, make_pod("default", "x", "x"))
    del found["endpoints"][0]["targetRef"]
    view.put(service, found)
    item = (await shown(view))["services/default/kubernetes"]
    assert item["summary"] == "1/1 ready"
    assert item["ports"][0]["barred"]


async def test_only_the_reason_is_missing_if_pods_may_not_be_listed() -> None:
    view = FakeView()
    service, pod = make_service("shop", "web", 80), make_pod("shop", "web-0", "web", ready=False)
    view.put(service, make_slice(service, pod))
    item = (await shown(view))["services/shop/web"]
    assert item["summary"] == "0/1 ready"
    assert item["reasons"] == [{"name": "web-0", "text": "not ready"}]


async def test_facts_that_the_door_has_found_are_shown() -> None:
    view, door = FakeView(), FakeDoor()
    view.put(make_service("shop", "web", 80))
    feed = Feed(view, door)
    assert "needs" not in (await items_of(feed))["services/shop/web"]["ports"][0]
    door.known[Target("services", "web", "shop")] = TargetFacts(
        "localhost (a loopback name)", "api", "asks for Authorization"
    )
    feed.mark_changed("services", "shop", "web")
    item = (await items_of(feed))["services/shop/web"]
    assert item["ports"][0]["needs"] == "asks for Authorization"
    assert ["Host header", "localhost (a loopback name)"] in item["facts"]


async def test_titles_of_annotations_and_labels() -> None:
    view = FakeView()
    view.put(make_service("a", "b", 80, metadata={"labels": {"kubernetes.io/name": "KubeB"}}))
    view.put(make_service("a", "c", 80, metadata={"labels": {"app.kubernetes.io/name": "C"}}))
    items = await shown(view)
    assert items["services/a/b"]["title"] == "KubeB"
    assert "title" not in items["services/a/c"]


async def test_a_name_that_cannot_be_in_a_host_name_has_only_a_path() -> None:
    view = FakeView()
    view.put(make_pod("a", "x" * 70, "x"))
    (port,) = (await shown(view))["pods/a/" + "x" * 70]["ports"]
    assert "url" not in port
    assert "cannot be part of a host name" in port["note"]
    assert port["path"].endswith(":8080/proxy/")


async def test_nodes() -> None:
    view = FakeView()
    view.put(make_node("n1", ready=False), make_node("n2", unschedulable=True, role="worker"))
    items = await shown(view)
    assert items["nodes//n1"]["state"] == "down"
    assert "Kubelet stopped posting" in items["nodes//n1"]["reasons"][0]["text"]
    assert items["nodes//n2"]["summary"] == "Ready, cordoned"
    assert ["Roles", "worker"] in items["nodes//n2"]["facts"]


def test_scopes_and_state() -> None:
    assert scope_json({}, "pods") == {"mode": "all"}
    assert scope_json({"pods": Scope(None)}, "pods") == {"mode": "all"}
    assert scope_json({"pods": Scope(None)}, "nodes")["mode"] == "none"
    some = scope_json({"pods": Scope(("b", "a"), "only two", "rules: []")}, "pods")
    assert some == {"mode": "some", "namespaces": ["a", "b"], "reason": "only two", "rule": "rules: []"}
    assert scope_json({"pods": Scope((), "no")}, "pods")["mode"] == "none"
    assert state_json(State("away", "no route", "VPN?", 5.0)) == {
        "phase": "away",
        "reason": "no route",
        "hint": "VPN? the door keeps trying",
        "since": 5.0,
    }
