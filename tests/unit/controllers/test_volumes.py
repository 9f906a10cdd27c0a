"""Binding, provisioning and protection of volumes, with a real API server in this process and all controllers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.controllers.controller import ControllerConfig, ControllerContext
from hatchway.cluster.controllers.defaultstorage import ensure_storage_class
from hatchway.cluster.controllers.ephemeralvolumes import EphemeralVolumeController
from hatchway.cluster.controllers.provisioner import LocalPathProvisioner
from hatchway.cluster.controllers.scheduler import Scheduler
from hatchway.cluster.controllers.statefulset import StatefulSetController
from hatchway.cluster.controllers.volumebinding import VolumeBindingController
from hatchway.cluster.controllers.volumeprotection import (
    AttributesClassProtectionController,
    ClaimProtectionController,
    VolumeProtectionController,
)
from hatchway.cluster.localvolumes import ROOT, LocalVolumes
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from tests.integration.api.world import world

CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
ATTRIBUTES = "volumeattributesclasses.storage.k8s.io"
CONTROLLERS = (
    VolumeBindingController,
    LocalPathProvisioner,
    EphemeralVolumeController,
    ClaimProtectionController,
    VolumeProtectionController,
    AttributesClassProtectionController,
    StatefulSetController,
    Scheduler,
)


@dataclass
class Lab:
    client: Client
    nodes: Path
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def event(self, obj: Object, type: str, reason: str, message: str) -> None:
        self.events.append((obj["metadata"]["name"], reason, message))

    async def get(self, resource: str, name: str) -> Object | None:
        try:
            return await self.client.get(
                resource, name, None if resource in (VOLUMES, CLASSES, ATTRIBUTES) else "default"
            )
        except ApiError as error:
            assert error.code == 404
            return None

    async def phase(self, resource: str, name: str) -> str:
        found = await self.get(resource, name)
        return "" if found is None else str(found["status"].get("phase"))

    async def has_phase(self, resource: str, name: str, phase: str) -> Object:
        async def reached() -> bool:
            return await self.phase(resource, name) == phase

        await until(reached)
        found = await self.get(resource, name)
        assert found is not None
        return found

    async def gone(self, resource: str, name: str) -> None:
        async def reached() -> bool:
            return await self.get(resource, name) is None

        await until(reached)

    async def told(self, name: str, reason: str, part: str = "") -> str:
        def found() -> list[str]:
            return [text for one, why, text in self.events if (one, why) == (name, reason) and part in text]

        await until(found)
        return found()[-1]

    async def node_of(self, name: str) -> str:
        async def bound() -> bool:
            found = await self.get("pods", name)
            return found is not None and bool(found["spec"].get("nodeName"))

        await until(bound)
        found = await self.get("pods", name)
        assert found is not None
        return str(found["spec"]["nodeName"])

    async def claim(self, name: str, **spec: Any) -> Object:
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
        return await self.client.create(CLAIMS, {"metadata": {"name": name}, "spec": wanted}, "default")

    async def volume(self, name: str, **spec: Any) -> Object:
        wanted = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": f"/data/{name}"},
            **spec,
        }
        return await self.client.create(VOLUMES, {"metadata": {"name": name}, "spec": wanted})

    async def storage_class(self, name: str, provisioner: str = "kubernetes.io/no-provisioner", **more: Any) -> None:
        await self.client.create(CLASSES, {"metadata": {"name": name}, "provisioner": provisioner, **more})

    async def pod(self, name: str, *claims: str, **spec: Any) -> Object:
        volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
        wanted = {"containers": [{"name": "c", "image": "x"}], "volumes": volumes, **spec}
        return await self.client.create("pods", {"metadata": {"name": name}, "spec": wanted}, "default")

    def directories(self) -> set[tuple[str, str]]:
        return {(path.parts[-4], path.name) for path in self.nodes.glob(f"*/{ROOT[1:]}/*")}


async def until(what: Callable[[], Any]) -> None:
    """Wait until a function, which may be asynchronous, returns a true value."""
    deadline = time.monotonic() + 30
    while True:
        found = what()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"never: {what.__qualname__}"
        await asyncio.sleep(0.005)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with world() as api, contextlib.AsyncExitStack() as stack:
        made = Lab(api.client, tmp_path / "nodes")
        assert await ensure_storage_class(api.client) == []
        for name in ("n1", "n2"):
            node = {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
            ready = {
                "conditions": [{"type": "Ready", "status": "True"}],
                "allocatable": {"cpu": "8", "memory": "8Gi", "pods": "50"},
            }
            written = await api.client.create("nodes", {**node, "status": ready})
            await api.client.update("nodes", {**written, "spec": {}})
        config = ControllerConfig(volume_directories=LocalVolumes(made.nodes))
        context = ControllerContext(api.client, config, lambda _: made)
        controllers = [kind(context) for kind in CONTROLLERS]
        tasks = [asyncio.create_task(cache.run()) for cache in context.caches.values()]
        tasks += [asyncio.create_task(one.run()) for one in controllers]

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        stack.push_async_callback(stop)
        yield made


# --- volumes made by a user -----------------------------------------------------------------------------------------


async def test_a_claim_gets_the_smallest_suitable_volume(lab: Lab) -> None:
    await lab.volume("small", capacity={"storage": "512Mi"}, storageClassName="m")
    await lab.volume("large", capacity={"storage": "5Gi"}, storageClassName="m")
    await lab.volume("right", capacity={"storage": "2Gi"}, storageClassName="m")
    await lab.volume("many", capacity={"storage": "1Gi"}, storageClassName="m", accessModes=["ReadWriteMany"])
    await lab.volume("other", capacity={"storage": "1Gi"}, storageClassName="n")
    await lab.has_phase(VOLUMES, "right", "Available")
    await lab.claim("c", storageClassName="m")
    claim = await lab.has_phase(CLAIMS, "c", "Bound")
    assert claim["spec"]["volumeName"] == "right"
    assert claim["status"]["capacity"] == {"storage": "2Gi"}
    assert claim["status"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["metadata"]["annotations"] == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    }
    volume = await lab.has_phase(VOLUMES, "right", "Bound")
    assert volume["status"]["lastPhaseTransitionTime"]
    assert (volume["spec"]["claimRef"]["name"], volume["spec"]["claimRef"]["uid"]) == ("c", claim["metadata"]["uid"])
    assert await lab.phase(VOLUMES, "large") == "Available"


async def test_a_claim_that_waits_for_a_volume_has_an_event(lab: Lab) -> None:
    await lab.claim("c", storageClassName="")
    text = "no persistent volumes available for this claim and no storage class is set"
    assert await lab.told("c", "FailedBinding") == text
    await lab.volume("pv")
    claim = await lab.has_phase(CLAIMS, "c", "Bound")
    assert claim["spec"]["volumeName"] == "pv"


async def test_selectors_and_reserved_volumes_are_respected(lab: Lab) -> None:
    await lab.volume("reserved", claimRef={"namespace": "default", "name": "c"})
    await lab.volume("free")
    await lab.has_phase(VOLUMES, "reserved", "Available")
    await lab.has_phase(VOLUMES, "free", "Available")
    await lab.claim("picky", storageClassName="", selector={"matchLabels": {"disk": "ssd"}})
    await lab.claim("c", storageClassName="")
    await lab.claim("d", storageClassName="")
    assert (await lab.has_phase(CLAIMS, "c", "Bound"))["spec"]["volumeName"] == "reserved"
    assert (await lab.has_phase(CLAIMS, "d", "Bound"))["spec"]["volumeName"] == "free"
    assert await lab.phase(CLAIMS, "picky") == "Pending"


async def test_a_claim_that_names_its_volume(lab: Lab) -> None:
    await lab.volume("pv", storageClassName="m")
    await lab.claim("wrong", storageClassName="x", volumeName="pv")
    assert await lab.told("wrong", "VolumeMismatch") == (
        'Cannot bind to requested volume "pv": storageClassName does not match'
    )
    await lab.claim("right", storageClassName="m", volumeName="pv")
    claim = await lab.has_phase(CLAIMS, "right", "Bound")
    assert claim["metadata"]["annotations"] == {"pv.kubernetes.io/bind-completed": "yes"}
    await lab.claim("late", storageClassName="m", volumeName="pv")
    assert await lab.told("late", "FailedBinding") == 'volume "pv" already bound to a different claim.'


async def test_a_volume_with_an_attributes_class_suits_claims_with_the_same_class_only(lab: Lab) -> None:
    source = {"hostPath": None, "csi": {"driver": "x.io", "volumeHandle": "h"}, "storageClassName": "m"}
    gold = {"metadata": {"name": "gold"}, "driverName": "x.io", "parameters": {"iops": "1"}}
    await lab.client.create(ATTRIBUTES, gold)
    await lab.volume("v", volumeAttributesClassName="gold", **source)
    await lab.claim("plain", storageClassName="m")
    await lab.claim("gold", storageClassName="m", volumeAttributesClassName="gold")
    claim = await lab.has_phase(CLAIMS, "gold", "Bound")
    assert claim["status"]["currentVolumeAttributesClassName"] == "gold"
    assert await lab.phase(CLAIMS, "plain") == "Pending"
    # The class is kept while a claim or a volume uses it.
    await lab.client.delete(ATTRIBUTES, "gold")
    await lab.client.delete(CLAIMS, "gold", "default")
    await lab.has_phase(VOLUMES, "v", "Released")
    found = await lab.get(ATTRIBUTES, "gold")
    assert found is not None
    assert found["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
    await lab.client.delete(VOLUMES, "v")
    await lab.gone(ATTRIBUTES, "gold")


async def test_reclaim_policies(lab: Lab) -> None:
    for name, policy in (("kept", "Retain"), ("deleted", "Delete"), ("wiped", "Recycle")):
        await lab.volume(name, storageClassName=name, persistentVolumeReclaimPolicy=policy)
        await lab.claim(f"c-{name}", storageClassName=name)
        await lab.has_phase(CLAIMS, f"c-{name}", "Bound")
        await lab.client.delete(CLAIMS, f"c-{name}", "default")
        await lab.gone(CLAIMS, f"c-{name}")
    assert (await lab.has_phase(VOLUMES, "kept", "Released"))["spec"]["claimRef"]["name"] == "c-kept"
    failed = await lab.has_phase(VOLUMES, "deleted", "Failed")
    assert failed["status"]["message"] == "host_path deleter only supports /tmp/.+ but received provided /data/deleted"
    assert await lab.told("wiped", "VolumeFailedRecycle") == "No recycler plugin found for the volume!"
    # A released volume is bound to another claim only after its claimRef is removed.
    await lab.claim("next", storageClassName="kept")
    await lab.client.patch(VOLUMES, "kept", {"spec": {"claimRef": None}})
    assert (await lab.has_phase(CLAIMS, "next", "Bound"))["spec"]["volumeName"] == "kept"


async def test_a_claim_without_its_volume_is_lost(lab: Lab) -> None:
    await lab.volume("pv")
    await lab.claim("c", storageClassName="")
    await lab.has_phase(CLAIMS, "c", "Bound")
    await lab.client.delete(VOLUMES, "pv")
    volume = await lab.get(VOLUMES, "pv")
    assert volume is not None, "a bound volume is protected"
    assert volume["metadata"]["deletionTimestamp"]
    await lab.client.patch(VOLUMES, "pv", {"metadata": {"finalizers": None}})
    await lab.has_phase(CLAIMS, "c", "Lost")
    assert await lab.told("c", "ClaimLost")
    await lab.pod("p", "c")
    text = 'persistentvolumeclaim "c" bound to non-existent persistentvolume "pv"'
    assert text in await lab.told("p", "FailedScheduling")


# --- volumes made by the provisioner --------------------------------------------------------------------------------


async def test_a_volume_is_made_where_the_first_pod_runs_and_deleted_with_its_claim(lab: Lab) -> None:
    made = await lab.claim("data")
    assert made["spec"]["storageClassName"] == "standard"
    waiting = "waiting for first consumer to be created before binding"
    assert await lab.told("data", "WaitForFirstConsumer") == waiting
    await lab.pod("p", "data", nodeSelector={"kubernetes.io/hostname": "n2"})
    assert await lab.node_of("p") == "n2"
    claim = await lab.has_phase(CLAIMS, "data", "Bound")
    name = f"pvc-{claim['metadata']['uid']}"
    assert claim["spec"]["volumeName"] == name
    assert claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "n2"
    assert await lab.told("data", "Provisioning")
    assert await lab.told("data", "ExternalProvisioning")
    assert await lab.told("data", "ProvisioningSucceeded") == f"Successfully provisioned volume {name}"
    volume = await lab.has_phase(VOLUMES, name, "Bound")
    directory = f"{name}_default_data"
    assert volume["spec"]["hostPath"] == {"path": f"{ROOT}/{directory}", "type": "DirectoryOrCreate"}
    assert lab.directories() == {("n2", directory)}
    # Another pod is scheduled to the volume's node.
    await lab.pod("q", "data")
    assert await lab.node_of("q") == "n2"
    await lab.pod("r", "data", nodeSelector={"kubernetes.io/hostname": "n1"})
    text = await lab.told("r", "FailedScheduling")
    assert text.startswith("0/2 nodes are available: 1 node(s) didn't match P")
    assert "1 node(s) didn't match PersistentVolume's node affinity" in text
    # The volume is kept while it is in use.
    await lab.client.delete(CLAIMS, "data", "default")
    await lab.pod("s", "data")
    assert 'persistentvolumeclaim "data" is being deleted' in await lab.told("s", "FailedScheduling")
    assert lab.directories()
    for one in ("q", "p"):
        assert await lab.get(CLAIMS, "data") is not None
        await lab.client.delete("pods", one, "default", grace_period=0)
    await lab.gone(CLAIMS, "data")
    await lab.gone(VOLUMES, name)
    assert lab.directories() == set()


async def test_a_volume_with_the_policy_retain_keeps_its_directory(lab: Lab) -> None:
    provisioner = "rancher.io/local-path"
    await lab.storage_class("kept", provisioner, reclaimPolicy="Retain", volumeBindingMode="WaitForFirstConsumer")
    await lab.claim("data", storageClassName="kept")
    await lab.pod("p", "data")
    name = (await lab.has_phase(CLAIMS, "data", "Bound"))["spec"]["volumeName"]
    await lab.client.delete(CLAIMS, "data", "default")
    await lab.client.delete("pods", "p", "default", grace_period=0)
    await lab.has_phase(VOLUMES, name, "Released")
    await lab.client.delete(VOLUMES, name)
    await lab.gone(VOLUMES, name)
    assert len(lab.directories()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accessModes": ["ReadWriteMany"]}, "NodePath only supports ReadWriteOnce and ReadWriteOncePod (1.22+)"),
        ({"volumeMode": "Block"}, "rancher.io/local-path does not support block volume provisioning"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "claim.Spec.Selector is not supported"),
        ({"volumeAttributesClassName": "x"}, 'VolumeAttributesClass "x" cannot be applied: only CSI drivers'),
        ({"storageClassName": "now"}, "configuration error, no node was specified"),
        ({"storageClassName": "none"}, "no volume plugin matched name: kubernetes.io/no-provisioner"),
        ({"storageClassName": "nowhere"}, 'storageclass.storage.k8s.io "nowhere" not found'),
    ],
)
async def test_failed_provisioning_is_reported(lab: Lab, change: Object, message: str) -> None:
    await lab.storage_class("now", "rancher.io/local-path")
    await lab.storage_class("none")
    await lab.claim("data", **change)
    await lab.pod("p", "data")
    assert message in await lab.told("data", "ProvisioningFailed")
    assert await lab.phase(CLAIMS, "data") == "Pending"
    assert lab.directories() == set()


async def test_forged_annotations_of_a_volume_delete_no_directories(lab: Lab) -> None:
    victim = lab.nodes / "n1/etc"
    victim.mkdir(parents=True)
    annotations = {
        "pv.kubernetes.io/provisioned-by": "rancher.io/local-path",
        "local.path.provisioner/selected-node": "n1",
    }
    for name, path in (("a", "/etc"), ("b", f"{ROOT}/."), ("c", f"{ROOT}/x/y")):
        spec = {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path},
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "default", "name": "x", "uid": "gone"},
        }  # fmt: skip
        await lab.client.create(VOLUMES, {"metadata": {"name": name, "annotations": annotations}, "spec": spec})
        assert await lab.told(name, "VolumeFailedDelete")
        assert await lab.phase(VOLUMES, name) == "Released"
    assert victim.is_dir()


# --- pods -----------------------------------------------------------------------------------------------------------


async def test_events_give_the_reason_why_pods_wait(lab: Lab) -> None:
    await lab.pod("p", "none")
    text = '0/2 nodes are available: persistentvolumeclaim "none" not found.'
    assert (await lab.told("p", "FailedScheduling")).startswith(text)
    await lab.claim("slow", storageClassName="")
    await lab.pod("q", "slow")
    text = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    assert (await lab.told("q", "FailedScheduling")).startswith(text)
    await lab.volume("pv")
    assert await lab.node_of("q")
    await lab.claim("none")
    assert await lab.node_of("p")


async def test_a_pod_with_too_many_claims_is_not_placed(lab: Lab) -> None:
    await lab.pod("p", *(f"c{number}" for number in range(129)))
    text = "0/2 nodes are available: node(s) exceed max volume count."
    assert (await lab.told("p", "FailedScheduling")).startswith(text)


async def test_a_claim_whose_selected_node_is_gone_gets_another_node(lab: Lab) -> None:
    made = await lab.client.create(
        CLAIMS,
        {
            "metadata": {"name": "c", "annotations": {"volume.kubernetes.io/selected-node": "gone"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
        "default",
    )
    await lab.pod("p", "c")
    assert await lab.node_of("p") in ("n1", "n2")
    claim = await lab.has_phase(CLAIMS, "c", "Bound")
    assert claim["spec"]["volumeName"] == f"pvc-{made['metadata']['uid']}"


async def test_a_volume_that_is_deleted_first_goes_with_its_claim(lab: Lab) -> None:
    await lab.claim("c")
    await lab.pod("p", "c")
    name = (await lab.has_phase(CLAIMS, "c", "Bound"))["spec"]["volumeName"]
    await lab.client.delete(VOLUMES, name)
    assert await lab.phase(VOLUMES, name) == "Bound"
    assert lab.directories()
    await lab.client.delete("pods", "p", "default", grace_period=0)
    await lab.client.delete(CLAIMS, "c", "default")
    await lab.gone(VOLUMES, name)
    assert lab.directories() == set()


async def test_a_pod_is_placed_on_the_node_of_its_local_volume(lab: Lab) -> None:
    await lab.storage_class("local", volumeBindingMode="WaitForFirstConsumer")
    await lab.claim("c", storageClassName="local")
    await lab.pod("p", "c")
    text = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
    assert (await lab.told("p", "FailedScheduling")).startswith(text)
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}
    affinity = {"required": {"nodeSelectorTerms": [term]}}
    await lab.client.create(
        VOLUMES,
        {
            "metadata": {"name": "disk"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": "/disk"},
                "storageClassName": "local", "nodeAffinity": affinity,
            },
        },
    )  # fmt: skip
    assert await lab.node_of("p") == "n2"
    assert (await lab.has_phase(CLAIMS, "c", "Bound"))["spec"]["volumeName"] == "disk"


async def test_a_claim_for_one_pod_at_a_time(lab: Lab) -> None:
    await lab.claim("c", accessModes=["ReadWriteOncePod"])
    await lab.pod("p", "c")
    assert await lab.node_of("p")
    await lab.pod("q", "c")
    assert "with ReadWriteOncePod access mode already in-use by another pod" in await lab.told("q", "FailedScheduling")
    await lab.client.delete("pods", "p", "default", grace_period=0)
    assert await lab.node_of("q")


async def test_only_one_of_many_parallel_pods_gets_a_claim_for_one_pod(lab: Lab) -> None:
    await lab.claim("c", accessModes=["ReadWriteOncePod"])
    await asyncio.gather(*(lab.pod(f"p{number}", "c") for number in range(8)))

    async def others_wait() -> bool:
        told = {name for name, reason, text in lab.events if reason == "FailedScheduling" and "in-use" in text}
        return len(told) >= 7

    async def one_runs() -> bool:
        return any(one["spec"].get("nodeName") for one in await lab.client.list("pods", "default"))

    await until(others_wait)
    await until(one_runs)
    pods = await lab.client.list("pods", "default")
    assert sum(bool(one["spec"].get("nodeName")) for one in pods) == 1


async def test_an_ephemeral_volume_has_a_claim_of_its_pod(lab: Lab) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": claim}
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
    made = await lab.pod("p", volumes=[volume])
    assert await lab.node_of("p")
    found = await lab.has_phase(CLAIMS, "p-scratch", "Bound")
    assert found["metadata"]["labels"] == {"a": "b"}
    [owner] = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Pod", made["metadata"]["uid"], True)
    await lab.claim("q-scratch")
    await lab.pod("q", volumes=[volume])
    text = 'PVC "default/q-scratch" was not created for pod "default/q" (pod is not owner)'
    assert text in await lab.told("q", "FailedScheduling")


# --- StatefulSets ---------------------------------------------------------------------------------------------------


def stateful(replicas: int, **more: Any) -> Object:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db",
            "replicas": replicas,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {
                    "containers": [
                        {"name": "c", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
                    ]
                },
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            **more,
        },
    }


async def owners(lab: Lab, claim: str) -> list[str]:
    found = await lab.get(CLAIMS, claim)
    assert found is not None
    return [one["kind"] for one in found["metadata"].get("ownerReferences") or ()]


async def test_a_stateful_set_makes_claims_that_outlive_its_pods(lab: Lab) -> None:
    await lab.client.create("statefulsets.apps", stateful(2), "default")
    for number in (0, 1):
        assert await lab.node_of(f"db-{number}")
        claim = await lab.has_phase(CLAIMS, f"data-db-{number}", "Bound")
        assert claim["metadata"]["labels"] == {"app": "db"}
        assert not await owners(lab, f"data-db-{number}")
    pod = await lab.get("pods", "db-0")
    assert pod is not None
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}} in pod["spec"]["volumes"]
    text = "create Claim data-db-1 Pod db-1 in StatefulSet db success"
    assert await lab.told("db", "SuccessfulCreate", text)
    before = await lab.node_of("db-0")
    await lab.client.delete("pods", "db-0", "default", grace_period=0)

    async def another() -> bool:
        found = await lab.get("pods", "db-0")
        return found is not None and found["metadata"]["uid"] != pod["metadata"]["uid"]

    await until(another)
    assert await lab.node_of("db-0") == before
    assert len(lab.directories()) == 2
    shown = await lab.client.get("statefulsets.apps", "db", "default")
    [template] = shown["spec"]["volumeClaimTemplates"]
    assert (template["kind"], template["apiVersion"], template["status"]) == (
        "PersistentVolumeClaim", "v1", {"phase": "Pending"},
    )  # fmt: skip


async def test_a_stateful_set_makes_a_deleted_claim_again(lab: Lab) -> None:
    await lab.client.create("statefulsets.apps", stateful(1), "default")
    assert await lab.node_of("db-0")
    before = await lab.has_phase(CLAIMS, "data-db-0", "Bound")
    await lab.client.delete(CLAIMS, "data-db-0", "default")
    await lab.client.delete("pods", "db-0", "default", grace_period=0)

    async def another() -> bool:
        found = await lab.get(CLAIMS, "data-db-0")
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    await until(another)
    assert await lab.node_of("db-0")
    await lab.gone(VOLUMES, before["spec"]["volumeName"])


async def test_the_retention_policy_gives_claims_their_owners(lab: Lab) -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    await lab.client.create("statefulsets.apps", stateful(2, persistentVolumeClaimRetentionPolicy=policy), "default")
    await lab.has_phase(CLAIMS, "data-db-1", "Bound")
    assert await owners(lab, "data-db-1") == ["StatefulSet"]
    await lab.client.patch("statefulsets.apps", "db", {"spec": {"replicas": 1}}, "default")

    async def of_the_pod() -> bool:
        return await owners(lab, "data-db-1") == ["Pod"]

    await until(of_the_pod)
    kept = {"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain"}}}
    await lab.client.patch("statefulsets.apps", "db", kept, "default")

    async def of_nobody() -> bool:
        return await owners(lab, "data-db-0") == []

    await until(of_nobody)
