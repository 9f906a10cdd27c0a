"""Every recorded exchange of the proxy verb, against the complete API server with authentication, RBAC and REST."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import credentialfiles, pki
from hatchway.cluster.state import StateDir
from hatchway.kube.api import Client
from hatchway.proxy.server import serve
from tests.conformance import proxy, replay
from tests.conformance.backends import Backends, dial, kubelet, running_backends
from tests.conformance.cluster import NODE, FakeCluster, recorded_cluster
from tests.conformance.deliberate import DELIBERATE, FULL, ONLY_KUBERNETES, asked

RECORDINGS = proxy.load()
GROUPS = {"admin": ["system:masters"], "alice": [], "bob": ["devs", "testers"]}
RULES = [
    {"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": ["get", "list", "watch"]},
    {
        "apiGroups": [""],
        "resources": ["services/proxy"],
        "resourceNames": ["web", "web:http", "plain"],
        "verbs": ["get"],
    },
]
# Exchanges whose responses contain objects of the recorded cluster; only kind and name of these are compared.
OBJECTS = {"179", "267"}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    with running_backends(tmp_path_factory.mktemp("backends")) as found:
        yield found


@dataclass
class Running:
    port: int
    tls: ssl.SSLContext
    tokens: dict[str, str]
    real: dict[str, str]


async def fill(client: Client, cluster: FakeCluster) -> None:
    """Create the recorded cluster's objects in the API server, as users, kubelets and controllers would."""
    for namespace in ("default", "team-a", "team-b"):
        if namespace != "default":
            await client.create("namespaces", {"metadata": {"name": namespace}})
        await client.create("serviceaccounts", {"metadata": {"name": "default"}}, namespace)
    for (resource, namespace, _), known in sorted(cluster.objects.items()):
        wanted = _without_identity(known)
        status = wanted.pop("status", None)
        if wanted["spec"].get("type") == "ExternalName":
            del wanted["spec"]["ipFamilies"]
        for container in wanted["spec"].get("containers", ()):
            container["image"] = "backend"
        created = await client.create(resource, wanted, namespace or None)
        if status:
            await client.update(resource, {**created, "status": status}, subresource="status")
    for (namespace, service), slices in cluster.slices.items():
        for known in slices:
            wanted = _without_identity(known)
            wanted["metadata"]["labels"] = {"kubernetes.io/service-name": service}
            await client.create("endpointslices.discovery.k8s.io", wanted, namespace)
    group = "rbac.authorization.k8s.io"
    await client.create(f"roles.{group}", {"metadata": {"name": "viewer"}, "rules": RULES}, "team-a")
    await client.create(f"rolebindings.{group}", _binding("viewer", "Role", "User", "alice"), "team-a")
    await client.create(f"rolebindings.{group}", _binding("edit", "ClusterRole", "Group", "devs"), "team-b")


def _without_identity(known: dict[str, Any]) -> dict[str, Any]:
    wanted = copy.deepcopy(known)
    for key in ("uid", "resourceVersion", "namespace"):
        wanted["metadata"].pop(key, None)
    return wanted


def _binding(role: str, kind: str, subject_kind: str, subject: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"apiGroup": group, "kind": subject_kind, "name": subject}],
    }


@pytest.fixture
async def running(backends: Backends, tmp_path: Path) -> AsyncIterator[Running]:
    state = StateDir(tmp_path / "state")
    state.create()
    keys = pki.ensure(state.pki, cluster_name="c", node_names=[NODE], node_ips=[backends.node])
    store = Store.open(state.store_file)
    server = ApiServer(state, store, keys, dial=dial, allow_loopback_pods=True)
    await server.bootstrap("192.0.2.1", 6443)
    cluster = recorded_cluster(backends.b10, backends.b11, backends.node, "127.0.0.0/8", backends.kubelet_port)
    await fill(server.client, cluster)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    await server.listen(listener)
    node_tls = keys.server_context(keys.kubelet(NODE))
    node = await serve(kubelet, host=backends.node, port=backends.kubelet_port, ssl=node_tls)
    tokens = {
        user: credentialfiles.mint_token(state, user=user, groups=groups, seconds=600)
        for user, groups in GROUPS.items()
    }
    real = {"<POD-IP:b10>": backends.b10, "<POD-IP:b11>": backends.b11}
    try:
        yield Running(port, keys.client_context(), tokens, real)
    finally:
        await node.close()
        await server.close(0)


@pytest.mark.parametrize("mode", ["kubernetes", "full"])
async def test_recordings(running: Running, mode: str) -> None:
    """The requests change nothing, so several are sent at the same time."""
    deliberate = DELIBERATE | (FULL if mode == "full" else {})
    left = [one for one in RECORDINGS if mode == "kubernetes" or one["id"] not in ONLY_KUBERNETES]
    found: dict[str, list[str]] = {}

    async def replay_some() -> None:
        while left:
            recording = left.pop()
            number = recording["id"]
            _, changes = deliberate.get(number, ("", {}))
            wanted = replay.expected(recording, changes, running.real)
            sent = asked(recording) if mode == "kubernetes" else recording
            answer = await replay.send(sent, running.port, running.tls, real=running.real, tokens=running.tokens)
            if changes and not replay.differences(replay.expected(recording, {}, running.real), answer):
                found[number] = ["answered as recorded: the entry must go"]
            if number in OBJECTS:
                assert _identity(wanted["body"]) == _identity(answer.body)
                wanted["body"] = answer.body
            if differing := replay.differences(wanted, answer):
                found[number] = differing

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(replay_some())
    assert found == {}


def _identity(body: str) -> tuple[str, str | None]:
    found = json.loads(body)
    return found["kind"], found.get("metadata", {}).get("name")
