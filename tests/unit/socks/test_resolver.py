"""Look-up of names and addresses in a cluster."""

from types import SimpleNamespace
from typing import Any

import pytest

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.socks.resolver import HostResolver, NotInCluster
from hatchway.target import Target
from tests.unit.fake_client import FakeClient


def service(name: str, namespace: str, address: str, port: int = 80) -> Object:
    spec = {"clusterIP": address, "ports": [{"port": port}]}
    return {"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def pod(name: str, namespace: str, address: str, **spec: Any) -> Object:
    status = {"phase": "Running", "podIPs": [{"ip": address}]}
    return {"kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": status}


@pytest.fixture
def client() -> FakeClient:
    found = FakeClient()
    for obj in (service("web", "shop", "10.96.0.7"), service("db", "shop", "None")):
        found.objects["services", obj["metadata"]["namespace"], obj["metadata"]["name"]] = obj
    pods = (
        pod("db-0", "shop", "10.244.0.5", subdomain="db"),
        pod("x7f3k", "shop", "10.244.0.9", subdomain="db", hostname="main"),
        pod("alone", "here", "10.244.0.6"),
        pod("proxy", "shop", "172.18.0.2", hostNetwork=True),
    )
    for obj in pods:
        found.objects["pods", obj["metadata"]["namespace"], obj["metadata"]["name"]] = obj
    return found


@pytest.fixture
def resolver(client: FakeClient) -> HostResolver:
    connection: Any = SimpleNamespace(client=client, identity=("s", "c", "u", ""), namespace="here")
    return HostResolver(connection)


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("web.shop", Target("services", "web", "shop", "", "8080")),
        ("WEB.shop.svc.cluster.local.", Target("services", "web", "shop", "", "8080")),
        ("10.96.0.7", Target("services", "web", "shop", "", "8080")),
        ("db-0.db.shop.svc.cluster.local", Target("pods", "db-0", "shop", "", "8080")),
        ("main.db.shop", Target("pods", "x7f3k", "shop", "", "8080")),
        ("db-0.shop", Target("pods", "db-0", "shop", "", "8080")),
        ("10.244.0.5", Target("pods", "db-0", "shop", "", "8080")),
        ("10-244-0-5.shop.pod", Target("pods", "db-0", "shop", "", "8080")),
        ("alone", Target("pods", "alone", "here", "", "8080")),
    ],
)
async def test_names_and_addresses_of_the_cluster(resolver: HostResolver, host: str, target: Target) -> None:
    assert await resolver.resolve(host, 8080) == target


@pytest.mark.parametrize(
    "host",
    ["web", "web.other", "pypi.org", "www.python.org", "10.1.2.3", "127.0.0.1", "db-0.web.shop", "None",
     "172.18.0.2", "10-244-0-5.here.pod", "169.254.169.254"],
)  # fmt: skip
async def test_names_and_addresses_outside_of_the_cluster(resolver: HostResolver, host: str) -> None:
    with pytest.raises(NotInCluster):
        await resolver.resolve(host, 8080)


async def test_a_result_is_cached_for_a_while(resolver: HostResolver, client: FakeClient) -> None:
    asked: list[str] = []
    get = client.get

    async def counted(resource: str, name: str, namespace: str | None = None) -> Object:
        asked.append(name)
        return await get(resource, name, namespace)

    client.get = counted  # type: ignore[method-assign]
    for _ in range(3):
        await resolver.resolve("web.shop", 80)
        with pytest.raises(NotInCluster):
            await resolver.resolve("nothing.shop", 80)
    assert asked == ["web", "nothing", "nothing", "nothing"]


async def test_a_missing_right_to_read_services_is_reported(resolver: HostResolver, client: FakeClient) -> None:
    async def refuse(*_: Any, **__: Any) -> Object:
        raise ApiError(403, "Forbidden", "no")

    client.get = refuse  # type: ignore[method-assign]
    assert await resolver.resolve("web.shop", 80) == Target("services", "web", "shop", "", "80")


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.9.9.9", "10.9.9.9"),
        ("100.64.0.9", "100.64.0.9"),
        ("[fd00::9]", "fd00::9"),
        ("Nobody.shop.svc.cluster.local.", "nobody.shop.svc.cluster.local"),
        ("nobody.shop.svc", "nobody.shop.svc"),
    ],
)
async def test_with_a_route_to_any_address_other_addresses_of_the_cluster_are_found(
    client: FakeClient, host: str, name: str
) -> None:
    connection: Any = SimpleNamespace(client=client, identity=("s", "c", "u", ""), namespace="here")
    found = await HostResolver(connection, any_address=True).resolve(host, 80)
    assert found == Target("hosts", name, port="80")
    with pytest.raises(NotInCluster):
        await HostResolver(connection).resolve(host, 80)


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "0.0.0.0",
        "224.0.0.1",
        "example.org",
        "nobody",
        "a.b",
        "2606:4700::1",
    ],
)
async def test_addresses_outside_of_the_cluster_are_refused_with_any_route(client: FakeClient, host: str) -> None:
    connection: Any = SimpleNamespace(client=client, identity=("s", "c", "u", ""), namespace="here")
    with pytest.raises(NotInCluster):
        await HostResolver(connection, any_address=True).resolve(host, 80)
