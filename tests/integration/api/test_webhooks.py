"""Admission webhooks: which are called, with which requests, and the effects of their answers.

Expected texts are those of a kube-apiserver 1.36 (recorded), or of apiserver's `pkg/admission/plugin/webhook`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.cluster.api.connect.resourcelocation import Locator
from hatchway.cluster.auth import pki
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object

from .webhookserver import CONFIGURATIONS, RULE, WebhookWorld, make_keys, patch, webhook_world

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pki.Pki:
    return make_keys(tmp_path_factory.mktemp("keys") / "pki")


@pytest.fixture
async def world(keys: pki.Pki) -> AsyncIterator[WebhookWorld]:
    async with webhook_world(keys) as found:
        yield found


def config_map(name: str = "m", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more}, "data": {"a": "1"}}


def allow(_request: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def label(key: str, value: str = "yes") -> Any:
    def handler(request: dict[str, Any]) -> dict[str, Any]:
        labels = request["object"]["metadata"].get("labels") or {}
        if labels.get(key) == value:
            return {"allowed": True}
        return patch({"op": "add", "path": "/metadata/labels", "value": {**labels, key: value}})

    return handler


async def test_a_mutating_webhook_changes_and_a_validating_one_sees_the_result(world: WebhookWorld) -> None:
    hooks = world.hooks
    await world.configure("mutating", hooks.hook("/label", label("team")))
    await world.configure("validating", hooks.hook("/check", allow))
    reply = await world.send("POST", MAPS + "?fieldManager=me", config_map())
    assert reply.status == 201
    assert reply.json["metadata"]["labels"] == {"team": "yes"}
    first, second = hooks.requests
    assert "labels" not in first["object"]["metadata"]
    assert "uid" not in first["object"]["metadata"]
    assert second["object"]["metadata"]["labels"] == {"team": "yes"}
    assert second["object"]["metadata"]["uid"] == reply.json["metadata"]["uid"]
    kind, resource = {"group": "", "version": "v1", "kind": "ConfigMap"}, {"group": "", "version": "v1"}
    assert second["kind"] == second["requestKind"] == kind
    assert second["resource"] == second["requestResource"] == {**resource, "resource": "configmaps"}
    assert (second["operation"], second["name"], second["namespace"]) == ("CREATE", "m", "default")
    assert second["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert second["oldObject"] is None
    assert second["dryRun"] is False
    assert second["options"] == {
        "kind": "CreateOptions",
        "apiVersion": "meta.k8s.io/v1",
        "fieldManager": "me",
        "fieldValidation": "Warn",
    }
    assert hooks.lines[0] == "POST /label?timeout=10s HTTP/1.1"


@pytest.mark.parametrize(
    ("status", "code", "reason", "message"),
    [
        (None, 400, None, 'admission webhook "no.example.com" denied the request without explanation'),
        ({"message": "too big"}, 400, None, 'admission webhook "no.example.com" denied the request: too big'),
        (
            {"code": 403, "reason": "Forbidden", "message": "not you"},
            403,
            "Forbidden",
            'admission webhook "no.example.com" denied the request: not you',
        ),
        ({"code": 200, "reason": "Why"}, 400, "Why", 'admission webhook "no.example.com" denied the request: Why'),
        ({"code": 10**12, "message": 7, "details": [], "reason": {}}, 400, None, None),
        ({"details": {"causes": 7, "name": 1, "retryAfterSeconds": True}}, 400, None, None),
    ],
)
async def test_denials_are_worded_as_in_kubernetes(
    world: WebhookWorld, status: Any, code: int, reason: str | None, message: str | None
) -> None:
    response = {"allowed": False, **({} if status is None else {"status": status})}
    await world.configure("validating", world.hooks.hook("/no", lambda _: response))
    reply = await world.send("POST", MAPS, config_map())
    assert (reply.status, reply.json.get("reason")) == (code, reason)
    if message is not None:
        assert reply.json["message"] == message
    assert world.store.latest("configmaps", "default", "m") is None


async def test_a_server_that_cannot_be_reached_refuses_or_is_ignored(world: WebhookWorld) -> None:
    hook = {**world.hooks.hook("/x"), "name": "deny.example.com"}
    hook["clientConfig"] = {"url": "https://127.0.0.1:1/x"}
    await world.configure("validating", hook)
    reply = await world.send("POST", MAPS, config_map())
    message = (
        'failed calling webhook "deny.example.com": failed to call webhook: Post "https://127.0.0.1:1/x?timeout=10s": '
        "dial tcp 127.0.0.1:1: connect: connection refused"
    )
    assert reply.status == 500
    assert reply.json["message"] == f"Internal error occurred: {message}"
    assert reply.json["details"] == {"causes": [{"message": message}]}
    path = CONFIGURATIONS.format("validating") + "/hooks"
    change = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    reply = await world.send("PATCH", path, change, {"Content-Type": "application/json-patch+json"})
    assert reply.status == 200
    assert reply.json["metadata"]["generation"] == 2
    assert (await world.send("POST", MAPS, config_map())).status == 201


class CommittedService:
    """The Service `hook` of the namespace `shop`, which has no pods."""

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        if (resource, namespace, name) != ("services", "shop", "hook"):
            return None
        return {"metadata": {"name": "hook", "namespace": "shop"}, "spec": {"ports": [{"port": 443}]}}

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        return []


@pytest.mark.parametrize(
    ("service", "url", "why"),
    [
        ({"name": "hook"}, "https://hook.shop.svc:443/", 'no endpoints available for service "hook"'),
        ({"name": "none"}, "https://none.shop.svc:443/", 'service "none" not found'),
        (
            {"name": "hook", "port": 8443},
            "https://hook.shop.svc:8443/",
            'no service port 8443 found for service "hook"',
        ),
    ],
)
async def test_a_service_that_has_no_endpoint_is_named_as_in_kubernetes(
    world: WebhookWorld, service: dict[str, Any], url: str, why: str
) -> None:
    async def dial(host: str, port: int) -> Any:
        raise AssertionError((host, port))

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    world.webhooks.locator = Locator(lookup=CommittedService(), dial=dial, kubelet_tls=tls, allow_loopback_pods=False)
    hook = {**world.hooks.hook("/x"), "clientConfig": {"service": {"namespace": "shop", **service}}}
    await world.configure("validating", hook)
    reply = await world.send("POST", MAPS, config_map())
    assert reply.status == 500
    assert reply.json["message"] == (
        'Internal error occurred: failed calling webhook "x.example.com": failed to call webhook: '
        f'Post "{url}?timeout=10s": {why}'
    )


async def test_a_configuration_can_always_be_removed(world: WebhookWorld) -> None:
    every = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}
    for kind in ("mutating", "validating"):
        await world.configure(kind, world.hooks.hook("/no", lambda _: {"allowed": False}, rules=[every]))
    assert (await world.send("POST", MAPS, config_map())).status == 400
    assert (await world.send("DELETE", "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt")).status == 400
    for kind in ("mutating", "validating"):
        assert (await world.send("DELETE", CONFIGURATIONS.format(kind) + "/hooks")).status == 200
    assert (await world.send("POST", MAPS, config_map())).status == 201


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


_WHOLE = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"uid": "other", "allowed": True}, "received invalid webhook response: expected response.uid="),
        (_answer(json.dumps(_WHOLE).encode()), "webhook response was absent"),
        (_answer(b'{"response": {"uid": "u", "allowed": true}}'), "expected response.uid="),
        (_answer(b"[" * 100_000), "json parse error"),
        (_answer(b"no"), "json parse error"),
        (_answer(b'{"kind": "AdmissionReview", "response": {"allowed": "yes"}}'), "json parse error"),
        (_answer(b'{"kind": "Pod", "apiVersion": "v1"}'), 'no kind "Pod" is registered for version "v1"'),
        (_answer(b'{"a": [' + b"1," * 60_000 + b"1]}"), "more than 50000 values"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nboom", 'an error on the server ("boom") has prevented'),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "the server could not find the requested resource"),
        (b"garbage\r\n\r\n", "failed to call webhook"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b" " * 5_000_000, "the answer is longer than"),
        ({"allowed": True, "patch": "W10="}, "validating webhook may not return response.patch"),
        ({"allowed": True, "patchType": "JSONPatch"}, "validating webhook may not return response.patchType"),
    ],
)
async def test_bad_answers_of_validating_webhooks(world: WebhookWorld, answer: Any, text: str) -> None:
    await world.configure("validating", world.hooks.hook("/bad", lambda _: answer))
    reply = await world.send("POST", MAPS, config_map())
    assert reply.status == 500
    assert 'Internal error occurred: failed calling webhook "bad.example.com": ' in reply.json["message"]
    assert text in reply.json["message"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"allowed": True, "patch": "W10="}, "response.patch but not response.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, "response.patchType but not response.patch"),
        ({"allowed": True, "patch": "W10=", "patchType": ""}, 'invalid response.patchType of ""'),
        ({"allowed": True, "patch": "W3t9XQ==", "patchType": "Merge"}, 'unsupported patch type "Merge"'),
        ({"allowed": True, "patch": "e30=", "patchType": "JSONPatch"}, "received undecodable patch"),
        (patch({"op": "remove", "path": "/none"}), "the server rejected our request"),
        (patch({"op": "replace", "path": "/kind", "value": "Secret"}), "changes kind or apiVersion"),
        (patch({"op": "add", "path": "/data", "value": 7}), "cannot unmarshal number"),
        (patch({"op": "replace", "path": "", "value": []}), "the server rejected our request"),
        (
            patch(*[{"op": "copy", "from": "", "path": f"/{n % 2}"} for n in range(80)]),
            "the server rejected our request",
        ),
    ],
)
async def test_bad_patches(world: WebhookWorld, answer: Any, text: str) -> None:
    await world.configure("mutating", world.hooks.hook("/bad", lambda _: answer))
    reply = await world.send("POST", MAPS, config_map())
    assert reply.status == 500, reply.body
    assert text in reply.json["message"]
    assert world.store.latest("configmaps", "default", "m") is None


async def test_a_slow_server_costs_its_timeout_and_no_other_request(world: WebhookWorld) -> None:
    await world.configure("validating", world.hooks.hook("/slow", lambda _: None, timeoutSeconds=1))
    waiting = asyncio.create_task(world.send("POST", MAPS, config_map()))
    await asyncio.wait_for(world.hooks.asked.wait(), 20)
    assert (await world.send("GET", MAPS)).status == 200
    assert not waiting.done()
    reply = await waiting
    url = f"https://127.0.0.1:{world.hooks.port}/slow?timeout=1s"
    assert reply.json["message"].endswith(f'failed to call webhook: Post "{url}": context deadline exceeded')


async def test_selectors_and_rules_decide_who_is_called(world: WebhookWorld) -> None:
    hooks = world.hooks
    await world.configure(
        "validating",
        hooks.hook("/namespace", allow, namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "x"}}),
        hooks.hook("/object", allow, objectSelector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
        hooks.hook("/cluster", allow, rules=[{**RULE, "scope": "Cluster", "resources": ["*"]}]),
        hooks.hook("/sub", allow, rules=[{**RULE, "operations": ["*"], "resources": ["pods/*", "*/scale"]}]),
        hooks.hook("/group", allow, rules=[{**RULE, "apiGroups": ["apps"]}]),
    )

    async def called(method: str, target: str, body: Any = None) -> list[str]:
        hooks.lines.clear()
        reply = await world.send(method, target, body)
        assert reply.status < 300, reply.body
        return sorted(line.split()[1].partition("?")[0] for line in hooks.lines)

    assert await called("POST", MAPS, config_map("plain")) == []
    assert await called("POST", MAPS, config_map("a", labels={"a": ""})) == ["/object"]
    # The selector matches the old object's labels, too.
    assert await called("PUT", f"{MAPS}/a", config_map("a")) == ["/object"]
    assert await called("DELETE", f"{MAPS}/a") == []
    assert await called("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}}) == ["/cluster"]
    assert await called("POST", "/api/v1/namespaces/x/configmaps", config_map()) == ["/namespace"]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    # As in Kubernetes, `pods/*` includes the pods themselves.
    assert await called("POST", "/api/v1/namespaces/default/pods", pod) == ["/sub"]
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    assert await called("POST", "/api/v1/namespaces/default/pods/p/binding", binding) == ["/sub"]
    seen = hooks.requests[-1]
    assert (seen["subResource"], seen["kind"]["kind"], seen["name"]) == ("binding", "Binding", "p")
    assert seen["resource"]["resource"] == "pods"


async def test_equivalent_resources_are_converted(world: WebhookWorld) -> None:
    group = "autoscaling"
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"]}
    rules = [{**rule, "resources": ["horizontalpodautoscalers"]}]

    def forty(request: dict[str, Any]) -> dict[str, Any]:
        assert request["object"]["apiVersion"] == "autoscaling/v1"
        return patch({"op": "add", "path": "/spec/targetCPUUtilizationPercentage", "value": 40})

    await world.configure(
        "mutating",
        world.hooks.hook("/exact", forty, rules=rules, matchPolicy="Exact"),
        world.hooks.hook("/equivalent", forty, rules=rules),
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    body = {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}}
    path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
    reply = await world.send("POST", path, body)
    assert reply.status == 201, reply.body
    utilization = {"type": "Utilization", "averageUtilization": 40}
    assert reply.json["spec"]["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}]
    (seen,) = world.hooks.requests
    assert (seen["kind"]["version"], seen["requestKind"]["version"]) == ("v1", "v2")
    assert (seen["resource"]["version"], seen["requestResource"]["version"]) == ("v1", "v2")


async def test_webhooks_see_what_earlier_plugins_set_and_plugins_run_again(world: WebhookWorld) -> None:
    pods = [{**RULE, "resources": ["pods"]}]
    sidecar = patch({"op": "add", "path": "/spec/containers/-", "value": {"name": "s", "image": "s"}})
    hook = world.hooks.hook("/sidecar", lambda _: sidecar, rules=pods)
    await world.configure("mutating", hook)
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    reply = await world.send("POST", "/api/v1/namespaces/default/pods", body)
    assert reply.status == 201, reply.body
    (seen,) = world.hooks.requests
    assert seen["object"]["spec"]["serviceAccountName"] == "default"
    assert seen["object"]["spec"]["priority"] == 0
    # The plugin ServiceAccount has run once more, for the container that the webhook has added.
    mounts = [one["volumeMounts"][0]["mountPath"] for one in reply.json["spec"]["containers"]]
    assert mounts == ["/var/run/secrets/kubernetes.io/serviceaccount"] * 2
    assert reply.json["spec"]["containers"][1]["imagePullPolicy"] == "Always"


async def test_a_webhook_is_called_again_only_when_it_asks_for_it(world: WebhookWorld) -> None:
    hooks = world.hooks
    await world.configure(
        "mutating",
        hooks.hook("/first", allow, reinvocationPolicy="IfNeeded"),
        hooks.hook("/never", allow),
        hooks.hook("/last", label("x"), reinvocationPolicy="IfNeeded"),
    )
    assert (await world.send("POST", MAPS, config_map())).status == 201
    paths = [line.split()[1].partition("?")[0] for line in hooks.lines]
    assert paths == ["/first", "/never", "/last", "/first"]
    hooks.lines.clear()
    assert (await world.send("PUT", f"{MAPS}/m", config_map("m", labels={"x": "yes"}))).status == 200
    assert len(hooks.lines) == 3


async def test_policies_and_webhooks_run_again_after_each_other(world: WebhookWorld) -> None:
    group = "/apis/admissionregistration.k8s.io/v1"
    text = "Object{data: {'log': (has(object.data.log) ? object.data.log : '') + 'p'}}"
    spec = {
        "matchConstraints": {"resourceRules": [RULE]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}],
        "reinvocationPolicy": "IfNeeded",
    }
    await world.send("POST", f"{group}/mutatingadmissionpolicies", {"metadata": {"name": "p"}, "spec": spec})
    binding = {"metadata": {"name": "p"}, "spec": {"policyName": "p"}}
    assert (await world.send("POST", f"{group}/mutatingadmissionpolicybindings", binding)).status == 201

    def log(request: dict[str, Any]) -> dict[str, Any]:
        found = request["object"]["data"]["log"]
        return patch({"op": "add", "path": "/data/log", "value": f"{found}w"})

    await world.configure("mutating", world.hooks.hook("/log", log, reinvocationPolicy="IfNeeded"))
    reply = await world.send("POST", MAPS, config_map())
    # The policy (p) runs before the webhook (w). Each runs again, because the other has changed the object.
    assert reply.json["data"]["log"] == "pwpw"


async def test_deletions_have_an_old_object_and_no_name_in_a_collection(world: WebhookWorld) -> None:
    rule = {**RULE, "operations": ["DELETE"]}
    await world.configure("validating", world.hooks.hook("/gone", allow, rules=[rule]))
    for name in ("a", "b"):
        await world.send("POST", MAPS, config_map(name))
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 3, "propagationPolicy": "Orphan"}
    await world.send("DELETE", f"{MAPS}/a?dryRun=All", {**options, "dryRun": ["All"]})
    await world.send("DELETE", f"{MAPS}?fieldSelector=metadata.name%3Db")
    one, many = world.hooks.requests
    assert one["object"] is None
    assert one["oldObject"]["metadata"]["name"] == one["name"] == "a"
    assert one["dryRun"] is True
    wanted = {**options, "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]}
    assert one["options"] == wanted
    assert "name" not in many
    assert many["oldObject"]["metadata"]["name"] == "b"
    refusing = world.hooks.hook("/change", lambda _: patch({"op": "add", "path": "/x", "value": 1}), rules=[rule])
    await world.configure("mutating", refusing)
    reply = await world.send("DELETE", f"{MAPS}/a")
    assert reply.status == 500
    assert "attempted to modify the object, which is not supported for this operation" in reply.json["message"]


async def test_a_scale_is_judged_as_a_scale(world: WebhookWorld) -> None:
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments/scale"]}
    most = patch({"op": "replace", "path": "/spec/replicas", "value": 2})
    await world.configure("mutating", world.hooks.hook("/most", lambda _: most, rules=[rule]))
    containers = [{"name": "c", "image": "i"}]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await world.send("POST", path, {"metadata": {"name": "d"}, "spec": spec})).status == 201
    change = {"spec": {"replicas": 50}}
    headers = {"Content-Type": "application/merge-patch+json"}
    reply = await world.send("PATCH", f"{path}/d/scale", change, headers)
    assert reply.status == 200, reply.body
    assert reply.json["spec"] == {"replicas": 2}
    (seen,) = world.hooks.requests
    assert seen["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert seen["object"]["spec"] == {"replicas": 50}
    assert seen["oldObject"]["spec"] == {"replicas": 1}
    assert seen["options"]["kind"] == "PatchOptions"


async def test_a_change_meanwhile_starts_the_write_again(world: WebhookWorld) -> None:
    assert (await world.send("POST", MAPS, config_map())).status == 201
    waiting: list[asyncio.Task[Any]] = []

    def meddle(request: dict[str, Any]) -> dict[str, Any]:
        if not waiting:
            # A client whose requests match no webhook writes the object meanwhile.
            found = world.store.latest("configmaps", "default", "m")
            assert found is not None
            changed = {**found, "data": {**found["data"], "b": "2"}}
            waiting.append(asyncio.create_task(world.store.update("configmaps", changed, found)))  # type: ignore[arg-type]
        return {"allowed": True, "warnings": ["seen"]}

    await world.configure("validating", world.hooks.hook("/meddle", meddle))
    headers = {"Content-Type": "application/merge-patch+json"}
    reply = await world.send("PATCH", f"{MAPS}/m", {"data": {"c": "3"}}, headers)
    assert reply.status == 200
    assert reply.json["data"] == {"a": "1", "b": "2", "c": "3"}
    assert len(world.hooks.requests) == 2
    assert [value for key, value in reply.headers if key == "warning"] == ['299 - "seen"']


async def test_match_conditions_decide_whether_a_webhook_is_called(world: WebhookWorld) -> None:
    def conditions(*expressions: str) -> list[dict[str, str]]:
        return [{"name": f"c{index}", "expression": text} for index, text in enumerate(expressions)]

    hooks = world.hooks
    me = "request.userInfo.username == 'admin' && request.operation == 'CREATE' && oldObject == null"
    await world.configure(
        "mutating",
        hooks.hook("/label", label("hooked"), matchConditions=conditions(me, "!has(object.metadata.labels)")),
    )
    await world.configure(
        "validating",
        hooks.hook("/hooked", allow, matchConditions=conditions("object.metadata.?labels['hooked'].hasValue()")),
        # If one condition is false, the error of another does not matter.
        hooks.hook("/false", allow, matchConditions=conditions("object.none.none == 1", "object.data.a != '1'")),
        hooks.hook("/open", allow, matchConditions=conditions("object.none.none == 1"), failurePolicy="Ignore"),
    )
    assert (await world.send("POST", MAPS, config_map())).status == 201
    assert [line.split()[1].partition("?")[0] for line in hooks.lines] == ["/label", "/hooked"]
    asking = conditions("!authorizer.requestResource.check('bypass').allowed()")
    await world.configure("validating", hooks.hook("/asked", allow, matchConditions=asking), name="asking")
    hooks.lines.clear()
    # An administrator may do everything.
    await world.send("POST", MAPS, config_map("o"))
    eve = UserInfo("eve", ("system:authenticated",))
    assert (await world.send("POST", MAPS, config_map("p"), user=eve)).status == 201
    assert [line.split()[1].partition("?")[0] for line in hooks.lines].count("/asked") == 1
    closed = hooks.hook("/closed", allow, matchConditions=conditions("object.none.none == 1"))
    await world.configure("validating", closed, name="closed")
    reply = await world.send("POST", MAPS, config_map("n"))
    assert reply.status == 403
    assert reply.json["message"].startswith('configmaps "n" is forbidden: ')
    assert "no such key: none" in reply.json["message"]


async def test_many_writers_of_one_object_all_succeed(world: WebhookWorld) -> None:
    assert (await world.send("POST", MAPS, config_map())).status == 201
    await world.configure("validating", world.hooks.hook("/check", allow))
    headers = {"Content-Type": "application/merge-patch+json"}

    async def write(number: int) -> int:
        return (await world.send("PATCH", f"{MAPS}/m", {"data": {str(number): "x"}}, headers)).status

    assert set(await asyncio.gather(*map(write, range(12)))) == {200}
    found = world.store.latest("configmaps", "default", "m")
    assert found is not None
    assert len(found["data"]) == 13
    assert (await world.send("DELETE", f"{MAPS}/m")).status == 200


async def test_warnings_and_audit_annotations(world: WebhookWorld) -> None:
    answer = {
        "allowed": True,
        "warnings": [f"careful {n}" for n in range(100)],
        "auditAnnotations": {"why": "x", "long": "y" * 9999},
    }
    await world.configure("mutating", world.hooks.hook("/note", lambda _: answer, failurePolicy="Ignore"))
    state: dict[str, Any] = {}
    original = world.scope

    def scope(*arguments: Any) -> dict[str, Any]:
        found = original(*arguments)
        found["state"]["audit_annotations"] = state
        return found

    world.scope = scope  # type: ignore[method-assign]
    reply = await world.send("POST", MAPS, config_map())
    assert reply.status == 201
    assert reply.header("warning") == '299 - "careful 0"'
    assert len([key for key, _ in reply.headers if key == "warning"]) == 20
    assert state["note.example.com/why"] == "x"
    assert len(state["note.example.com/long"]) == 4096
    mutated = json.loads(state["mutation.webhook.admission.k8s.io/round_0_index_0"])
    assert mutated == {"configuration": "hooks", "webhook": "note.example.com", "mutated": False}
    world.hooks.handlers["/note"] = lambda _: b"no\r\n\r\n"
    assert (await world.send("POST", MAPS, config_map("n"))).status == 201
    assert state["failed-open.mutation.webhook.admission.k8s.io/round_0_index_0"] == "note.example.com"


async def test_a_large_object_passes_webhooks(world: WebhookWorld) -> None:
    await world.configure("mutating", world.hooks.hook("/label", label("team")))
    await world.configure("validating", world.hooks.hook("/check", allow))
    body = {"metadata": {"name": "m"}, "data": {"a": "x" * 900_000}}
    reply = await world.send("POST", MAPS, body)
    assert reply.status == 201, reply.body[:300]
    assert reply.json["metadata"]["labels"] == {"team": "yes"}
    grow = patch({"op": "add", "path": "/data/b", "value": "y" * 2_300_000})
    await world.configure("mutating", world.hooks.hook("/grow", lambda _: grow), name="grow")
    reply = await world.send("PUT", f"{MAPS}/m", body)
    assert reply.status == 413, reply.body[:300]


async def test_a_certificate_of_another_ca_is_refused(world: WebhookWorld, keys: pki.Pki) -> None:
    hook = world.hooks.hook("/check", allow)
    hook["clientConfig"]["caBundle"] = base64.b64encode(keys.front_proxy_ca.cert.read_bytes()).decode()
    await world.configure("validating", hook)
    reply = await world.send("POST", MAPS, config_map())
    assert reply.status == 500
    assert "certificate" in reply.json["message"]
    assert not world.hooks.requests


async def test_v1beta1_reviews(world: WebhookWorld) -> None:
    answer = patch({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}, uid="ignored")
    del answer["patchType"]
    hook = world.hooks.hook("/old", lambda _: answer, admissionReviewVersions=["v2", "v1beta1", "v1"])
    await world.configure("mutating", hook)
    reply = await world.send("POST", MAPS, config_map())
    assert reply.status == 201, reply.body
    assert reply.json["metadata"]["labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"matchConditions": [{"name": "n", "expression": "object.a +"}]},
            'webhooks[0].matchConditions[0].expression: Invalid value: "object.a +": compilation failed: ERROR:',
        ),
        ({"matchConditions": [{"name": "n", "expression": "1"}]}, "must evaluate to bool but got int"),
        (
            {"matchConditions": [{"name": "n", "expression": "params == null"}]},
            "undeclared reference to 'params'",
        ),
        ({"matchConditions": [{"name": "", "expression": ""}]}, "webhooks[0].matchConditions[0].name: Required value"),
        (
            {"matchConditions": [{"name": "n", "expression": "true"}] * 65},
            "matchConditions: Too many: 65: must have at",
        ),
        ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between"),
        ({"rules": [{**RULE, "operations": ["*", "CREATE"]}]}, "if '*' is present, must not specify other operations"),
        ({"rules": [{**RULE, "resources": ["*/*", "a"]}]}, "if '*/*' is present, must not specify other resources"),
        ({"rules": [{**RULE, "resources": ["a/*", "a/b"]}]}, "if 'a/*' is present, must not specify a/b"),
        ({"clientConfig": {}}, "webhooks[0].clientConfig: Required value: exactly one of url or service is required"),
        (
            {"clientConfig": {"url": "https://u:p@h/x?q=1#f"}},
            "user information is not permitted in the URL, webhooks[0].clientConfig.url: Invalid value: "
            '"f": fragments are not permitted in the URL',
        ),
        ({"clientConfig": {"url": "https://h:x"}}, "url must be a valid URL"),
        (
            {"clientConfig": {"service": {"name": "a", "namespace": "b", "path": "x//y", "port": 70000}}},
            'webhooks[0].clientConfig.service.path: Invalid value: "x//y": must start with a',
        ),
        ({"admissionReviewVersions": ["v3"]}, "must include at least one of v1, v1beta1"),
    ],
)
async def test_bad_configurations(world: WebhookWorld, change: dict[str, Any], message: str) -> None:
    body = {"metadata": {"name": "bad"}, "webhooks": [{**world.hooks.hook("/x"), **change}]}
    reply = await world.send("POST", CONFIGURATIONS.format("mutating"), body)
    assert reply.status == 422
    assert message in reply.json["message"]


async def test_both_kinds_are_listed_with_their_number_of_webhooks(world: WebhookWorld) -> None:
    await world.configure("mutating", world.hooks.hook("/a"), world.hooks.hook("/b"))
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    reply = await world.send("GET", CONFIGURATIONS.format("mutating"), None, accept)
    assert [one["name"] for one in reply.json["columnDefinitions"]] == ["Name", "Webhooks", "Age"]
    assert reply.json["rows"][0]["cells"][:2] == ["hooks", 2]
