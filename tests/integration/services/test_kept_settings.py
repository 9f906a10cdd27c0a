"""A load balancer's address and `--publish` are kept when a cluster is stopped and started again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hatchway.cluster.network import launcher
from tests.conftest import Cluster, wait_for
from tests.integration.services.echoes import apply, ask_from_host, echo_pod, free_node_ports, get, service

# An address of this machine other than 127.0.0.1.
OTHER = "127.0.0.77"


@pytest.mark.parametrize("network", ["private", "loopback"])
def test_addresses_survive_a_restart(make_cluster: Callable[..., Cluster], network: str) -> None:
    if network == "private" and launcher.why_unavailable():
        pytest.skip(f"{launcher.why_unavailable()}")
    options = ("--nodes", "1", "--no-addons", "--network", network)
    cluster = make_cluster(f"kept-{network}", *options, "--publish", OTHER)
    (port,) = free_node_ports(1)
    web = {"name": "http", "port": 8005, "targetPort": "web", "nodePort": port}
    apply(
        cluster,
        "default",
        echo_pod("one", "node-1", {"app": "web"}),
        service("web", web, selector={"app": "web"}, type="LoadBalancer"),
    )

    def address() -> str:
        ingress = get(cluster, "default", "web")["status"]["loadBalancer"].get("ingress") or [{"ip": ""}]
        return str(ingress[0]["ip"])

    before = wait_for(address)
    for where in ((before, 8005), ("127.0.0.1", port), (OTHER, port)):
        wait_for(lambda where=where: ask_from_host("http", *where) == "200 one")
    cluster.hatchway("down")
    assert ask_from_host("http", "127.0.0.1", port) == "ECONNREFUSED"
    started = cluster.hatchway("up", "--detach").stdout
    assert f"  published         node ports are open to other machines on {OTHER} (--publish)\n" in started
    for where in ((before, 8005), ("127.0.0.1", port), (OTHER, port)):
        wait_for(lambda where=where: ask_from_host("http", *where) == "200 one")
    assert address() == before
    cluster.hatchway("down")
    assert "node ports are open" not in cluster.hatchway("up", "--detach", "--publish", "none").stdout
    wait_for(lambda: ask_from_host("http", "127.0.0.1", port) == "200 one")
    assert ask_from_host("http", OTHER, port) == "ECONNREFUSED"
    cluster.hatchway("down")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], "--publish nowhere: not an IPv4 address"),
        (["192.0.2.1"], "--publish 192.0.2.1: Cannot assign requested address"),
        (["none", "127.0.0.1"], "--publish none excludes other addresses"),
    ],
)
def test_addresses_that_cannot_be_published(
    make_cluster: Callable[..., Cluster], given: list[str], message: str
) -> None:
    cluster = make_cluster("refused", up=False)
    done = cluster.hatchway("up", *(word for text in given for word in ("--publish", text)), check=False)
    assert done.returncode
    assert message in done.stderr
