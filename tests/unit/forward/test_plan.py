from __future__ import annotations

import json
from typing import Any

import pytest

from hatchway.errors import HatchwayError
from hatchway.forward.forwarder import ListenAddress, LocalForward
from hatchway.forward.forwardoutput import as_env, as_json, as_line
from hatchway.forward.localports import OwnAddresses, PlannedForward, plan_all, plan_forwards
from hatchway.forward.specs import parse_words
from tests.fake_view import make_service


def _plan(obj: dict[str, Any] | None, *words: str) -> list[tuple[int, str, int, bool]]:
    found = [one for spec in parse_words(words, None, "shop") for one in plan_forwards(spec, obj)]
    return [(one.number, one.port_name, one.local, one.exact) for one in found]


WEB = make_service("shop", "web", ("http", 80), ("admin", 8081))


def test_without_ports_all_tcp_ports_are_forwarded_and_may_get_another_local_port() -> None:
    assert _plan(WEB, "web") == [(80, "http", 80, False), (8081, "admin", 8081, False)]


def test_a_requested_local_port_is_not_replaced() -> None:
    assert _plan(WEB, "web", "8080:http") == [(80, "http", 8080, True)]
    assert _plan(WEB, "web", "80") == [(80, "http", 80, True)]
    assert _plan(WEB, "web", ":80") == [(80, "http", 0, False)]
    assert _plan(WEB, "web", "admin") == [(8081, "admin", 8081, False)]


def test_ports_of_services_must_be_declared_but_not_ports_of_pods() -> None:
    pod = {"metadata": {"name": "a", "namespace": "shop"}, "spec": {"containers": [{"name": "c"}]}}
    assert _plan(pod, "pod/a", "9229") == [(9229, "", 9229, True)]
    with pytest.raises(HatchwayError, match="has no port 81"):
        _plan(WEB, "web", "81")
    with pytest.raises(HatchwayError, match='has no port "nothing"'):
        _plan(WEB, "web", "nothing")


def test_the_error_about_a_missing_port_name_mentions_targets() -> None:
    with pytest.raises(HatchwayError) as one:
        _plan(WEB, "web", "api")
    assert one.value.hint.startswith("it has http (80), admin (8081)")
    assert one.value.hint.endswith("write svc/api")
    with pytest.raises(HatchwayError) as one:
        _plan(WEB, "web", "8080:api")
    assert "svc/api" not in one.value.hint


def test_a_workload_declares_the_ports_of_its_template_and_keeps_their_names() -> None:
    container = {"name": "c", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9090}]}
    deployment = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}},
    }
    assert _plan(deployment, "deploy/web") == [(8080, "http", 8080, False), (9090, "", 9090, False)]
    assert _plan(deployment, "deploy/web", "80:http", "7000") == [(8080, "http", 80, True), (7000, "", 7000, True)]
    found = [one for spec in parse_words(["deploy/web"], None, "shop") for one in plan_forwards(spec, deployment)]
    assert [one.target.port for one in found] == ["http", "9090"]
    forward = LocalForward(found[0], ListenAddress("127.0.0.1", 8080))
    assert as_json([forward])[0]["kind"] == "deployment"
    assert "DEPLOYMENT_WEB_PORT=8080" in as_env(as_json([forward]))
    assert as_line(forward) == "Forwarding 127.0.0.1:8080 -> deploy/web:http (port 8080) in namespace shop"


def test_objects_that_may_not_be_read_are_forwarded_by_port_number() -> None:
    assert _plan(None, "web", "80") == [(80, "", 80, True)]
    with pytest.raises(HatchwayError, match="cannot be read"):
        _plan(None, "web")


def test_udp_is_refused() -> None:
    dns = make_service("shop", "dns", ("dns", 53))
    dns["spec"]["ports"][0]["protocol"] = "UDP"
    with pytest.raises(HatchwayError, match="UDP"):
        _plan(dns, "dns", "53")
    with pytest.raises(HatchwayError, match="no TCP port"):
        _plan(dns, "dns")


def test_all_services_are_forwarded_except_those_without_pods() -> None:
    outside = make_service("shop", "outside", ("http", 80))
    outside["spec"] |= {"type": "ExternalName", "externalName": "example.com"}
    bare = make_service("shop", "bare", ("http", 80))
    bare["spec"]["selector"] = None
    planned, left_out = plan_all([WEB, outside, bare])
    assert [one.label for one in planned] == ["svc/web:http", "svc/web:admin"]
    assert [line.partition(" ")[0] for line in left_out] == ["svc/bare", "svc/outside"]


def _forwards(*words: str) -> list[PlannedForward]:
    return [one for spec in parse_words(words, None, "shop") for one in plan_forwards(spec, None)]


def test_each_target_has_an_address_of_its_own_which_stays_the_same() -> None:
    planned = _forwards("web", "80", "443", "svc/db", "5432", "svc/web.other", "80")
    own = OwnAddresses()
    found = [own.address_of(one) for one in planned]
    assert found[0] == found[1] and len(set(found)) == 3
    assert all(address.startswith("127.") and address.rpartition(".")[2] not in ("0", "255") for address in found)
    again = OwnAddresses()
    assert [again.address_of(one) for one in reversed(planned)] == found[::-1]


def _listening() -> list[LocalForward]:
    web = plan_forwards(parse_words(["web"], None, "shop")[0], WEB)
    other = plan_forwards(parse_words(["pod/a-0", "9229"], None, "shop")[0], None)
    places = [ListenAddress("127.0.0.1", 8080), ListenAddress("127.0.0.1", 8081), ListenAddress(path="/tmp/a b.sock")]
    return [LocalForward(planned, listen) for planned, listen in zip([*web, *other], places, strict=True)]


def test_forwards_as_json() -> None:
    assert json.loads(json.dumps(as_json(_listening())))[::2] == [
        {
            "kind": "service",
            "name": "web",
            "namespace": "shop",
            "port": 80,
            "portName": "http",
            "address": "127.0.0.1",
            "localPort": 8080,
        },
        {"kind": "pod", "name": "a-0", "namespace": "shop", "port": 9229, "unixSocket": "/tmp/a b.sock"},
    ]


def test_forwards_as_the_variables_that_pods_get() -> None:
    assert as_env(as_json(_listening())) == [
        "WEB_SERVICE_HOST=127.0.0.1",
        "WEB_SERVICE_PORT=8080",
        "WEB_SERVICE_PORT_HTTP=8080",
        "WEB_SERVICE_PORT_ADMIN=8081",
        "POD_A_0_SOCKET='/tmp/a b.sock'",
        "POD_A_0_SOCKET_9229='/tmp/a b.sock'",
    ]


def test_variables_of_equal_names_in_two_namespaces_include_the_namespace() -> None:
    planned = _forwards("web", "80", "svc/web.other", "80")
    forwards = [LocalForward(one, ListenAddress("127.0.0.1", 8000 + number)) for number, one in enumerate(planned)]
    assert {line.partition("=")[0] for line in as_env(as_json(forwards))} >= {
        "SHOP_WEB_SERVICE_PORT",
        "OTHER_WEB_SERVICE_PORT",
    }


def test_a_forward_as_a_line() -> None:
    assert as_line(_listening()[0]) == "Forwarding 127.0.0.1:8080 -> svc/web:http (port 80) in namespace shop"


DNS = {
    "metadata": {"name": "dns", "namespace": "shop"},
    "spec": {
        "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            {"name": "log", "port": 514, "protocol": "UDP"},
        ]
    },
}


def _protocols(obj: dict[str, Any] | None, *words: str) -> list[tuple[str, str, str]]:
    found = [one for spec in parse_words(words, None, "shop") for one in plan_forwards(spec, obj)]
    return [(one.port_name, one.protocol, one.label) for one in found]


def test_a_port_number_with_two_protocols_means_tcp_by_default() -> None:
    assert _protocols(DNS, "dns", "53", "53/udp", "dns/udp", "log/udp") == [
        ("dns-tcp", "TCP", "svc/dns:dns-tcp"),
        ("dns", "UDP", "svc/dns:dns/udp"),
        ("dns", "UDP", "svc/dns:dns/udp"),
        ("log", "UDP", "svc/dns:log/udp"),
    ]
    assert _protocols(DNS, "dns") == [("dns-tcp", "TCP", "svc/dns:dns-tcp")]
    with pytest.raises(HatchwayError, match="port 514 is UDP, not TCP") as error:
        _protocols(DNS, "dns", "514")
    assert error.value.hint == "write 514/udp"
    with pytest.raises(HatchwayError, match="port http is TCP, not UDP"):
        _protocols(WEB, "web", "http/udp")


def test_external_names_and_hosts_have_every_port() -> None:
    external = {
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"type": "ExternalName", "externalName": "x.y"},
    }
    assert _plan(external, "db", "5432", "80:443") == [(5432, "", 5432, True), (443, "", 80, True)]
    assert _plan(None, "host/db.example.org", "5432") == [(5432, "", 5432, True)]
    for words in (["host/db.example.org"], ["host/db.example.org", "80:http"], ["10.0.0.1", "http"]):
        with pytest.raises(HatchwayError):
            _plan(None, *words)


def test_udp_and_hosts_in_the_output() -> None:
    (first,) = plan_forwards(parse_words(["dns", "53/udp"], None, "shop")[0], DNS)
    (second,) = plan_forwards(parse_words(["[fd00::1]:80"], None, "shop")[0], None)
    forwards = [
        LocalForward(first, ListenAddress("127.0.0.1", 5353)),
        LocalForward(second, ListenAddress("127.0.0.1", 8080)),
    ]
    assert as_json(forwards) == [
        {
            "kind": "service", "name": "dns", "namespace": "shop", "port": 53, "portName": "dns", "protocol": "UDP",
            "address": "127.0.0.1", "localPort": 5353,
        },
        {"kind": "host", "name": "fd00::1", "port": 80, "address": "127.0.0.1", "localPort": 8080},
    ]  # fmt: skip
    assert as_env(as_json(forwards)) == [
        "DNS_SERVICE_HOST=127.0.0.1",
        "DNS_SERVICE_PORT=5353",
        "DNS_SERVICE_PORT_DNS_UDP=5353",
        "HOST_FD00__1_HOST=127.0.0.1",
        "HOST_FD00__1_PORT=8080",
        "HOST_FD00__1_PORT_80=8080",
    ]
    assert as_line(forwards[0]) == "Forwarding 127.0.0.1:5353 -> svc/dns:dns/udp (port 53) in namespace shop"
    assert as_line(forwards[1]) == "Forwarding 127.0.0.1:8080 -> host/[fd00::1]:80"


def test_all_services_are_forwarded_by_a_route_that_needs_no_pods() -> None:
    external = {"type": "ExternalName", "externalName": "x.y", "ports": [{"port": 443}]}
    bare = {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}
    services = [
        {"metadata": {"name": f"s{n}", "namespace": "shop"}, "spec": spec} for n, spec in enumerate((external, bare))
    ]
    planned, left_out = plan_all(services, with_pods=False)
    assert [one.label for one in planned] == ["svc/s0:443", "svc/s1:80"] and not left_out
    assert plan_all(services)[0] == []
