"""`hatchway exposure` against a real cluster that contains faults, in objects of all types that it serves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from hatchway.kube.api import Object
from hatchway.kube.paths import parse_resource
from tests.conftest import Cluster, wait_for
from tests.exposures import FAULTS, NODES, SAFE, SHARED, Case

_RESOURCES = {
    "Node": "nodes",
    "Namespace": "namespaces",
    "Pod": "pods",
    "Service": "services",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
    "Ingress": "ingresses.networking.k8s.io",
    "IngressClass": "ingressclasses.networking.k8s.io",
    "Gateway": "gateways.gateway.networking.k8s.io",
    "HTTPRoute": "httproutes.gateway.networking.k8s.io",
}


class Seeder:
    """Creates recorded objects in a cluster, with their status."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.served = {
            kind for kind, resource in _RESOURCES.items() if cluster.get(parse_resource(resource).path()).status == 200
        }

    def has(self, case: Case) -> bool:
        return all(obj["kind"] in self.served for obj in case.objects)

    def create(self, obj: Object, namespace: str = "") -> None:
        resource = parse_resource(_RESOURCES[obj["kind"]])
        space = namespace or obj["metadata"].get("namespace")
        name = obj["metadata"]["name"]
        self._send("POST", resource.path(space), obj, 201)
        status = {"status": obj.get("status")}
        if status["status"]:
            self._send("PATCH", resource.path(space, name, "status"), status, 200)

    def _send(self, method: str, path: str, body: Object, expected: int) -> None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self.cluster.request(method, path, headers={"Content-Type": kind}, body=json.dumps(body).encode())
        assert answer.status == expected, f"{method} {path}: {answer.text}"


@pytest.fixture(scope="module")
def seeded(make_cluster: Callable[..., Cluster]) -> Seeder:
    """Yield a cluster with the faults. It is not shared, because some of its nodes exist only in the API."""
    cluster = make_cluster("exposure", "--nodes", "0")
    seeder = Seeder(cluster)
    for node in NODES:
        seeder.create({**node, "spec": {"unschedulable": True}})
    # A load balancer belongs to a controller if Ingresses or Gateways have its address.
    for name, kind in (("ingress", "Ingress"), ("gateways", "Gateway")):
        if kind in seeder.served:
            cluster.kubectl("create", "namespace", name)
            for obj in SHARED:
                if obj["metadata"].get("namespace") == name:
                    seeder.create(obj)
    for obj in SHARED:
        if obj["kind"] == "IngressClass" and obj["kind"] in seeder.served:
            seeder.create(obj)
    for case in (*FAULTS, *SAFE):
        if seeder.has(case):
            if case.name != "kube-system":
                seeder.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": case.name}})
            for obj in case.objects:
                seeder.create(obj, case.name)
    return seeder


def exposure(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return cluster.hatchway("exposure", *arguments, "--kubeconfig", str(cluster.kubeconfig), check=False)


def test_the_seeded_faults_are_found_and_none_is_invented(seeded: Seeder) -> None:
    cases = [case for case in FAULTS if seeded.has(case)]
    assert len(cases) >= 12

    def right() -> bool:
        done = exposure(seeded.cluster, "-A", "-o", "json", "--fail-on", "never")
        assert done.returncode == 0, done.stderr
        found = {
            (way["namespace"], f"{way['kind'].lower()}/{way['name']}", finding["rule"])
            for way in json.loads(done.stdout)["exposures"]
            if not way["exposedOnPurpose"]
            for finding in way["findings"]
        }
        assert found == {(case.name, case.found, case.rule) for case in cases}
        return True

    wait_for(right, seconds=20)


def test_exit_codes(seeded: Seeder) -> None:
    cluster = seeded.cluster
    assert exposure(cluster, "-n", "np-database").returncode == 3
    assert exposure(cluster, "-n", "np-open").returncode == 0
    assert exposure(cluster, "-n", "np-open", "--fail-on", "medium").returncode == 3
    assert exposure(cluster, "-n", "s-np-on-purpose", "--fail-on=low").returncode == 0
    assert exposure(cluster, "-n", "np-database", "--fail-on", "never").returncode == 0
    done = exposure(cluster, "-n", "np-opn")
    assert done.returncode == 1
    assert "did you mean `hatchway exposure -n np-open`" in done.stderr
    assert exposure(cluster, "-n", "x", "-A").returncode == 2


def test_unreadable_objects_are_reported_and_make_the_answer_incomplete(seeded: Seeder) -> None:
    cluster = seeded.cluster
    done = exposure(cluster, "-n", "np-open", "--as", "ada")
    assert done.returncode == 4
    assert "services in np-open could not be read: you may not list them" in done.stderr
    assert "in the objects that could be read" in done.stderr
    cluster.kubectl("create", "clusterrole", "look", "--verb=list", "--resource=services,pods,namespaces")
    cluster.kubectl("create", "clusterrolebinding", "look", "--clusterrole=look", "--user=ada")
    partly = exposure(cluster, "-n", "np-database", "--as", "ada", "-o", "json", "--fail-on", "medium")
    assert partly.returncode == 4
    data = json.loads(partly.stdout)
    assert not data["complete"]
    assert "nodes" in {one["resource"] for one in data["notLookedAt"]}
    assert data["exposures"][0]["reachableFrom"] == "unknown"


def test_outputs(seeded: Seeder) -> None:
    cluster = seeded.cluster
    table = exposure(cluster, "-n", "np-open")
    assert "service/s   NodePort   the Internet" in table.stdout
    assert "kubectl patch service s -n np-open" in table.stdout
    assert "1 way in from outside; findings: 1 medium" in table.stderr
    assert exposure(cluster, "-n", "np-open", "-o", "name").stdout == "service/s\n"
    assert exposure(cluster, "-n", "s-np-on-purpose", "-o", "name").stdout == ""
    assert "service/s -n np-open" in exposure(cluster, "-A", "-o", "name").stdout.splitlines()
    run = json.loads(exposure(cluster, "-n", "np-open", "-o", "sarif").stdout)["runs"][0]
    assert [result["ruleId"] for result in run["results"]] == ["open-node-port"]


def test_the_proposed_command_removes_the_finding(seeded: Seeder) -> None:
    cluster = seeded.cluster
    for namespace in ("np-open", "eip-of-another", "lb-open", "np-left-over"):
        data = json.loads(exposure(cluster, "-n", namespace, "-o", "json", "--fail-on", "never").stdout)
        mend = next(finding["mend"] for way in data["exposures"] for finding in way["findings"])
        mend = mend.replace("YOUR-RANGE", "192.0.2.0")
        done = subprocess.run(
            ["bash", "-c", f'kubectl() {{ command kubectl --kubeconfig {cluster.kubeconfig} "$@"; }}\n{mend}'],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{mend}\n{done.stderr}"
        after = exposure(cluster, "-n", namespace, "--fail-on", "low")
        assert after.returncode == 0, after.stdout


def test_a_load_balancer_of_this_machine_is_probed(cluster: Cluster) -> None:
    """The address of a load balancer that `hatchway expose` makes is reachable, and `--probe` reports its answer."""
    space = ("-n", "probed", "--kubeconfig", str(cluster.kubeconfig))
    cluster.kubectl("create", "namespace", "probed")
    try:
        cluster.kubectl("-n", "probed", "create", "deployment", "echo", "--image=hatchway/echo", "--port=8080")
        cluster.kubectl("-n", "probed", "rollout", "status", "deployment/echo", "--timeout=60s")
        exposed = cluster.hatchway("expose", "deploy/echo", "--type=LoadBalancer", "--port=8080", *space)
        assert "LoadBalancer" in exposed.stdout
        done = cluster.hatchway("exposure", "--probe", "-o", "json", *space, check=False)
        balancer = next(way for way in json.loads(done.stdout)["exposures"] if way["way"] == "LoadBalancer")
        if not balancer["locations"]:
            pytest.skip("this cluster gives load balancers no addresses")
        assert balancer["reachableFrom"] in ("machine", "private")
        assert [(one["kind"], one["tls"]) for one in balancer["answers"]] == [("api", False)]
        table = cluster.hatchway("exposure", "--probe", *space, check=False).stdout
        assert "Answers to requests from this machine, without credentials:" in table
    finally:
        cluster.kubectl("delete", "namespace", "probed", "--wait=false")
