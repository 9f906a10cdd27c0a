"""Rules of pods: validation, admission, changes, warnings (in addition to the recordings in `whole.jsonl`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.api.world import Reply, World, world

PODS = "/api/v1/namespaces/default/pods"
MERGE = {"Content-Type": "application/merge-patch+json"}
Object = dict[str, Any]


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


def pod(name: str = "p", container: Object | None = None, **spec: Any) -> Object:
    one = {"name": "c", "image": "i", **(container or {})}
    return {"metadata": {"name": name}, "spec": {"containers": [one], **spec}}


async def create(made: World, obj: Object) -> Reply:
    return await made.send("POST", PODS, obj)


async def change(made: World, spec: Object, name: str = "p") -> Reply:
    return await made.send("PATCH", f"{PODS}/{name}", {"spec": spec}, MERGE)


def warnings(reply: Reply) -> list[str]:
    return [value.removeprefix('299 - "')[:-1].replace('\\"', '"') for key, value in reply.headers if key == "warning"]


SYSCTL = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax ", "value": "1"}]}},
            'spec.securityContext.sysctls[0].name: Invalid value: "kernel.msgmax ": must have at most 253 characters and '
            f"match regex ^{SYSCTL}$",
        ),
        (
            {"securityContext": {"sysctls": [{"name": "a.b", "value": "1"}, {"name": "a.b", "value": "2"}]}},
            'spec.securityContext.sysctls[1].name: Duplicate value: "a.b"',
        ),
        (
            {"securityContext": {"sysctls": [{"value": "1"}]}},
            "spec.securityContext.sysctls[0].name: Required value",
        ),
        (
            {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net/ipv4/ip_forward", "value": "1"}]}},
            'spec.securityContext.sysctls[0].name: Invalid value: "net/ipv4/ip_forward": may not be specified when '
            "'hostNetwork' is true",
        ),
        (
            {"hostIPC": True, "securityContext": {"sysctls": [{"name": "kernel.shmmax", "value": "1"}]}},
            "spec.securityContext.sysctls[0].name: Invalid value: \"kernel.shmmax\": may not be specified when 'hostIPC' is true",
        ),
        (
            {"securityContext": {"runAsUser": -1}},
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            {"securityContext": {"fsGroupChangePolicy": "Sometimes"}},
            'spec.securityContext.fsGroupChangePolicy: Unsupported value: "Sometimes": supported values: "Always", '
            '"OnRootMismatch"',
        ),
        (
            {"dnsPolicy": "Nope"},
            'spec.dnsPolicy: Unsupported value: "Nope": supported values: "ClusterFirstWithHostNet", "ClusterFirst", '
            '"Default", "None"',
        ),
        (
            {
                "affinity": {
                    "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
                }
            },
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must "
            "have at least one node selector term",
        ),
        (
            {"dnsConfig": {"options": [{"name": "ndots:5\nnameserver 192.0.2.1"}]}},
            'spec.dnsConfig.options[0]: Invalid value: {"name":"ndots:5\\nnameserver 192.0.2.1"}: must not contain whitespace',
        ),
        (
            {"tolerations": [{"key": "k", "operator": "Equal", "effect": "Nope"}]},
            'spec.tolerations[0].effect: Unsupported value: "Nope": supported values: "NoSchedule", "PreferNoSchedule", '
            '"NoExecute"',
        ),
        (
            {"volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 4096}}]},
            "spec.volumes[0].configMap.defaultMode: Invalid value: 4096: must be a number between 0 and 0777 (octal), both "
            "inclusive",
        ),
        (
            {"volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"key": "k", "path": "..data"}]}}]},
            "spec.volumes[0].secret.items[0].path: Invalid value: \"..data\": must not start with '..'",
        ),
        (
            {"initContainers": [{"name": "i", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}}}]},
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            {"ephemeralContainers": [{"name": "e", "image": "i"}]},
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        ({"hostUsers": False, "hostPID": True}, "spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"),
    ],
)
async def test_specs_that_are_refused(made: World, spec: Object, message: str) -> None:
    reply = await create(made, pod(**spec))
    assert (reply.status, reply.json["message"]) == (422, f'Pod "p" is invalid: {message}')


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"restartPolicy": "Always"}, "restartPolicy: Forbidden: may not be set for non-init containers"),
        (
            {"securityContext": {"procMount": "Unmasked"}},
            'securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`',
        ),
        (
            {"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}},
            "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            {"resources": {"requests": {"wheels": "1"}}},
            'resources.requests[wheels]: Invalid value: "wheels": must be a standard resource for containers',
        ),
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}},
            'resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            {"env": [{"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]},
            'env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", '
            '"limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"',
        ),
        (
            {"ports": [{"containerPort": 1, "hostPort": 1}, {"containerPort": 2, "hostPort": 1}]},
            'ports[1].hostPort: Duplicate value: "TCP//1"',
        ),
    ],
)
async def test_containers_that_are_refused(made: World, container: Object, message: str) -> None:
    reply = await create(made, pod(container=container))
    assert (reply.status, reply.json["message"]) == (422, f'Pod "p" is invalid: spec.containers[0].{message}')


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"runtimeClassName": "gvisor"}, 'pod rejected: RuntimeClass "gvisor" not found'),
        (
            {"overhead": {"cpu": "1"}},
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        ({"priorityClassName": "high"}, "no PriorityClass with name high was found"),
        (
            {"preemptionPolicy": "Never"},
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission controller "
            "computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ],
)
async def test_pods_that_are_not_admitted(made: World, spec: Object, why: str) -> None:
    reply = await create(made, pod(**spec))
    assert (reply.status, reply.json["message"]) == (403, f'pods "p" is forbidden: {why}')


async def test_system_priorities(made: World) -> None:
    reply = await create(made, pod(priorityClassName="system-node-critical"))
    assert (reply.status, reply.json["spec"]["priority"]) == (201, 2_000_001_000)


async def test_a_deadline_may_be_added_and_reduced(made: World) -> None:
    await create(made, pod())
    assert (await change(made, {"activeDeadlineSeconds": 600})).status == 200
    assert (await change(made, {"activeDeadlineSeconds": 10})).json["spec"]["activeDeadlineSeconds"] == 10
    longer = await change(made, {"activeDeadlineSeconds": 11})
    assert longer.json["message"].endswith(
        "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"
    )
    gone = await change(made, {"activeDeadlineSeconds": None})
    assert "must not update from a positive integer to nil value" in gone.json["message"]
    assert (await change(made, {"activeDeadlineSeconds": 0})).status == 422


async def test_tolerations_may_be_added_and_their_seconds_changed(made: World) -> None:
    await create(made, pod(tolerations=[{"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}]))
    kept = {"key": "a", "effect": "NoExecute", "tolerationSeconds": 9}
    added = await change(made, {"tolerations": [kept, {"key": "b", "operator": "Exists"}]})
    assert [one["key"] for one in added.json["spec"]["tolerations"]] == [
        "a",
        "b",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    refused = await change(made, {"tolerations": [{"key": "b", "operator": "Exists"}]})
    assert "existing toleration can not be modified except its tolerationSeconds" in refused.json["message"]


async def test_node_selectors_of_a_gated_pod_may_be_added_and_its_gates_removed(made: World) -> None:
    reply = await create(made, pod(schedulingGates=[{"name": "example.com/g"}], nodeSelector={"a": "b"}))
    condition = reply.json["status"]["conditions"][0]
    assert (condition["type"], condition["reason"]) == ("PodScheduled", "SchedulingGated")
    assert (await change(made, {"nodeSelector": {"zone": "z"}})).status == 200
    assert (await change(made, {"nodeSelector": {"a": "c"}})).status == 422
    assert (await change(made, {"schedulingGates": [{"name": "example.com/other"}]})).status == 422
    assert (await change(made, {"schedulingGates": []})).status == 200
    assert (await change(made, {"nodeSelector": {"more": "x"}})).status == 422


async def test_other_fields_may_not_change(made: World) -> None:
    await create(made, pod())
    for spec in ({"hostname": "x"}, {"priority": 1}, {"containers": [{"name": "c", "image": "i", "tty": True}]}):
        reply = await change(made, spec)
        assert reply.status == 422
        assert "pod updates may not change fields other than" in reply.json["message"]
    two = await change(made, {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]})
    assert two.json["message"].endswith("spec.containers: Forbidden: pod updates may not add or remove containers")


async def test_warnings_of_pods(made: World) -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "A", "value": "2"},
        {"name": "B", "value": "x"},
        {"name": "B", "value": "$(B)y"},
    ]
    ports = [{"containerPort": 80, "name": "a"}, {"containerPort": 80, "name": "b"}]
    container = {"env": env, "ports": ports, "resources": {"limits": {"memory": "100m"}}, "stdin": True, "tty": True}
    reply = await create(made, pod(container=container, nodeSelector={"beta.kubernetes.io/os": "linux"}))
    found = warnings(reply)
    assert found[:4] == [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is invalid, must be an integer',
        'spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer',
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ]
    assert found[4] == "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"
    assert len(found) == 5
    assert warnings(await change(made, {"activeDeadlineSeconds": 5})) == []


async def test_warnings_of_templates(made: World) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod(terminationGracePeriodSeconds=-1)["spec"]}
    obj = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    reply = await made.send("POST", "/apis/apps/v1/namespaces/default/deployments", obj)
    text = "must be >= 0; negative values are invalid and will be treated as 1"
    assert warnings(reply) == [f"spec.template.spec.terminationGracePeriodSeconds: {text}"]


async def test_endpoints_are_deprecated(made: World) -> None:
    wanted = ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]
    target = "/api/v1/namespaces/default/endpoints"
    for method, path, body in (
        ("GET", target, None),
        ("POST", target, {"metadata": {"name": "e"}}),
        ("GET", f"{target}/none", None),
        ("DELETE", f"{target}/e", None),
    ):
        assert warnings(await made.send(method, path, body)) == wanted


async def test_strict_decoding(made: World) -> None:
    target = "/api/v1/namespaces/default/configmaps?fieldValidation="
    body = b'{"metadata":{"name":"m","nope":1,"name":"m"},"bogus":1,"data":{"a":"1","a":"2"}}'
    wanted = [
        'unknown field "metadata.nope"',
        'duplicate field "metadata.name"',
        'unknown field "bogus"',
        'duplicate field "data.a"',
    ]
    reply = await made.send("POST", f"{target}Strict", body)
    head = 'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
    assert (reply.status, reply.json["message"]) == (400, head + ", ".join(wanted))
    assert warnings(await made.send("POST", f"{target}Warn", body)) == wanted
    yaml = b"metadata:\n  name: y\n  labels: {a: b,\n    a: c}\nbogus: 1\ndata:\n  k: v\n  k: w\n"
    reply = await made.send("POST", f"{target}Strict", yaml, {"Content-Type": "application/yaml"})
    assert reply.json["message"] == (
        f'{head}yaml: unmarshal errors:\n  line 4: key "a" already set in map\n  line 8: key "k" already set in map, '
        'unknown field "bogus"'
    )
    patch = "/api/v1/namespaces/default/configmaps/m?fieldValidation=Strict"
    reply = await made.send("PATCH", patch, b'{"data":{"a":"1","a":"2"}}', MERGE)
    why = 'strict decoding error: duplicate field "data.a"'
    assert (reply.status, reply.json["details"]["causes"][0]["field"]) == (422, "patch")
    assert (
        reply.json["message"]
        == f' "" is invalid: patch: Invalid value: "{{\\"data\\":{{\\"a\\":\\"1\\",\\"a\\":\\"2\\"}}}}": {why}'
    )


async def test_options_of_writes(made: World) -> None:
    target = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"
    for query, message in (
        ("force=true", "force: Forbidden: may not be specified for non-apply patch"),
        ("fieldManager=a%0Ab", 'fieldManager: Invalid value: "a\\nb": invalid character U+000A (at position 1)'),
        (f"fieldManager={'x' * 129}", "fieldManager: Too long: may not be more than 128 bytes"),
    ):
        reply = await made.send("PATCH", f"{target}?{query}", {}, MERGE)
        assert (reply.status, reply.json["message"]) == (422, f'PatchOptions.meta.k8s.io "" is invalid: {message}')


async def test_an_update_of_a_lease_needs_its_resource_version(made: World) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    first = (await made.send("POST", leases, {"metadata": {"name": "l"}})).json
    blind = await made.send("PUT", f"{leases}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})
    assert blind.json["message"].endswith("metadata.resourceVersion: Invalid value: 0: must be specified for an update")
    assert (await made.send("PUT", f"{leases}/l", {**first, "spec": {"holderIdentity": "a"}})).status == 200


async def test_a_namespace_without_finalizers_is_removed_by_a_second_deletion(made: World) -> None:
    await made.namespace("x")
    target = "/api/v1/namespaces/x"
    found = (await made.send("GET", target)).json
    await made.send("PUT", f"{target}/finalize", {**found, "spec": {"finalizers": []}})
    first = (await made.send("DELETE", target)).json
    assert (first["kind"], first["status"]["phase"], first["spec"]) == ("Namespace", "Terminating", {})
    assert (await made.send("PATCH", f"{target}/status", {"status": {"phase": "Active"}}, MERGE)).status == 422
    assert (await made.send("GET", target)).status == 200
    assert (await made.send("DELETE", target)).status == 200
    assert (await made.send("GET", target)).status == 404


async def test_a_new_node_is_not_ready(made: World) -> None:
    node = (
        await made.send(
            "POST",
            "/api/v1/nodes",
            {"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}},
        )
    ).json
    assert node["spec"]["taints"] == [
        {"key": "k", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
    ]
    changed = await made.send("PATCH", "/api/v1/nodes/n", {"spec": {"taints": None}}, MERGE)
    assert "taints" not in changed.json["spec"]
