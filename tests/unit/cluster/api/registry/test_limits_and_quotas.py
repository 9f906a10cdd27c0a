"""Validation of LimitRanges and ResourceQuotas, with Kubernetes' error texts."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.api.registry.printers.limits import POD_TEMPLATE, RESOURCE_QUOTA
from hatchway.cluster.api.registry.schema import apply_defaults
from hatchway.cluster.api.registry.strategies.limitranges import LimitRangeStrategy
from hatchway.cluster.api.registry.strategies.podtemplate import PodTemplateStrategy
from hatchway.cluster.api.registry.strategies.resourcequotas import ResourceQuotaStrategy

Json = dict[str, Any]


def problems(strategy: Any, obj: Json) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in strategy.validate(obj)]


def ranges(*items: Json) -> Json:
    return {"metadata": {"name": "l"}, "spec": {"limits": list(items)}}


def test_missing_amounts_of_a_limit_range_are_defaulted_from_the_others() -> None:
    item = {
        "type": "Container",
        "max": {"cpu": "1", "memory": "1Gi"},
        "default": {"cpu": "200m"},
        "defaultRequest": {"memory": "1Mi"},
        "min": {"cpu": "1m", "ephemeral-storage": "1"},
    }
    made = apply_defaults(("", "v1", "LimitRange"), ranges(item, {"type": "Pod", "max": {"cpu": "2"}}))
    first, second = made["spec"]["limits"]
    assert first["default"] == {"cpu": "200m", "memory": "1Gi"}
    assert first["defaultRequest"] == {"memory": "1Mi", "cpu": "200m", "ephemeral-storage": "1"}
    assert second == {"type": "Pod", "max": {"cpu": "2"}}


@pytest.mark.parametrize(
    ("item", "found"),
    [
        (
            {"min": {"cpu": "2"}, "max": {"cpu": "1"}},
            'min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
        ),
        (
            {"min": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}},
            'defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1',
        ),
        (
            {"defaultRequest": {"cpu": "2"}, "max": {"cpu": "1"}},
            'defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than max value 1',
        ),
        (
            {"defaultRequest": {"cpu": "2"}, "default": {"cpu": "1"}},
            'defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1',
        ),
        (
            {"min": {"cpu": "2"}, "default": {"cpu": "1"}},
            'default[cpu]: Invalid value: "2": min value 2 is greater than default value 1',
        ),
        (
            {"default": {"cpu": "2"}, "max": {"cpu": "1"}},
            'default[cpu]: Invalid value: "1": default value 2 is greater than max value 1',
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "500m"}},
            'maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1',
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "3"}, "min": {"cpu": "1"}, "max": {"cpu": "2"}},
            'maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000',
        ),
        (
            {"default": {"example.com/gpu": "2"}, "defaultRequest": {"example.com/gpu": "1"}},
            'defaultRequest[example.com/gpu]: Invalid value: "1": '
            "default value 2 must equal to defaultRequest value 1 in example.com/gpu",
        ),
        (
            {"max": {"storage": "1"}},
            'max[storage]: Invalid value: "storage": must be a standard resource for containers',
        ),
    ],
)
def test_contradictory_limit_ranges_are_refused(item: Json, found: str) -> None:
    assert problems(LimitRangeStrategy(), ranges({"type": "Container", **item})) == [f"spec.limits[0].{found}"]


def test_limit_ranges_with_repeated_types_or_wrong_fields_are_refused() -> None:
    made = ranges(
        {"type": "Pod", "default": {"cpu": "1"}},
        {"type": "Pod"},
        {"type": "PersistentVolumeClaim", "max": {"cpu": "1"}},
        {"type": "Node"},
        {"type": "example.com/thing", "min": {"storage": "1"}},
    )
    assert problems(LimitRangeStrategy(), made) == [
        "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        'spec.limits[1].type: Duplicate value: "Pod"',
        "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
        'spec.limits[3].type: Invalid value: "Node": must be a standard limit type or fully qualified',
    ]


def quota(hard: Json, **spec: Any) -> Json:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}}


@pytest.mark.parametrize(
    ("name", "amount", "found"),
    [
        ("pods", "1500m", 'Invalid value: "1500m": must be an integer'),
        ("cpu", "-1", 'Invalid value: "-1": must be greater than or equal to 0'),
        ("storage", "1", 'Invalid value: "storage": must be a standard resource for quota'),
        ("a/b/c", "1", 'Invalid value: "a/b/c": a qualified name must consist of'),
    ],
)
def test_names_and_amounts_of_quotas_are_checked(name: str, amount: str, found: str) -> None:
    first = problems(ResourceQuotaStrategy(), quota({name: amount}))[0]
    assert first.startswith(f"spec.hard[{name}]: {found}")


def test_names_of_resources_that_a_quota_can_limit() -> None:
    hard = dict.fromkeys(
        (
            "pods", "requests.storage", "limits.ephemeral-storage", "count/widgets.example.com", "hugepages-2Mi",
            "requests.example.com/gpu", "gold.storageclass.storage.k8s.io/requests.storage", "services.nodeports",
        ),
        "1",
    )  # fmt: skip
    assert problems(ResourceQuotaStrategy(), quota(hard)) == []


@pytest.mark.parametrize(
    ("hard", "scopes", "why"),
    [
        ("pods", ["BestEffort"], []),
        ("cpu", ["BestEffort"], ["unsupported scope applied to resource"]),
        ("requests.storage", ["PriorityClass"], ["unsupported scope applied to resource"]),
        ("requests.storage", ["VolumeAttributesClass"], []),
        ("count/pods", ["Terminating"], []),
        ("pods", ["Terminating", "NotTerminating"], ["conflicting scopes"]),
        ("pods", ["Other"], ["unsupported scope"]),
    ],
)
def test_scopes_must_fit_the_limited_resources(hard: str, scopes: list[str], why: list[str]) -> None:
    shown = str(scopes).replace("'", '"').replace(", ", ",")
    wanted = [f"spec.scopes: Invalid value: {shown}: {one}" for one in why]
    assert problems(ResourceQuotaStrategy(), quota({hard: "1"}, scopes=scopes)) == wanted


@pytest.mark.parametrize(
    ("requirement", "found"),
    [
        ({"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}, []),
        ({"scopeName": "PriorityClass", "operator": "In"}, ["values: Required value: must be at least one value when"]),
        (
            {"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]},
            ['values: Invalid value: ["a"]: must be no value when'],
        ),
        (
            {"scopeName": "PriorityClass", "operator": "Is"},
            ['operator: Invalid value: "Is": not a valid selector operator'],
        ),
        (
            {"scopeName": "Terminating", "operator": "DoesNotExist"},
            ["operator: Invalid value: \"DoesNotExist\": must be 'Exist' when scope is any of"],
        ),
        ({"scopeName": "X", "operator": "Exists"}, ['scopeName: Invalid value: "X": unsupported scope']),
    ],
)
def test_scope_selectors_are_checked(requirement: Json, found: list[str]) -> None:
    made = problems(ResourceQuotaStrategy(), quota({"pods": "1"}, scopeSelector={"matchExpressions": [requirement]}))
    assert len(made) == len(found)
    for line, start in zip(made, found, strict=True):
        assert line.startswith(f"spec.scopeSelector.matchExpressions.{start}")


def test_the_scopes_of_a_quota_are_immutable() -> None:
    old, new = quota({"pods": "1"}, scopes=["BestEffort"]), quota({"pods": "1"})
    causes = ResourceQuotaStrategy().validate_update(new, old)
    assert [cause.message for cause in causes] == ["Invalid value: null: field is immutable"]
    assert ResourceQuotaStrategy().validate_update(quota({"pods": "2"}, scopes=["BestEffort"]), old) == []


def test_table_cells_of_quotas_and_templates() -> None:
    hard = {"pods": "2", "limits.cpu": "1", "requests.cpu": "1"}
    one = {**quota(hard), "status": {"hard": hard, "used": {"pods": "1", "limits.cpu": "500m"}}}
    assert RESOURCE_QUOTA.cells(one, 0.0)[:3] == ["q", "pods: 1/2, requests.cpu: 0/1", "limits.cpu: 500m/1"]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = {"metadata": {"name": "t"}, "template": template}
    assert POD_TEMPLATE.cells(made, 0.0) == ["t", "c", "i", "a=b"]
    template["spec"]["containers"] = []
    assert "template.spec.containers" in {cause.field for cause in PodTemplateStrategy().validate(made)}
