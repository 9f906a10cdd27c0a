"""FlowSchemas and PriorityLevelConfigurations that every cluster has (apiserver's `pkg/apis/flowcontrol/bootstrap`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.kube.api import Object

__all__ = ["flow_objects"]

_GROUP = "flowcontrol.apiserver.k8s.io"
_ALL = {"group": ["system:unauthenticated", "system:authenticated"]}
_NODES = {"group": ["system:nodes"]}
_LEASES = (["coordination.k8s.io"], ["leases"])
# For each name: shares, lendable percent, (queues, hand size). None: requests are rejected and not queued.
_LEVELS: dict[str, tuple[int, int, tuple[int, int] | None]] = {
    "catch-all": (5, 0, None),
    "system": (30, 33, (64, 6)),
    "node-high": (40, 25, (64, 6)),
    "leader-election": (10, 0, (16, 4)),
    "workload-high": (40, 50, (128, 6)),
    "workload-low": (100, 90, (128, 6)),
    "global-default": (20, 50, (128, 6)),
}


def flow_objects() -> list[tuple[str, Object]]:
    """Return the mandatory and the suggested objects, each with its resource."""
    levels = f"prioritylevelconfigurations.{_GROUP}"
    return [(levels, one) for one in _levels()] + [(f"flowschemas.{_GROUP}", one) for one in _schemas()]


def _object(name: str, spec: dict[str, Any]) -> Object:
    annotations = {"apf.kubernetes.io/autoupdate-spec": "true"}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": spec}


def _levels() -> Iterator[Object]:
    yield _object("exempt", {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
    for name, (shares, percent, queues) in _LEVELS.items():
        response: dict[str, Any] = {"type": "Reject"}
        if queues is not None:
            queuing = {"queues": queues[0], "handSize": queues[1], "queueLengthLimit": 50}
            response = {"type": "Queue", "queuing": queuing}
        limited = {"nominalConcurrencyShares": shares, "lendablePercent": percent, "limitResponse": response}
        yield _object(name, {"type": "Limited", "limited": limited})


def _schemas() -> Iterator[Object]:
    accounts = {"serviceAccount": ["*"]}
    managers = {"user": ["system:kube-controller-manager"]}
    leaders = {"user": ["system:kube-controller-manager", "system:kube-scheduler"], **accounts}
    probes = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}
    yield _schema("exempt", "exempt", 1, "", {"group": ["system:masters"]})
    yield _schema("probes", "exempt", 2, "", _ALL, resources=[], others=[probes])
    rule = _rule(["get", "create", "update"], *_LEASES)
    yield _schema("system-leader-election", "leader-election", 100, "ByUser", leaders, resources=[rule], others=[])
    rules = [_rule(["*"], [""], ["nodes", "nodes/status"], cluster=True), _rule(["*"], *_LEASES)]
    yield _schema("system-node-high", "node-high", 400, "ByUser", _NODES, resources=rules, others=[])
    yield _schema("system-nodes", "system", 500, "ByUser", _NODES)
    yield _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", managers)
    yield _schema("kube-scheduler", "workload-high", 800, "ByNamespace", {"user": ["system:kube-scheduler"]})
    yield _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", accounts)
    yield _schema("service-accounts", "workload-low", 9000, "ByUser", {"group": ["system:serviceaccounts"]})
    yield _schema("global-default", "global-default", 9900, "ByUser", _ALL)
    yield _schema("catch-all", "catch-all", 10_000, "ByUser", _ALL)


def _rule(verbs: list[str], groups: list[str], resources: list[str], *, cluster: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": ["*"]}
    return {**found, "clusterScope": True} if cluster else found


def _schema(
    name: str,
    level: str,
    precedence: int,
    method: str,
    subjects: dict[str, list[str]],
    *,
    resources: list[dict[str, Any]] | None = None,
    others: list[dict[str, Any]] | None = None,
) -> Object:
    """Return a FlowSchema. resources, others: the rules for resources and other paths; None to match everything."""
    kinds = {"group": "Group", "serviceAccount": "ServiceAccount", "user": "User"}
    more = {"serviceAccount": {"namespace": "kube-system"}}
    found: dict[str, Any] = {
        "subjects": [
            {"kind": kinds[key], key: {**more.get(key, {}), "name": one}}
            for key, names in subjects.items()
            for one in names
        ]
    }
    if resources is None:
        resources = [_rule(["*"], ["*"], ["*"], cluster=True)]
    if others is None:
        others = [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    found |= {"resourceRules": resources} if resources else {}
    found |= {"nonResourceRules": others} if others else {}
    spec: dict[str, Any] = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [found],
    }
    if method:
        spec["distinguisherMethod"] = {"type": method}
    return _object(name, spec)
