"""The portal's list of the hosts of Ingresses."""

from __future__ import annotations

from hatchway.door.portal.ingresspage import ingress_page
from hatchway.kube.ingresshosts import IngressHost
from hatchway.target import Target

CONTROLLER = Target("services", "traefik", "kube-system", "https", "443")


def shown(*hosts: IngressHost) -> str:
    return ingress_page("kind-dev", hosts, lambda host: host.url(8001))


def test_hosts_are_links_but_wildcards_are_not() -> None:
    page = shown(
        IngressHost("shop.example", "web", "shop", CONTROLLER, (("/", "shop:80"),)),
        IngressHost("*.example", "web", "shop", CONTROLLER),
    )
    assert '<a href="http://shop.example.ingress.localhost:8001/" target="_blank" rel="noopener noreferrer">' in page
    assert "<b>*.example</b>" in page and 'href="http://*' not in page
    assert 'href="/-/hatchway/services/kube-system/traefik/yaml"' in page
    assert "svc/https:traefik:443 -n kube-system" in page


def test_an_empty_list_has_a_reason() -> None:
    assert "No host can be opened" in shown()


def test_names_are_escaped_and_long_lists_are_shortened() -> None:
    evil = "<script>alert(1)</script>\u202e"
    page = shown(*(IngressHost("a.example", evil, evil, CONTROLLER, ((evil, evil),) * 20) for _ in range(1002)))
    assert "<script>alert" not in page and "\u202e" not in page
    assert "2 more." in page and "and 12 more" in page
