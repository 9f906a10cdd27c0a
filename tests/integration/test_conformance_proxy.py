"""Every recorded exchange of the proxy verb, replayed over HTTPS against real backends.

Here `ProxyVerb` stands behind the engine alone. What needs authentication, authorization or other parts of the API
server is listed by `needs_api_server` and replayed against a whole one (`server_recordings`).
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatchway.cluster.api.proxyverb import ProxyRequest, ProxyVerb, status_response
from hatchway.cluster.api.requestinfo import parse
from hatchway.errors import ApiError
from hatchway.proxy.routing import Decision, RequestHead, Respond
from hatchway.proxy.server import serve
from tests.conformance import replay
from tests.conformance.cluster import recorded_cluster
from tests.conformance.deliberate import DELIBERATE
from tests.conformance.tls import self_signed

RECORDINGS = replay.load("proxy.jsonl")
# Not proxy requests: the REST API's affair.
_REST = {"179", "269", "270", "271", "273", "274", "276"}
# The kubelet's list of pods is not compared; that it is the kubelet's is.
_KUBELET_LIST = "267"


def needs_api_server(recording: replay.Recording) -> bool:
    body = recording["response"].get("body") or ""
    refused = '"reason":"Forbidden"' in body or '"reason":"Unauthorized"' in body
    return refused or recording["id"] in _REST


def verb_recordings() -> list[replay.Recording]:
    return [recording for recording in RECORDINGS if not needs_api_server(recording)]


def server_recordings() -> list[replay.Recording]:
    return [recording for recording in RECORDINGS if needs_api_server(recording)]


@dataclass
class Backends:
    b10: str
    b11: str
    node: str
    kubelet_port: int
    cert: Path
    key: Path


def _listening(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """The pods b10 and b11 as processes: the ports are the recordings', so each run has loopback addresses of its own."""
    directory = tmp_path_factory.mktemp("backends")
    net = f"127.{random.randint(130, 250)}.{random.randint(1, 250)}"
    cert, key = self_signed(directory, [f"{net}.1"])
    found = Backends(f"{net}.10", f"{net}.11", f"{net}.1", 10250, cert, key)
    wanted = [
        ("b10", found.b10, 8080),
        ("b10alt", found.b10, 8081),
        ("b11", found.b11, 8080),
        ("b10tls", found.b10, 8443),
    ]
    script = str(Path(replay.__file__).with_name("backend.py"))
    processes = []
    try:
        for name, address, port in wanted:
            more = [str(cert), str(key)] if port == 8443 else []
            command = [sys.executable, script, name, address, str(port), *more]
            processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        for name, address, port in wanted:
            for _ in range(500):
                if _listening(address, port):
                    break
                assert all(process.poll() is None for process in processes), f"{name} ended"
                time.sleep(0.02)
            else:
                raise AssertionError(f"{name} does not listen on {address}:{port}")
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


async def dial(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def kubelet(head: RequestHead) -> Decision:
    plain = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
    if head.path == b"/healthz":
        return Respond(200, plain, b"ok")
    if head.path == b"/pods":
        return Respond(
            200, [(b"Content-Type", b"application/json")], b'{"kind":"PodList","apiVersion":"v1","items":[]}'
        )
    return Respond(404, plain, b"404 page not found\n")


@dataclass
class Verb:
    port: int
    client_tls: ssl.SSLContext
    real: dict[str, str]


@pytest.fixture
async def verb(backends: Backends) -> AsyncIterator[Verb]:
    """The proxy verb behind an HTTPS listener, without authorization, and a node's kubelet."""
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(backends.cert, backends.key)
    client_tls = ssl.create_default_context(cafile=str(backends.cert))
    cluster = recorded_cluster(backends.b10, backends.b11, backends.node, "127.0.0.0/8", backends.kubelet_port)
    proxy = ProxyVerb(lookup=cluster, dial=dial, kubelet_tls=client_tls, allow_loopback_pods=True)

    def route(head: RequestHead) -> Decision:
        try:
            info = parse(head.method, head.path, head.query)
        except ApiError as error:
            return status_response(error)
        assert info.subresource == "proxy", head.path
        request = ProxyRequest(
            info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
        )
        return proxy.route(head, request)

    node = await serve(kubelet, host=backends.node, port=backends.kubelet_port, ssl=server_tls)
    server = await serve(route, host="127.0.0.1", port=0, ssl=server_tls)
    unchecked = ssl.create_default_context(cafile=str(backends.cert))
    unchecked.check_hostname = False
    masks = {"<POD-IP:b10>": backends.b10, "<POD-IP:b11>": backends.b11}
    try:
        yield Verb(server.port, unchecked, masks)
    finally:
        await server.close()
        await node.close()


def test_every_recording_is_replayed_somewhere() -> None:
    ids = [recording["id"] for recording in RECORDINGS]
    assert len(ids) == len(set(ids)) == len(verb_recordings()) + len(server_recordings())
    assert set(DELIBERATE) <= set(ids)
    assert set(ids) >= _REST


@pytest.mark.parametrize("recording", verb_recordings(), ids=lambda recording: str(recording["id"]))
async def test_recording(recording: replay.Recording, verb: Verb) -> None:
    _, changes = DELIBERATE.get(recording["id"], ("", {}))
    answer = await replay.send(recording, verb.port, verb.client_tls, real=verb.real)
    wanted = replay.expected(recording, changes, verb.real)
    if recording["id"] == _KUBELET_LIST:
        assert '"kind":"PodList"' in wanted["body"] and '"kind":"PodList"' in answer.body
        wanted["body"] = answer.body
    assert replay.differences(wanted, answer) == []


@pytest.mark.parametrize("one", sorted(DELIBERATE))
async def test_deliberate_differences_are_differences(one: str, verb: Verb) -> None:
    """An entry that is no longer needed must go."""
    recording = next(recording for recording in RECORDINGS if recording["id"] == one)
    answer = await replay.send(recording, verb.port, verb.client_tls, real=verb.real)
    assert replay.differences(replay.expected(recording, {}, verb.real), answer) != []
