"""The view of a real cluster: the objects that a user may read, also after restarts and changes of rights."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hatchway.errors import HatchwayError
from hatchway.kube import access, catalog
from hatchway.kube import view as views
from hatchway.kube.connection import Connection
from hatchway.kube.view import View
from tests.conftest import Cluster
from tests.integration.kube.world import ApiServer, FakePlugin, eventually, write_kubeconfig
from tests.integration.proxy.conftest import Authority

# Options of a cluster that starts quickly.
SMALL = ("--nodes", "0", "--no-addons", "--network", "loopback")
LISTERS = {"apiGroups": ["", "discovery.k8s.io"], "resources": ["services", "pods", "endpointslices"]}


@contextlib.asynccontextmanager
async def seen(path: Path, namespaces: Sequence[str] | None = None) -> AsyncIterator[View]:
    connection = Connection.load(str(path))
    view = View(connection, namespaces)
    task = asyncio.get_running_loop().create_task(view.run())
    try:
        yield view
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        await connection.aclose()


def apply(cluster: Cluster, *documents: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def service(name: str, where: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": where}
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def rights(user: str, where: str, *rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects that give a user a right in a namespace, or in all ("")."""
    kind = "Role" if where else "ClusterRole"
    metadata = {"name": f"{user}-{where or 'all'}", **({"namespace": where} if where else {})}
    version = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": metadata["name"]}
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
    return [
        {**version, "kind": kind, "metadata": metadata, "rules": list(rules)},
        {**version, "kind": f"{kind}Binding", "metadata": metadata, "roleRef": reference, "subjects": [subject]},
    ]


def kubeconfig_for(cluster: Cluster, user: str, path: Path, where: str = "") -> Path:
    entry = {"server": cluster.server, "certificate-authority": str(cluster.ca)}
    write_kubeconfig(path, entry, {"token": cluster.token("--user", user)}, namespace=where)
    return path


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check rights often."""
    monkeypatch.setattr(views, "_ASK_AGAIN", 0.1)
    monkeypatch.setattr(access, "_REMEMBERED", 0.0)


async def test_an_administrator_sees_everything_live(cluster: Cluster) -> None:
    events: list[tuple[str, str, str]] = []
    async with seen(cluster.kubeconfig) as view:
        assert view.state.name == "connecting"
        await asyncio.wait_for(view.complete(), 20)
        await eventually(lambda: view.state.name == "live")
        assert {kind: scope.namespaces for kind, scope in view.scopes.items()} == dict.fromkeys(
            ("services", "slices", "pods", "nodes")
        )
        assert ("default", "kubernetes") in view.services
        assert ("", "control-plane") in view.nodes
        found = next(entry for entry in catalog.entries(view) if entry.target.name == "kube-dns")
        assert (found.endpoints.ready, found.status) == (1, "Ready")
        stop = view.subscribe(lambda kind, event, obj: events.append((kind, event, obj["metadata"]["name"])))
        assert ("services", "ADDED", "kubernetes") in events
        events.clear()
        apply(cluster, namespace("kview-live"), service("web", "kview-live"))
        await eventually(lambda: ("services", "ADDED", "web") in events)
        await eventually(lambda: list(view.slices_of("kview-live", "web")))
        cluster.kubectl("delete", "service", "web", "-n", "kview-live")
        await eventually(lambda: ("services", "DELETED", "web") in events)
        await eventually(lambda: not list(view.slices_of("kview-live", "web")))
        assert ("kview-live", "web") not in view.services
        stop()
        count = len(events)
        apply(cluster, service("late", "kview-live"))
        await eventually(lambda: ("kview-live", "late") in view.services)
        assert len(events) == count


async def test_rights_in_one_namespace_and_more_when_the_missing_rule_is_applied(
    cluster: Cluster, tmp_path: Path, attentive: None
) -> None:
    apply(cluster, namespace("kview-own"), namespace("kview-foreign"))
    apply(cluster, service("mine", "kview-own"), service("theirs", "kview-foreign"))
    apply(cluster, *rights("jane", "kview-own", {**LISTERS, "verbs": ["list", "watch"]}))
    async with seen(kubeconfig_for(cluster, "jane", tmp_path / "config", "kview-own")) as view:
        await asyncio.wait_for(view.complete(), 20)
        assert list(view.services) == [("kview-own", "mine")]
        assert view.scopes["services"].namespaces == ("kview-own",)
        assert "may not list namespaces" in view.scopes["services"].reason
        assert view.scopes["nodes"].namespaces == ()
        assert view.scopes["nodes"].reason == "you may not list and watch nodes"
        assert view.state.name == "live"
        cluster.kubectl("apply", "-f", "-", stdin=view.scopes["services"].missing_rule)
        await eventually(lambda: ("kview-foreign", "theirs") in view.services)
        await eventually(lambda: ("", "node-1") in view.nodes)
        assert all(scope.namespaces is None for scope in view.scopes.values())
        # After the right is removed, the objects are no longer shown.
        cluster.kubectl("delete", "clusterrolebinding", "hatchway-list-targets")
        await eventually(lambda: list(view.services) == [("kview-own", "mine")])
        assert not view.nodes


async def test_rights_in_some_of_the_namespaces_that_may_be_listed(cluster: Cluster, tmp_path: Path) -> None:
    apply(cluster, namespace("kview-some"), namespace("kview-none"))
    apply(cluster, service("mine", "kview-some"), service("theirs", "kview-none"))
    apply(cluster, *rights("joe", "kview-some", {**LISTERS, "resources": ["services"], "verbs": ["list", "watch"]}))
    apply(cluster, *rights("joe", "", {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}))
    async with seen(kubeconfig_for(cluster, "joe", tmp_path / "config")) as view:
        await asyncio.wait_for(view.complete(), 20)
        assert list(view.services) == [("kview-some", "mine")]
        assert view.scopes["services"].namespaces == ("kview-some",)
        assert view.scopes["services"].reason.startswith("you may list and watch services in 1 of ")
        assert view.scopes["pods"].namespaces == ()
        assert view.scopes["pods"].reason == "you may not list and watch pods"


async def test_to_list_without_to_watch_is_not_enough(cluster: Cluster, tmp_path: Path) -> None:
    apply(cluster, namespace("kview-list"))
    apply(cluster, *rights("lea", "kview-list", {**LISTERS, "verbs": ["list"]}))
    async with seen(kubeconfig_for(cluster, "lea", tmp_path / "config", "kview-list")) as view:
        await asyncio.wait_for(view.complete(), 20)
        assert view.scopes["services"].namespaces == ()


async def test_without_any_right_the_missing_rules_are_named(cluster: Cluster, tmp_path: Path) -> None:
    async with seen(kubeconfig_for(cluster, "nobody", tmp_path / "config", "kview-x")) as view:
        await asyncio.wait_for(view.complete(), 20)
        assert all(scope.namespaces == () for scope in view.scopes.values())
        assert "kview-x" in view.scopes["services"].reason
        role, binding = yaml.safe_load_all(view.scopes["services"].missing_rule)
        assert binding["subjects"][0]["name"] == "nobody"
        allowed = {
            (group, plural) for rule in role["rules"] for group in rule["apiGroups"] for plural in rule["resources"]
        }
        assert allowed == {("", "services"), ("", "pods"), ("", "nodes"), ("discovery.k8s.io", "endpointslices")}


async def test_only_the_requested_namespace_is_read(cluster: Cluster) -> None:
    async with seen(cluster.kubeconfig, ["kube-system"]) as view:
        await asyncio.wait_for(view.complete(), 20)
        assert {where for where, _ in view.services} == {"kube-system"}
        assert not view.nodes
        assert "nodes" not in view.scopes


async def test_a_cluster_that_is_stopped_and_started_again(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    own = make_cluster("kview", *SMALL)
    config = tmp_path / "config"
    shutil.copy(own.kubeconfig, config)
    apply(own, service("stays", "default"), service("goes", "default"))
    states: list[str] = []
    async with seen(config) as view:
        await eventually(lambda: view.state.name == "live")
        view.subscribe(lambda kind, event, _: states.append(event) if kind == "state" else None)
        await asyncio.to_thread(own.hatchway, "down")
        await eventually(lambda: view.state.name == "away")
        assert own.name in view.state.reason
        assert view.state.hint
        assert ("default", "goes") in view.services
        await asyncio.to_thread(own.hatchway, "up", "--detach")
        await asyncio.to_thread(own.kubectl, "delete", "service", "goes")
        await eventually(lambda: view.state.name == "live")
        await eventually(lambda: ("default", "goes") not in view.services)
        assert ("default", "stays") in view.services
    assert states[0] == "away"
    assert states[-1] == "live"


async def test_a_new_cluster_of_the_same_name_replaces_the_old_objects(make_cluster: Callable[..., Cluster]) -> None:
    """The new cluster has the same name and port, and its resource versions begin at 1 again."""
    own = make_cluster("kview-anew", *SMALL)
    port = own.server.rpartition(":")[2]
    await asyncio.to_thread(apply, own, service("old", "default"))
    connection = Connection.load(str(own.kubeconfig), "hatchway-kview-anew")
    view = View(connection)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(view.run()), group.create_task(connection.watch_files())]
        await eventually(lambda: ("default", "old") in view.services and view.state.name == "live")
        await asyncio.to_thread(own.hatchway, "down", "--delete")
        await eventually(lambda: connection.problem)
        await asyncio.to_thread(own.hatchway, "up", "--detach", "--api-port", port, *SMALL)
        await eventually(lambda: connection.problem is None)
        await eventually(lambda: ("default", "kubernetes") in view.services and view.state.name == "live")
        assert ("default", "old") not in view.services
        await asyncio.to_thread(apply, own, service("new", "default"))
        await eventually(lambda: ("default", "new") in view.services)
        for task in tasks:
            task.cancel()
    await connection.aclose()


async def test_a_change_of_the_cluster_in_the_kubeconfig_empties_the_view(
    cluster: Cluster, tmp_path: Path, api: ApiServer, authority: Authority
) -> None:
    config = tmp_path / "config"
    shutil.copy(cluster.kubeconfig, config)
    connection = Connection.load(str(config))
    view = View(connection)
    api.answers["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = 201, {"status": {"allowed": True}}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(view.run()), group.create_task(connection.watch_files())]
        await eventually(lambda: view.services and view.state.name == "live")
        states: list[str] = []
        # This subscriber runs after that of the view, so the view must have removed the old cluster's objects by then.
        connection.subscribe(lambda: states.append(view.state.name))
        there = {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}
        write_kubeconfig(config, there, {})
        await eventually(lambda: connection.context == "work")
        assert states[0] == "connecting"
        await eventually(lambda: not view.services and view.state.name == "live")
        assert not view.pods
        for task in tasks:
            task.cancel()
    await connection.aclose()


async def test_clusters_without_endpointslices(api: ApiServer, authority: Authority, tmp_path: Path) -> None:
    metadata = {"name": "web", "namespace": "x", "uid": "1", "resourceVersion": "1"}
    subsets = [{"addresses": [{"ip": "10.0.0.1"}]}]
    page = {"kind": "EndpointsList", "metadata": {"resourceVersion": "1"}}
    status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such resource"}
    api.answers = {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": (201, {"status": {"allowed": True}}),
        "/apis/discovery.k8s.io/v1/endpointslices": (404, status),
        "/api/v1/services": (200, {**page, "kind": "ServiceList", "items": [{"metadata": metadata, "spec": {}}]}),
        "/api/v1/endpoints": (200, {**page, "items": [{"metadata": metadata, "subsets": subsets}]}),
    }
    config = tmp_path / "config"
    write_kubeconfig(
        config, {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}, {}
    )
    async with seen(config) as view:
        await asyncio.wait_for(view.complete(), 20)
        (entry,) = catalog.entries(view)
        assert (entry.endpoints.ready, entry.endpoints.total) == (1, 1)


async def test_credentials_that_are_refused_are_a_state_and_an_error_of_commands(
    api: ApiServer, authority: Authority, tmp_path: Path
) -> None:
    api.accepts = {"Bearer good"}
    config = tmp_path / "config"
    there = {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}
    write_kubeconfig(config, there, {"token": "bad"})
    async with seen(config) as view:
        await eventually(lambda: view.state.name == "away")
        assert "refuses: Unauthorized" in view.state.reason
        api.accepts = None
        # The answer of a server that is no API server does not end the view.
        await eventually(lambda: "no status" in view.state.reason)
        api.answers["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = 201, {"status": {"allowed": True}}
        await eventually(lambda: view.state.name == "live")
    api.accepts = set()
    connection = Connection.load(str(config))
    with pytest.raises(HatchwayError, match="refuses: Unauthorized"):
        async with catalog.open_view(connection):
            raise AssertionError("the view must not become complete")
    await connection.aclose()


async def test_a_failed_plugin_does_not_count_as_a_refusal_by_the_server(
    api: ApiServer, authority: Authority, tmp_path: Path, plugin: FakePlugin
) -> None:
    plugin.fail(3, "the smart card is missing")
    config = tmp_path / "config"
    there = {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}
    write_kubeconfig(config, there, plugin.user)
    async with seen(config) as view:
        await eventually(lambda: view.state.name == "away")
        assert "(https://127.0.0.1" in view.state.reason and "): no credentials: the credential" in view.state.reason
        assert "the smart card is missing" in view.state.reason
        assert "refuses" not in view.state.reason


async def test_a_missing_credential_plugin_is_named_with_its_context_once(api: ApiServer, tmp_path: Path) -> None:
    config = tmp_path / "config"
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "no-such-credential-plugin",
        "interactiveMode": "Never",
    }
    write_kubeconfig(config, {"server": f"https://127.0.0.1:{api.port}"}, {"exec": plugin})
    async with seen(config) as view:
        await eventually(lambda: view.state.name == "away")
        assert '" is not installed' in view.state.reason
        assert view.state.reason.count('context "') == 1


async def test_objects_that_were_deleted_during_a_refused_watch_are_removed(
    api: ApiServer, authority: Authority, tmp_path: Path, attentive: None
) -> None:
    def services(*names: str) -> tuple[int, dict[str, Any]]:
        items = [{"metadata": {"name": name, "namespace": "x", "uid": name, "resourceVersion": "1"}} for name in names]
        return 200, {"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": items}

    refused = 401, {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "log in"}
    api.answers = {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": (201, {"status": {"allowed": True}}),
        "/api/v1/services": services("stays", "goes"),
    }
    config = tmp_path / "config"
    write_kubeconfig(
        config, {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(authority.file)}, {}
    )
    async with seen(config) as view:
        await eventually(lambda: len(view.services) == 2 and view.state.name == "live")
        # The watch ends, and the next request for it is refused.
        api.answers["/api/v1/services"] = refused
        await eventually(lambda: "refuses: log in" in view.state.reason)
        assert len(view.services) == 2
        api.answers["/api/v1/services"] = services("stays")
        await eventually(lambda: list(view.services) == [("x", "stays")])
