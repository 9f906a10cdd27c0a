"""Every recorded exchange of the proxy verb, replayed over HTTPS against real backends.

In these tests, only `ProxyVerb` is behind the engine. Exchanges that need authentication, authorization or other parts
of the API server (`needs_api_server`) are left out; test_conformance_server.py replays all exchanges.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from hatchway.cluster.api.connect.answers import status_response
from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.connect.proxyverb import ProxyVerb
from hatchway.cluster.api.connect.resourcelocation import Locator
from hatchway.cluster.api.http.requestinfo import parse
from hatchway.errors import ApiError
from hatchway.proxy.routing import Decision, RequestHead
from hatchway.proxy.server import serve
from tests.conformance import proxy, replay
from tests.conformance.backends import Backends, dial, kubelet, running_backends
from tests.conformance.cluster import decide, recorded_cluster
from tests.conformance.deliberate import DELIBERATE, FULL, asked

RECORDINGS = proxy.load()
# These requests are for the REST API. One has a malformed escape, which is refused before its path is parsed.
_REST = {"069", "179", "269", "270", "271", "273", "274", "276"}
# The kubelet's list of pods. Its content is not compared.
_KUBELET_LIST = "267"


def needs_api_server(recording: replay.Recording) -> bool:
    body = recording["response"].get("body") or ""
    refused = '"reason":"Forbidden"' in body or '"reason":"Unauthorized"' in body
    return refused or recording["id"] in _REST


def verb_recordings() -> list[replay.Recording]:
    return [recording for recording in RECORDINGS if not needs_api_server(recording)]


def server_recordings() -> list[replay.Recording]:
    return [recording for recording in RECORDINGS if needs_api_server(recording)]


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    with running_backends(tmp_path_factory.mktemp("backends")) as found:
        yield found


@dataclass
class Verb:
    port: int
    client_tls: ssl.SSLContext
    real: dict[str, str]


@pytest.fixture
async def verb(backends: Backends) -> AsyncIterator[Verb]:
    """Run the proxy verb behind an HTTPS listener, without authorization, and the kubelet of a node."""
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(backends.cert, backends.key)
    client_tls = ssl.create_default_context(cafile=str(backends.cert))
    cluster = recorded_cluster(backends.b10, backends.b11, backends.node, "127.0.0.0/8", backends.kubelet_port)
    proxy_verb = ProxyVerb(Locator(lookup=cluster, dial=dial, kubelet_tls=client_tls, allow_loopback_pods=True))

    def route(head: RequestHead) -> Decision:
        try:
            info = parse(head.method, head.path, head.query)
        except ApiError as error:
            return status_response(error)
        assert info.subresource == "proxy", head.path
        request = ConnectRequest(
            info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, head.query
        )
        return decide(proxy_verb, head, request)

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
    assert set(DELIBERATE) | set(FULL) <= set(ids)
    assert not set(DELIBERATE) & set(FULL)
    assert set(ids) >= _REST


@pytest.mark.parametrize("recording", verb_recordings(), ids=lambda recording: str(recording["id"]))
async def test_recording(recording: replay.Recording, verb: Verb) -> None:
    _, changes = DELIBERATE.get(recording["id"], ("", {}))
    answer = await replay.send(asked(recording), verb.port, verb.client_tls, real=verb.real)
    wanted = replay.expected(recording, changes, verb.real)
    if recording["id"] == _KUBELET_LIST:
        assert '"kind":"PodList"' in wanted["body"] and '"kind":"PodList"' in answer.body
        wanted["body"] = answer.body
    assert replay.differences(wanted, answer) == []


@pytest.mark.parametrize("one", sorted(DELIBERATE))
async def test_each_deliberate_difference_still_exists(one: str, verb: Verb) -> None:
    """An entry for an exchange that no longer differs must be removed."""
    recording = next(recording for recording in RECORDINGS if recording["id"] == one)
    answer = await replay.send(asked(recording), verb.port, verb.client_tls, real=verb.real)
    assert replay.differences(replay.expected(recording, {}, verb.real), answer) != []
