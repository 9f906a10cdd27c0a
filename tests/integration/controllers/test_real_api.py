"""All controllers together with the real API server in this process, which refuses what is not valid."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.addonmanifests.addons import ensure_addons, ingress_controller, remove_addons
from hatchway.cluster.addonmanifests.metrics import ServerCertificate
from hatchway.cluster.addonnames import ADDONS
from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.types import Registry, scalable_resources, stored_rows
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.apiserver import served_types
from hatchway.cluster.controllers.clusterobjects import ensure_bootstrap
from hatchway.cluster.controllers.ensure import ensure
from hatchway.cluster.controllers.manager import ControllerConfig, run_controllers
from hatchway.cluster.controllers.objectfields import clone
from hatchway.kube.api import Object
from hatchway.kube.objects import key_of

SLICES = "endpointslices.discovery.k8s.io"


class Cluster:
    """The API, the controllers, and simulated kubelets."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.client = LocalClient(Api(store, Registry()))
        self._next_ip = 10

    async def node(self, name: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}}
        made = clone(await self.client.create("nodes", node))
        made["status"] = {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
        }
        await self.client.update("nodes", made, subresource="status")

    async def kubelets(self) -> None:
        """Start and end pods for as long as it is not cancelled."""
        async for event in self.client.watch("pods"):
            if event.type in ("SYNCED", "DELETED"):
                continue
            pod = event.object
            namespace, name = key_of(pod)
            # The pod may be gone, or newer, by now; then another event follows.
            with contextlib.suppress(Exception):
                if "deletionTimestamp" in pod["metadata"]:
                    await self.client.delete("pods", name, namespace, grace_period=0)
                elif pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
                    ip = f"10.244.1.{self._next_ip}"
                    self._next_ip += 1
                    status = {
                        **pod["status"],
                        "phase": "Running",
                        "podIP": ip,
                        "podIPs": [{"ip": ip}],
                        "conditions": [
                            *pod["status"].get("conditions", []),
                            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                        ],
                    }
                    await self.client.update("pods", {**pod, "status": status}, subresource="status")

    async def until(self, condition: Callable[[], Awaitable[Any]]) -> Any:
        """Wait until `condition` is true, looking again after every write."""
        async with asyncio.timeout(20):
            while True:
                revision = self.store.revision
                found = await condition()
                if found:
                    return found
                while self.store.revision == revision:  # noqa: ASYNC110 - the store tells nobody but watches
                    await asyncio.sleep(0.001)

    async def quiet(self) -> None:
        """Wait until no more objects are written."""
        async with asyncio.timeout(20):
            still, revision = 0, -1
            while still < 30:
                await asyncio.sleep(0.005)
                still = still + 1 if self.store.revision == revision else 0
                revision = self.store.revision


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    store = Store.open(None)
    cluster = Cluster(store)
    await ensure_bootstrap(cluster.client, "172.18.0.2")
    config = ControllerConfig(ca_certificate="PEM", types=served_types(Registry()), scalable=scalable_resources())
    tasks = [
        asyncio.create_task(run_controllers(cluster.client, config=config)),
        asyncio.create_task(cluster.kubelets()),
    ]
    for name in ("n1", "n2", "n3"):
        await cluster.node(name)
    yield cluster
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled(), task.exception()
    await store.close()


def deployment(replicas: int, image: str = "one") -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "day"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]},
                    ]
                },
            },
        },
    }


async def ready(cluster: Cluster, count: int) -> bool:
    found = await cluster.client.get("deployments.apps", "web", "day")
    status = found.get("status", {})
    wanted = found["metadata"]["generation"], count, count, count
    fields = ("observedGeneration", "replicas", "updatedReplicas", "availableReplicas")
    return tuple(status.get(field, 0) for field in fields) == wanted


async def test_a_day(cluster: Cluster) -> None:
    client = cluster.client
    await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "day"}})
    await cluster.until(lambda: _there(cluster, "serviceaccounts", "default"))
    await client.create("deployments.apps", deployment(3))
    await client.create(
        "services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "day"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
        },
    )
    await cluster.until(lambda: ready(cluster, 3))
    pods = await client.list("pods", "day")
    assert {pod["spec"]["nodeName"] for pod in pods} == {"n1", "n2", "n3"}

    async def addresses() -> bool:
        endpoints = await client.get("endpoints", "web", "day")
        found = [a["ip"] for s in endpoints.get("subsets") or () for a in s.get("addresses") or ()]
        slices = await client.list(SLICES, "day")
        listed = [e["addresses"][0] for s in slices for e in s.get("endpoints") or () if e["conditions"]["ready"]]
        wanted = sorted(pod["status"].get("podIP", "") for pod in await client.list("pods", "day"))
        return sorted(found) == sorted(listed) == wanted

    await cluster.until(addresses)
    await cluster.quiet()

    await client.patch("deployments.apps", "web", {"spec": {"replicas": 5}}, "day")
    await cluster.until(lambda: ready(cluster, 5))
    changed = clone(await client.get("deployments.apps", "web", "day"))
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "two"
    await client.update("deployments.apps", changed)
    await cluster.until(lambda: ready(cluster, 5))
    await cluster.quiet()
    assert await addresses()
    sets = {
        s["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: s
        for s in await client.list("replicasets.apps")
    }
    assert {revision: found["spec"]["replicas"] for revision, found in sets.items()} == {"1": 0, "2": 5}
    condition = next(
        c
        for c in (await client.get("deployments.apps", "web", "day"))["status"]["conditions"]
        if c["type"] == "Progressing"
    )
    assert condition["reason"] == "NewReplicaSetAvailable"

    await client.delete("namespaces", "day")
    await cluster.until(lambda: _gone(cluster, "day"))
    for resource in (row.group_resource for row in stored_rows().values()):
        assert [o for o in await client.list(resource) if o["metadata"].get("namespace") == "day"] == []


CERTIFICATE = ServerCertificate(b"certificate", b"key", b"authority")


async def _there(cluster: Cluster, resource: str, name: str) -> bool:
    return any(found["metadata"]["name"] == name for found in await cluster.client.list(resource, "day"))


async def _gone(cluster: Cluster, name: str) -> bool:
    return all(found["metadata"]["name"] != name for found in await cluster.client.list("namespaces"))


async def test_built_in_services_come_up_and_a_second_start_changes_nothing(cluster: Cluster) -> None:
    client = cluster.client
    await ensure_addons(client, ADDONS, CERTIFICATE)

    async def up() -> bool:
        found = await client.list("deployments.apps", "kube-system")
        running = {d["metadata"]["name"] for d in found if d.get("status", {}).get("availableReplicas") == 1}
        # The others start on first use.
        return len(found) == 4 and running == {"kube-dns", "metrics-server"}

    await cluster.until(up)
    await cluster.quiet()
    service = await client.get("services", "kube-dns", "kube-system")
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    assert service["spec"]["ports"][0]["name"] == "dns"
    logging = await client.get("services", "elasticsearch-logging", "kube-system")
    assert [port.get("name", "") for port in logging["spec"]["ports"]] == [""]
    for found in (service, logging):
        assert found["metadata"]["labels"]["kubernetes.io/name"] == found["metadata"]["name"]
    kubernetes = await client.get("endpoints", "kubernetes", "default")
    assert kubernetes["subsets"][0]["addresses"] == [{"ip": "172.18.0.2"}]
    revision = cluster.store.revision
    await ensure_addons(client, ADDONS, CERTIFICATE)
    await ensure_bootstrap(client, "172.18.0.2")
    assert cluster.store.revision == revision
    await client.patch("services", "kube-dns", {"spec": {"selector": {"k8s-app": "broken"}}}, "kube-system")
    await client.patch("deployments.apps", "kube-dns", {"spec": {"replicas": 2}}, "kube-system")
    await ensure_addons(client, ADDONS, CERTIFICATE)
    assert (await client.get("services", "kube-dns", "kube-system"))["spec"]["selector"] == {"k8s-app": "kube-dns"}
    scaled = await client.get("deployments.apps", "kube-dns", "kube-system")
    assert scaled["spec"]["replicas"] == 2, "what a user has chosen stays"
    await ensure_bootstrap(client, "172.18.0.9", 7443)
    moved = await client.get("endpoints", "kubernetes", "default")
    assert moved["subsets"] == [
        {"addresses": [{"ip": "172.18.0.9"}], "ports": [{"name": "https", "port": 7443, "protocol": "TCP"}]}
    ]


async def _own_objects(cluster: Cluster, addon: str) -> int:
    """The number of an add-on's objects."""
    found = [
        await cluster.client.list(row.group_resource, label_selector=f"hatchway.dev/addon={addon}")
        for row in stored_rows().values()
    ]
    return sum(map(len, found))


async def test_switched_off_addons_leave_nothing_behind(cluster: Cluster) -> None:
    client = cluster.client

    async def counts(addons: Iterable[str] = ADDONS) -> dict[str, int]:
        return {addon: await _own_objects(cluster, addon) for addon in addons}

    await ensure_addons(client, ADDONS, CERTIFICATE)
    await ensure(client, ingress_controller())
    await cluster.quiet()
    before = await counts()
    assert all(before.values())
    for addon in ADDONS:
        others = [name for name in ADDONS if name != addon]
        assert await remove_addons(client, others) == ([addon], [])

        # The controllers remove what they have made: EndpointSlices have the labels of their Service.
        async def gone(addon: str = addon) -> bool:
            return not await _own_objects(cluster, addon)

        await cluster.until(gone)
        assert await counts(others) == {name: before[name] for name in others}
        assert await remove_addons(client, others) == ([], [])
        await ensure_addons(client, ADDONS, CERTIFICATE)
        if addon == "ingress":
            await ensure(client, ingress_controller())
        await cluster.quiet()
    assert await remove_addons(client, []) == (list(ADDONS), [])

    async def ended() -> bool:
        return not await client.list("pods", "kube-system") and not any((await counts()).values())

    await cluster.until(ended)


async def test_objects_that_a_user_has_made_stay(cluster: Cluster) -> None:
    client = cluster.client
    metadata = {"name": "metrics-server", "namespace": "kube-system"}
    labels = {"k8s-app": "metrics-server"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "m", "image": "registry.k8s.io/m"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    await client.create(
        "deployments.apps", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    )
    await client.create("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    assert await remove_addons(client, ["dns"]) == ([], [])
    for resource in ("deployments.apps", "serviceaccounts"):
        assert await client.get(resource, "metrics-server", "kube-system")


async def test_addons_of_earlier_releases_are_removed(cluster: Cluster) -> None:
    client = cluster.client
    await ensure_addons(client, ADDONS, CERTIFICATE)
    without = {"metadata": {"labels": {"hatchway.dev/addon": None}}}
    for resource in (row.group_resource for row in stored_rows().values()):
        for found in await client.list(resource, label_selector="hatchway.dev/addon"):
            await client.patch(resource, found["metadata"]["name"], without, found["metadata"].get("namespace"))
    assert await remove_addons(client, ["dns"]) == (["logging", "metrics", "ingress", "dashboards"], [])
    names = [found["metadata"]["name"] for found in await client.list("services", "kube-system")]
    assert names == ["kube-dns"]


async def test_a_service_leaves_nothing_behind(cluster: Cluster) -> None:
    client = cluster.client
    await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "day"}})
    await client.create(
        "services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": "day"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
        },
    )
    await cluster.until(lambda: client.list(SLICES, "day"))
    await client.delete("services", "web", "day")

    async def nothing() -> bool:
        return not await client.list(SLICES, "day") and not await client.list("endpoints", "day")

    await cluster.until(nothing)
    await cluster.quiet()
    assert await nothing()
