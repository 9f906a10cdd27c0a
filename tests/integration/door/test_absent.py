"""Targets that exist but have no endpoints, behind a kube-apiserver, whose messages do not tell the reason."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cluster import endpoint
from tests.integration.door.kubernetes import Front, Kubernetes, front

HTTP = {"name": "web", "port": 80, "targetPort": 8080, "protocol": "TCP"}
LABELS = {"app": "web"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Front]:
    async with front(tmp_path) as found:
        fill(found.kubernetes)
        yield found


def pod(kubernetes: Kubernetes, name: str, address: str, phase: str, **status: Any) -> None:
    kubernetes.cluster.add_pod("shop", name, address, {"name": "http", "containerPort": 8080})
    found = kubernetes.cluster.objects["pods", "shop", name]
    found["metadata"]["labels"] = {"app": name.partition("-")[0]}
    found["status"] |= {"phase": phase, **status}


def condition(kind: str, status: str, **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, **more}]}


def fill(kubernetes: Kubernetes) -> None:
    cluster = kubernetes.cluster
    ready = condition("Ready", "True")
    cluster.objects["namespaces", "", "shop"] = {"metadata": {"name": "shop"}}
    pod(kubernetes, "web-1", "127.0.0.1", "Running", **ready)
    pod(kubernetes, "slow-1", "", "Pending", **condition("PodScheduled", "False", message="0/3 nodes are available"))
    pod(kubernetes, "job-1", "127.0.0.9", "Succeeded")
    pod(kubernetes, "dead-1", "127.0.0.9", "Failed", reason="Evicted", message="low on memory")
    unready = [{"name": "c", "ready": False}]
    pod(kubernetes, "half-1", "127.0.0.1", "Running", containerStatuses=unready)
    add = cluster.add_service
    add("shop", "bare", HTTP)
    add("shop", "outside", HTTP, type="ExternalName", externalName="example.com")
    add("shop", "alias", type="ExternalName", externalName="web.shop.svc.cluster.local")
    add("shop", "secure-alias", {"port": 443}, type="ExternalName", externalName="example.com")
    add("shop", "fresh", HTTP, selector=LABELS)
    add("shop", "nothing", HTTP, selector={"app": "nothing"})
    add("shop", "half", HTTP, selector={"app": "half"})
    cluster.add_slice("shop", "half", [HTTP | {"port": 8080}], [endpoint("127.0.0.1", "half-1", "shop", ready=False)])
    add("shop", "manual", HTTP)
    cluster.add_slice("shop", "manual", [{"name": "web", "port": 5432}], [endpoint("192.0.2.9", "", "")])
    add("shop", "misnamed", HTTP | {"targetPort": "metrics"}, selector=LABELS)
    cluster.add_slice("shop", "misnamed", [], [endpoint("127.0.0.1", "web-1", "shop")])
    add("shop", "portless", clusterIP="None", selector=LABELS)
    cluster.add_slice("shop", "portless", [], [endpoint("127.0.0.1", "web-1", "shop")])
    node = cluster.objects["nodes", "", "node-1"]
    node["status"] |= condition("Ready", "Unknown", message="Kubelet stopped posting node status.")


@pytest.mark.parametrize(
    ("host", "problem", "words"),
    [
        ("bare.shop.svc", "no-endpoints", ["it has no selector", "kubectl set selector service bare"]),
        ("80.bare.shop.svc", "no-endpoints", ["it has no selector"]),
        ("outside.shop.svc", "out-of-reach", ["another name for example.com", "http://example.com/"]),
        ("secure-alias.shop.svc", "out-of-reach", ["https://example.com/"]),
        ("alias.shop.svc", "out-of-reach", ["http://web.shop.svc.localhost:"]),
        ("fresh.shop.svc", "no-endpoints", ["still writing its endpoints", "web-1"]),
        ("nothing.shop.svc", "no-endpoints", ["no pod matches its selector", "app=nothing"]),
        ("half.shop.svc", "no-endpoints", ["half-1", "is not ready"]),
        ("manual.shop.svc", "out-of-reach", ["its endpoints are not pods", "192.0.2.9:5432"]),
        ("misnamed.shop.svc", "no-endpoints", ["targetPort is &quot;metrics&quot;", "http (8080)"]),
        ("portless.shop.svc", "no-such-port", ["it declares no port", "http://web-1.shop.pod.localhost:"]),
        ("nope.fresh.shop.svc", "no-such-port", ["no port &quot;nope&quot;"]),
        ("slow-1.shop.pod", "not-running", ["does not run yet", "0/3 nodes are available"]),
        ("8080.job-1.shop.pod", "not-running", ["has ended", "Completed"]),
        ("8080.dead-1.shop.pod", "not-running", ["has ended", "low on memory"]),
        ("9.half-1.shop.pod", "dial-refused", ["the pod is not ready"]),
        ("9.node-1.node", "not-ready", ["Kubelet stopped posting node status"]),
    ],
)
async def test_the_page_tells_why_the_target_does_not_answer(
    made: Front, host: str, problem: str, words: list[str]
) -> None:
    page = await made.ask(host)
    assert (page.status, page.problem) == (503, problem)
    for word in words:
        assert word in page.text
    assert "not found" not in page.text
    # No page proposes the host name of the request itself.
    name = host.split(".")[-2 if host.endswith("node") else -3]
    assert f'href="http://{name}.' not in page.text


@pytest.mark.parametrize("host", ["bare.shop.svc", "outside.shop.svc", "fresh.shop.svc", "slow-1.shop.pod"])
async def test_tools_get_the_reason_as_a_status(made: Front, host: str) -> None:
    answer = await made.ask(host, page=False)
    status = json.loads(answer.body)
    assert (answer.status, status["code"], status["reason"]) == (503, 503, "ServiceUnavailable")
    assert "not found" not in status["message"] and "not allowed" not in status["message"]


async def test_a_target_that_does_not_exist_is_not_found(made: Front) -> None:
    page = await made.ask("we.shop.svc")
    assert (page.status, page.problem) == (404, "not-found")
    # The door uses the current context, and the page names it.
    assert "in the namespace &quot;shop&quot; of context &quot;" in page.text
    tool = await made.ask("we.shop.svc", page=False)
    assert (tool.status, json.loads(tool.body)["message"]) == (404, 'services "we" not found')
    assert tool.problem == ""


async def test_the_page_of_a_missing_port_lists_all_ports(made: Front) -> None:
    ports = [HTTP, {"name": "db", "port": 5432}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    made.kubernetes.cluster.add_service("shop", "many", *ports, selector=LABELS)
    found = [endpoint("127.0.0.1", "web-1", "shop")]
    made.kubernetes.cluster.add_slice("shop", "many", [HTTP | {"port": 1}], found)
    page = await made.ask("nope.many.shop.svc")
    assert page.problem == "no-such-port"
    assert 'href="http://web.many.shop.svc.localhost:' in page.text
    assert "db (5432)" in page.text and "5432 is usually a port of PostgreSQL" in page.text
    assert "dns (53)" in page.text and "it is a port for UDP" in page.text


async def test_a_proxy_path_without_a_port_does_not_mean_a_port_with_a_name(made: Front) -> None:
    """As in Kubernetes; its message says that there are no endpoints."""
    cluster = made.kubernetes.cluster
    found = [endpoint("127.0.0.1", "web-1", "shop")]
    for name, ports in {"one": [HTTP], "two": [HTTP, HTTP | {"name": "admin", "port": 81}]}.items():
        cluster.add_service("shop", name, *ports, selector=LABELS)
        cluster.add_slice("shop", name, [port | {"port": 1} for port in ports], found)
    path = "/api/v1/namespaces/shop/services/{}/proxy/"
    page = await made.ask("prefix", path.format("one"))
    assert (page.status, page.problem) == (503, "no-such-port")
    assert "has one port, which has a name" in page.text and "several" not in page.text
    assert ">web (80)</a>" in page.text
    tool = await made.ask("prefix", path.format("one"), page=False)
    assert (tool.status, tool.problem) == (503, "no-such-port")
    assert "has one port, which has a name" in json.loads(tool.body)["message"]
    assert "has several ports, and the address names none" in (await made.ask("prefix", path.format("two"))).text
    # The raw API has the API server's own words.
    raw = await made.ask("", path.format("one"), page=False)
    assert json.loads(raw.body)["message"] == 'no endpoints available for service "one"'


@pytest.mark.parametrize("number", [7000, 7001, 5432])
async def test_a_port_whose_number_is_usual_for_another_protocol_is_tried(made: Front, number: int) -> None:
    """The number does not prove the protocol, and the error of a real attempt says more than a guess."""
    made.kubernetes.cluster.add_service("shop", "own", {"port": number}, selector=LABELS)
    found = [endpoint("127.0.0.1", "web-1", "shop")]
    made.kubernetes.cluster.add_slice("shop", "own", [{"port": 1}], found)
    page = await made.ask(f"{number}.own.shop.svc")
    assert page.problem == "dial-refused" and "connection refused" in page.text


async def test_a_port_whose_name_is_that_of_another_protocol_is_not_tried(made: Front) -> None:
    made.kubernetes.cluster.add_service("shop", "db", {"name": "postgres", "port": 5432}, selector=LABELS)
    made.kubernetes.cluster.add_slice("shop", "db", [{"port": 1}], [endpoint("127.0.0.1", "web-1", "shop")])
    page = await made.ask("db.shop.svc")
    assert page.problem == "needs-forward"
    assert "its name, &quot;postgres&quot;, is that of another protocol" in page.text


async def test_a_service_is_reached_at_once_when_it_gets_endpoints(made: Front) -> None:
    assert (await made.ask("bare.shop.svc")).problem == "no-endpoints"
    found = [endpoint("127.0.0.1", "web-1", "shop")]
    made.kubernetes.cluster.add_slice("shop", "bare", [HTTP | {"port": 1}], found)
    assert (await made.ask("bare.shop.svc")).problem == "dial-refused"


async def test_a_user_who_may_not_read_services_is_told_the_possible_reasons(made: Front) -> None:
    made.kubernetes.unreadable = {"services"}
    page = await made.ask("web.bare.shop.svc")
    assert (page.status, page.problem) == (404, "not-found")
    for words in ("or nothing is behind it", "you may not read services", "kind: Role", "ada"):
        assert words in page.text


@pytest.mark.parametrize(
    ("unreadable", "host", "words"),
    [
        ({"pods"}, "nothing.shop.svc", "you may not read pods"),
        ({"pods", "endpointslices"}, "nothing.shop.svc", "you may not read pods"),
        ({"services", "pods"}, "web.half.shop.svc", "you may not read services"),
    ],
)
async def test_a_user_who_may_not_read_the_reason_is_told_so(
    made: Front, unreadable: set[str], host: str, words: str
) -> None:
    made.kubernetes.unreadable = unreadable
    page = await made.ask(host)
    assert (page.status, page.problem) == (503, "no-endpoints")
    assert words in page.text and "matches its selector" not in page.text


async def test_an_application_that_answers_as_an_api_server_is_not_interrupted(made: Front) -> None:
    """The 404 and 403 of a cluster in a pod (vcluster) are about its own objects."""
    made.kubernetes.says["services", "fresh"] = (404, 'configmaps "x" not found')
    page = await made.ask("fresh.shop.svc")
    assert (page.status, page.problem) == (404, "") and b'configmaps \\"x\\" not found' in page.body
