"""The devices that claims get on a node, and the expressions that select them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hatchway.cluster.api.registry.deviceselectors import device_matches
from hatchway.cluster.controllers.scheduling.deviceallocation import DeviceProblem, allocate_claims
from hatchway.cluster.controllers.scheduling.devicepools import DeviceId, device_pools
from hatchway.kube.api import Object

DRIVER = "gpu.example.com"
NODE = {"metadata": {"name": "n1", "labels": {"zone": "a"}}}
CLASSES = {"gpus": {"metadata": {"name": "gpus"}, "spec": {}}}


def device(name: str, **more: Any) -> Object:
    return {"name": name, **more}


def gpu(name: str, family: str, memory: str) -> Object:
    return device(name, attributes={"family": {"string": family}}, capacity={"memory": {"value": memory}})


def piece(*devices: Object, pool: str = "p", generation: int = 1, count: int = 1, **place: Any) -> Object:
    spec: Object = {"driver": DRIVER, "pool": {"name": pool, "generation": generation, "resourceSliceCount": count}}
    place = place or {"nodeName": "n1"}
    return {"metadata": {"name": f"{pool}-{generation}"}, "spec": {**spec, **place, "devices": list(devices)}}


def exactly(name: str = "gpu", *, when: str = "", **more: Any) -> Object:
    selectors = {"selectors": [{"cel": {"expression": when}}]} if when else {}
    return {"name": name, "exactly": {"deviceClassName": "gpus", **selectors, **more}}


def claim(*requests: Object, **more: Any) -> Object:
    return {"metadata": {"name": "c"}, "spec": {"devices": {"requests": list(requests), **more}}}


def allocated(
    claims: list[Object], *slices: Object, taken: set[DeviceId] | None = None, classes: dict[str, Object] = CLASSES
) -> list[list[tuple[str, str]]] | None:
    """Return the pairs (request, device) of each claim; None if there are not enough devices."""
    found = allocate_claims(claims, NODE, device_pools(slices), classes, taken or set(), device_matches)
    if found is None:
        return None
    return [[(one["request"], one["device"]) for one in each["devices"]["results"]] for each in found]


TWO = piece(gpu("a", "x", "8Gi"), gpu("b", "y", "16Gi"))


def test_each_device_is_allocated_once() -> None:
    assert allocated([claim(exactly())], TWO) == [[("gpu", "a")]]
    assert allocated([claim(exactly()), claim(exactly())], TWO) == [[("gpu", "a")], [("gpu", "b")]]
    assert allocated([claim(exactly(count=2))], TWO) == [[("gpu", "a"), ("gpu", "b")]]
    assert allocated([claim(exactly(count=3))], TWO) is None
    assert allocated([claim(exactly())], TWO, taken={DeviceId(DRIVER, "p", "a")}) == [[("gpu", "b")]]


def test_a_choice_that_makes_another_request_fail_is_undone() -> None:
    small = exactly("small", when="device.driver == 'gpu.example.com'")
    only = exactly("only", when=f"device.attributes['{DRIVER}'].family == 'x'")
    assert allocated([claim(small, only)], TWO) == [[("small", "b"), ("only", "a")]]


def test_allocation_of_all_devices_needs_a_complete_pool_of_free_devices() -> None:
    wanted = [claim(exactly(allocationMode="All"))]
    assert allocated(wanted, TWO) == [[("gpu", "a"), ("gpu", "b")]]
    assert allocated(wanted, TWO, taken={DeviceId(DRIVER, "p", "b")}) is None
    assert allocated(wanted, piece(device("a"), count=2)) is None
    assert allocated([claim(exactly(allocationMode="All", when="false"))], TWO) is None


def test_only_the_newest_generation_of_a_pool_counts() -> None:
    assert allocated([claim(exactly())], piece(device("old")), piece(device("new"), generation=2)) == [[("gpu", "new")]]


@pytest.mark.parametrize(
    ("place", "fits"),
    [
        ({"nodeName": "n1"}, True),
        ({"nodeName": "n2"}, False),
        ({"allNodes": True}, True),
        ({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a"]}]}]}}, True),
        ({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["b"]}]}]}}, False),
    ],
)  # fmt: skip
def test_devices_are_allocated_only_on_their_nodes(place: Object, fits: bool) -> None:
    found = allocate_claims([claim(exactly())], NODE, device_pools([piece(device("a"), **place)]), CLASSES, set(),
                            device_matches)  # fmt: skip
    assert (found is not None) == fits
    if found is not None:
        selector = found[0].get("nodeSelector")
        assert (selector is None) == ("allNodes" in place)
        if "nodeSelector" in place:
            assert selector == place["nodeSelector"]


def test_a_device_can_name_its_own_node() -> None:
    found = piece(device("a", nodeName="n2"), device("b", nodeName="n1"), perDeviceNodeSelection=True)
    assert allocated([claim(exactly())], found) == [[("gpu", "b")]]


def test_constraints_compare_attributes() -> None:
    devices = piece(gpu("a", "x", "1Gi"), gpu("b", "y", "1Gi"), gpu("c", "y", "1Gi"), device("d"))
    same = {"constraints": [{"matchAttribute": f"{DRIVER}/family"}]}
    other = {"constraints": [{"distinctAttribute": f"{DRIVER}/family"}]}
    assert allocated([claim(exactly(count=2), **same)], devices) == [[("gpu", "b"), ("gpu", "c")]]
    assert allocated([claim(exactly(count=2), **other)], devices) == [[("gpu", "a"), ("gpu", "b")]]
    assert allocated([claim(exactly(count=3), **other)], devices) is None


def test_devices_with_taints_need_tolerations() -> None:
    devices = piece(device("a", taints=[{"key": "broken", "effect": "NoSchedule"}]), device("b"))
    assert allocated([claim(exactly())], devices) == [[("gpu", "b")]]
    tolerant = exactly(tolerations=[{"key": "broken", "operator": "Exists"}])
    assert allocated([claim(tolerant)], devices) == [[("gpu", "a")]]


def test_the_first_available_alternative_is_allocated() -> None:
    first = [{"name": one, "deviceClassName": "gpus", "selectors": [{"cel": {"expression": when}}]}
             for one, when in (("big", "false"), ("any", "true"))]  # fmt: skip
    assert allocated([claim({"name": "gpu", "firstAvailable": first})], TWO) == [[("gpu/any", "a")]]


def test_admin_access_does_not_reserve_devices() -> None:
    admin = exactly("admin", adminAccess=True, allocationMode="All")
    assert allocated([claim(admin), claim(exactly(count=2))], TWO) == [
        [("admin", "a"), ("admin", "b")],
        [("gpu", "a"), ("gpu", "b")],
    ]


def test_devices_with_multiple_allocations_are_not_allocated() -> None:
    assert allocated([claim(exactly())], piece(device("a", allowMultipleAllocations=True))) is None


def test_errors_of_allocation() -> None:
    with pytest.raises(DeviceProblem, match="request gpu: device class gpus does not exist"):
        allocated([claim(exactly())], TWO, classes={})
    with pytest.raises(DeviceProblem, match=r"device gpu\.example\.com/p/a: CEL runtime error: no such key: none"):
        allocated([claim(exactly(when=f"device.attributes['{DRIVER}'].none == 1"))], TWO)
    many = piece(*(gpu(f"d{index}", str(index), "1Gi") for index in range(64)))
    never = {"constraints": [{"matchAttribute": f"{DRIVER}/missing", "requests": ["last"]}]}
    with pytest.raises(DeviceProblem, match="too many attempts"):
        allocated([claim(exactly(count=16), exactly("last"), **never)], many)


def test_the_number_of_tried_alternatives_is_limited() -> None:
    def eight(name: str) -> Object:
        when = [{"cel": {"expression": f"device.attributes['{DRIVER}'].family == '{name}'"}}]
        each = {"deviceClassName": "gpus", "allocationMode": "All", "selectors": when}
        return {"name": name, "firstAvailable": [{"name": f"a{number}", **each} for number in range(8)]}

    names = [f"d{number}" for number in range(12)]
    devices = piece(*(gpu(name, name, "1Gi") for name in names))
    with pytest.raises(DeviceProblem, match="too many attempts"):
        allocated([claim(*map(eight, names), exactly("last", when="false"))], devices)


def test_the_time_for_many_comparisons_is_limited() -> None:
    names = [f"{DRIVER}/a{number}" for number in range(32)]
    attributes = {name: {"string": "x" * 64} for name in names}
    devices = piece(*(device(f"d{number}", attributes=attributes) for number in range(64)))
    constraints = [{"matchAttribute": name} for name in names]
    wanted = claim(exactly("most", count=31), exactly("last", when="false"), constraints=constraints)
    began = time.thread_time()
    with pytest.raises(DeviceProblem, match="too many attempts"):
        allocated([wanted], devices)
    assert time.thread_time() - began < 3


def test_more_devices_than_can_be_chosen_are_a_problem_of_the_pod() -> None:
    devices = piece(*(device(f"d{number}") for number in range(640)))
    claims = [claim(*(exactly(f"r{number}") for number in range(32))) for _ in range(20)]
    with pytest.raises(DeviceProblem, match="too many attempts"):
        allocated(claims, devices)


def test_configurations_of_classes_and_claims_are_in_the_result() -> None:
    opaque = {"opaque": {"driver": DRIVER, "parameters": {"a": 1}}}
    classes = {"gpus": {"metadata": {"name": "gpus"}, "spec": {"config": [opaque]}}}
    config = [{**opaque, "requests": ["gpu"]}, {**opaque, "requests": ["other"]}]
    found = allocate_claims(
        [claim(exactly(), config=config)], NODE, device_pools([TWO]), classes, set(), device_matches
    )
    assert found is not None
    assert found[0]["devices"]["config"] == [
        {"source": "FromClass", "requests": ["gpu"], **opaque},
        {"source": "FromClaim", "requests": ["gpu"], **opaque},
    ]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("device.driver == 'gpu.example.com'", True),
        ("device.attributes['gpu.example.com'].family == 'x'", True),
        ("device.capacity['gpu.example.com'].memory.compareTo(quantity('4Gi')) > 0", True),
        ("device.attributes['other.example.com'].size() == 0", True),
        ("'family' in device.attributes['other.example.com']", False),
        ("device.attributes['gpu.example.com'].version.isGreaterThan(semver('1.0.0'))", True),
        ("device.allowMultipleAllocations", False),
    ],
)
def test_expressions_can_use_the_device(text: str, answer: bool) -> None:
    one = gpu("a", "x", "8Gi")
    one["attributes"]["version"] = {"version": "1.2.0"}
    assert device_matches(text, DRIVER, one) is answer


@pytest.mark.parametrize("text", ["device.", "device.driver", "device.attributes['gpu.example.com'].none"])
def test_expressions_that_fail_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        device_matches(text, DRIVER, device("a"))
