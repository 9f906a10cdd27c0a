"""Volumes, claims and storage classes over the API: defaults, admission and errors, as recorded from Kubernetes."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.api.world import World, world

MERGE = {"Content-Type": "application/merge-patch+json"}
CLAIMS, VOLUMES = "/api/v1/namespaces/default/persistentvolumeclaims", "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


def claim(name: str = "pvc", **spec: Any) -> dict[str, Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def volume(name: str = "pv", **spec: Any) -> dict[str, Any]:
    wanted = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}, **spec}
    found = {key: value for key, value in wanted.items() if value is not None}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": found}


def storage_class(name: str = "sc", **more: Any) -> dict[str, Any]:
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/p"}
    return {**kind, "metadata": {"name": name, "annotations": more.pop("annotations", {})}, **more}


@pytest.fixture
async def api() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def test_defaults_of_new_objects(api: World) -> None:
    found = (await api.send("POST", CLASSES, storage_class())).json
    assert (found["reclaimPolicy"], found["volumeBindingMode"]) == ("Delete", "Immediate")
    found = (await api.send("POST", CLAIMS, claim())).json
    assert found["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert found["spec"] == {**claim()["spec"], "volumeMode": "Filesystem"}
    assert found["status"] == {"phase": "Pending"}
    found = (await api.send("POST", VOLUMES, volume())).json
    assert found["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
    assert found["spec"] == {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x", "type": ""},
        "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
    }  # fmt: skip
    assert found["status"]["phase"] == "Pending"
    assert found["status"]["lastPhaseTransitionTime"] == found["metadata"]["creationTimestamp"]


async def test_the_newest_default_class_is_given_to_claims_that_name_none(api: World) -> None:
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    await api.send("POST", CLASSES, storage_class("b", annotations=default))
    await api.send("POST", CLASSES, storage_class("a"))
    assert (await api.send("POST", CLAIMS, claim("one"))).json["spec"]["storageClassName"] == "b"
    assert (await api.send("POST", CLAIMS, claim("two", storageClassName=""))).json["spec"]["storageClassName"] == ""
    beta = claim("three")
    beta["metadata"]["annotations"] = {"volume.beta.kubernetes.io/storage-class": "x"}
    assert "storageClassName" not in (await api.send("POST", CLAIMS, beta)).json["spec"]


TERM = {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}


@pytest.mark.parametrize(
    ("path", "body", "messages"),
    [
        (CLAIMS, claim(accessModes=[]), ["spec.accessModes: Required value: at least 1 access mode is required"]),
        (
            CLAIMS,
            claim(accessModes=["ReadWriteOncePod", "ReadOnlyMany", "x"], resources={}, volumeMode="Tape"),
            [
                'spec.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", '
                '"ReadWriteOnce", "ReadWriteOncePod"',
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                "spec.resources[storage]: Required value",
                'spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem"',
            ],
        ),
        (
            CLAIMS,
            claim(resources={"requests": {"storage": "-1"}}, dataSource={"kind": "Snapshot", "name": ""}),
            [
                'spec.resources[storage]: Invalid value: "-1": must be greater than zero',
                "spec.dataSource.name: Required value",
                'spec.dataSource: Invalid value: "Snapshot"',
            ],
        ),
        (CLAIMS, claim(selector={"matchLabels": {"a b": "c"}}), ['spec.selector.matchLabels: Invalid value: "a b"']),
        (VOLUMES, volume(hostPath=None), ["spec: Required value: must specify a volume type"]),
        (
            VOLUMES,
            volume(capacity={"storage": "0", "cpu": "1"}, local={"path": "/d"}, persistentVolumeReclaimPolicy="Keep"),
            [
                'spec.capacity: Unsupported value: {"storage":"0","cpu":"1"}: supported values: "storage"',
                'spec.capacity[storage]: Invalid value: "0": must be greater than zero',
                'persistentVolumeReclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Recycle", '
                '"Retain"',
                "spec.local: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            VOLUMES,
            volume(hostPath=None, local={"path": "/a/../b"}),
            [
                "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ],
        ),
        (
            VOLUMES,
            volume(hostPath={"path": "//"}, persistentVolumeReclaimPolicy="Recycle"),
            ["persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
        ),
        (
            VOLUMES,
            volume(nodeAffinity={"required": {"nodeSelectorTerms": [TERM]}}),
            ['spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].operator: Invalid value: "Near"'],
        ),
        (
            VOLUMES,
            volume(
                nodeAffinity={
                    "required": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"] * 1001}]}
                        ]
                    }
                }
            ),
            ["spec.nodeAffinity.required: Too many: 1003: must have at most 1000 items"],
        ),
        (
            "/apis/apps/v1/namespaces/default/statefulsets",
            {
                "metadata": {"name": "s"},
                "spec": {
                    "selector": {"matchLabels": {"a": "b"}},
                    "template": {
                        "metadata": {"labels": {"a": "b"}},
                        "spec": {"containers": [{"name": "c", "image": "x"}]},
                    },
                    "volumeClaimTemplates": [{"metadata": {"name": f"v{one}"}, "spec": {}} for one in range(129)],
                },
            },
            ["spec.volumeClaimTemplates: Too many: 129: must have at most 128 items"],
        ),
        (
            CLASSES,
            storage_class(provisioner="", reclaimPolicy="Recycle", volumeBindingMode="Later"),
            [
                "provisioner: Required value",
                'reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"',
                'volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer"',
            ],
        ),
    ],
)
async def test_objects_that_are_refused(api: World, path: str, body: dict[str, Any], messages: list[str]) -> None:
    reply = await api.send("POST", path, body)
    assert reply.status == 422
    for message in messages:
        assert message in reply.json["message"]


async def test_fields_that_may_be_changed_later(api: World) -> None:
    await api.send("POST", VOLUMES, volume())
    at = f"{VOLUMES}/pv"
    said = (await api.send("PATCH", at, {"spec": {"hostPath": {"path": "/y"}}}, MERGE)).json["message"]
    assert "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation" in said
    said = (await api.send("PATCH", at, {"spec": {"volumeMode": "Block"}}, MERGE)).json["message"]
    assert 'volumeMode: Invalid value: "Block": field is immutable' in said
    reply = await api.send("PATCH", at, {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}, MERGE)
    assert reply.status == 200
    await api.send("POST", CLASSES, storage_class())
    said = (await api.send("PATCH", f"{CLASSES}/sc", {"provisioner": "other/p"}, MERGE)).json["message"]
    assert "provisioner: Forbidden: updates to provisioner are forbidden." in said


async def test_a_claim_is_bound_once_and_grows_only_if_its_class_allows_it(api: World) -> None:
    await api.send("POST", CLASSES, storage_class())
    await api.send("POST", CLAIMS, claim(storageClassName="sc"))
    at = f"{CLAIMS}/pvc"
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    assert "spec is immutable after creation" in (await api.send("PATCH", at, larger, MERGE)).json["message"]
    assert (await api.send("PATCH", at, {"spec": {"volumeName": "pv"}}, MERGE)).status == 200
    assert (await api.send("PATCH", at, {"spec": {"volumeName": "other"}}, MERGE)).status == 422
    bound = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    assert (await api.send("PATCH", f"{at}/status", bound, MERGE)).status == 200
    reply = await api.send("PATCH", at, larger, MERGE)
    assert reply.status == 403
    assert "only dynamically provisioned pvc can be resized" in reply.json["message"]
    await api.send("PATCH", f"{CLASSES}/sc", {"allowVolumeExpansion": True}, MERGE)
    assert (await api.send("PATCH", at, larger, MERGE)).status == 200
    smaller = copy.deepcopy(larger)
    smaller["spec"]["resources"]["requests"]["storage"] = "1Gi"
    said = (await api.send("PATCH", at, smaller, MERGE)).json["message"]
    assert "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity" in said


async def test_tables_for_kubectl_get(api: World) -> None:
    await api.send("POST", CLAIMS, claim())
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    found = (await api.send("GET", CLAIMS, headers=table)).json
    # Recorded from Kubernetes 1.36.
    names = ["Name", "Status", "Volume", "Capacity", "Access Modes", "StorageClass", "VolumeAttributesClass", "Age",
             "VolumeMode"]  # fmt: skip
    assert [column["name"] for column in found["columnDefinitions"]] == names
    cells = found["rows"][0]["cells"]
    assert cells[:7] + cells[8:] == ["pvc", "Pending", "", "", "", "", "<unset>", "Filesystem"]
    await api.send("POST", VOLUMES, volume(accessModes=["ReadWriteMany", "ReadWriteOnce"]))
    cells = (await api.send("GET", VOLUMES, headers=table)).json["rows"][0]["cells"]
    assert cells[:9] == ["pv", "1Gi", "RWO,RWX", "Retain", "Pending", "", "", "<unset>", ""]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/apis/storage.k8s.io/v1/volumeattachments",
            {"metadata": {"name": "a"}, "spec": {"attacher": "x.io", "nodeName": "n", "source": {}}},
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers",
            {"metadata": {"name": "x.io"}, "spec": {"fsGroupPolicy": "All"}},
            'spec.fsGroupPolicy: Unsupported value: "All"',
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes",
            {"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "x.io", "nodeID": "", "topologyKeys": None}]}},
            "spec.drivers[0].nodeID: Required value",
        ),
        (
            "/apis/storage.k8s.io/v1/namespaces/default/csistoragecapacities",
            {"metadata": {"name": "c"}, "storageClassName": "sc", "capacity": "-1Gi"},
            'capacity: Invalid value: "-1Gi": must be greater than or equal to 0',
        ),
    ],
)
async def test_invalid_objects_of_csi_drivers(api: World, path: str, body: dict[str, Any], message: str) -> None:
    reply = await api.send("POST", path, body)
    assert reply.status == 422
    assert message in reply.json["message"]
