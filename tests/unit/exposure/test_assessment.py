"""Known faults are found; safe objects that look similar are not reported."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from hatchway.exposure.assessment import assess
from hatchway.exposure.exposurereport import as_data, count, findings, reaches, rows
from hatchway.exposure.findings import RULES, Exposure
from hatchway.exposure.reading import SnapshotReader
from hatchway.exposure.sarif import as_sarif
from hatchway.exposure.snapshot import ClusterSnapshot
from hatchway.kube.api import Object
from tests.exposures import FAULTS, SAFE, expected, gateway, ingress, ingress_class, node, objects, pod, service
from tests.unit.exposure.recorded import RecordedServer


async def read(found: Iterable[Object], namespace: str = "", **server: object) -> ClusterSnapshot:
    return await SnapshotReader(RecordedServer(found, **server), namespace).read()  # type: ignore[arg-type]


def reported(exposures: Iterable[Exposure]) -> set[tuple[str, str, str]]:
    """Return the findings without those about objects that are exposed on purpose."""
    return {(way.namespace, way.spelled, issue.rule) for way, issue in findings(exposures) if not way.accepted}


async def test_exactly_the_seeded_faults_are_found() -> None:
    assert len(FAULTS) >= 20
    assert len(SAFE) >= 20
    snapshot = await read(objects())
    assert snapshot.unread == []
    assert reported(assess(snapshot)) == expected()


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
async def test_a_fault_is_found_in_its_namespace_alone(case: object) -> None:
    """With -n, cluster-scoped objects are not read. Even without them, each fault is reported by its own rule."""
    name, found, rule = case.name, case.found, case.rule  # type: ignore[attr-defined]
    assert reported(assess(await read(objects(), name))) == {(name, found, rule)}


async def test_every_finding_has_an_explanation_and_a_correction() -> None:
    for way, issue in findings(assess(await read(objects()))):
        assert issue.rule in RULES
        assert issue.message and not issue.message.endswith(".")
        assert issue.mend.startswith("kubectl ")
        assert way.name in issue.mend or issue.rule == "unknown-reach"


async def test_all_ways_in_are_listed_and_no_others() -> None:
    listed = {(way.namespace, way.way) for way in assess(await read(objects()))}
    assert {"s-cluster-ip", "s-external-name", "s-headless", "s-hp-ended", "s-gw-redirect", "s-gw-refused"}.isdisjoint(
        {namespace for namespace, _ in listed}
    )
    assert {("s-lb-internal", "LoadBalancer"), ("s-np-denied", "NodePort"), ("s-ing-tls", "Ingress")} <= listed
    by_namespace = {way.namespace: way for way in assess(await read(objects()))}
    assert by_namespace["s-np-denied"].shield == "full"
    assert by_namespace["s-np-denied"].reach == "nobody"
    assert by_namespace["s-np-ranges"].reach == "restricted"
    assert by_namespace["s-np-ranges"].policies == ("p",)
    assert by_namespace["s-lb-internal"].reach == "private"
    assert by_namespace["s-lb-loopback"].reach == "machine"
    assert by_namespace["np-one-pod-unshielded"].workloads == ("pod/p", "pod/q")


async def test_objects_exposed_on_purpose_cause_no_failure() -> None:
    found = assess(await read(objects(), "s-np-on-purpose"))
    assert [way.accepted for way in found] == ["our shop"]
    assert not reaches(found, "low")
    results = as_sarif(found, [])["runs"][0]["results"]
    assert results[0]["suppressions"][0]["justification"] == "our shop"


async def test_nodes_that_cannot_be_read_make_the_answer_unknown() -> None:
    snapshot = await read(objects(), refused=["/api/v1/nodes"])
    assert [str(one) for one in snapshot.unread] == ["nodes could not be read: you may not list them"]
    found = {way.namespace: way for way in assess(snapshot)}
    for name in ("np-open", "hp-open", "hn-open"):
        assert found[name].reach == "unknown"
        assert [issue.rule for issue in found[name].issues] == ["unknown-reach"]
    # Policies protect these, whatever the addresses of the nodes are.
    assert found["s-np-denied"].issues == ()
    assert found["kube-system"].issues == ()


async def test_policies_that_cannot_be_read_are_not_called_missing() -> None:
    path = "/apis/networking.k8s.io/v1/networkpolicies"
    refused = [path, "/apis/networking.k8s.io/v1/namespaces/np-open/networkpolicies"]
    for paths, said in (([], True), (refused, False)):
        found = assess(await read(objects(), refused=paths))
        (issue,) = next(way for way in found if way.namespace == "np-open").issues
        assert ("no NetworkPolicy restricts it" in issue.message) is said


async def test_no_service_is_called_empty_if_pods_cannot_be_read() -> None:
    spaces = [one["metadata"]["name"] for one in objects("Namespace")]
    refused = ["/api/v1/pods", *(f"/api/v1/namespaces/{name}/pods" for name in spaces)]
    snapshot = await read(objects(), refused=refused)
    assert [(one.resource, len(one.where)) for one in snapshot.unread] == [("pods", len(spaces))]
    rules = {rule for _, _, rule in reported(assess(snapshot))}
    assert "no-endpoints" not in rules
    assert "open-node-port" in rules


async def test_each_namespace_is_listed_if_the_list_of_all_is_refused() -> None:
    snapshot = await read(objects(), refused=["/api/v1/services", "/api/v1/namespaces/np-open/services"], page=50)
    assert [(one.resource, one.where) for one in snapshot.unread] == [("services", ("np-open",))]
    missing = {("np-open", "service/s", "open-node-port")}
    assert reported(assess(snapshot)) == expected() - missing


async def test_a_list_whose_continue_token_expires_is_read_again() -> None:
    snapshot = await read(objects(), forgets=1)
    assert snapshot.unread == []
    assert reported(assess(snapshot)) == expected()


async def test_endless_lists_end() -> None:
    class Endless(RecordedServer):
        async def exchange(self, method: str, path: str, *more: object, **others: object) -> tuple[int, bytes]:
            if path.startswith("/api/v1/pods"):
                pod = {"metadata": {"name": "p", "namespace": "x"}}
                return 200, json.dumps({"metadata": {"continue": "1"}, "items": [pod] * 100}).encode()
            return await super().exchange(method, path)

    snapshot = await SnapshotReader(Endless([]), most=1000).read()
    assert len(snapshot.pods) == 1000
    assert [str(one) for one in snapshot.unread] == ["pods could not be read: there are more than 1000"]


@pytest.mark.parametrize(("of_class", "aliases"), [("nginx", ["b.example"]), ("other", [])])
async def test_aliases_of_ingress_nginx_are_ways_in(of_class: str, aliases: list[str]) -> None:
    made = ingress(of_class=of_class, annotations={"nginx.ingress.kubernetes.io/server-alias": "b.example"})
    classes = [ingress_class("nginx", "k8s.io/ingress-nginx"), ingress_class("other", "example.com/other")]
    (way,) = (one for one in assess(await read([made, *classes])) if one.spelled == "ingress/i")
    assert [one.host for one in way.locations] == ["shop.example", *aliases]


@pytest.mark.parametrize(
    ("namespace", "embedded", "more"), [("", True, [30080]), ("shop", True, [30080]), ("shop", False, [])]
)
async def test_an_ingress_of_an_embedded_cluster_is_probed_at_the_node_port(
    namespace: str, embedded: bool, more: list[int]
) -> None:
    """An ordinary user may not listen on port 80 of the load balancer's address."""
    made = ingress(hosts=("127.16.1.1",))
    made["metadata"]["namespace"] = "shop"
    door = service("LoadBalancer", port=80, node_port=30080, hosts=("127.16.1.1",), name="hatchway-ingress")
    door["metadata"]["namespace"] = "kube-system"
    machine = node("n", "172.20.0.1")
    if embedded:
        machine["status"]["nodeInfo"] = {"containerRuntimeVersion": "hatchway://0.1"}
    found = assess(await read([made, door, machine], namespace))
    (way,) = (one for one in found if one.spelled == "ingress/i")
    assert [(one.address, one.port, one.host) for one in way.locations] == [
        ("127.16.1.1", 80, "shop.example"),
        *(("127.0.0.1", port, "shop.example") for port in more),
    ]


@pytest.mark.parametrize(
    ("host_ip", "address", "reach"),
    [
        ("192.0.2.1", "172.20.0.1", "nobody"),
        ("127.0.0.1", "172.20.0.1", "nobody"),
        ("172.20.0.1", "172.20.0.1", "nobody"),
        ("", "172.20.0.1", "nobody"),
        ("127.0.0.1", "127.64.0.1", "nobody"),
        ("127.64.0.1", "127.64.0.1", "machine"),
        ("", "127.64.0.1", "machine"),
    ],
)
async def test_an_embedded_cluster_opens_host_ports_in_its_own_network(host_ip: str, address: str, reach: str) -> None:
    """Nodes have addresses of this machine only if the cluster has no private network."""
    machine = node("n", address)
    machine["status"]["nodeInfo"] = {"containerRuntimeVersion": "hatchway://0.1"}
    made = pod("p", node="n", host_port=9200, host_ip=host_ip)
    made["metadata"]["namespace"] = "shop"
    (way,) = assess(await read([made, machine]))
    assert (way.reach, [one.address for one in way.locations], way.issues) == (
        reach,
        [address] if reach == "machine" else [],
        (),
    )


async def test_a_gateway_of_another_namespace_is_read_for_a_route() -> None:
    found = assess(await read(objects(), "gw-plain"))
    assert ("httproute/r", "no-tls") in {(way.spelled, issue.rule) for way, issue in findings(found)}


async def test_a_gateway_that_accepts_routes_of_every_namespace() -> None:
    found = assess(await read([*objects(), gateway("all", "198.51.100.91", "All")]))
    assert ("gateways", "gateway/all", "gateway-open-to-all-namespaces") in reported(found)


async def test_hostile_objects_cause_no_exception() -> None:
    """Fields of wrong types, and names with control sequences of terminals."""
    wrong = [None, 7, "x", [None], {"a": None}]
    spaces = {case.name for case in FAULTS}
    hostile: list[Object] = []
    for number, value in enumerate(wrong):
        for obj in objects():
            if obj["metadata"].get("namespace") not in spaces:
                continue
            for field in ("spec", "status"):
                spoiled = json.loads(json.dumps(obj))
                spoiled["metadata"]["name"] += f"-{number}"
                for key in spoiled.get(field) or {}:
                    one = json.loads(json.dumps(spoiled))
                    one[field][key] = value
                    hostile.append(one)
                spoiled[field] = value
                hostile.append(spoiled)
    hostile.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "\x1b[2J';rm -rf /;'", "namespace": "x\n"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}},
        }
    )
    found = assess(await read([*objects("Node"), *hostile], page=500))
    assert found
    data = as_data(found, [], "c")
    assert json.loads(json.dumps(data))["exposures"]
    text = json.dumps(as_sarif(found, []))
    assert "\\u001b" not in text
    assert rows(found, namespaces=True)


async def test_sarif_has_a_result_for_each_finding_with_its_rule() -> None:
    found = assess(await read(objects()))
    run = as_sarif(found, [])["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(run["results"]) == len(findings(found))
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("namespaces/")
    assert len({result["partialFingerprints"]["hatchwayExposure/v1"] for result in run["results"]}) == len(
        found_ids(found)
    )
    assert count(found)["high"] == sum(1 for case in FAULTS if case.rule == "sensitive-port")


def found_ids(exposures: Iterable[Exposure]) -> set[tuple[str, ...]]:
    return {(way.namespace, way.spelled, way.way, issue.rule) for way, issue in findings(exposures)}
