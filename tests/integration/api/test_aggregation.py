"""API groups of other API servers (aggregation): routing, identity, TLS, availability, discovery."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import credentialfiles, pki
from hatchway.cluster.state import StateDir
from hatchway.errors import ApiError
from hatchway.proxy.routing import Decision, RequestHead, Respond
from hatchway.proxy.server import Server, serve

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
API_SERVICES = "apiservices.apiregistration.k8s.io"
JSON = (b"Content-Type", b"application/json")
DISCOVERY = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "shop.example/v1",
    "resources": [
        {"name": "carts", "singularName": "cart", "namespaced": True, "kind": "Cart", "verbs": ["get", "list"]},
        {"name": "carts/status", "singularName": "", "namespaced": True, "kind": "Cart", "verbs": ["get"]},
    ],
}


@dataclass
class Backend:
    """The API server that serves an aggregated group.

    heads: the requests that it received. silent: whether it does not answer requests. answers: its answers by path.
    """

    server: Server
    heads: list[RequestHead] = field(default_factory=list)
    silent: bool = False
    answers: dict[bytes, Respond] = field(default_factory=dict)

    async def route(self, head: RequestHead) -> Decision:
        self.heads.append(head)
        if self.silent:
            await asyncio.get_running_loop().create_future()
        if head.path in self.answers:
            return self.answers[head.path]
        if head.path == b"/apis/shop.example/v1":
            return Respond(200, [JSON], json.dumps(DISCOVERY).encode())
        if head.path == b"/openapi/v3":
            url = {"serverRelativeURL": "/openapi/v3/apis/shop.example/v1?hash=1"}
            return Respond(200, [JSON], json.dumps({"paths": {"apis/shop.example/v1": url}}).encode())
        if head.path.startswith(b"/apis/shop.example/v1/") or head.path.startswith(b"/openapi/v3/apis/"):
            headers = [JSON, (b"Access-Control-Allow-Origin", b"*")]
            return Respond(200, headers, b'{"kind": "CartList"}')
        return Respond(404, [], b"")


@dataclass
class World:
    api: ApiServer
    keys: pki.Pki
    backend: Backend
    port: int
    token: str

    async def get(
        self, path: str, accept: str = "application/json", token: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        context = ssl.create_default_context(cafile=str(self.keys.ca.cert))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", f"Accept: {accept}", "Connection: close"]
        lines += [
            f"Authorization: Bearer {token or self.token}",
            "X-Remote-User: nobody",
            "X_Remote_User: root",
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
        writer.close()
        status, *found = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in found)}
        return int(status.split()[1]), fields, body

    async def register(self, **spec: Any) -> None:
        service = {"namespace": "shop", "name": "shop", "port": 443}
        full = {"group": "shop.example", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10, **spec}
        obj = {"metadata": {"name": "v1.shop.example"}, "spec": {"service": service, **full}}
        await self.api.client.create(API_SERVICES, obj)

    async def condition(self, reason: str, name: str = "v1.shop.example") -> dict[str, Any]:
        """Wait until a condition of the APIService has this reason; return the condition."""
        while True:
            found = await self.api.client.list(API_SERVICES)
            for obj in (one for one in found if one["metadata"]["name"] == name):
                for one in (obj.get("status") or {}).get("conditions", ()):
                    if one["reason"] == reason:
                        return dict(one)
            await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until `condition` is true of the group in aggregated discovery; return the group."""
        while True:
            _, _, body = await self.get("/apis", AGGREGATED)
            groups = {one["metadata"]["name"]: one for one in json.loads(body)["items"]}
            found: dict[str, Any] = groups.get("shop.example", {})
            if condition(found):
                return found
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    state = StateDir(tmp_path / "c")
    state.create()
    keys = pki.ensure(state.pki, cluster_name="c", node_names=["n"], node_ips=["127.64.0.2"])
    pair = keys.issue("shop", "shop", dns=["shop.shop.svc"], server=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    tls.load_verify_locations(keys.front_proxy_ca.cert)
    tls.verify_mode = ssl.CERT_REQUIRED
    backend = Backend(None)  # type: ignore[arg-type]
    backend.server = await serve(lambda head: backend.route(head), host="127.0.0.1", port=0, ssl=tls)

    async def dial(_address: str, _port: int) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", backend.server.port))
        return sock

    store = Store.open(None)
    api = ApiServer(state, store, keys, dial=dial, allow_loopback_pods=True)
    assert await api.bootstrap("127.0.0.1", 6443) == []
    listener = socket.create_server(("127.0.0.1", 0))
    await api.listen(listener)
    client = api.client
    await client.create("namespaces", {"metadata": {"name": "shop"}})
    await client.create("nodes", {"metadata": {"name": "n"}, "spec": {"podCIDR": "127.65.0.0/24"}})
    metadata = {"namespace": "shop", "uid": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    pod = {"spec": {"nodeName": "n", "containers": []}, "status": {"podIP": "127.65.0.9"}}
    await store.create("pods", {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "shop-0", **metadata}, **pod})
    spec = {"ports": [{"name": "https", "port": 443, "targetPort": 8443}], "selector": {"app": "shop"}}
    await client.create("services", {"metadata": {"name": "shop", "namespace": "shop"}, "spec": spec})
    await client.create(
        "endpointslices.discovery.k8s.io",
        {
            "metadata": {"name": "shop-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "shop"}},
            "addressType": "IPv4",
            "endpoints": [
                {
                    "addresses": ["127.65.0.9"],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": "shop-0", "namespace": "shop"},
                }
            ],
            "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
        },
    )
    token = credentialfiles.ensure_admin_token(state)
    yield World(api, keys, backend, listener.getsockname()[1], token)
    await api.close(0.1)
    await backend.server.close()


def bundle(keys: pki.Pki) -> str:
    return base64.b64encode(keys.ca_pem).decode()


async def test_a_request_reaches_the_server_with_the_users_identity(world: World) -> None:
    await world.register(caBundle=bundle(world.keys))
    assert (await world.condition("Passed"))["message"] == "all checks passed"
    status, answered, body = await world.get("/apis/shop.example/v1/namespaces/a/carts?labelSelector=x%3Dy")
    assert (status, body) == (200, b'{"kind": "CartList"}')
    # An aggregated server must not allow other sites to read from the API server's origin.
    assert "access-control-allow-origin" not in answered
    head = world.backend.heads[-1]
    assert head.target == b"/apis/shop.example/v1/namespaces/a/carts?labelSelector=x%3Dy"
    fields = [(name.lower(), value) for name, value in head.headers]
    users = [value for name, value in fields if name.replace(b"_", b"-") == b"x-remote-user"]
    assert users == [b"kubernetes-admin"]
    assert (b"x-remote-group", b"system:masters") in fields
    assert not [value for name, value in fields if name == b"authorization"]
    # By this certificate an aggregated server knows that it can trust the identity in the header fields.
    assert head.peer.certificate is not None


async def test_a_user_without_rights_is_refused_before_forwarding(world: World, tmp_path: Path) -> None:
    await world.register(caBundle=bundle(world.keys))
    await world.condition("Passed")
    asked = len(world.backend.heads)
    token = credentialfiles.mint_token(StateDir(tmp_path / "c"), user="ada", groups=[], seconds=60)
    status, _, body = await world.get("/apis/shop.example/v1/namespaces/a/carts", token=token)
    assert status == 403
    assert json.loads(body)["message"] == (
        'carts.shop.example is forbidden: User "ada" cannot list resource "carts" in API group "shop.example" in the '
        'namespace "a"'
    )
    assert not [head for head in world.backend.heads[asked:] if b"carts" in head.path]


async def test_discovery_and_openapi_have_the_group(world: World) -> None:
    operation = {"operationId": "list", "responses": {"200": {"schema": {"$ref": "#/definitions/Cart"}}}}
    document = {"paths": {"/apis/shop.example/v1/carts": {"get": operation}}, "definitions": {"Cart": {}}}
    world.backend.answers[b"/openapi/v2"] = Respond(200, [JSON], json.dumps(document).encode())
    await world.register(caBundle=bundle(world.keys))
    found = await world.until(lambda group: bool(group) and group["versions"][0]["freshness"] == "Current")
    (cart,) = found["versions"][0]["resources"]
    assert (cart["resource"], cart["scope"], cart["subresources"][0]["subresource"]) == (
        "carts",
        "Namespaced",
        "status",
    )
    _, _, body = await world.get("/apis")
    groups = [one["name"] for one in json.loads(body)["groups"]]
    assert (groups[0], groups[-1]) == ("apiregistration.k8s.io", "shop.example")
    _, _, body = await world.get("/apis/shop.example")
    assert json.loads(body)["preferredVersion"] == {"groupVersion": "shop.example/v1", "version": "v1"}
    _, _, body = await world.get("/apis/shop.example/v1")
    assert json.loads(body) == DISCOVERY
    _, _, body = await world.get("/openapi/v3")
    url = json.loads(body)["paths"]["apis/shop.example/v1"]["serverRelativeURL"]
    assert (await world.get(url))[0] == 200
    _, _, body = await world.get("/openapi/v2")
    merged = json.loads(body)
    assert "/apis/shop.example/v1/carts" in merged["paths"] and "Cart" in merged["definitions"]
    assert "/apis/apps/v1/deployments" in merged["paths"]
    await world.api.client.delete(API_SERVICES, "v1.shop.example")
    assert await world.until(lambda group: not group) == {}
    assert (await world.get("/apis/shop.example/v1"))[0] == 404


async def test_metrics_are_read_for_autoscalers(world: World) -> None:
    async def refused(version: str, path: str) -> tuple[int, str]:
        with pytest.raises(ApiError) as caught:
            await world.api.values("shop.example", version, path, "queue.shop.example")
        return caught.value.code, caught.value.message

    assert world.api.versions("shop.example") is None
    missing = "the server could not find the requested resource (get queue.shop.example)"
    assert await refused("v1", "/queue") == (404, missing)
    await world.register(caBundle=bundle(world.keys))
    await world.condition("Passed")
    assert world.api.versions("shop.example") == ["v1"]

    path = b"/apis/shop.example/v1/queue"
    world.backend.answers[path] = Respond(
        200, [JSON], b'{"items": [{"value": "5", "metricName": "queue", "more": [1]}]}'
    )
    assert await world.api.values("shop.example", "v1", "/queue", "queue.shop.example") == [{"value": "5"}]
    asked = dict(world.backend.heads[-1].headers)
    assert asked[b"X-Remote-User"] == b"system:serviceaccount:kube-system:horizontal-pod-autoscaler"

    world.backend.answers[path] = Respond(404, [JSON], b'{"kind": "Status", "message": "no such metric"}')
    assert await refused("v1", "/queue") == (404, "no such metric")
    away = (503, "the server is currently unable to handle the request (get queue.shop.example)")
    for body in (b"", b"[]", b'{"items": 5}', b'{"items": [{"value": 5}]}', b"[" * 100_000):
        for status in (200, 500):
            world.backend.answers[path] = Respond(status, [JSON], body)
            assert await refused("v1", "/queue") == away


async def test_a_server_with_another_certificate_is_not_used(world: World) -> None:
    other = pki.ensure(world.keys.directory / "other", cluster_name="x", node_names=[], node_ips=[])
    await world.register(caBundle=bundle(other))
    assert "failed to verify certificate" in (await world.condition("FailedDiscoveryCheck"))["message"]
    status, fields, body = await world.get("/apis/shop.example/v1/namespaces/a/carts")
    assert (status, fields["content-type"], body) == (503, "text/plain; charset=utf-8", b"service unavailable\n")
    obj = await world.api.client.get(API_SERVICES, "v1.shop.example")
    spec = {key: value for key, value in obj["spec"].items() if key != "caBundle"}
    await world.api.client.update(API_SERVICES, {**obj, "spec": {**spec, "insecureSkipTLSVerify": True}})
    await world.condition("Passed")


async def test_a_silent_server_is_marked_stale_and_does_not_delay_others(world: World) -> None:
    world.backend.silent = True
    await world.register(caBundle=bundle(world.keys))
    found = await world.until(bool)
    assert found["versions"] == [{"version": "v1", "freshness": "Stale"}]
    for path in ("/apis", "/api/v1/namespaces", "/apis/apps/v1"):
        assert (await world.get(path))[0] == 200
    assert (await world.get("/apis/shop.example/v1/carts"))[2] == b"service unavailable\n"


def _discovery(**resource: Any) -> Respond:
    versions = [{"version": "v1", "resources": [{"resource": "carts", "verbs": ["get"], **resource}]}]
    items = [{"metadata": {"name": "shop.example"}, "versions": versions}]
    return Respond(200, [(b"Content-Type", AGGREGATED.encode())], json.dumps({"items": items}).encode())


@pytest.mark.parametrize(
    "answer",
    [
        _discovery(responseKind=[1]),
        _discovery(shortNames=5),
        _discovery(verbs="get"),
        _discovery(subresources=[{"verbs": ["get"]}]),
        _discovery(shortNames=["x" * 2_000_000]),
        Respond(200, [(b"Content-Type", AGGREGATED.encode())], b'{"items": ' + b"[" * 100_000),
    ],
    ids=["kind", "names", "verbs", "subresource", "long", "deep"],
)
async def test_a_hostile_server_does_not_break_discovery_for_clients(world: World, answer: Respond) -> None:
    """Clients decode the whole document at once, so one field of a wrong type would break discovery for all of them."""
    world.backend.answers[b"/apis"] = answer
    await world.register(caBundle=bundle(world.keys))
    await world.condition("Passed")
    assert await world.until(lambda found: bool(found)) == {
        "metadata": {"name": "shop.example"},
        "versions": [{"version": "v1", "freshness": "Stale"}],
    }


async def test_discovery_is_forwarded_and_missing_kinds_are_added(world: World) -> None:
    status = {"subresource": "status", "verbs": ["get"], "responseKind": None, "acceptedTypes": None}
    world.backend.answers[b"/apis"] = _discovery(scope="Cluster", subresources=[status], shortNames=None, more={"a": 1})
    await world.register(caBundle=bundle(world.keys))
    found = await world.until(lambda found: found.get("versions", [{}])[0].get("freshness") == "Current")
    none = {"group": "", "version": "", "kind": ""}
    assert found["versions"][0]["resources"] == [
        {
            "resource": "carts",
            "responseKind": none,
            "scope": "Cluster",
            "verbs": ["get"],
            "subresources": [{"subresource": "status", "responseKind": none, "verbs": ["get"]}],
        }
    ]


async def test_the_condition_says_what_is_missing(world: World) -> None:
    await world.api.client.delete("endpointslices.discovery.k8s.io", "shop-1", "shop")
    await world.register(caBundle=bundle(world.keys))
    assert (await world.condition("EndpointsNotFound"))["status"] == "False"
    await world.api.client.delete("services", "shop", "shop")
    assert (await world.condition("ServiceNotFound"))["message"] == 'service/shop in "shop" is not present'


async def test_an_api_of_this_server_cannot_be_taken_over(world: World) -> None:
    found = await world.api.client.get(API_SERVICES, "v1.apps")
    await world.api.client.update(
        API_SERVICES,
        {
            **found,
            "spec": {
                "group": "apps",
                "version": "v1",
                "groupPriorityMinimum": 2000,
                "versionPriority": 10,
                "insecureSkipTLSVerify": True,
                "service": {"namespace": "shop", "name": "shop"},
            },
        },
    )
    _, _, body = await world.get("/apis/apps/v1/deployments")
    assert json.loads(body)["kind"] == "DeploymentList"
    assert not [head for head in world.backend.heads if b"deployments" in head.path]


async def test_an_apiservice_comes_before_a_custom_resource_definition(world: World) -> None:
    await world.register(caBundle=bundle(world.keys))
    await world.condition("Passed")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": "shop.example", "scope": "Namespaced", "versions": [version]}
    names = {"plural": "baskets", "kind": "Basket"}
    definitions = "customresourcedefinitions.apiextensions.k8s.io"
    await world.api.client.create(
        definitions, {"metadata": {"name": "baskets.shop.example"}, "spec": {**spec, "names": names}}
    )
    established: list[str] = []
    while "Established" not in established:
        found = (await world.api.client.get(definitions, "baskets.shop.example")).get("status") or {}
        established = [one["type"] for one in found.get("conditions") or () if one["status"] == "True"]
        await asyncio.sleep(0.01)
    baskets = "/apis/shop.example/v1/namespaces/default/baskets"
    _, _, body = await world.get(baskets)
    assert json.loads(body)["kind"] == "CartList"
    _, _, body = await world.get("/apis/shop.example/v1")
    assert [one["name"] for one in json.loads(body)["resources"]] == ["carts", "carts/status"]
    _, _, body = await world.get("/openapi/v3")
    assert json.loads(body)["paths"]["apis/shop.example/v1"]["serverRelativeURL"].endswith("?hash=1")
    # Without the remote APIService, the custom type is served, and gets a local APIService.
    await world.api.client.delete(API_SERVICES, "v1.shop.example")
    await world.condition("Local")
    _, _, body = await world.get(baskets)
    assert json.loads(body)["kind"] == "BasketList"


async def test_a_deleted_apiservice_of_a_local_group_comes_back(world: World) -> None:
    await world.api.client.delete(API_SERVICES, "v1.apps")
    await world.condition("Local", "v1.apps")


async def test_local_groups_have_apiservices(world: World) -> None:
    found = {obj["metadata"]["name"]: obj for obj in await world.api.client.list(API_SERVICES)}
    assert {"v1.", "v1.apps", "v1.rbac.authorization.k8s.io", "v2.autoscaling"} <= set(found)
    assert found["v1.apps"]["spec"] == {
        "group": "apps",
        "version": "v1",
        "groupPriorityMinimum": 17800,
        "versionPriority": 15,
    }
    (condition,) = found["v1.apps"]["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "Local")
    trust = await world.api.client.get("configmaps", "extension-apiserver-authentication", "kube-system")
    assert trust["data"]["requestheader-client-ca-file"] == world.keys.front_proxy_ca.cert.read_text()
