"""hostNetwork, hostPID, hostIPC and shareProcessNamespace: a pod's host is its simulated node, never this machine."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.network.conftest import Run

MakeRun = Callable[..., Run]


def test_a_pod_has_its_nodes_network(make_run: MakeRun) -> None:
    found = make_run("private", "node_network").result()
    assert found["ips"] == ["172.18.0.3", "172.18.0.3", "172.18.0.4"]
    assert found["dialed"] == ["one", "other"]
    assert all("Address already in use" in line for line in found["taken"]), found["taken"]
    assert found["by its address"] == found["by loopback"] == "one"
    assert found["from a node"] == "other"
    assert found["loopback of a pod"] == ""
    assert found["loopback of another node"] == "other"
    assert found["hostname"] == "node-1"
    assert found["afterwards"] == "other"
    assert found["free again"] == ""


def test_a_pod_sees_its_nodes_processes_and_no_others(make_run: MakeRun) -> None:
    found = make_run("private", "node_processes").result()
    seen = found["seen"]
    assert seen.pop("mounts") == ["/"]
    assert seen.pop("connections") == 0
    assert set(seen) == {"1 node-1", "sleep 1001"}
    # Nothing can be reached through the reaper, and through a container only what every container has.
    assert seen["1 node-1"] == []
    assert "above root" in seen["sleep 1001"]
    assert found["left"] == found["left beside another"] == 0
    assert found["other stays"] == 1
    assert found["exec"] == "sees"
    assert found["killed"] == [9, 9]
    assert found["still"] == [0, "1"]
    assert found["agent"] == "alive"
    assert found["gone"] == "the sandbox is gone"


def test_containers_share_their_pods_processes(make_run: MakeRun) -> None:
    found = make_run("private", "pod_processes").result()
    assert found == {"sees": [0, 1], "left": 0, "signalled": [0, 15], "before": 1, "after": 0}


def test_a_pod_has_its_nodes_ipc(make_run: MakeRun) -> None:
    assert make_run("private", "node_ipc").result() == ["True", "False", "False"]


def test_no_pod_can_use_the_address_of_another(make_run: MakeRun) -> None:
    found = make_run("private", "spoofing").result()
    assert found == {"received": ["honest\n"] * 2, "other": "other", "dialed": "other", "service": "10.96.0.1"}
