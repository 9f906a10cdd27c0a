"""The effects of LimitRanges on pods and claims, with Kubernetes' error texts."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.amounts import texts_of
from hatchway.cluster.api.admission.limits import LIMIT_RANGER, claim_problems, pod_problems, set_container_defaults
from hatchway.cluster.podresources import pod_resources

Json = dict[str, Any]


def limits(**item: Any) -> Json:
    return {"spec": {"limits": [{"type": "Container", **item}]}}


def container(name: str = "c", *, requests: Json | None = None, limits: Json | None = None, **more: Any) -> Json:
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **more}


def pod(*containers: Json, init: list[Json] | None = None, **spec: Any) -> Json:
    return {"metadata": {}, "spec": {"containers": list(containers), "initContainers": init or [], **spec}}


def test_containers_get_default_requests_and_limits() -> None:
    one = pod(container("a", limits={"cpu": "1"}), {"name": "b"}, init=[{"name": "i"}])
    one["metadata"]["annotations"] = {"mine": "yes"}
    set_container_defaults(limits(default={"cpu": "2", "memory": "1Gi"}, defaultRequest={"cpu": "1"}), one)
    assert [each["resources"] for each in one["spec"]["containers"]] == [
        {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}},
    ]
    assert one["metadata"]["annotations"] == {
        "mine": "yes",
        LIMIT_RANGER: "LimitRanger plugin set: cpu request for container a; memory limit for container a; "
        "cpu request for container b; cpu, memory limit for container b; "
        "cpu request for init container i; cpu, memory limit for init container i",
    }


def test_a_pod_with_all_requests_and_limits_is_not_changed() -> None:
    one = pod(container(requests={"cpu": "1"}, limits={"cpu": "1"}))
    before = repr(one)
    set_container_defaults(limits(default={"cpu": "2"}, defaultRequest={"cpu": "1"}), one)
    set_container_defaults({"spec": {"limits": [{"type": "Pod", "default": {"memory": "1"}}]}}, one)
    assert repr(one) == before


@pytest.mark.parametrize(
    ("item", "requests", "bounds", "problem"),
    [
        ({"min": {"cpu": "100m"}}, {}, {}, "minimum cpu usage per Container is 100m.  No request is specified"),
        (
            {"min": {"cpu": "100m"}},
            {"cpu": "50m"},
            {"cpu": "1"},
            "minimum cpu usage per Container is 100m, but request is 50m",
        ),
        (
            {"min": {"cpu": "100m"}},
            {"cpu": "100m"},
            {"cpu": "50m"},
            "minimum cpu usage per Container is 100m, but limit is 50m",
        ),
        ({"max": {"memory": "1Gi"}}, {}, {}, "maximum memory usage per Container is 1Gi.  No limit is specified"),
        (
            {"max": {"memory": "1Gi"}},
            {},
            {"memory": "1025Mi"},
            "maximum memory usage per Container is 1Gi, but limit is 1025Mi",
        ),
        (
            {"max": {"memory": "1Gi"}},
            {"memory": "2Gi"},
            {"memory": "1Gi"},
            "maximum memory usage per Container is 1Gi, but request is 2Gi",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "0"},
            {"cpu": "1"},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "1"},
            {},
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "1500m"}},
            {"cpu": "1"},
            {"cpu": "2"},
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
        ),
    ],
)
def test_amounts_out_of_bounds_are_refused(item: Json, requests: Json, bounds: Json, problem: str) -> None:
    one = pod(container(requests=requests, limits=bounds))
    assert pod_problems(limits(**item), one) == [problem]
    assert pod_problems(limits(**item), pod(init=[container(requests=requests, limits=bounds)])) == [problem]


def test_amounts_within_bounds_are_accepted() -> None:
    item = limits(min={"cpu": "1"}, max={"cpu": "2"}, maxLimitRequestRatio={"cpu": "2"})
    assert pod_problems(item, pod(container(requests={"cpu": "1"}, limits={"cpu": "2"}))) == []


def test_limits_of_a_pod_apply_to_the_sum_of_its_containers() -> None:
    bound = {"spec": {"limits": [{"type": "Pod", "max": {"memory": "1Gi"}}]}}
    two = [container(name, limits={"memory": "600Mi"}) for name in "ab"]
    assert pod_problems(bound, pod(*two)) == ["maximum memory usage per Pod is 1Gi, but limit is 1200Mi"]
    # An amount of the whole pod replaces the sum of its containers' amounts.
    assert pod_problems(bound, pod(*two, resources={"limits": {"memory": "1Gi"}})) == []


def test_the_amount_of_a_pod_is_the_maximum_of_its_start_and_its_run() -> None:
    start = [
        container("side", requests={"cpu": "1"}, restartPolicy="Always"),
        container("big", requests={"cpu": "5", "memory": "1Gi"}),
    ]
    one = pod(container(requests={"cpu": "2"}), init=start, overhead={"cpu": "100m"})["spec"]
    assert texts_of(pod_resources(one, "requests")) == {"cpu": "6", "memory": "1Gi"}
    assert texts_of(pod_resources(one, "requests", with_overhead=True)) == {"cpu": "6100m", "memory": "1Gi"}
    # The overhead does not add a limit to a pod without limits.
    assert pod_resources(one, "limits", with_overhead=True) == {}


def test_limits_apply_to_the_request_of_a_claim() -> None:
    def claim(storage: str) -> Json:
        return {"spec": {"resources": {"requests": {"storage": storage} if storage else {}}}}

    bound = {
        "spec": {"limits": [{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]}
    }
    here = "usage per PersistentVolumeClaim is"
    assert claim_problems(bound, claim("3Gi"), None) == [f"maximum storage {here} 2Gi, but request is 3Gi"]
    assert claim_problems(bound, claim("1Mi"), None) == [f"minimum storage {here} 1Gi, but request is 1Mi"]
    assert len(claim_problems(bound, claim(""), None)) == 2
    assert claim_problems(bound, claim("2Gi"), None) == []
    # An update that does not change the amounts is not checked.
    assert claim_problems(bound, claim("3Gi"), claim("3Gi")) == []
    assert claim_problems(bound, claim("4Gi"), claim("3Gi")) != []
