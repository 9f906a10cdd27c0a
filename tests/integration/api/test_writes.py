"""Side effects of writes: UIDs, generations, admission, allocation, and every kind of deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hatchway.cluster.api.registry.strategies import events
from hatchway.errors import ApiError, forbidden
from tests.integration.api.world import Reply, World, world

NS = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


def deployment(name: str = "d") -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}


def refused(reply: Reply, code: int, reason: str) -> str:
    assert (reply.status, reply.json["reason"]) == (code, reason), reply.body
    return str(reply.json["message"])


async def test_the_server_gives_identities(made: World) -> None:
    sent = {
        "metadata": {"generateName": "x-", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}
    }
    one = (await made.send("POST", f"{NS}/configmaps", sent)).json["metadata"]
    two = (await made.send("POST", f"{NS}/configmaps", sent)).json["metadata"]
    assert one["name"].startswith("x-")
    assert len(one["name"]) == 7
    assert one["name"] != two["name"]
    assert one["uid"] not in ("mine", two["uid"])
    assert not one["creationTimestamp"].startswith("2001")
    assert "generation" not in one
    assert int(two["resourceVersion"]) > int(one["resourceVersion"])


async def test_generation_counts_changes_of_the_spec(made: World) -> None:
    await made.send("POST", f"{APPS}/deployments", deployment())

    async def patch(path: str, change: dict[str, Any]) -> int:
        await made.send("PATCH", f"{APPS}/deployments/d{path}", change, MERGE)
        return int(made.store.list("deployments.apps")[0]["metadata"]["generation"])

    assert await patch("", {"metadata": {"labels": {"x": "y"}}}) == 1
    assert await patch("", {"spec": {"replicas": 3}}) == 2
    assert await patch("/status", {"status": {"replicas": 3}, "spec": {"replicas": 9}}) == 2
    assert await patch("/scale", {"spec": {"replicas": 5}}) == 3
    assert await patch("", {"status": {"replicas": 7}}) == 3
    stored = made.store.list("deployments.apps")[0]
    assert (stored["spec"]["replicas"], stored["status"]["replicas"]) == (5, 3)


async def test_nothing_is_written_when_nothing_changes(made: World) -> None:
    first = await made.send("POST", f"{NS}/configmaps", {"metadata": {"name": "a"}, "data": {"k": "v"}})
    again = await made.send("PUT", f"{NS}/configmaps/a", first.json)
    patched = await made.send("PATCH", f"{NS}/configmaps/a", {"data": {"k": "v"}}, MERGE)
    assert first.json == again.json == patched.json


async def test_dry_run_stores_nothing(made: World) -> None:
    revision = made.store.revision
    assert (await made.send("POST", f"{NS}/services?dryRun=All", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}})).status == 201  # fmt: skip
    assert (await made.send("DELETE", f"{NS}/configmaps/kube-root-ca.crt?dryRun=All")).status == 200
    change = {"data": {"a": "b"}}
    patched = await made.send("PATCH", f"{NS}/configmaps/kube-root-ca.crt?dryRun=All", change, MERGE)
    assert patched.json["data"]["a"] == "b"
    exists = await made.send("POST", f"{NS}/configmaps?dryRun=All", {"metadata": {"name": "kube-root-ca.crt"}})
    refused(exists, 409, "AlreadyExists")
    assert made.store.revision == revision


async def test_concurrent_patches_all_count(made: World) -> None:
    await made.send("POST", f"{NS}/configmaps", {"metadata": {"name": "a"}})
    await asyncio.gather(
        *(made.send("PATCH", f"{NS}/configmaps/a", {"data": {str(number): "x"}}, MERGE) for number in range(20))
    )
    stored = made.store.get("configmaps", "default", "a")
    assert stored is not None
    assert len(stored["data"]) == 20


async def test_only_one_of_concurrent_updates_from_one_version_succeeds(made: World) -> None:
    obj = (await made.send("POST", f"{NS}/configmaps", {"metadata": {"name": "a"}})).json
    replies = await asyncio.gather(
        *(made.send("PUT", f"{NS}/configmaps/a", {**obj, "data": {"n": str(number)}}) for number in range(5))
    )
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409, 409]


async def test_pods_get_their_account_and_wait_for_it(made: World) -> None:
    refused(await made.send("POST", f"{NS}/pods", pod(serviceAccountName="none")), 403, "Forbidden")
    await made.send("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}})
    creating = asyncio.ensure_future(made.send("POST", "/api/v1/namespaces/new/pods", pod()))
    await made.namespace("new")
    spec = (await creating).json["spec"]
    assert spec["serviceAccountName"] == "default"
    mount = spec["containers"][0]["volumeMounts"][0]
    assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
    assert mount["name"] == spec["volumes"][0]["name"]
    assert spec["volumes"][0]["projected"]["sources"][0] == {
        "serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}
    }
    plain = (await made.send("POST", f"{NS}/pods", pod("plain", automountServiceAccountToken=False))).json["spec"]
    assert "volumes" not in plain


@pytest.mark.parametrize(
    ("limits", "requests", "wanted"),
    [
        ({}, {}, "BestEffort"),
        ({"cpu": "1", "memory": "1Gi"}, {}, "Guaranteed"),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1Gi"}, "Guaranteed"),
        ({"cpu": "1"}, {}, "Burstable"),
        ({}, {"memory": "1"}, "Burstable"),
    ],
)
async def test_quality_of_service(made: World, limits: Any, requests: Any, wanted: str) -> None:
    sent = pod()
    sent["spec"]["containers"][0]["resources"] = {"limits": limits, "requests": requests}
    assert (await made.send("POST", f"{NS}/pods", sent)).json["status"]["qosClass"] == wanted


async def test_few_fields_of_a_pod_may_change(made: World) -> None:
    await made.send("POST", f"{NS}/pods", pod())

    async def change(spec: dict[str, Any]) -> Reply:
        return await made.send("PATCH", f"{NS}/pods/p", {"spec": spec}, MERGE)

    for spec in ({"nodeName": "n"}, {"hostname": "h"}, {"restartPolicy": "Never"}, {"containers": []}):
        refused(await change(spec), 422, "Invalid")
    assert (await change({"activeDeadlineSeconds": 5})).status == 200
    refused(await change({"activeDeadlineSeconds": 9}), 422, "Invalid")


async def bind(made: World, name: str = "p", node: str = "n1") -> Reply:
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
    return await made.send("POST", f"{NS}/pods/{name}/binding", binding)


async def test_binding(made: World) -> None:
    await made.send("POST", f"{NS}/pods", pod())
    assert (await bind(made)).status == 201
    assert 'already assigned to node "n1"' in refused(await bind(made, node="n2"), 409, "Conflict")
    stored = (await made.send("GET", f"{NS}/pods/p")).json
    assert stored["spec"]["nodeName"] == "n1"
    assert [(one["type"], one["status"]) for one in stored["status"]["conditions"]] == [("PodScheduled", "True")]
    assert (await bind(made, name="absent")).status == 404
    nameless = await made.send("POST", f"{NS}/pods/p/binding", {"target": {"kind": "Node", "name": "n1"}})
    assert refused(nameless, 400, "BadRequest") == "name in URL does not match name in Binding object"
    gated = pod(schedulingGates=[{"name": "example.com/g"}])
    gated["metadata"]["name"] = "gated"
    await made.send("POST", f"{NS}/pods", gated)
    assert "non-empty .spec.schedulingGates" in refused(await bind(made, name="gated"), 409, "Conflict")


async def test_pods_on_nodes_are_deleted_gracefully_and_others_at_once(made: World) -> None:
    await made.send("POST", f"{NS}/pods", pod())
    assert (await made.send("DELETE", f"{NS}/pods/p")).json["metadata"]["deletionGracePeriodSeconds"] == 0
    assert made.store.list("pods") == []

    await made.send("POST", f"{NS}/pods", pod(terminationGracePeriodSeconds=60))
    await bind(made)
    first = (await made.send("DELETE", f"{NS}/pods/p")).json["metadata"]
    assert first["deletionGracePeriodSeconds"] == 60
    assert (await made.send("DELETE", f"{NS}/pods/p?gracePeriodSeconds=90")).json["metadata"][
        "deletionGracePeriodSeconds"
    ] == 60
    second = (await made.send("DELETE", f"{NS}/pods/p?gracePeriodSeconds=10")).json["metadata"]
    assert second["deletionGracePeriodSeconds"] == 10
    parsed = [datetime.fromisoformat(one["deletionTimestamp"]) for one in (first, second)]
    assert parsed[0] - parsed[1] == timedelta(seconds=50)
    assert (await made.send("DELETE", f"{NS}/pods/p?gracePeriodSeconds=0")).status == 200
    assert made.store.list("pods") == []


async def test_eviction_is_a_deletion(made: World) -> None:
    await made.send("POST", f"{NS}/pods", pod())
    for metadata in ({}, {"name": ""}, {"name": "q"}):
        reply = await made.send(
            "POST", f"{NS}/pods/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        )
        assert refused(reply, 400, "BadRequest") == "name in URL does not match name in Eviction object"
    reply = await made.send("POST", f"{NS}/pods/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}})  # fmt: skip
    assert (reply.status, reply.json["status"]) == (201, "Success")
    assert made.store.list("pods") == []


async def test_preconditions(made: World) -> None:
    obj = (await made.send("POST", f"{NS}/configmaps", {"metadata": {"name": "a"}})).json
    for key, value in (("uid", "x"), ("resourceVersion", "1")):
        refused(await made.send("DELETE", f"{NS}/configmaps/a", {"preconditions": {key: value}}), 409, "Conflict")
    right = {"uid": obj["metadata"]["uid"], "resourceVersion": obj["metadata"]["resourceVersion"]}
    assert (await made.send("DELETE", f"{NS}/configmaps/a", {"preconditions": right})).status == 200


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
async def test_propagation_leaves_its_finalizer(made: World, policy: str, finalizer: str) -> None:
    await made.send("POST", f"{APPS}/deployments", deployment())
    marked = (await made.send("DELETE", f"{APPS}/deployments/d", {"propagationPolicy": policy})).json["metadata"]
    assert marked["finalizers"] == [finalizer]
    assert marked["deletionTimestamp"]
    more = {"metadata": {"finalizers": [finalizer, "example.com/late"]}}
    refused(await made.send("PATCH", f"{APPS}/deployments/d", more, MERGE), 422, "Invalid")
    done = await made.send("PATCH", f"{APPS}/deployments/d", {"metadata": {"finalizers": None}}, MERGE)
    assert done.status == 200
    assert made.store.list("deployments.apps") == []


async def test_background_deletes_at_once(made: World) -> None:
    await made.send("POST", f"{APPS}/deployments", deployment())
    reply = await made.send("DELETE", f"{APPS}/deployments/d?propagationPolicy=Background")
    assert reply.json["status"] == "Success"
    assert reply.json["details"]["group"] == "apps"
    assert made.store.list("deployments.apps") == []


async def test_delete_collection_takes_what_is_selected(made: World) -> None:
    for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
        await made.send("POST", f"{NS}/configmaps", {"metadata": {"name": name, "labels": {"l": label}}})
    reply = await made.send("DELETE", f"{NS}/configmaps?labelSelector=l%3Dx&limit=1")
    assert [one["metadata"]["name"] for one in reply.json["items"]] == ["a", "c"]
    assert [one["metadata"]["name"] for one in made.store.list("configmaps", "default")] == ["b", "kube-root-ca.crt"]
    refused(await made.send("DELETE", "/api/v1/configmaps"), 404, "NotFound")
    refused(await made.send("DELETE", "/api/v1/namespaces"), 405, "MethodNotAllowed")


async def test_the_end_of_a_namespace(made: World) -> None:
    await made.namespace("gone")
    marked = (await made.send("DELETE", "/api/v1/namespaces/gone")).json
    assert marked["status"]["phase"] == "Terminating"
    message = refused(await made.send("POST", "/api/v1/namespaces/gone/configmaps", {"metadata": {"name": "a"}}), 403, "Forbidden")  # fmt: skip
    assert "because it is being terminated" in message
    refused(
        await made.send("POST", "/api/v1/namespaces/never/configmaps", {"metadata": {"name": "a"}}), 404, "NotFound"
    )
    assert (await made.send("DELETE", "/api/v1/namespaces/gone")).status == 200
    assert made.store.get("namespaces", "", "gone") is not None
    stale = {"metadata": {"name": "gone", "resourceVersion": "1"}}
    refused(await made.send("PUT", "/api/v1/namespaces/gone/finalize", stale), 409, "Conflict")
    assert (await made.send("PUT", "/api/v1/namespaces/gone/finalize", {**marked, "spec": {}})).status == 200
    assert made.store.get("namespaces", "", "gone") is None
    refused(await made.send("DELETE", "/api/v1/namespaces/kube-system"), 403, "Forbidden")


async def test_service_addresses_are_allocated_once(made: World) -> None:
    sent = [
        {"metadata": {"name": f"s{number}"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
        for number in range(30)
    ]
    replies = await asyncio.gather(*(made.send("POST", f"{NS}/services", one) for one in sent))
    specs = [reply.json["spec"] for reply in replies]
    assert len({spec["clusterIP"] for spec in specs}) == 30
    assert len({spec["ports"][0]["nodePort"] for spec in specs}) == 30
    # A Service may ask for an address of the lower range (static addresses).
    assert all(not spec["clusterIP"].startswith("10.96.0.") for spec in specs)
    port = specs[0]["ports"][0]["nodePort"]
    taken = {"metadata": {"name": "t"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}}
    assert "provided port is already allocated" in refused(
        await made.send("POST", f"{NS}/services", taken), 422, "Invalid"
    )
    await made.send("DELETE", f"{NS}/services/s0")
    assert (await made.send("POST", f"{NS}/services", taken)).status == 201


async def test_services_change_their_type(made: World) -> None:
    await made.send("POST", f"{NS}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
    address = made.store.list("services")[0]["spec"]["clusterIP"]

    async def change(spec: dict[str, Any]) -> dict[str, Any]:
        reply = await made.send("PATCH", f"{NS}/services/s", {"spec": spec}, MERGE)
        assert reply.status == 200, reply.body
        return dict(reply.json["spec"])

    assert (await change({"type": "NodePort"}))["ports"][0]["nodePort"] >= 30000
    back = await change({"type": "ClusterIP"})
    assert "nodePort" not in back["ports"][0]
    assert back["clusterIP"] == address
    external = await change({"type": "ExternalName", "externalName": "example.com"})
    assert "clusterIP" not in external
    assert (await change({"type": "ClusterIP", "externalName": None}))["clusterIP"].startswith("10.96.")
    whole = made.store.list("services")[0]
    replaced = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}}
    assert (await made.send("PUT", f"{NS}/services/s", replaced)).json["spec"]["clusterIP"] == whole["spec"][
        "clusterIP"
    ]


async def test_immutable_data(made: World) -> None:
    await made.send("POST", f"{NS}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}, "immutable": True})
    assert made.store.list("secrets")[0]["data"] == {"a": "Yg=="}
    for change in ({"data": {"a": "Yw=="}}, {"immutable": None}, {"type": "x/y"}):
        refused(await made.send("PATCH", f"{NS}/secrets/s", change, MERGE), 422, "Invalid")
    big = {"metadata": {"name": "big"}, "data": {"a": "x" * 1_048_577}}
    assert "Too long" in refused(await made.send("POST", f"{NS}/configmaps", big), 422, "Invalid")


async def test_role_refs_never_change_and_rights_are_checked(made: World) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    }
    stored = await made.send("POST", f"{path}/rolebindings", binding)
    assert stored.json["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    message = refused(await made.send("PUT", f"{path}/rolebindings/b", {**binding, "roleRef": {"kind": "Role", "name": "x"}}), 422, "Invalid")  # fmt: skip
    assert message.endswith("cannot change roleRef")

    def check(user: Any, resource: str, namespace: str, obj: Any, old: Any) -> None:
        raise forbidden(resource, obj["metadata"]["name"], f"{user.name} {namespace} {old is None}")

    made.api.access_check = check
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
    assert "admin default True" in refused(await made.send("POST", f"{path}/roles", role), 403, "Forbidden")


async def test_events_in_both_groups(made: World) -> None:
    core = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "message": "m",
        "source": {"component": "c"},
        "count": 2,
    }
    assert (await made.send("POST", f"{NS}/events", core)).status == 201
    new = (await made.send("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")).json
    assert (new["apiVersion"], new["note"], new["regarding"]["name"]) == ("events.k8s.io/v1", "m", "p")
    assert (new["deprecatedCount"], new["deprecatedSource"]) == (2, {"component": "c"})
    selected = await made.send("GET", f"{NS}/events?fieldSelector=involvedObject.name%3Dp,source%3Dc")
    assert len(selected.json["items"]) == 1
    patch = {"note": "changed"}
    await made.send("PATCH", "/apis/events.k8s.io/v1/namespaces/default/events/e", patch, MERGE)
    missing = await made.send("GET", f"{NS}/events/e")
    assert missing.json["message"] in ("m", "changed")


async def test_events_are_forgotten_after_an_hour(made: World) -> None:
    for name, age in (("old", 61), ("new", 59)):
        seen = (datetime.now(UTC) - timedelta(minutes=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {"metadata": {"name": name}, "involvedObject": {"namespace": "default"}, "lastTimestamp": seen}
        assert (await made.send("POST", f"{NS}/events", body)).status == 201
    assert await events.prune(made.store) == 1
    assert [one["metadata"]["name"] for one in made.store.list("events")] == ["new"]


async def test_a_put_can_only_create_events(made: World) -> None:
    body = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
    assert (await made.send("PUT", f"{NS}/events/e", body)).status == 201
    refused(await made.send("PUT", f"{NS}/configmaps/a", {"metadata": {"name": "a"}}), 404, "NotFound")


async def test_virtual_types_are_answered_by_their_handlers(made: World) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    refused(await made.send("POST", path, {"spec": {}}), 405, "MethodNotAllowed")

    async def answer(user: Any, namespace: str, name: str, obj: Any) -> Any:
        return {**obj, "status": {"who": user.name, "where": namespace, "name": name}}

    made.registry.virtual["tokenreviews.authentication.k8s.io"] = answer
    made.registry.virtual["serviceaccounts/token"] = answer
    assert (await made.send("POST", path, {"spec": {"token": "t"}})).json["status"]["who"] == "admin"
    refused(await made.send("GET", path), 405, "MethodNotAllowed")
    token = await made.send("POST", f"{NS}/serviceaccounts/default/token", {"spec": {"audiences": []}})
    assert (token.status, token.json["kind"]) == (201, "TokenRequest")
    assert token.json["status"] == {"who": "admin", "where": "default", "name": "default"}
    refused(await made.send("POST", f"{NS}/serviceaccounts/absent/token", {"spec": {}}), 404, "NotFound")


async def test_field_validation(made: World) -> None:
    body = '{"metadata": {"name": "a"}, "data": {"x": "1"}, "data": {"y": "2"}, "nope": 1}'
    strict = await made.send("POST", f"{NS}/configmaps?fieldValidation=Strict", body)
    assert "strict decoding error: " in refused(strict, 400, "BadRequest")
    warned = await made.send("POST", f"{NS}/configmaps", body)
    texts = [value for key, value in warned.headers if key == "warning"]
    assert sorted(texts) == ['299 - "duplicate field \\"data\\""', '299 - "unknown field \\"nope\\""']
    ignored = await made.send("PUT", f"{NS}/configmaps/a?fieldValidation=Ignore", body)
    assert ignored.header("warning") is None
    assert "nope" not in ignored.json
    refused(await made.send("POST", f"{NS}/configmaps?fieldValidation=Maybe", body), 422, "Invalid")


async def test_the_client_in_process(made: World) -> None:
    client = made.client
    with pytest.raises(ApiError) as caught:
        await client.get("configmaps", "a", "default")
    assert caught.value.code == 404
    sent: dict[str, Any] = {"metadata": {"name": "a", "namespace": "default"}}
    await client.create("configmaps", sent)
    assert sent == {"metadata": {"name": "a", "namespace": "default"}}
    await client.patch("configmaps", "a", {"data": {"k": "v"}}, "default")
    assert (await client.get("configmaps", "a", "default"))["data"] == {"k": "v"}
    found = await client.list("configmaps", field_selector="metadata.name=a")
    assert [one["kind"] for one in found] == ["ConfigMap"]
    await client.delete("configmaps", "a", "default", uid=found[0]["metadata"]["uid"])
    with pytest.raises(ApiError):
        await client.list("nonsense")
