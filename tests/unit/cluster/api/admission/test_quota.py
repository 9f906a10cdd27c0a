"""Quotas: the amounts that objects use, the quotas that count them, and refused objects."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.amounts import texts_of
from hatchway.cluster.api.admission.quota.checking import QuotaRefusal, charged
from hatchway.cluster.api.admission.quota.scopes import in_scope
from hatchway.cluster.api.admission.quota.usage import resource_of, tracked, usage

Json = dict[str, Any]
NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z


def pod(requests: Json | None = None, limits: Json | None = None, status: Json | None = None, **spec: Any) -> Json:
    one = {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}}
    return {"metadata": {"name": "p"}, "spec": {"containers": [one], **spec}, "status": status or {}}


def used(resource: str, obj: Json) -> Json:
    return texts_of(usage(resource, obj, NOW))


def test_a_pod_uses_requests_and_limits_until_it_ends() -> None:
    one = pod({"cpu": "1", "memory": "1Gi", "example.com/gpu": "2", "hugepages-2Mi": "2Mi"}, {"cpu": "2"})
    assert used("pods", one) == {
        "count/pods": "1", "pods": "1", "cpu": "1", "requests.cpu": "1", "limits.cpu": "2", "memory": "1Gi",
        "requests.memory": "1Gi", "requests.example.com/gpu": "2", "hugepages-2Mi": "2Mi",
        "requests.hugepages-2Mi": "2Mi",
    }  # fmt: skip
    for phase in ("Succeeded", "Failed"):
        assert used("pods", {**one, "status": {"phase": phase}}) == {"count/pods": "1"}


def test_a_pod_uses_nothing_after_its_grace_period() -> None:
    one = pod()
    one["metadata"] |= {"deletionTimestamp": "2027-01-15T07:59:00Z", "deletionGracePeriodSeconds": 30}
    assert used("pods", one) == {"count/pods": "1"}
    one["metadata"]["deletionGracePeriodSeconds"] = 61
    assert "pods" in used("pods", one)


@pytest.mark.parametrize(
    ("spec", "node_ports", "balancers"),
    [
        ({"type": "ClusterIP", "ports": [{}]}, "0", "0"),
        ({"type": "NodePort", "ports": [{}, {}]}, "2", "0"),
        ({"type": "LoadBalancer", "ports": [{}, {}]}, "2", "1"),
        (
            {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{}, {"nodePort": 30000}]},
            "1",
            "1",
        ),
    ],
)
def test_services_use_node_ports_and_load_balancers(spec: Json, node_ports: str, balancers: str) -> None:
    found = used("services", {"spec": spec})
    assert found.pop("services.nodeports") == node_ports
    assert found.pop("services.loadbalancers") == balancers
    assert found == {"services": "1", "count/services": "1"}


def test_claims_use_storage_of_their_class() -> None:
    claim = {"spec": {"resources": {"requests": {"storage": "1500m"}}, "storageClassName": "gold"}}
    here = "gold.storageclass.storage.k8s.io/"
    plain = {"persistentvolumeclaims": "1", "requests.storage": "2"}
    wanted = {"count/persistentvolumeclaims": "1", **plain, **{here + name: value for name, value in plain.items()}}
    assert used("persistentvolumeclaims", claim) == wanted
    larger = {**claim, "status": {"allocatedResources": {"storage": "1Gi"}}}
    assert used("persistentvolumeclaims", larger)["requests.storage"] == "1Gi"


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("count/widgets.example.com", "widgets.example.com"),
        ("count/pods", "pods"),
        ("limits.ephemeral-storage", "pods"),
        ("requests.hugepages-1Gi", "pods"),
        ("requests.example.com/gpu", "pods"),
        ("requests.kubernetes.io/x", ""),
        ("example.com/gpu", ""),
        ("services.nodeports", "services"),
        ("gold.storageclass.storage.k8s.io/requests.storage", "persistentvolumeclaims"),
        ("secrets", "secrets"),
        ("nonsense", ""),
    ],
)
def test_each_name_in_a_quota_counts_one_type(name: str, resource: str) -> None:
    assert resource_of(name) == resource
    assert tracked(resource, [name]) == [name]


def scoped(*scopes: str, **selector: Any) -> Json:
    expressions = [{"scopeName": key, **value} for key, value in selector.items()]
    return {"spec": {"scopes": list(scopes), "scopeSelector": {"matchExpressions": expressions}}}


def test_scopes_choose_pods() -> None:
    best_effort, with_deadline, classy = pod(), pod(activeDeadlineSeconds=0), pod(priorityClassName="high")
    asking = pod({"cpu": "1"})
    assert in_scope(scoped(), "pods", best_effort)
    assert in_scope(scoped(), "configmaps", {})
    assert not in_scope(scoped("BestEffort"), "configmaps", {})
    for scope, inside, outside in (
        ("BestEffort", best_effort, asking),
        ("NotBestEffort", asking, best_effort),
        ("Terminating", with_deadline, best_effort),
        ("NotTerminating", best_effort, with_deadline),
        ("PriorityClass", classy, best_effort),
        (
            "CrossNamespacePodAffinity",
            pod(
                affinity={
                    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["a"]}]}
                }
            ),
            pod(affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}),
        ),
    ):
        assert in_scope(scoped(scope), "pods", inside), scope
        assert not in_scope(scoped(scope), "pods", outside), scope
    # All scopes must match.
    assert not in_scope(scoped("BestEffort", "Terminating"), "pods", best_effort)


@pytest.mark.parametrize(
    ("requirement", "of_high", "of_none"),
    [
        ({"operator": "In", "values": ["high"]}, True, False),
        ({"operator": "In", "values": ["low"]}, False, False),
        ({"operator": "NotIn", "values": ["high"]}, False, True),
        ({"operator": "NotIn", "values": ["low"]}, True, True),
        ({"operator": "Exists"}, True, False),
        ({"operator": "DoesNotExist"}, False, True),
    ],
)
def test_selectors_choose_pods_by_their_priority_class(requirement: Json, of_high: bool, of_none: bool) -> None:
    quota = scoped(PriorityClass=requirement)
    assert in_scope(quota, "pods", pod(priorityClassName="high")) is of_high
    assert in_scope(quota, "pods", pod()) is of_none


def quota(hard: Json, used: Json | None = None, name: str = "q", **spec: Any) -> Json:
    status = {"hard": hard, "used": dict.fromkeys(hard, "0") if used is None else used}
    return {"metadata": {"name": name}, "spec": {"hard": hard, **spec}, "status": status}


def charge(quotas: list[Json], resource: str, obj: Json, old: Json | None = None) -> list[Json]:
    formerly = usage(resource, old, NOW) if old is not None else {}
    return [texts_of(after) for _, after in charged(quotas, resource, obj, usage(resource, obj, NOW), old, formerly)]


def refusal(quotas: list[Json], resource: str, obj: Json, old: Json | None = None) -> str:
    with pytest.raises(QuotaRefusal) as error:
        charge(quotas, resource, obj, old)
    return str(error.value)


def test_an_accepted_object_is_charged_to_every_quota_that_counts_it() -> None:
    quotas = [
        quota({"pods": "2", "requests.cpu": "2"}, {"pods": "1", "requests.cpu": "500m"}),
        quota({"count/pods": "9", "example.com/x": "1"}, {"count/pods": "3"}, "second"),
        quota({"configmaps": "1"}, name="other"),
        quota({"pods": "0"}, name="scoped", scopes=["Terminating"]),
    ]
    found = charge(quotas, "pods", pod({"cpu": "1500m"}))
    assert found == [{"pods": "2", "requests.cpu": "2"}, {"count/pods": "4"}]


def test_an_object_that_exceeds_a_quota_is_refused_with_kubernetes_message() -> None:
    bounds = quota(
        {"pods": "2", "requests.cpu": "1", "memory": "1Gi"}, {"pods": "2", "requests.cpu": "1", "memory": "0"}
    )
    assert refusal([bounds], "pods", pod({"cpu": "1", "memory": "1Gi"})) == (
        "exceeded quota: q, requested: pods=1,requests.cpu=1, used: pods=2,requests.cpu=1, "
        "limited: pods=2,requests.cpu=1"
    )


def test_every_container_must_request_the_limited_resources() -> None:
    one = pod({"cpu": "1"})
    one["spec"]["initContainers"] = [{"name": "b"}, {"name": "a"}]
    bounds = quota({"limits.cpu": "9", "requests.cpu": "9", "limits.ephemeral-storage": "1"})
    assert refusal([bounds], "pods", one) == (
        "failed quota: q: must specify limits.cpu for: a,b,c; requests.cpu for: a,b"
    )


def test_a_quota_without_status_refuses_all_objects() -> None:
    assert refusal([quota({"pods": "2", "count/pods": "1"}, {})], "pods", pod()) == (
        "status unknown for quota: q, resources: count/pods,pods"
    )


def test_an_update_is_charged_for_the_increase() -> None:
    plain = {"spec": {"type": "ClusterIP", "ports": [{}, {}]}}
    open_one = {"spec": {"type": "NodePort", "ports": [{}, {}]}}
    bounds = quota({"services": "1", "services.nodeports": "2"}, {"services": "1", "services.nodeports": "0"})
    assert charge([bounds], "services", open_one, plain) == [{"services": "1", "services.nodeports": "2"}]
    assert charge([bounds], "services", plain, open_one) == []
    full = quota({"services.nodeports": "2"}, {"services.nodeports": "1"})
    assert refusal([full], "services", open_one, plain) == (
        "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=1, limited: services.nodeports=2"
    )
