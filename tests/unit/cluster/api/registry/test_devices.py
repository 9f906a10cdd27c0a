"""DeviceClasses, ResourceClaims, ResourceClaimTemplates and ResourceSlices over the API, with Kubernetes' rules."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.registry.deviceselectors import compile_selector
from tests.integration.api.world import World, world

MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
GROUP = "/apis/resource.k8s.io/v1"
CLASSES, SLICES = f"{GROUP}/deviceclasses", f"{GROUP}/resourceslices"
CLAIMS, TEMPLATES = (f"{GROUP}/namespaces/default/{one}" for one in ("resourceclaims", "resourceclaimtemplates"))
GPU = 'device.driver == "gpu.example.com" && device.attributes["gpu.example.com"].memory > 8'
UID = "00000000-0000-4000-8000-000000000001"


def request(name: str = "gpu", **exactly: Any) -> dict[str, Any]:
    return {"name": name, "exactly": {"deviceClassName": "gpu.example.com", **exactly}}


def claim(name: str = "c", *requests: Any, **devices: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"devices": {"requests": [*requests] or [request()], **devices}}}


def device(name: str = "gpu-0", **more: Any) -> dict[str, Any]:
    return {"name": name, "attributes": {"model": {"string": "A"}, "memory": {"int": 16}}, **more}


def resource_slice(name: str = "s", *devices: Any, **spec: Any) -> dict[str, Any]:
    pool = {"name": "n1", "generation": 1, "resourceSliceCount": 1}
    found = {"driver": "gpu.example.com", "pool": pool, "nodeName": "n1", "devices": [*devices] or [device()], **spec}
    return {"metadata": {"name": name}, "spec": {key: one for key, one in found.items() if one is not None}}


def allocation(**result: Any) -> dict[str, Any]:
    found = {"request": "gpu", "driver": "gpu.example.com", "pool": "n1", "device": "gpu-0", **result}
    return {"status": {"allocation": {"devices": {"results": [found]}}}}


@pytest.fixture
async def api() -> AsyncIterator[World]:
    async with world() as made:
        yield made


async def refused(api: World, path: str, obj: Any, method: str = "POST", headers: Any = None) -> str:
    reply = await api.send(method, path, obj, headers)
    assert reply.status == 422, reply.body
    return "\n".join(f"{one['field']}: {one['message']}" for one in reply.json["details"]["causes"])


async def test_defaults_of_new_objects(api: World) -> None:
    made = (await api.send("POST", CLAIMS, claim("c", request(), request("all", allocationMode="All")))).json
    first, second = (one["exactly"] for one in made["spec"]["devices"]["requests"])
    assert (first["allocationMode"], first["count"]) == ("ExactCount", 1)
    assert "count" not in second
    tainted = resource_slice("s", device(taints=[{"key": "a", "effect": "NoSchedule"}]))
    made = (await api.send("POST", SLICES, tainted)).json
    assert made["metadata"]["generation"] == 1
    taint = made["spec"]["devices"][0]["taints"][0]
    assert taint["timeAdded"] == made["metadata"]["creationTimestamp"]
    # A later write without the time does not change the time.
    again = copy.deepcopy(made)
    del again["spec"]["devices"][0]["taints"][0]["timeAdded"]
    assert (await api.send("PUT", f"{SLICES}/s", again)).json["metadata"]["resourceVersion"] == (
        made["metadata"]["resourceVersion"]
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (claim("c", {"name": "a"}), "requests[0]: Required value: exactly one of `exactly` or `firstAvailable`"),
        (claim("c", request("A")), "spec.devices.requests[0].name: Invalid value"),
        (claim("c", request(), request()), 'spec.devices.requests[1]: Duplicate value: "gpu"'),
        (claim("c", request(count=-1)), "exactly.count: Invalid value: -1: must be greater than zero"),
        (claim("c", request(allocationMode="All", count=2)), "must not be specified when allocationMode is 'All'"),
        (claim("c", request(allocationMode="Some")), 'Unsupported value: "Some": supported values: "All", "ExactCount"'),
        (claim("c", request(deviceClassName="")), "exactly.deviceClassName: Required value"),
        (claim("c", request(selectors=[{}])), "exactly.selectors[0].cel: Required value"),
        (claim("c", *[request(f"r{number}") for number in range(33)]), "must have at most 32 items"),
        (claim(constraints=[{"requests": ["x"], "matchAttribute": "a/b"}]), "must be the name of a request in the claim"),
        (claim(constraints=[{"matchAttribute": "model"}]), "a fully qualified name must be a domain and a name"),
        (claim(constraints=[{}]), 'exactly one of "matchAttribute" or "distinctAttribute" is required'),
        (claim(config=[{"opaque": {"driver": "x.io", "parameters": [1]}}]), "must be a valid JSON object"),
        (claim(config=[{"opaque": {"driver": "x.io", "parameters": {"a": "b" * 11000}}}]), "Too long"),
        (
            claim("c", request(tolerations=[{"operator": "Exists", "value": "x"}, {"key": "a", "effect": "Some"}])),
            "tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`",
        ),
        (
            claim("c", {"name": "a", "firstAvailable": [{"name": "b", "deviceClassName": "x"}] * 2}),
            'requests[0].firstAvailable[1]: Duplicate value: "b"',
        ),
    ],
)  # fmt: skip
async def test_claims_that_are_refused(api: World, body: dict[str, Any], message: str) -> None:
    assert message in await refused(api, CLAIMS, body)
    template = {"metadata": {"name": "t"}, "spec": {"spec": body["spec"]}}
    assert message.replace("spec.devices", "spec.spec.devices") in await refused(api, TEMPLATES, template)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("device.driver ==", "compilation failed: ERROR: <input>:1:17: Syntax error"),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        ("device.vendor == 'x'", "undefined field 'vendor'"),
        ("x" * 10241, "Too long: may not be more than 10240 bytes"),
        (
            "device.attributes.all(d, device.attributes.all(e, device.attributes.all(f, device.attributes.all(g, true))))",
            "Forbidden: too complex, exceeds cost limit",
        ),
    ],
)
async def test_expressions_that_are_refused(api: World, expression: str, message: str) -> None:
    spec = {"selectors": [{"cel": {"expression": expression}}]}
    said = await refused(api, CLASSES, {"metadata": {"name": "x"}, "spec": spec})
    assert said.startswith("spec.selectors[0].cel.expression: ")
    assert message in said


async def test_classes_and_expressions_that_are_accepted(api: World) -> None:
    for name, expression in (
        ("gpu.example.com", GPU),
        ("unknown", 'device.attributes["x.io"].healthy'),
        ("bind", 'cel.bind(one, device.attributes["x.io"], one.a == 1 && one.b.isGreaterThan(semver("1.0.0")))'),
        ("capacity", 'device.capacity["x.io"].memory.compareTo(quantity("10Gi")) >= 0'),
        ("shared", "device.allowMultipleAllocations"),
    ):
        body = {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}
        assert (await api.send("POST", CLASSES, body)).status == 201, compile_selector(expression).problem
    changed = await api.send("PATCH", f"{CLASSES}/shared", {"spec": {"extendedResourceName": "x.io/gpu"}}, MERGE)
    assert changed.json["metadata"]["generation"] == 2
    patch = {"spec": {"extendedResourceName": "cpu"}}
    assert "must be a valid extended resource name" in await refused(api, f"{CLASSES}/shared", patch, "PATCH", MERGE)
    rows = (await api.send("GET", CLASSES, headers=TABLE)).json
    assert [one["name"] for one in rows["columnDefinitions"]] == ["Name", "Age"]


async def test_the_spec_of_a_claim_is_immutable(api: World) -> None:
    await api.send("POST", CLAIMS, claim())
    patch = {"spec": {"devices": {"requests": [request(count=2)]}}}
    assert "field is immutable" in await refused(api, f"{CLAIMS}/c", patch, "PATCH", MERGE)
    assert (await api.send("PATCH", f"{CLAIMS}/c", {"metadata": {"labels": {"a": "b"}}}, MERGE)).status == 200
    await api.send("POST", TEMPLATES, {"metadata": {"name": "t"}, "spec": {"spec": claim()["spec"]}})
    patch = {"spec": {"metadata": {"labels": {"a": "b"}}}}
    assert "field is immutable" in await refused(api, f"{TEMPLATES}/t", patch, "PATCH", MERGE)


async def test_admin_access_needs_a_label_of_the_namespace(api: World) -> None:
    body = claim("c", request(adminAccess=True))
    said = await refused(api, CLAIMS, body)
    assert said.startswith("spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the ")
    mark = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
    await api.send("PATCH", "/api/v1/namespaces/default", mark, MERGE)
    assert (await api.send("POST", CLAIMS, body)).status == 201


async def test_the_life_of_an_allocation(api: World) -> None:
    await api.send("POST", CLAIMS, claim() | allocation())
    at, status = f"{CLAIMS}/c", f"{CLAIMS}/c/status"
    assert (await api.send("GET", at)).json["status"] == {}
    consumer = {"resource": "pods", "name": "p", "uid": UID}
    early = {"status": {"reservedFor": [consumer]}}
    assert "may not be specified when `allocated` is not set" in await refused(api, status, early, "PATCH", MERGE)
    said = await refused(api, status, allocation(request="cpu", device="A b", pool=""), "PATCH", MERGE)
    assert "results[0].request" in said and "results[0].device" in said and "results[0].pool: Required value" in said
    assert (await api.send("PATCH", status, allocation(), MERGE)).status == 200
    other = await refused(api, status, allocation(device="gpu-1"), "PATCH", MERGE)
    assert other.startswith("status.allocation: Invalid value") and other.endswith("field is immutable")
    assert (await api.send("PATCH", status, early, MERGE)).status == 200
    twice = {"status": {"reservedFor": [consumer, consumer]}}
    assert f'status.reservedFor[1]: Duplicate value: "{UID}"' in await refused(api, status, twice, "PATCH", MERGE)
    known = {"driver": "gpu.example.com", "pool": "n1", "device": "gpu-0", "networkData": {"ips": ["10.0.0.1/24"]}}
    assert (await api.send("PATCH", status, {"status": {"devices": [known]}}, MERGE)).status == 200
    unknown = {"status": {"devices": [{**known, "device": "gpu-9"}]}}
    assert "must be an allocated device in the claim" in await refused(api, status, unknown, "PATCH", MERGE)
    wrong = {"status": {"devices": [{**known, "networkData": {"ips": ["10.0.0.1"]}}]}}
    assert "must be a valid address in CIDR form" in await refused(api, status, wrong, "PATCH", MERGE)
    assert (await api.send("GET", CLAIMS, headers=TABLE)).json["rows"][0]["cells"][1] == "allocated,reserved"
    freed = await api.send("PATCH", status, {"status": {"allocation": None, "reservedFor": None}}, MERGE)
    # The status that drivers wrote for the devices is removed, too.
    assert freed.json["status"] == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (resource_slice(nodeName=None), "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`"),
        (resource_slice(allNodes=True), 'Invalid value: "{`nodeName`, `allNodes`}": exactly one of'),
        (resource_slice(driver=""), "spec.driver: Required value"),
        (resource_slice(pool={"name": "a b", "generation": -1, "resourceSliceCount": 0}), "spec.pool.generation"),
        (resource_slice("s", device(), device()), 'spec.devices[1]: Duplicate value: "gpu-0"'),
        (resource_slice("s", device(attributes={"a": {}})), "attributes[a]: Invalid value: \"\": exactly one value must be"),
        (resource_slice("s", device(attributes={"a": {"version": "1"}})), "must be a string compatible with semver.org"),
        (resource_slice("s", device(attributes={"a-b": {"int": 1}})), "a valid C identifier must start with"),
        (resource_slice("s", device(attributes={"/a": {"int": 1}})), "the domain must not be empty"),
        (resource_slice("s", *[device(f"d{one}") for one in range(129)]), "must have at most 128 items"),
        (resource_slice("s", device(nodeName="n")), "can only be set if `perDeviceNodeSelection` is set to true"),
        (resource_slice("s", device(bindingConditions=["a"])), "bindingFailureConditions are required to use"),
        (
            resource_slice("s", device(capacity={"m": {"value": "1", "requestPolicy": {"default": "1"}}})),
            "capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        ),
        (
            resource_slice("s", device(allowMultipleAllocations=True, capacity={"m": {"value": "10", "requestPolicy": {
                "default": "3", "validRange": {"min": "1", "step": "4", "max": "20"}}}})),
            "value is not a multiple of a given step (4) from (1)",
        ),
        (resource_slice(sharedCounters=[{"name": "a", "counters": {"b": {"value": "1"}}}]), "only one of `sharedCounters`"),
    ],
)  # fmt: skip
async def test_slices_that_are_refused(api: World, body: dict[str, Any], message: str) -> None:
    assert message in await refused(api, SLICES, body)


async def test_slices_can_be_selected_by_node_and_driver(api: World) -> None:
    await api.send("POST", SLICES, resource_slice())
    other = resource_slice("t", nodeName="n2", driver="Nic.example.com")
    reply = await api.send("POST", SLICES, other)
    assert "driver names should be lowercase" in (reply.header("warning") or "")
    for selector, name in (("spec.nodeName=n1", "s"), ("spec.driver=Nic.example.com", "t")):
        items = (await api.send("GET", f"{SLICES}?fieldSelector={selector}")).json["items"]
        assert [one["metadata"]["name"] for one in items] == [name]
    assert "field is immutable" in await refused(api, f"{SLICES}/s", {"spec": {"nodeName": "n3"}}, "PATCH", MERGE)
    rows = (await api.send("GET", SLICES, headers=TABLE)).json["rows"]
    assert rows[0]["cells"][:4] == ["s", "n1", "gpu.example.com", "n1"]


@pytest.mark.parametrize(
    ("claims", "used", "message"),
    [
        ([{"name": "a"}], [], "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
        (
            [{"name": "a", "resourceClaimName": "x", "resourceClaimTemplateName": "y"}], [],
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        ),
        ([{"name": "a", "resourceClaimName": "x"}] * 2, [], 'spec.resourceClaims[1].name: Duplicate value: "a"'),
        ([], [{"name": "a"}], 'Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty'),
        (
            [{"name": "b", "resourceClaimName": "x"}], [{"name": "b", "request": "r"}, {"name": "b"}],
            'spec.containers[0].resources.claims[1]: Duplicate value: "b"',
        ),
    ],
)  # fmt: skip
async def test_references_of_pods_that_are_refused(
    api: World, claims: list[Any], used: list[Any], message: str
) -> None:
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"claims": used}}], "resourceClaims": claims}
    path = "/api/v1/namespaces/default/pods"
    assert message in await refused(api, path, {"metadata": {"name": "p"}, "spec": spec})


async def test_names_of_claims_made_for_pods(api: World) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}], "resourceClaims": [{"name": "a", "resourceClaimName": "x"}]}
    path = "/api/v1/namespaces/default/pods"
    assert (await api.send("POST", path, {"metadata": {"name": "p"}, "spec": spec})).status == 201
    for statuses, message in (
        ([{"name": "b"}], 'Invalid value: "b": must match the name of an entry in `spec.resourceClaims`'),
        ([{"name": "a"}, {"name": "a"}], 'status.resourceClaimStatuses[1].name: Duplicate value: "a"'),
        ([{"name": "a", "resourceClaimName": "A"}], "status.resourceClaimStatuses[0].resourceClaimName: Invalid value"),
    ):
        status = {"status": {"resourceClaimStatuses": statuses}}
        assert message in await refused(api, f"{path}/p/status", status, "PATCH", MERGE)
