"""Tables: each cell is equal to the recorded cell; the words for a pod's state."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.describe.tables import include_object, partial_object_list, to_table
from hatchway.cluster.api.registry.printers.humanize import human_duration
from hatchway.cluster.api.registry.types import ROWS
from hatchway.errors import ApiError

BY_KIND = {(row.group, row.kind): row for row in ROWS}
POD = BY_KIND["", "Pod"]
NOW = datetime.fromisoformat("2026-11-23T12:00:00Z").timestamp()


def cells(group: str, kind: str, obj: dict[str, Any]) -> list[Any]:
    table = to_table(BY_KIND[group, kind], [obj], now=NOW)
    found: list[Any] = table["rows"][0]["cells"]
    assert len(found) == len(table["columnDefinitions"])
    return found


def recorded_columns() -> list[tuple[str, list[tuple[str, str, str, int]]]]:
    path = Path(__file__).parents[4] / "conformance" / "api.jsonl"
    found = []
    for line in path.read_text().splitlines():
        exchange = json.loads(line)
        if "as=Table" in exchange["headers"].get("Accept", "") and exchange["response"]["status"] == 200:
            body = json.loads(exchange["response"]["body"])
            plural = exchange["path"].partition("?")[0].rpartition("/")[2]
            columns = [(one["name"], one["type"], one["format"], one["priority"]) for one in body["columnDefinitions"]]
            found.append((plural, columns))
    return found


@pytest.mark.parametrize(("plural", "columns"), recorded_columns())
def test_columns_are_those_of_a_real_server(plural: str, columns: list[tuple[str, str, str, int]]) -> None:
    row = next(row for row in ROWS if row.plural == plural)
    table = to_table(row, [])
    assert [(one["name"], one["type"], one["format"], one["priority"]) for one in table["columnDefinitions"]] == columns


def container(
    name: str = "c", *, ready: bool = False, restarts: int = 0, finished: str = "", **state: Any
) -> dict[str, Any]:
    last = {"lastState": {"terminated": {"finishedAt": finished}}} if finished else {}
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state, **last}


@pytest.mark.parametrize(
    ("status", "ready", "word", "restarts"),
    [
        ({"phase": "Pending"}, "0/1", "Pending", "0"),
        ({"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}, "0/1", "ContainerCreating", "0"),
        ({"phase": "Running", "containerStatuses": [container(ready=True, running={})]}, "1/1", "Running", "0"),
        ({"phase": "Running", "containerStatuses": [container(restarts=3, finished="2026-11-23T11:58:20Z", waiting={"reason": "CrashLoopBackOff"})]}, "0/1", "CrashLoopBackOff", "3 (100s ago)"),
        ({"phase": "Running", "containerStatuses": [container(restarts=1, ready=True, running={})]}, "1/1", "Running", "1"),
        ({"phase": "Succeeded", "containerStatuses": [container(terminated={"reason": "Completed"})]}, "0/1", "Completed", "0"),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 3})]}, "0/1", "ExitCode:3", "0"),
        ({"phase": "Failed", "containerStatuses": [container(terminated={"signal": 9})]}, "0/1", "Signal:9", "0"),
        ({"phase": "Failed", "reason": "Evicted"}, "0/1", "Evicted", "0"),
        ({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}, "0/1", "SchedulingGated", "0"),
        (
            {"phase": "Running", "containerStatuses": [container(terminated={"reason": "Completed"}), container("d", ready=True, running={})]},
            "1/1", "NotReady", "0",
        ),
        (
            {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
             "containerStatuses": [container(terminated={"reason": "Completed"}), container("d", ready=True, running={})]},
            "1/1", "Running", "0",
        ),
    ],
)  # fmt: skip
def test_the_state_of_a_pod(status: dict[str, Any], ready: str, word: str, restarts: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}, "status": status}
    assert cells("", "Pod", pod)[1:4] == [ready, word, restarts]


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        ([container("a", running={})], "Init:0/2"),
        (
            [container("a", terminated={"exitCode": 0}), container("b", waiting={"reason": "PodInitializing"})],
            "Init:1/2",
        ),
        ([container("a", terminated={"exitCode": 1})], "Init:ExitCode:1"),
        ([container("a", terminated={"exitCode": 1, "reason": "Error"})], "Init:Error"),
        ([container("a", terminated={"exitCode": 137, "signal": 9})], "Init:Signal:9"),
        ([container("a", waiting={"reason": "ErrImagePull"})], "Init:ErrImagePull"),
        ([container("a", terminated={"exitCode": 0}), container("b", terminated={"exitCode": 0})], "Running"),
    ],
)
def test_a_pod_that_initializes(statuses: list[dict[str, Any]], word: str) -> None:
    pod = {
        "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "a"}, {"name": "b"}]},
        "status": {"phase": "Running", "initContainerStatuses": statuses},
    }
    assert cells("", "Pod", pod)[2] == word


def test_a_sidecar_counts_as_a_container() -> None:
    pod = {
        "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{**container("s", ready=True, restarts=2, running={}), "started": True}],
            "containerStatuses": [container(ready=True, running={}, restarts=1)],
        },
    }
    assert cells("", "Pod", pod)[1:4] == ["2/2", "Running", "3"]


def test_a_pod_that_is_being_deleted_and_the_wide_columns() -> None:
    pod = {
        "metadata": {"name": "p", "deletionTimestamp": "2026-11-23T11:00:00Z", "creationTimestamp": "2026-11-23T11:00:00Z"},
        "spec": {"containers": [{}], "nodeName": "node-1", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.2"}], "conditions": [{"type": "y", "status": "True"}]},
    }  # fmt: skip
    assert cells("", "Pod", pod) == ["p", "0/1", "Terminating", "0", "60m", "10.244.1.2", "node-1", "<none>", "1/2"]
    pod["status"]["phase"] = "Succeeded"  # type: ignore[index]
    table = to_table(POD, [pod], now=NOW)
    assert table["rows"][0]["cells"][2] == "Succeeded"
    assert table["rows"][0]["conditions"][0]["reason"] == "Succeeded"


def test_cells_of_the_other_types() -> None:
    meta = {"name": "x", "creationTimestamp": "2026-11-23T11:59:30Z"}
    service = {
        "metadata": meta,
        "spec": {
            "type": "NodePort",
            "clusterIPs": ["10.96.0.7"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            "selector": {"b": "2", "a": "1"},
        },
    }
    assert cells("", "Service", service) == [
        "x",
        "NodePort",
        "10.96.0.7",
        "<none>",
        "80:30080/TCP,53/UDP",
        "30s",
        "a=1,b=2",
    ]
    balancer = {"spec": {"type": "LoadBalancer"}}
    assert cells("", "Service", balancer)[2:5] == ["<none>", "<pending>", "<none>"]
    node = {
        "metadata": {**meta, "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "172.18.0.2"}],
            "nodeInfo": {"kubeletVersion": "v1"},
        },
    }
    assert cells("", "Node", node)[:7] == [
        "x", "Ready,SchedulingDisabled", "control-plane,edge", "30s", "v1", "172.18.0.2", "<none>",
    ]  # fmt: skip
    ips = [{"ip": f"10.0.0.{index}"} for index in range(5)]
    assert cells("", "Endpoints", {"subsets": [{"addresses": ips, "ports": [{"port": 80}]}]})[1] == (
        "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more..."
    )
    assert cells("", "Endpoints", {})[1] == "<none>"
    assert cells("discovery.k8s.io", "EndpointSlice", {"addressType": "IPv4"})[1:4] == ["IPv4", "<unset>", "<unset>"]
    deployment = {
        "metadata": meta,
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["2", "1"]}]},
            "template": {"spec": {"containers": [{"name": "m", "image": "i"}, {"name": "n", "image": "j"}]}},
        },
        "status": {"readyReplicas": 2, "updatedReplicas": 3},
    }  # fmt: skip
    assert cells("apps", "Deployment", deployment) == ["x", "2/3", 3, 0, "30s", "m,n", "i,j", "a=b,c in (1,2)"]
    binding = {
        "metadata": meta,
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}],
    }
    assert cells("rbac.authorization.k8s.io", "RoleBinding", binding) == ["x", "Role/r", "30s", "u", "", "n/s"]
    core = {
        "metadata": meta,
        "involvedObject": {"kind": "Pod", "name": "p"},
        "lastTimestamp": "2026-11-23T11:59:50Z",
        "firstTimestamp": "2026-11-23T11:59:00Z",
        "source": {"component": "kubelet", "host": "node-1"},
        "count": 2,
        "type": "Normal",
        "reason": "Started",
        "message": "it did\n",
    }
    expected = ["10s", "Normal", "Started", "pod/p", "", "kubelet, node-1", "it did", "60s", 2, "x"]
    assert cells("", "Event", core) == expected
    new = {
        "metadata": meta,
        "regarding": core["involvedObject"],
        "deprecatedLastTimestamp": core["lastTimestamp"],
        "deprecatedFirstTimestamp": core["firstTimestamp"],
        "deprecatedSource": core["source"],
        "deprecatedCount": 2,
        "type": "Normal",
        "reason": "Started",
        "note": "it did",
    }
    assert cells("events.k8s.io", "Event", new) == expected


def test_a_table() -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "resourceVersion": "7"},
        "data": {"k": "v"},
    }
    row = BY_KIND["", "ConfigMap"]
    table = to_table(row, [config], list_meta={"resourceVersion": "9"}, now=NOW)
    assert (table["kind"], table["apiVersion"], table["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "9"},
    )
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": config["metadata"]}
    assert table["rows"] == [{"cells": ["a", 1, "<unknown>"], "object": partial}]
    event = to_table(row, [config], include_object="Object", headers=False)
    assert event["metadata"] == {"resourceVersion": "7"}
    assert event["columnDefinitions"] == []
    assert event["rows"][0]["object"] == config
    assert to_table(row, [config], include_object="None")["rows"][0]["object"] is None
    assert partial_object_list([config], {})["items"] == [partial]


def test_include_object() -> None:
    assert [include_object(value) for value in ("", "None", "Metadata", "Object")] == [
        "Metadata",
        "None",
        "Metadata",
        "Object",
    ]
    with pytest.raises(ApiError) as caught:
        include_object("All")
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "<invalid>"), (-1.5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (422, "7m2s"), (599, "9m59s"), (600, "10m"),
        (10799, "179m"), (10800, "3h"), (11100, "3h5m"), (8 * 3600, "8h"), (47 * 3600, "47h"), (48 * 3600, "2d"),
        (50 * 3600, "2d2h"), (8 * 86400, "8d"), (729 * 86400, "729d"), (730 * 86400, "2y"), (735 * 86400, "2y5d"),
        (3000 * 86400, "8y"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words
