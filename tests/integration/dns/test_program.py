"""The DNS server as in its pod: a process with the service account's token that reads the API over HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dnslib import DNSRecord

from hatchway.cluster.addonmanifests.addons import ensure_addons
from hatchway.cluster.addonmanifests.metrics import ServerCertificate
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import pki
from hatchway.cluster.state import StateDir
from tests.integration.dns.test_server import udp

# The program has an address of its own, because the ports of its probes are fixed.
ADDRESS = f"127.{os.getpid() % 250 + 2}.53.{os.getpid() // 250 % 250 + 2}"


async def refuse(ip: str, port: int, timeout: float = 10.0) -> socket.socket:
    raise OSError(f"nothing to dial at {ip}:{port}")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, StateDir, int]]:
    state = StateDir(tmp_path / "c")
    state.create()
    pki.ensure(state.pki, cluster_name="c", node_names=[], node_ips=[])
    api = ApiServer(state, Store.open(None), pki.load(state.pki), dial=refuse, allow_loopback_pods=True)
    await api.bootstrap("127.0.0.1", 6443)
    listener = socket.create_server(("127.0.0.1", 0))
    await api.listen(listener)
    yield api, state, listener.getsockname()[1]
    await api.close(0.1)


async def test_answers_follow_the_objects_of_the_api(api: tuple[ApiServer, StateDir, int], tmp_path: Path) -> None:
    server, state, port = api
    client = server.client
    await ensure_addons(client, ["dns"], ServerCertificate(b"", b"", b""))
    account = tmp_path / "root/var/run/secrets/kubernetes.io/serviceaccount"
    account.mkdir(parents=True)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": {}}
    token = await client.create("serviceaccounts", request, "kube-system", subresource="token", name="coredns")
    (account / "token").write_text(token["status"]["token"])
    (account / "ca.crt").write_bytes((state.pki / "ca.crt").read_bytes())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((ADDRESS, 0))
        dns_port = free.getsockname()[1]
    environment = {
        **os.environ,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(port),
        "HATCHWAY_POD_IP": ADDRESS,
        "HATCHWAY_ROOT": str(tmp_path / "root"),
        "HATCHWAY_DNS_PORT": str(dns_port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hatchway.addons.dns", env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            while not await _ready():
                await asyncio.sleep(0.01)
                assert process.returncode is None
            found = await _ask(dns_port, "kube-dns.kube-system.svc.cluster.local")
            assert [str(rr.rdata) for rr in found.rr] == ["10.96.0.10"]
            spec = {"ports": [{"port": 80}], "clusterIP": "10.96.7.7"}
            service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
            assert (await _ask(dns_port, "web.default.svc.cluster.local")).header.rcode == 3
            await client.create("services", service, "default")
            found = await _ask(dns_port, "web.default.svc.cluster.local")
            while not found.rr:
                found = await _ask(dns_port, "web.default.svc.cluster.local")
            assert str(found.rr[0].rdata) == "10.96.7.7"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


async def test_without_its_rights_it_ends_and_says_why(api: tuple[ApiServer, StateDir, int], tmp_path: Path) -> None:
    _, state, port = api
    account = tmp_path / "root/var/run/secrets/kubernetes.io/serviceaccount"
    account.mkdir(parents=True)
    (account / "token").write_text("nonsense")
    (account / "ca.crt").write_bytes((state.pki / "ca.crt").read_bytes())
    environment = {
        **os.environ,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(port),
        "HATCHWAY_POD_IP": ADDRESS,
        "HATCHWAY_ROOT": str(tmp_path / "root"),
        "HATCHWAY_DNS_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hatchway.addons.dns", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"Unauthorized" in errors
    assert b"Traceback" not in errors


async def _ready() -> bool:
    try:
        reader, writer = await asyncio.open_connection(ADDRESS, 8181)
    except OSError:
        return False
    writer.write(b"GET /ready HTTP/1.1\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200 ")


async def _ask(port: int, name: str) -> DNSRecord:
    return DNSRecord.parse(await udp(port, bytes(DNSRecord.question(name).pack()), ADDRESS))
