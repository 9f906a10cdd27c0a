"""Quotas, limit ranges and pod security at the API server: usage, counts, refusals and warnings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.admission.builtin import builtin_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.limitranger import MAX_AMOUNTS
from hatchway.cluster.api.admission.quota.plugin import MAX_NAMES
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from tests.integration.api.world import Reply, World, world

CORE = "/api/v1/namespaces/default"
NAMESPACE = "/api/v1/namespaces/default"
MERGE = {"Content-Type": "application/merge-patch+json"}
Object = dict[str, Any]


@pytest.fixture
async def made() -> AsyncIterator[World]:
    async with world() as one:
        yield one


def pod(name: str, cpu: str = "", **spec: Any) -> Object:
    resources = {"requests": {"cpu": cpu}} if cpu else {}
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}], **spec},
    }


def config(name: str) -> Object:
    return {"metadata": {"name": name}}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a generous deadline."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the store reports changes to watches only
            await asyncio.sleep(0.01)


def status(made: World, name: str = "q") -> Object:
    found: Object = (made.store.get("resourcequotas", "default", name) or {}).get("status") or {}
    return found


async def limit(made: World, hard: Object, name: str = "q", **spec: Any) -> None:
    """Create a quota, and wait until the existing objects are counted."""
    reply = await made.send(
        "POST", f"{CORE}/resourcequotas", {"metadata": {"name": name}, "spec": {"hard": hard, **spec}}
    )
    assert reply.status == 201, reply.body
    assert reply.json["status"] == {}
    await until(lambda: bool(status(made, name)))


async def used(made: World, wanted: Object, name: str = "q") -> None:
    await until(lambda: status(made, name).get("used") == wanted)


def refused(reply: Reply) -> str:
    assert reply.status == 403, reply.body
    return str(reply.json["message"])


# -- races


async def test_many_creations_at_once_never_exceed_a_quota(made: World) -> None:
    await limit(made, {"pods": "7", "requests.cpu": "5", "count/pods": "100"})
    replies = await asyncio.gather(*(made.send("POST", f"{CORE}/pods", pod(f"p{n}", "1")) for n in range(60)))
    assert sorted(reply.status for reply in replies) == [201] * 5 + [403] * 55
    assert len(made.store.list("pods", "default")) == 5
    assert status(made)["used"] == {"pods": "5", "requests.cpu": "5", "count/pods": "5"}


async def test_creations_during_counts_and_deletions_never_exceed_a_quota(made: World) -> None:
    """While objects are created and deleted, counts write the status; no object over the quota is admitted."""
    await limit(made, {"count/configmaps": "10", "configmaps": "10"})
    most = 0

    async def churn(worker: int) -> None:
        nonlocal most
        for n in range(25):
            name = f"c{worker}-{n}"
            reply = await made.send("POST", f"{CORE}/configmaps", config(name))
            most = max(most, len(made.store.list("configmaps", "default")))
            if reply.status == 201 and n % 2:
                assert (await made.send("DELETE", f"{CORE}/configmaps/{name}")).status == 200
            # A change of the quota's spec begins a count.
            if worker == 0 and n % 5 == 0:
                hard = {"spec": {"hard": {"count/configmaps": "10", "configmaps": "10", "pods": str(n)}}}
                assert (await made.send("PATCH", f"{CORE}/resourcequotas/q", hard, MERGE)).status == 200

    await asyncio.gather(*(churn(worker) for worker in range(8)))
    assert most == 10
    there = str(len(made.store.list("configmaps", "default")))
    await until(lambda: status(made)["used"] == {"count/configmaps": there, "configmaps": there, "pods": "0"})


async def test_objects_that_are_created_beside_a_new_quota_are_counted(made: World) -> None:
    """A new quota limits nothing before its first count; the count includes objects that are created meanwhile."""
    quotas = [
        made.send("POST", f"{CORE}/resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "30"}}}),
        *(made.send("POST", f"{CORE}/secrets", config(f"s{n}")) for n in range(50)),
    ]

    async def later() -> None:
        for n in range(50, 80):
            await made.send("POST", f"{CORE}/secrets", config(f"s{n}"))

    await asyncio.gather(*quotas, later())
    await until(lambda: bool(status(made)))
    there = str(len(made.store.list("secrets", "default")))
    await used(made, {"secrets": there})


async def test_a_creation_that_fails_after_its_charge_is_not_counted_for_good(made: World) -> None:
    await limit(made, {"services": "5", "services.nodeports": "5"})
    service = {"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30100}]}}
    names = [{**service, "metadata": {"name": name}} for name in "ab"]
    replies = await asyncio.gather(*(made.send("POST", f"{CORE}/services", one) for one in names))
    assert sorted(reply.status for reply in replies) == [201, 422]
    # A creation of an object that exists already fails, too, and is not charged.
    again = await made.send("POST", f"{CORE}/services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1}]}})
    assert again.status == 409
    await used(made, {"services": "1", "services.nodeports": "1"})


class _Meeting(AdmissionPlugin):
    """Holds the first write until the second one arrives. Both then continue together, as after slow webhooks."""

    name = "ValidatingAdmissionWebhook"

    def __init__(self) -> None:
        self._both = asyncio.Event()
        self._met = 0

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        return row.plural == "services"

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        return self._wait() if attributes.resource == "services" else None

    async def _wait(self) -> None:
        self._met += 1
        if self._met == 2:
            self._both.set()
        await self._both.wait()


async def test_two_equal_changes_that_wait_for_webhooks_are_charged_once(made: World) -> None:
    await limit(made, {"services.nodeports": "1"})
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}
    assert (await made.send("POST", f"{CORE}/services", service)).status == 201
    made.api.admission = AdmissionChain([*builtin_plugins(made.store), _Meeting()])
    change = {"spec": {"type": "NodePort"}}
    replies = await asyncio.gather(*(made.send("PATCH", f"{CORE}/services/s", change, MERGE) for _ in range(2)))
    assert [reply.status for reply in replies] == [200, 200], replies
    assert status(made)["used"] == {"services.nodeports": "1"}


# -- what is counted


async def test_existing_and_deleted_objects_are_counted(made: World) -> None:
    for name in ("a", "b"):
        assert (await made.send("POST", f"{CORE}/pods", pod(name, "300m"))).status == 201
    await limit(made, {"pods": "2", "requests.cpu": "1", "configmaps": "1", "count/deployments.apps": "1"})
    assert status(made)["hard"] == {"pods": "2", "requests.cpu": "1", "configmaps": "1", "count/deployments.apps": "1"}
    assert status(made)["used"] == {
        "pods": "2",
        "requests.cpu": "600m",
        "configmaps": "1",
        "count/deployments.apps": "0",
    }
    assert refused(await made.send("POST", f"{CORE}/pods", pod("c", "100m"))) == (
        'pods "c" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2'
    )
    assert (await made.send("DELETE", f"{CORE}/pods/a")).status == 200
    await until(lambda: status(made)["used"]["requests.cpu"] == "300m")
    # A pod that has ended uses nothing of the quota.
    await made.client.patch("pods", "b", {"status": {"phase": "Succeeded"}}, namespace="default", subresource="status")
    await until(lambda: status(made)["used"]["pods"] == "0")


async def test_a_dry_run_is_compared_and_not_charged(made: World) -> None:
    await limit(made, {"configmaps": "2"})
    assert (await made.send("POST", f"{CORE}/configmaps?dryRun=All", config("a"))).status == 201
    assert status(made)["used"] == {"configmaps": "1"}
    assert (await made.send("POST", f"{CORE}/configmaps", config("a"))).status == 201
    assert "exceeded quota" in refused(await made.send("POST", f"{CORE}/configmaps?dryRun=All", config("b")))


async def test_a_smaller_quota_refuses_only_what_is_new(made: World) -> None:
    await limit(made, {"configmaps": "5"})
    await made.send("POST", f"{CORE}/configmaps", config("a"))
    await made.send("PATCH", f"{CORE}/resourcequotas/q", {"spec": {"hard": {"configmaps": "1"}}}, MERGE)
    await until(lambda: status(made)["hard"] == {"configmaps": "1"})
    assert status(made)["used"] == {"configmaps": "2"}
    assert refused(await made.send("POST", f"{CORE}/configmaps", config("b"))).endswith(
        "exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=1"
    )
    assert (await made.send("PATCH", f"{CORE}/configmaps/a", {"data": {"k": "v"}}, MERGE)).status == 200
    gone = await made.send("DELETE", f"{CORE}/resourcequotas/q")
    assert gone.json["status"]["used"] == {"configmaps": "2"}
    assert (await made.send("POST", f"{CORE}/configmaps", config("b"))).status == 201


async def test_a_service_that_changes_is_charged(made: World) -> None:
    await limit(made, {"services.nodeports": "1"})
    ports = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
    assert (
        await made.send("POST", f"{CORE}/services", {"metadata": {"name": "s"}, "spec": {"ports": ports}})
    ).status == 201
    change = await made.send("PATCH", f"{CORE}/services/s", {"spec": {"type": "NodePort"}}, MERGE)
    assert "requested: services.nodeports=2, used: services.nodeports=0" in refused(change)
    smaller = {"spec": {"type": "NodePort", "ports": ports[:1]}}
    assert (await made.send("PATCH", f"{CORE}/services/s", smaller, MERGE)).status == 200
    assert status(made)["used"] == {"services.nodeports": "1"}
    await made.send("PATCH", f"{CORE}/services/s", {"spec": {"type": "ClusterIP"}}, MERGE)
    await used(made, {"services.nodeports": "0"})


async def test_a_quota_with_a_scope_counts_only_its_pods(made: World) -> None:
    await limit(made, {"pods": "1"}, scopes=["BestEffort"])
    await limit(made, {"pods": "1", "requests.cpu": "1"}, "asking", scopes=["NotBestEffort"])
    assert (await made.send("POST", f"{CORE}/pods", pod("a"))).status == 201
    assert (await made.send("POST", f"{CORE}/pods", pod("b", "1"))).status == 201
    assert "exceeded quota: q," in refused(await made.send("POST", f"{CORE}/pods", pod("c")))
    assert "exceeded quota: asking," in refused(await made.send("POST", f"{CORE}/pods", pod("d", "1m")))
    assert status(made)["used"] == {"pods": "1"}


async def test_a_large_object_is_charged_too(made: World) -> None:
    await limit(made, {"configmaps": "2"})
    large = [{**config(name), "data": {"k": "x" * 100_000}} for name in "abc"]
    replies = await asyncio.gather(*(made.send("POST", f"{CORE}/configmaps", one) for one in large))
    assert sorted(reply.status for reply in replies) == [201, 403, 403]


async def test_the_status_survives_a_restart_and_a_wrong_status_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with world(path) as first:
        await limit(first, {"configmaps": "3"})
        wrong = {"status": {"hard": {"configmaps": "3"}, "used": {"configmaps": "0"}}}
        reply = await first.send("PATCH", f"{CORE}/resourcequotas/q/status", wrong, MERGE)
        assert reply.json["status"]["used"] == {"configmaps": "0"}
        count = len(first.store.list("configmaps", "default"))
    store = Store.open(path)
    try:
        await used(World(store), {"configmaps": str(count)})
    finally:
        await store.close()


async def test_the_names_of_all_quotas_of_a_namespace_are_bounded(made: World) -> None:
    def quota(name: str, count: int) -> Object:
        hard = {f"count/r{n}.{name}.example.com": "1" for n in range(count)}
        return {"metadata": {"name": name}, "spec": {"hard": hard}}

    assert (await made.send("POST", f"{CORE}/resourcequotas", quota("a", MAX_NAMES - 3))).status == 201
    assert (await made.send("POST", f"{CORE}/resourcequotas", quota("b", 1))).status == 201
    assert refused(await made.send("POST", f"{CORE}/resourcequotas", quota("c", 1))).endswith(
        "the quotas of a namespace may limit at most 1000 resources together"
    )
    assert (await made.send("PUT", f"{CORE}/resourcequotas/b", quota("b", 1))).status == 200
    # Several concurrent creations, none of which is on disk yet, do not exceed the bound either.
    assert (await made.send("DELETE", f"{CORE}/resourcequotas/a")).status == 200
    many = [quota(f"n{n}", 400) for n in range(5)]
    replies = await asyncio.gather(*(made.send("POST", f"{CORE}/resourcequotas", one) for one in many))
    assert sorted(reply.status for reply in replies) == [201, 201, 403, 403, 403]


# -- limit ranges


async def test_a_limit_range_completes_and_bounds_pods(made: World) -> None:
    item = {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    ranges = {"metadata": {"name": "lr"}, "spec": {"limits": [item]}}
    assert (await made.send("POST", f"{CORE}/limitranges", ranges)).status == 201
    await limit(made, {"requests.cpu": "150m"})
    # The quota counts the values that the limit range sets.
    assert (await made.send("POST", f"{CORE}/pods", pod("a"))).json["status"]["qosClass"] == "Burstable"
    assert status(made)["used"] == {"requests.cpu": "100m"}
    assert "exceeded quota" in refused(await made.send("POST", f"{CORE}/pods", pod("b")))
    large = pod("c")
    large["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "2"}}
    assert refused(await made.send("POST", f"{CORE}/pods", large)) == (
        'pods "c" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
    )


async def test_a_limit_range_has_bounds_of_its_own(made: World) -> None:
    item = {"type": "Container", "max": {f"example.com/r{n}": "1" for n in range(MAX_AMOUNTS)}}
    reply = await made.send("POST", f"{CORE}/limitranges", {"metadata": {"name": "lr"}, "spec": {"limits": [item]}})
    assert "the limit ranges of a namespace may have at most 1000 amounts together" in refused(reply)


async def test_the_work_of_limit_ranges_is_bounded(made: World) -> None:
    item = {"type": "Container", "default": {f"example.com/r{n}": "1" for n in range(400)}}
    reply = await made.send("POST", f"{CORE}/limitranges", {"metadata": {"name": "lr"}, "spec": {"limits": [item]}})
    assert reply.status == 201
    many = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": f"c{n}", "image": "i"} for n in range(50)]}}
    assert refused(await made.send("POST", f"{CORE}/pods", many)).endswith("need more than 20000 comparisons")
    made_one = await made.send("POST", f"{CORE}/pods", pod("a"))
    assert made_one.status == 201
    assert len(made_one.json["spec"]["containers"][0]["resources"]["requests"]) == 400


# -- pod security


def warnings(reply: Reply) -> list[str]:
    return [value.removeprefix('299 - "')[:-1].replace('\\"', '"') for key, value in reply.headers if key == "warning"]


async def label(made: World, **labels: str | None) -> Reply:
    changes = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
    return await made.send("PATCH", NAMESPACE, {"metadata": {"labels": changes}}, MERGE)


async def test_a_namespace_enforces_and_warns(made: World) -> None:
    assert (await label(made, enforce="baseline", warn="restricted")).status == 200
    assert refused(await made.send("POST", f"{CORE}/pods", pod("a", hostNetwork=True))) == (
        'pods "a" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )
    reply = await made.send("POST", f"{CORE}/pods", pod("a"))
    assert reply.status == 201
    assert warnings(reply) == [
        'would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set '
        'securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set '
        'securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set '
        'securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set '
        'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    ]
    # A change that does not concern security causes no warning.
    change = await made.send("PATCH", f"{CORE}/pods/a", {"metadata": {"labels": {"x": "y"}}}, MERGE)
    assert (change.status, warnings(change)) == (200, [])


async def test_workloads_are_warned_of_and_never_refused(made: World) -> None:
    await label(made, enforce="baseline")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x", hostPID=True)["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    text = 'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    for path, obj in (
        ("/apis/apps/v1/namespaces/default/deployments", {"spec": spec}),
        ("/apis/apps/v1/namespaces/default/daemonsets", {"spec": spec}),
        (f"{CORE}/podtemplates", {"template": template}),
    ):
        reply = await made.send("POST", path, {"metadata": {"name": "w"}, **obj})
        assert (reply.status, warnings(reply)) == (201, [text])


async def test_a_stricter_namespace_warns_of_existing_pods(made: World) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1", "controller": True}
    for name in ("r2", "r1", "plain"):
        one = pod(name, hostNetwork=name != "plain")
        if name != "plain":
            one["metadata"]["ownerReferences"] = [owner]
        assert (await made.send("POST", f"{CORE}/pods", one)).status == 201
    assert warnings(await label(made, enforce="baseline")) == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level "baseline:latest"',
        "r1 (and 1 other pod): host namespaces",
    ]
    assert len(warnings(await label(made, enforce="restricted"))) == 3
    assert warnings(await label(made, enforce="baseline")) == []
    assert warnings(await label(made, enforce="privileged")) == []


async def test_wrong_labels_are_refused(made: World) -> None:
    reply = await label(made, enforce="Restricted")
    assert reply.status == 422
    assert reply.json["message"] == (
        'Namespace "default" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: '
        'Invalid value: "Restricted": must be one of privileged, baseline, restricted'
    )
    labels = {"pod-security.kubernetes.io/warn-version": "1.2"}
    new = await made.send("POST", "/api/v1/namespaces", {"metadata": {"name": "n", "labels": labels}})
    assert new.status == 422


async def test_an_account_can_limit_the_secrets_of_its_pods(made: World) -> None:
    annotation = {"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}
    reply = await made.send("PATCH", f"{CORE}/serviceaccounts/default", annotation, MERGE)
    assert "deprecated in v1.32+" in warnings(reply)[0]
    assert (await made.send("POST", f"{CORE}/pods", pod("a"))).status == 201
    why = "is not allowed because service account default does not reference that"
    volume = {"name": "v", "secret": {"secretName": "s"}}
    assert refused(await made.send("POST", f"{CORE}/pods", pod("b", volumes=[volume]))).endswith(
        f'volume with secret.secretName="s" {why} secret'
    )
    variable = pod("b")
    variable["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "s"}}]
    assert f'container c with envFrom referencing secret.secretName="s" {why} secret' in refused(
        await made.send("POST", f"{CORE}/pods", variable)
    )
    pull = pod("b", imagePullSecrets=[{"name": "p"}])
    assert f'imagePullSecrets[0].name="p" {why} imagePullSecret' in refused(
        await made.send("POST", f"{CORE}/pods", pull)
    )
    await made.send("PATCH", f"{CORE}/serviceaccounts/default", {"secrets": [{"name": "s"}]}, MERGE)
    assert (await made.send("POST", f"{CORE}/pods", pod("b", volumes=[volume]))).status == 201
