"""Each filter refuses the same nodes as Kubernetes' plugin, with its texts (`pkg/scheduler/framework/plugins`)."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.controllers.scheduling.filters import NodeRefusal, PodFilters
from hatchway.cluster.controllers.scheduling.nodeselection import named_nodes
from hatchway.cluster.controllers.scheduling.podinfo import PodInfo
from hatchway.kube.api import Object
from tests.unit.controllers.scheduling.shapes import HOST, REQUIRED, ZONE, cluster_of, decide, node, pod, term

_TAINT = {"key": "k", "value": "v", "effect": "NoSchedule"}
_WEB = {"app": "web"}


def _required(*terms: Object) -> Object:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def _in(key: str, *values: str, operator: str = "In") -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


def _port(number: int, ip: str = "", protocol: str = "TCP") -> list[Object]:
    port = {"containerPort": number, "hostPort": number, "protocol": protocol, **({"hostIP": ip} if ip else {})}
    return [{"name": "c", "ports": [port]}]


def _anti(*terms: Object) -> Object:
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def _with(*terms: Object) -> Object:
    return {"podAffinity": {REQUIRED: list(terms)}}


_UNTOLERATED = "node(s) had untolerated taint(s)"
_SELECTOR = "node(s) didn't match Pod's node affinity/selector"
_PORTS = "node(s) didn't have free ports for the requested pod ports"
_ANTI = "node(s) didn't match pod anti-affinity rules"
_AFFINITY = "node(s) didn't match pod affinity rules"
_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"

CASES: list[tuple[str, Object, Object, list[Object], str]] = [
    ("nothing", pod("p"), node("n"), [], ""),
    ("cordoned", pod("p"), node("n", unschedulable=True), [], "node(s) were unschedulable"),
    (
        "cordoned and tolerated",
        pod("p", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]),
        node("n", unschedulable=True),
        [],
        "",
    ),
    ("tainted", pod("p"), node("n", taints=[_TAINT]), [], _UNTOLERATED),
    ("NoExecute", pod("p"), node("n", taints=[{**_TAINT, "effect": "NoExecute"}]), [], _UNTOLERATED),
    ("PreferNoSchedule", pod("p"), node("n", taints=[{**_TAINT, "effect": "PreferNoSchedule"}]), [], ""),
    ("tolerated", pod("p", tolerations=[{"key": "k", "value": "v"}]), node("n", taints=[_TAINT]), [], ""),
    ("another value", pod("p", tolerations=[{"key": "k", "value": "w"}]), node("n", taints=[_TAINT]), [], _UNTOLERATED),
    # The operators Lt and Gt are an alpha feature, which is off. So a toleration with them has no effect.
    (
        "numeric",
        pod("p", tolerations=[{"key": "k", "operator": "Gt", "value": "1"}]),
        node("n", taints=[{**_TAINT, "value": "2"}]),
        [],
        _UNTOLERATED,
    ),
    ("selector", pod("p", nodeSelector={"a": "b"}), node("n"), [], _SELECTOR),
    ("selector fits", pod("p", nodeSelector={"a": "b"}), node("n", labels={"a": "b"}), [], ""),
    ("one of two terms", pod("p", affinity=_required({"matchExpressions": [_in("a", "x")]},
                                                      {"matchExpressions": [_in("a", "b")]})),
     node("n", labels={"a": "b"}), [], ""),
    ("an empty term matches nothing", pod("p", affinity=_required({})), node("n"), [], _SELECTOR),
    ("Gt", pod("p", affinity=_required({"matchExpressions": [_in("a", "5", operator="Gt")]})),
     node("n", labels={"a": "5"}), [], _SELECTOR),
    ("another node by name", pod("p", affinity=_required({"matchFields": [_in("metadata.name", "other")]})),
     node("n"), [], "node(s) didn't satisfy plugin(s) [NodeAffinity]"),
    ("port taken", pod("p", containers=_port(80)), node("n"), [pod("q", containers=_port(80))], _PORTS),
    ("other protocol", pod("p", containers=_port(80)), node("n"), [pod("q", containers=_port(80, protocol="UDP"))], ""),
    ("other address", pod("p", containers=_port(80, "127.0.0.1")), node("n"),
     [pod("q", containers=_port(80, "127.0.0.2"))], ""),
    ("all addresses", pod("p", containers=_port(80, "127.0.0.1")), node("n"), [pod("q", containers=_port(80))], _PORTS),
    ("port of a sidecar", pod("p", containers=_port(80)), node("n"),
     [pod("q", initContainers=[{**_port(80)[0], "restartPolicy": "Always"}])], _PORTS),
    ("cpu", pod("p", cpu="1"), node("n"), [pod("q", cpu="1500m")], "Insufficient cpu"),
    ("exactly enough", pod("p", cpu="500m"), node("n"), [pod("q", cpu="1500m")], ""),
    ("pods", pod("p"), node("n", allocatable={"pods": "1"}), [pod("q")], "Too many pods"),
    ("extended resource that is not there",
     pod("p", containers=[{"name": "c", "resources": {"limits": {"example.com/gpu": "1"}}}]), node("n"), [],
     "Insufficient example.com/gpu"),
    ("overhead", pod("p", cpu="1900m", overhead={"cpu": "200m"}), node("n"), [], "Insufficient cpu"),
    ("the pod as a whole", pod("p", cpu="100m", resources={"requests": {"cpu": "3"}}), node("n"), [],
     "Insufficient cpu"),
    ("apart", pod("p", affinity=_anti(term(app="web"))), node("n"), [pod("q", _WEB)], _ANTI),
    ("apart in another namespace", pod("p", affinity=_anti(term(app="web"))), node("n"),
     [pod("q", _WEB, namespace="other")], ""),
    ("apart in all namespaces", pod("p", affinity=_anti({**term(app="web"), "namespaceSelector": {}})), node("n"),
     [pod("q", _WEB, namespace="other")], _ANTI),
    ("apart in chosen namespaces",
     pod("p", affinity=_anti({**term(app="web"), "namespaceSelector": {"matchLabels": {"team": "a"}}})), node("n"),
     [pod("q", _WEB, namespace="team-a")], _ANTI),
    ("no selector selects nothing", pod("p", affinity=_anti({"topologyKey": HOST})), node("n"), [pod("q")], ""),
    ("the other one wants to be apart", pod("p", _WEB), node("n"), [pod("q", affinity=_anti(term(app="web")))],
     _EXISTING),
    ("together", pod("p", affinity=_with(term(app="web"))), node("n"), [pod("q", _WEB)], ""),
    ("together with nobody", pod("p", affinity=_with(term(app="web"))), node("n"), [], _AFFINITY),
    ("the first of a group", pod("p", _WEB, affinity=_with(term(app="web"))), node("n"), [], ""),
    ("a node without the zone", pod("p", _WEB, affinity=_with(term(ZONE, app="web"))), node("n"), [], _AFFINITY),
    ("the first filter names the reason", pod("p", cpu="5", nodeSelector={"a": "b"}), node("n", taints=[_TAINT]), [],
     _UNTOLERATED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "place", "others", "reason"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_filters(wanted: Object, place: Object, others: list[Object], reason: str) -> None:
    namespaces: dict[str, dict[str, str]] = {"team-a": {"team": "a"}}
    cluster = cluster_of([place], {"n": others}, namespace_labels=lambda name: namespaces.get(name, {}))
    refusal = PodFilters(PodInfo.of(wanted), cluster).refusal(cluster.nodes["n"])
    assert (refusal.reasons if refusal else ("",)) == (reason,)


def test_the_message_counts_nodes_and_reasons() -> None:
    cluster = cluster_of([node("a", taints=[_TAINT]), node("b"), node("c")], {"b": [pod("q", cpu="2")]})
    cluster.place(PodInfo.of(pod("r", cpu="2")), "c")
    decision = decide(pod("p", cpu="1"), cluster)
    assert decision.message == (
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: 0/3 nodes are "
        "available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    )
    assert decision.plugins == {"TaintToleration", "NodeResourcesFit"}


def test_terms_that_contradict_each_other() -> None:
    both = {"matchFields": [_in("metadata.name", "a"), _in("metadata.name", "b")]}
    decision = decide(pod("p", affinity=_required(both)), cluster_of([node("a"), node("b")]))
    assert decision.message == (
        "0/2 nodes are available: pod affinity terms conflict. preemption: 0/2 nodes are available: "
        "2 Preemption is not helpful for scheduling."
    )


@pytest.mark.parametrize(
    ("terms", "names"),
    [
        ([], None),
        ([{"matchFields": [_in("metadata.name", "a")]}], {"a"}),
        ([{"matchFields": [_in("metadata.name", "a")]}, {"matchFields": [_in("metadata.name", "b")]}], {"a", "b"}),
        ([{"matchFields": [_in("metadata.name", "a")]}, {"matchExpressions": [_in("x", "y")]}], None),
        ([{"matchFields": [_in("metadata.name", "a", operator="NotIn")]}], None),
    ],
)
def test_nodes_that_terms_select_by_name(terms: list[Object], names: set[str] | None) -> None:
    assert named_nodes({"affinity": _required(*terms)}) == names


def _spread(skew: int = 1, key: str = ZONE, **more: Any) -> Object:
    selector = {"matchLabels": _WEB}
    constraint = {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    return {**constraint, **more}


_MISMATCH = "node(s) didn't match pod topology spread constraints"


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (_spread(), {"a": _MISMATCH, "b": "", "c": f"{_MISMATCH} (missing required label)"}),
        (_spread(2), {"a": "", "b": "", "c": f"{_MISMATCH} (missing required label)"}),
        # With fewer domains than minDomains, the smallest number of pods in a domain counts as 0.
        (_spread(1, minDomains=3), {"a": _MISMATCH, "b": "", "c": f"{_MISMATCH} (missing required label)"}),
        (_spread(1, HOST), {"a": _MISMATCH, "b": "", "c": ""}),
        # A constraint whose selector matches no pod, and a constraint without a selector.
        (_spread(labelSelector={"matchLabels": {"app": "db"}}), {"a": "", "b": ""}),
        (_spread(labelSelector=None), {"a": "", "b": ""}),
        # `matchLabelKeys` adds the pod's label to the selector. The existing pods have another value of the label.
        (_spread(matchLabelKeys=["version"]), {"a": "", "b": ""}),
    ],
)
def test_spreading(constraint: Object, expected: dict[str, str]) -> None:
    nodes = [node("a", labels={ZONE: "1"}), node("b", labels={ZONE: "2"}), node("c")]
    old = {**_WEB, "version": "1"}
    cluster = cluster_of(nodes, {"a": [pod("q", old)]})
    wanted = PodInfo.of(pod("p", {**_WEB, "version": "2"}, topologySpreadConstraints=[constraint]))
    filters = PodFilters(wanted, cluster)
    for name, reason in expected.items():
        refusal = filters.refusal(cluster.nodes[name])
        assert (refusal.reasons if refusal else ("",)) == (reason,)


@pytest.mark.parametrize(
    ("policies", "refused"),
    [
        # The tainted node counts. With the new pod, `a` would have 2 pods, and the tainted node 0.
        ({}, True),
        ({"nodeTaintsPolicy": "Honor"}, False),
    ],
)
def test_tainted_nodes_count_for_spreading_by_policy(policies: Object, refused: bool) -> None:
    nodes = [node("a"), node("tainted", taints=[_TAINT])]
    cluster = cluster_of(nodes, {"a": [pod("q", _WEB)]})
    wanted = PodInfo.of(pod("p", _WEB, topologySpreadConstraints=[_spread(1, HOST, **policies)]))
    assert (PodFilters(wanted, cluster).refusal(cluster.nodes["a"]) is not None) is refused


@pytest.mark.parametrize(("policy", "refused"), [("Honor", False), ("Ignore", True)])
def test_unselected_nodes_count_for_spreading_by_policy(policy: str, refused: bool) -> None:
    nodes = [node("a", labels={"disk": "ssd"}), node("b")]
    cluster = cluster_of(nodes, {"a": [pod("q", _WEB)]})
    constraint = _spread(1, HOST, nodeAffinityPolicy=policy)
    wanted = PodInfo.of(pod("p", _WEB, nodeSelector={"disk": "ssd"}, topologySpreadConstraints=[constraint]))
    assert (PodFilters(wanted, cluster).refusal(cluster.nodes["a"]) is not None) is refused


def test_pods_that_are_being_deleted_do_not_count_for_spreading() -> None:
    going = pod("q", _WEB)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster = cluster_of([node("a"), node("b")], {"a": [going]})
    wanted = PodInfo.of(pod("p", _WEB, topologySpreadConstraints=[_spread(1, HOST)]))
    assert PodFilters(wanted, cluster).refusal(cluster.nodes["a"]) is None


def test_resources_are_reserved_for_a_nominated_pod_of_the_same_or_a_higher_priority() -> None:
    cluster = cluster_of([node("n")])
    cluster.nominate(PodInfo.of(pod("waits", cpu="2", priority=10)), "n")
    for priority, fits in ((5, False), (10, False), (11, True)):
        wanted = PodInfo.of(pod("p", cpu="1", priority=priority))
        assert (PodFilters(wanted, cluster).refusal(cluster.nodes["n"]) is None) is fits


def test_filters_of_other_parts_of_the_cluster() -> None:
    """The filter of volumes is an example. It runs after the filter of resources, and may refuse every node."""
    cluster = cluster_of([node("a", allocatable={"cpu": "1"}), node("b"), node("c")])
    asked: list[str] = []

    def here_only(_pod: Object, place: Object) -> NodeRefusal | None:
        asked.append(place["metadata"]["name"])
        return None if asked[-1] == "c" else NodeRefusal("VolumeBinding", ("no volume",), False)

    assert decide(pod("p", cpu="2"), cluster, further=(here_only,)).node == "c"
    assert asked == ["b", "c"]
    decision = decide(pod("p"), cluster, problem="pod has unbound immediate PersistentVolumeClaims")
    assert decision.message.startswith("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. ")
