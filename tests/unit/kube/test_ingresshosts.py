"""Hosts of Ingresses and their controllers, with objects like those of real clusters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.ingresshosts import IngressHost, find_ingress_hosts, read_ingress_hosts
from hatchway.kube.ingressroutes import hosts_of, parse_rule
from hatchway.target import Target

NGINX = "k8s.io/ingress-nginx"


def service(name: str, namespace: str, *ports: tuple[str, int], address: str = "", **more: Any) -> Object:
    made = [{"name": label, "port": number, "protocol": "TCP"} for label, number in ports]
    status = {"loadBalancer": {"ingress": [{"ip": address}]} if address else {}}
    metadata = {"name": name, "namespace": namespace, "labels": more.pop("labels", {})}
    return {"metadata": metadata, "spec": {"type": "LoadBalancer", "ports": made, **more}, "status": status}


def ingress(
    name: str, *hosts: str, address: str = "", tls: tuple[str, ...] = (), klass: str = "", **more: Any
) -> Object:
    backend = {"service": {"name": "shop", "port": {"number": 80}}}
    rules = [{"host": host, "http": {"paths": [{"path": "/", "backend": backend}]}} for host in hosts]
    spec = {
        "rules": rules,
        "tls": [{"hosts": list(tls)}] if tls else [],
        **({"ingressClassName": klass} if klass else {}),
    }
    status = {"loadBalancer": {"ingress": [{"ip": address}]} if address else {}}
    return {"metadata": {"name": name, "namespace": "web", **more}, "spec": spec, "status": status}


def klass(name: str, controller: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"controller": controller}}


WEB = (("http", 80), ("https", 443))
LABELS = {"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}


TRAEFIK = service("traefik", "traefik", ("web", 80), ("websecure", 443), labels={"app.kubernetes.io/name": "traefik"})
# Its ports have the names that Traefik's chart gives them.
TRAEFIK["spec"]["ports"][0]["name"], TRAEFIK["spec"]["ports"][1]["name"] = "web", "websecure"


def route(name: str, *rules: object, tls: bool = False) -> Object:
    services = [{"name": "shop", "port": 80}]
    spec: dict[str, Any] = {"routes": [{"match": rule, "kind": "Rule", "services": services} for rule in rules]}
    return {"metadata": {"name": name, "namespace": "web"}, "spec": {**spec, **({"tls": {}} if tls else {})}}


@pytest.mark.parametrize(
    ("rule", "hosts", "path"),
    [
        ("Host(`a.example`)", ["a.example"], "/"),
        ('Host("a.example") && PathPrefix("/api")', ["a.example"], "/api"),
        ("(Host(`a.example`) || Host(`b.example`)) && Path(`/x`)", ["a.example", "b.example"], "/x"),
        ("Host(`a.example`, `b.example`)", ["a.example", "b.example"], "/"),
        ("Host(`a.example`) && !Host(`b.example`)", ["a.example"], "/"),
        ("!(Host(`a.example`) || Host(`b.example`)) || Host(`c.example`)", ["c.example"], "/"),
        ("HostRegexp(`^.+[.]example$`)", [], "/"),
        ("PathPrefix(`/Host(`)", [], "/Host("),
        ("Host(`a.example`", [], "/"),
        ("Host(a.example)", [], "/"),
        ("", [], "/"),
        (5, [], "/"),
        ("Host(`a`" + " " * 4000, [], "/"),
    ],
)
def test_the_hosts_of_a_traefik_rule(rule: object, hosts: list[str], path: str) -> None:
    assert parse_rule(rule) == (hosts, path)


@given(st.text('Host(`a") &|!,', max_size=60))
def test_any_text_of_a_traefik_rule_is_parsed(rule: str) -> None:
    hosts, _ = parse_rule(rule)
    assert all(host in rule for host in hosts)


def test_long_rules_are_truncated_and_parsed_in_linear_time() -> None:
    groups = "(" * 2000 + "A()" * 600
    route = {"spec": {"routes": [{"match": groups}] * 100}}
    began = time.thread_time()
    assert not list(hosts_of(route))
    assert time.thread_time() - began < 1
    many = {"spec": {"routes": [{"match": f"Host(`h{number}.example`)" + " " * 3900} for number in range(100)]}}
    assert [host for host, _, _ in hosts_of(many)] == [f"h{number}.example" for number in range(8)]


def test_an_ingressroute_is_served_by_traefik() -> None:
    routes = [
        route("r", "Host(`A.example`) && PathPrefix(`/api`)", "Host(`bad_host`)"),
        route("s", "Host(`b.example`)", tls=True),
    ]
    plain, secure = find_ingress_hosts([], [TRAEFIK], [], routes)
    target = Target("services", "traefik", "traefik", "http", "80")
    assert plain == IngressHost("a.example", "web", "r", target, (("/api", "shop:80"),), "IngressRoute")
    assert (secure.host, secure.target.scheme, secure.target.port) == ("b.example", "https", "443")
    assert find_ingress_hosts([], [], [], routes) == []


@pytest.mark.parametrize(
    ("controller", "hosts"), [(NGINX, ["a.example", "b.example", "c.example"]), ("example.com/x", ["a.example"])]
)
def test_aliases_of_ingress_nginx_are_hosts(controller: str, hosts: list[str]) -> None:
    aliases = {"nginx.ingress.kubernetes.io/server-alias": "b.example, C.example,not/a/host"}
    made = ingress("i", "a.example", klass="n", annotations=aliases, address="203.0.113.7")
    services = [service("ingress", "system", *WEB, address="203.0.113.7", labels=LABELS)]
    found = find_ingress_hosts([made], services, [klass("n", controller)])
    assert [one.host for one in found] == hosts
    assert {one.backends for one in found} == {(("/", "shop:80"),)}


def test_a_controller_is_known_by_its_address() -> None:
    services = [
        service("shop", "web", ("http", 80)),
        service("ingress", "system", *WEB, address="203.0.113.7"),
        service("other", "system", ("metrics", 9000), address="203.0.113.7"),
    ]
    (found,) = find_ingress_hosts([ingress("shop", "Shop.Example", address="203.0.113.7")], services, [])
    assert found == IngressHost(
        "shop.example", "web", "shop", Target("services", "ingress", "system", "http", "80"), (("/", "shop:80"),)
    )
    assert found.url() == "http://shop.example.ingress.localhost:8001/"
    assert found.url(80, "dev.example") == "http://shop.example.ingress.dev.example/"
    # No known controller serves this Ingress: its controller may be a cloud's load balancer, or may be missing.
    assert find_ingress_hosts([ingress("shop", "a.example", address="203.0.113.8")], services, []) == []
    assert find_ingress_hosts([ingress("shop", "a.example")], services, []) == []


def test_hosts_with_tls_use_https() -> None:
    services = [service("traefik", "kube-system", ("web", 8000), ("websecure", 8443), address="10.0.0.1")]
    one = ingress("shop", "a.example", "b.example", "c.b.example", address="10.0.0.1", tls=("a.example", "*.b.example"))
    targets = {
        found.host: (found.target.scheme, found.target.port) for found in find_ingress_hosts([one], services, [])
    }
    assert targets == {"a.example": ("https", "8443"), "b.example": ("http", "8000"), "c.b.example": ("https", "8443")}


def test_well_known_controllers_are_found_by_their_labels() -> None:
    # As in kind and minikube, the status has the address of a node, or no address.
    services = [
        service("ingress-nginx-controller-admission", "ingress-nginx", ("https-webhook", 443), labels=LABELS),
        service("ingress-nginx-controller", "ingress-nginx", *WEB, labels=LABELS, type="NodePort"),
    ]
    wanted = Target("services", "ingress-nginx-controller", "ingress-nginx", "http", "80")
    for one, classes in (
        (ingress("shop", "a.example", klass="public"), [klass("public", NGINX)]),
        (ingress("shop", "a.example", klass="nginx", address="localhost"), []),
        (ingress("shop", "a.example", annotations={"kubernetes.io/ingress.class": "nginx"}), []),
    ):
        (found,) = find_ingress_hosts([one], services, classes)
        assert found.target == wanted
    # The class has the usual name, but belongs to another controller.
    assert (
        find_ingress_hosts([ingress("s", "a.example", klass="nginx")], services, [klass("nginx", "example.org/x")])
        == []
    )


def test_wildcards_have_no_link_and_old_ingresses_come_first() -> None:
    services = [service("ingress", "system", *WEB, address="10.0.0.1")]
    new = ingress("new", "a.example", address="10.0.0.1", creationTimestamp="2026-02-01T00:00:00Z")
    old = ingress("old", "a.example", "*.example", address="10.0.0.1", creationTimestamp="2026-01-01T00:00:00Z")
    found = find_ingress_hosts([new, old], services, [])
    assert [(one.host, one.ingress) for one in found] == [
        ("a.example", "old"),
        ("a.example", "new"),
        ("*.example", "old"),
    ]
    assert found[-1].url() == ""


@pytest.mark.parametrize(
    "host", ["", "a..example", "a.example:80", "a/b", "-a.example", "*", "a.*.example", "ä.example", "x" * 300]
)
def test_texts_that_are_not_hosts_are_omitted(host: str) -> None:
    services = [service("ingress", "system", *WEB, address="10.0.0.1")]
    assert find_ingress_hosts([ingress("shop", host, address="10.0.0.1")], services, []) == []


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["10.0.0.1", "a.example"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "status",
                    "rules",
                    "host",
                    "http",
                    "paths",
                    "path",
                    "backend",
                    "service",
                    "name",
                    "port",
                    "number",
                    "tls",
                    "hosts",
                    "labels",
                    "loadBalancer",
                    "ingress",
                    "ip",
                    "ports",
                    "protocol",
                    "externalIPs",
                    "annotations",
                    "controller",
                    "ingressClassName",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.lists(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), _VALUES), max_size=4))
def test_objects_of_any_shape_cause_no_exception(objects: list[Object]) -> None:
    for one in find_ingress_hosts(objects, objects, objects):
        assert one.target.name


class Client:
    """A client that lists objects. refused: pairs (resource, namespace) that may not be listed."""

    def __init__(self, objects: dict[str, list[Object]], *refused: tuple[str, str | None]) -> None:
        self.objects, self.refused = objects, refused

    async def pages(self, resource: str, namespace: str | None = None) -> AsyncIterator[list[Object]]:
        plural = resource.partition(".")[0]
        if (plural, namespace) in self.refused:
            raise ApiError(403, "Forbidden", "no")
        if plural not in self.objects:
            raise ApiError(404, "NotFound", "no such kind")
        yield [obj for obj in self.objects[plural] if namespace in (None, obj["metadata"].get("namespace"))]


def test_namespaces_that_may_be_listed_are_used() -> None:
    objects = {
        "ingresses": [ingress("shop", "a.example", address="10.0.0.1")],
        "services": [service("ingress", "web", *WEB, address="10.0.0.1")],
    }
    refused = (("ingresses", None), ("services", None))

    def hosts(client: Client, namespace: str = "") -> list[str]:
        return [one.host for one in asyncio.run(read_ingress_hosts(client, "web", namespace))]

    assert hosts(Client(objects)) == ["a.example"]
    assert hosts(Client(objects, *refused)) == ["a.example"]
    assert hosts(Client(objects), "web") == ["a.example"]
    assert hosts(Client(objects), "other") == []
    assert hosts(Client(objects, ("ingresses", None), ("ingresses", "web"))) == []
    assert hosts(Client({})) == []
